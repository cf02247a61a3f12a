"""The small steps of ``run.sh adopt`` around add_class.py: images, scores, the table.

python -m experiments.adopt_steps images --web DIR --captioned DIR --out DIR --new cow sheep --old cat dog horse
python -m experiments.adopt_steps score --model MODEL --data DIR --old cat dog --new cow --arm smp --when before --out FILE
python -m experiments.adopt_steps table FILE ... --out DIR
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    """The options of all three commands."""
    parser = argparse.ArgumentParser(
        prog="experiments.adopt_steps", description="The small steps of run.sh adopt.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    images = commands.add_parser("images", help="make the folders of images", allow_abbrev=False)
    images.add_argument("--web", type=Path, required=True, help="one folder of web images a class")
    images.add_argument("--captioned", type=Path, required=True, help="photographs in images/")
    images.add_argument("--out", type=Path, required=True, help="folder of new/CLASS and old")
    scores = commands.add_parser("score", help="score a segmenter", allow_abbrev=False)
    scores.add_argument("--model", required=True, help="as add_class.py takes it")
    scores.add_argument("--class_names", type=Path, help="names of its classes, one a line, where it does not say them")
    scores.add_argument("--image_stats", help="as add_class.py takes it")
    scores.add_argument("--dataset", default="voc", help="data set of the validation images [voc]")
    scores.add_argument("--data", type=Path, required=True, help="its folder")
    scores.add_argument("--crop_size", type=int, default=160, help="side of the crops, pixels [160]")
    scores.add_argument("--arm", required=True, help="who made the segmenter")
    scores.add_argument(
        "--when", required=True, choices=("before", "after"), help="without the new classes, or with them"
    )
    scores.add_argument("--seed", type=int, default=0, help="of its training [0]")
    scores.add_argument("--out", type=Path, required=True, help="file of the scores (.json)")
    for command in (images, scores):
        command.add_argument("--new", nargs="+", required=True, help="classes to learn")
        command.add_argument("--old", nargs="+", required=True, help="classes that are known")
    table = commands.add_parser("table", help="make the table", allow_abbrev=False)
    table.add_argument("scores", nargs="+", type=Path, help="files of scores")
    table.add_argument("--out", type=Path, required=True, help="folder of table.md and table.csv")
    return parser


def main(given: argparse.Namespace) -> None:
    """Do one of them, and report."""
    # Imported here, so that --help answers at once.
    if given.command == "images":
        from experiments.adoption.images import write_images

        new, old = write_images(given.web, given.captioned, given.out, given.new, given.old)
        print(f"{given.out}: {new} images of new classes, {old} others")
    elif given.command == "score":
        from dataset import make_source
        from experiments.adoption.score import score, write_scores
        from modules.adopted.settings import AdoptSettings
        from segmentation_module import load_segmenter

        settings = AdoptSettings(class_names=given.class_names, image_stats=given.image_stats)
        segmenter = load_segmenter(given.model, settings=settings)
        found = score(segmenter, make_source(given.dataset, given.data, "val"), given.old, given.new, given.crop_size)
        write_scores(given.out, given.arm, given.when, given.seed, found)
        print(f"{given.model}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.by_name().items()))
    else:
        from experiments.adoption.table import comma_separated, markdown, read_scores
        from utils.whole import write_whole

        rows = read_scores(given.scores)
        write_whole(given.out / "table.md", markdown(rows))
        write_whole(given.out / "table.csv", comma_separated(rows))
        print(f"written to {given.out / 'table.md'}")


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "experiments.adopt_steps"))
