"""The search for old classes, imitated: what caption-driven rehearsal downloads.

    python -m experiments.imitated_search pool --web DIR --captioned DIR --out POOL --new cow sheep --base cat dog horse
    python generate_caption.py POOL/image POOL/captions.txt
    python -m experiments.imitated_search find --pool POOL --out DIR --dataset_dir DIR --task 4-2

``find`` writes DIR/downloads/ID/00001.jpg ..., DIR/captions/ID.txt and DIR/class_words.txt, as the
scripts of the method expect them. It finds what shares a class with the original; or, after

    python -m experiments.imitated_search queries --captions FILE --out QUERIES --dataset_dir DIR --task 15-5
    python generate_caption.py QUERIES CAPTIONED --only_missing
    python -m experiments.imitated_search find --pool POOL --out DIR --queries CAPTIONED

what is said of it in like words.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.imitation.originals import originals, read_originals, read_own_captions, write_originals
from experiments.imitation.pool import make_pool, read_pool
from experiments.imitation.search import find, find_by_caption, write_downloads
from utils.errors import UserError
from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    """The options of the commands."""
    parser = argparse.ArgumentParser(
        prog="experiments.imitated_search",
        description="The search for images of old classes, imitated.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pool = commands.add_parser("pool", help="make the pool", allow_abbrev=False)
    pool.add_argument("--web", type=Path, required=True, help="one folder of web images a class")
    pool.add_argument(
        "--captioned", type=Path, nargs="+", required=True, help="folders of photographs in images/ with captions.json"
    )
    pool.add_argument("--out", type=Path, required=True, help="folder of the pool")
    pool.add_argument("--new", nargs="+", required=True, help="new classes, of which some images are in the pool")
    pool.add_argument("--base", nargs="+", required=True, help="base classes that have web images")
    queries = commands.add_parser(
        "queries", help="training images of step 0, as many of each class, with their captions", allow_abbrev=False
    )
    queries.add_argument("--out", type=Path, required=True, help="manifest of them")
    queries.add_argument(
        "--captions", type=Path, required=True, help="JSON file of captions by id; these images come first"
    )
    _add_originals(queries, needed=True)
    finds = commands.add_parser("find", help="find images for training images of step 0", allow_abbrev=False)
    finds.add_argument(
        "--pool", type=Path, required=True, help="the pool, captioned; or a manifest with caption and true_class"
    )
    finds.add_argument("--out", type=Path, required=True, help="folder of downloads, captions and class words")
    finds.add_argument(
        "--queries", type=Path, help="captioned manifest of the originals: find by its captions [by what images show]"
    )
    _add_originals(finds, needed=False)
    return parser


def _add_originals(parser: argparse.ArgumentParser, needed: bool) -> None:
    """Options that say which originals are searched for."""
    add = parser.add_argument
    add("--dataset", default="voc", help="data set of the originals [voc]")
    add("--dataset_dir", type=Path, required=needed, help="its folder")
    add("--task", required=needed, help="task of which step 0 is taken")
    add("--protocol", default="overlap", help="which images step 0 sees [overlap]")
    add("--originals", type=int, default=300, help="training images that are searched for [300]")


def main(given: argparse.Namespace) -> None:
    """Make the pool or the queries, or search.

    Raises:
        UserError: an option is missing, or a file cannot be read.
    """
    if given.command == "pool":
        count = make_pool(given.web, given.captioned, given.out, given.new, given.base)
        print(f"{given.out}: {count} images")
        return
    if given.command == "find" and given.queries is not None:
        wanted = read_originals(given.queries)
        downloads = find_by_caption(read_pool(given.pool), wanted)
    else:
        if given.dataset_dir is None or given.task is None:
            raise UserError("find: needs --queries, or --dataset_dir and --task")
        captions = read_own_captions(given.captions) if given.command == "queries" else None
        wanted = originals(given.dataset, given.dataset_dir, given.task, given.protocol, given.originals, captions)
        if given.command == "queries":
            count = write_originals(given.out, wanted, given.dataset, given.dataset_dir)
            own = sum(bool(original.caption) for original in wanted)
            print(f"{given.out}: {count} originals, {own} of them with captions")
            return
        downloads = find(read_pool(given.pool), wanted)
    write_downloads(given.out, downloads, wanted)
    print(f"{given.out}: {sum(map(len, downloads.values()))} images found for {len(downloads)} originals")


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "experiments.imitated_search"))
