"""The search for old classes, imitated: what caption-driven rehearsal downloads.

    python -m experiments.imitated_search pool --web DIR --captioned DIR --out POOL --new cow sheep --base cat dog horse
    python generate_caption.py POOL/image POOL/captions.txt
    python -m experiments.imitated_search find --pool POOL --out DIR --dataset_dir DIR --task 4-2

``find`` writes DIR/downloads/ID/00001.jpg ..., DIR/captions/ID.txt and DIR/class_words.txt, as the scripts of the method expect them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.imitation.search import find, make_pool, originals, read_pool, write_downloads
from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    """The options of both commands."""
    parser = argparse.ArgumentParser(
        prog="experiments.imitated_search",
        description="The search for images of old classes, imitated.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pool = commands.add_parser("pool", help="make the pool", allow_abbrev=False)
    pool.add_argument("--web", type=Path, required=True, help="one folder of web images a class")
    pool.add_argument("--captioned", type=Path, required=True, help="photographs in images/ with captions.json")
    pool.add_argument("--out", type=Path, required=True, help="folder of the pool")
    pool.add_argument("--new", nargs="+", required=True, help="new classes, of which some images are in the pool")
    pool.add_argument("--base", nargs="+", required=True, help="base classes that have web images")
    finds = commands.add_parser("find", help="find images for training images of step 0", allow_abbrev=False)
    finds.add_argument(
        "--pool", type=Path, required=True, help="the pool, captioned; or a manifest with caption and true_class"
    )
    finds.add_argument("--out", type=Path, required=True, help="folder of downloads, captions and class words")
    finds.add_argument("--dataset", default="voc", help="data set of the originals [voc]")
    finds.add_argument("--dataset_dir", type=Path, required=True, help="its folder")
    finds.add_argument("--task", required=True, help="task of which step 0 is taken")
    finds.add_argument("--protocol", default="overlap", help="which images step 0 sees [overlap]")
    finds.add_argument("--originals", type=int, default=300, help="training images that are searched for [300]")
    return parser


def main(given: argparse.Namespace) -> None:
    """Make the pool, or search it."""
    if given.command == "pool":
        count = make_pool(given.web, given.captioned, given.out, given.new, given.base)
        print(f"{given.out}: {count} images")
        return
    wanted = originals(given.dataset, given.dataset_dir, given.task, given.protocol, given.originals)
    found = find(read_pool(given.pool), wanted)
    write_downloads(given.out, found, wanted)
    print(f"{given.out}: {sum(map(len, found.values()))} images found for {len(found)} originals")


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "experiments.imitated_search"))
