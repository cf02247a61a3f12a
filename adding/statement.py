"""Say what was won and lost by adding classes to a segmenter, as far as it was measured, and what was not measured.

    python -m adding.statement --before work/checkpoints/base.pth --after OUT --held_back work/held_back.txt --out OUT \\
        [--val my_val] [--web work/selected.csv]

On held-back images without labels: how much of what the old model said still stands, and which class has the rest. With ``--val``
(``images/``, ``masks/``, ``classes.txt``; dataset/folder.py) also IoU before and after. Writes statement.csv, statement.md,
takeover.csv and report.html. Exit code 0; 1 where images cannot be read and the rest went on; 2 for bad input.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from utils.checks import PRECISIONS
from utils.errors import UserError, shown_text
from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adding.statement",
        description="Say what was won and lost by adding classes to a segmenter.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--before", required=True, help="the model before: a checkpoint, or any MODEL that add_class.py takes")
    add("--after", required=True, help="the model that learned the new classes")
    add("--held_back", type=Path, help="images that nobody trained on: a folder, a manifest, or a list of paths")
    add("--val", type=Path, help="folder of images/, masks/ and classes.txt of any of the classes")
    add("--web", type=Path, nargs="*", default=[], help="manifests of selected web images, to be shown")
    add("--out", type=Path, required=True, help="folder of the tables and the page")
    add("--max_side", type=int, default=1024, help="longer side of what the models look at")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add(
        "--precision", choices=PRECISIONS, default="fp32", help="arithmetic of the networks; auto: the device's fastest"
    )
    return parser


def main(given: argparse.Namespace) -> int:
    """Look, write and report; the exit code."""
    if given.max_side < 1:
        raise UserError(f"--max_side {given.max_side}: a whole number from 1 on is needed")
    # Imported here, so that bad values end at once.
    from adding.comparing import Model, listed_images, measured
    from adding.tables import write_statement
    from segmentation_module import load_segmenter
    from utils import distributed

    held_back = [] if given.held_back is None else listed_images(given.held_back)
    try:
        before, after = (
            load_segmenter(source, device=given.device, precision=given.precision)
            for source in (given.before, given.after)
        )
        found = measured(Model.of(before), Model.of(after), held_back, given.val, given.max_side)
    finally:
        distributed.stop()
    record = {name: str(value) for name, value in vars(given).items() if value not in (None, [], False)}
    files = write_statement(given.out, found, given.web, record)
    statement = found.statement
    lines = [*statement.sentences(), *statement.limits(), f"Written: {', '.join(map(str, files))}"]
    sys.stdout.write("".join(f"{shown_text(line)}\n" for line in lines))
    sys.stderr.write("".join(f"adding.statement: {fault}\n" for fault in statement.faults))
    return 1 if statement.faults else 0


if __name__ == "__main__":
    sys.exit(
        run(
            lambda: main(get_argparser().parse_args()),
            "adding.statement",
            stopped="nothing is written; the same command begins again",
            level=logging.INFO,
        )
    )
