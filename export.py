"""Release a segmenter: a folder that can be used, shared and added to.

    python export.py --model checkpoints/step/voc-4-2-ov/best_1.pth --out released/animals [--licence cc-by-4.0] [--web MANIFEST]

Writes OUT/model.safetensors, OUT/config.json, a model card OUT/README.md and, where web images taught it, OUT/ATTRIBUTION.csv with
the author and licence of each. With --push OWNER/NAME the folder goes to the Hugging Face Hub; nothing is sent otherwise. Exit code 0; 2
for bad input.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from modules.adopted.settings import add_model_options, settings_of
from utils.errors import shown_text
from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="export.py",
        description="Release a segmenter: a folder that can be used, shared and added to.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add_model_options(parser)
    add("--out", type=Path, required=True, help="folder to write")
    add("--format", choices=("released",), default="released", help="released: config.json and model.safetensors")
    add("--web", type=Path, nargs="+", action="extend", default=[], metavar="MANIFEST",
        help="web images that taught the model, besides those that its checkpoints name; or a released folder that has them")  # fmt: skip
    add("--licence", help="licence of the weights, as mit or cc-by-4.0")
    add("--logs", type=Path, help="log folder with the results of the model's run [the one that its checkpoint names]")
    add(
        "--no_scores", action="store_true", help="leave scores out: where the masks that they were made on are no truth"
    )
    add("--push", metavar="OWNER/NAME", help="upload the folder to this repository of the Hugging Face Hub")
    add("--private", action="store_true", help="make that repository private, where it is new")
    return parser


def main(given: argparse.Namespace) -> int:
    """Release and report; the exit code."""
    # Imported here, so that --help answers at once.
    from modules.hub import check_push, push
    from release.folder import release

    if given.push is not None:
        check_push(given.push)
    released = release(
        given.model, given.out,
        manifests=given.web, licence=given.licence, logs=given.logs, scored=not given.no_scores,
        settings=settings_of(given),
    )  # fmt: skip
    for note in released.taught.notes:
        print(f"export.py: {shown_text(note)}", file=sys.stderr)
    taught = released.taught
    print(
        f"{len(released.description.class_names)} classes, {len(taught.images)} web images, {taught.unlicensed} of them without a licence"
    )
    print(f"Written to {shown_text(given.out)}")
    if given.push is not None:
        print(f"Pushed to {shown_text(push(given.out, given.push, private=given.private))}")
    return 0


if __name__ == "__main__":
    sys.exit(
        run(
            lambda: main(get_argparser().parse_args()),
            "export.py",
            stopped="the same command writes the folder",
            level=logging.WARNING,
        )
    )
