"""Choose the web images that look like the training data and show their class.

    python select_web.py --web_path data/web --discriminator checkpoints/step/voc-15-5-ov/Base_0_discriminator.pth \\
        --out data/web/selected.csv [--keep 500] [--web_labels caption --classes cow sheep cat dog horse person]

Writes the manifest with scores, reasons and a column ``kept``, which run.py --web reads, and one contact sheet a class. Runs under
torchrun and on Ray (--ray, docs/ray.md), too. A run that was stopped goes on where it was.

Exit code 0; 1 where something is missing and the rest went on; 2 for bad input.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spread.options import add_options, ray_options
from utils.checks import UNSCALED_PRECISIONS
from utils.errors import UserError, shown_text
from utils.script import GOES_ON, run

if TYPE_CHECKING:
    from spread.blocks import Worker
    from web.discriminator import Saved
    from web.scoring import File


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="select_web.py",
        description="Choose the web images that look like the training data and show their class.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--web_path", type=Path, required=True, help="manifest, or folder of one folder a class")
    add(
        "--out", type=Path, required=True, help="manifest to write (.csv); the contact sheets go into sheets/ beside it"
    )
    add("--discriminator", type=Path, help="file of train_discriminator.py; without it only captions decide")
    add("--step_ckpt", type=Path, help="step-0 checkpoint of a discriminator on encoder features [the one beside it]")
    add("--ratio", type=float, default=1.0, help="an image is kept where p_ds / p_web is above this")
    add("--keep", type=int, help="keep the best so many of each class instead")
    add("--min_keep", type=int, default=0, help="never keep fewer of a class, if there are as many")
    add("--trust", action="store_true", help="filter with a discriminator that is hardly better than chance, too")
    add("--web_labels", choices=("folder", "caption"), default="folder",
        help="caption: image labels from the caption's words; images whose caption lacks their class are dropped")  # fmt: skip
    add(
        "--classes",
        nargs="+",
        default=[],
        help="all known classes, for the captions; classes that should have candidates",
    )
    add("--vocabulary", type=Path, help="file of words a class, made by python -m captions.vocabulary and edited")
    add(
        "--num_workers",
        type=int,
        help="processes that decode and transform; 0 does it in this one [by device and cores]",
    )
    add("--batch_size", type=int, default=64, help="images scored at once")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add(
        "--precision",
        choices=UNSCALED_PRECISIONS,
        default="fp32",
        help="arithmetic of the network; auto: the device's fastest",
    )
    add_options(parser)
    return parser


def main(given: argparse.Namespace) -> int:
    """Select and report; the exit code."""
    ray = ray_options(given)
    # Imported here, so that --help answers at once.
    from captions.vocabulary import make_vocabulary
    from spread.ways import make_way, start_runtime
    from utils import distributed
    from utils.manifest import open_manifest
    from web.discriminator import load
    from web.pipeline import select
    from web.quality import at_chance
    from web.scoring import ScoreWork, score_worker
    from web.selection import SelectionRule

    if given.discriminator is None and given.web_labels == "folder":
        raise UserError("nothing to select by: give --discriminator, --web_labels caption, or both")
    if given.batch_size < 1 or (given.num_workers or 0) < 0:
        raise UserError("--batch_size needs at least 1, --num_workers at least 0")
    if given.out.suffix != ".csv":
        raise UserError(f"--out {given.out}: a manifest's name ends in .csv")
    source = open_manifest(given.web_path)
    if given.out.resolve() == source.path.resolve():
        raise UserError(f"--out {given.out}: is the manifest to read; choose another name")
    rule = SelectionRule(given.ratio, given.keep, given.min_keep)
    vocabulary = None
    if given.web_labels == "caption":
        if not given.classes and given.vocabulary is None:
            raise UserError("--web_labels caption needs --classes, or --vocabulary with the words of each class")
        vocabulary = make_vocabulary(given.classes, given.vocabulary)
    elif given.vocabulary is not None:
        raise UserError("--vocabulary needs --web_labels caption")
    runtime = start_runtime(given.device, given.precision, ray)
    try:
        way = make_way(runtime, given.num_workers, ray)
        saved: Saved | None = None
        make: Callable[[], Worker[File]] | None = None
        if given.discriminator is not None:
            # Read here also where others score: what is wrong with it is known before any of them starts.
            saved = load(given.discriminator, runtime, given.step_ckpt)
            if at_chance(saved.scores) and not given.trust:
                raise UserError(
                    f"{given.discriminator}: hardly better than chance on held-out images (area under the curve "
                    f"{saved.scores.auc:.2f}); train it on more images, or give --trust"
                )
            elsewhere = ScoreWork(given.discriminator, given.step_ckpt, given.device, runtime.precision)
            make = elsewhere if ray else partial(score_worker, saved.discriminator, runtime)
        selected = select(
            source, saved, rule, given.out, way, make, vocabulary=vocabulary, wanted=given.classes,
            batch_size=given.batch_size, block_size=given.block_size,
        )  # fmt: skip
    finally:
        distributed.stop()
    if not runtime.main:
        return 0
    print(f"{'class':20}{'candidates':>12}{'kept':>8}{'unusable':>10}")
    for name, total, kept, bad in selected.counts:
        print(f"{shown_text(name):20}{total:>12}{kept:>8}{bad:>10}")
    print(f"Written to {given.out}" + (f", sheets in {selected.sheets[0].parent}" if selected.sheets else ""))
    for sentence in selected.troubles:
        print(f"select_web.py: {shown_text(sentence)}", file=sys.stderr)
    return 1 if selected.troubles else 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "select_web.py", stopped=GOES_ON, level=logging.INFO))
