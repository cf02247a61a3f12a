"""Collect images of classes from the web, or from what was downloaded already.

    python collect_web.py --classes cow sheep --out data/web --per_class 500 --source openverse --source commons --contact MAIL_OR_PAGE \\
        --not_in data/voc/JPEGImages

Writes OUT/<class>/00001.jpg ... and OUT/manifest.csv, one row an image, which the later scripts read; what was refused stands in
OUT/rejected.csv with the reason. A run that was stopped goes on where it was. Exit code 0; 1 where a class ended without images or
a source failed and the rest went on; 2 for bad input.
"""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import closing
from pathlib import Path

from utils.errors import shown_text
from utils.script import GOES_ON, run

SOURCES_HELP = (
    "where images come from; may be given several times, the next one is asked where a class has not enough. openverse or commons "
    "(searches; :URL for another address of the API), list:FILE (csv, tsv or parquet with the columns url and class), folder:FOLDER (one "
    "folder a class), webdataset:SHARDS (tar files, as img2dataset writes them; a glob or a range {00000..00010})"
)


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="collect_web.py",
        description="Collect images of classes from the web, or from what was downloaded already.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--classes", nargs="+", required=True, help="names of the classes, which are also what is searched for")
    add("--out", type=Path, required=True, help="folder to collect into")
    add("--source", action="append", required=True, help=SOURCES_HELP)
    add("--per_class", type=int, default=500, help="images of each class, those of earlier runs included")
    add("--not_in", type=Path, nargs="+", default=[], action="extend",
        help="evaluation images, or folders of them: whatever shows one of them is refused")  # fmt: skip
    add("--near", type=int, default=10, help="bits of 64 that the perceptual hashes of near-duplicates may differ in")
    add("--max_bytes", type=int, default=20_000_000, help="largest file, bytes")
    add("--max_pixels", type=int, default=40_000_000, help="largest image, width x height")
    add("--min_side", type=int, default=64, help="smallest shorter side, pixels")
    add("--max_total", type=float, default=50_000, help="size of all images together, MB")
    add("--threads", type=int, default=8, help="downloads at the same time")
    add("--rate", type=float, default=4, help="images a second from one host, at most")
    add("--api_rate", type=float, default=1, help="searches a second, at most")
    add(
        "--patience",
        type=float,
        default=600,
        help="seconds that one host is waited for in vain; then the rest of it is refused",
    )
    add("--contact", default="", help="mail address or page, told to the sites: whom they may write to")
    add("--allow_private", action="store_true", help="download from the local network, too")
    add("--proxy", help="address of a proxy; it has to keep out of its own local network itself")
    return parser


def main(given: argparse.Namespace) -> int:
    """Collect and report; the exit code."""
    # Imported here, so that --help answers at once.
    from web.candidate import Limits
    from web.collect import Plan, collect
    from web.download import Client

    plan = Plan(given.classes, given.source, given.per_class, given.max_total, given.not_in, given.near, given.threads)
    limits = Limits(given.max_bytes, given.max_pixels, given.min_side)
    with closing(Client(
        given.contact, limits,
        rate=given.rate, api_rate=given.api_rate, allow_private=given.allow_private, proxy=given.proxy,
        patience=given.patience,
    )) as client:  # fmt: skip
        collected = collect(plan, client, given.out)
    print(f"{'class':20}{'found':>8}{'kept':>8}{'refused':>9}  reasons")
    for count in collected.counts:
        reasons = shown_text(", ".join(f"{reason} {number}" for reason, number in count.refused.most_common()))
        print(
            f"{shown_text(count.name):20}{count.found:>8}{count.kept:>8}{count.refused.total():>9}  {reasons}".rstrip()
        )
    print(f"Written to {given.out}, refused addresses to {given.out / 'rejected.csv'}")
    for sentence in collected.notes:
        print(shown_text(sentence))
    for sentence in collected.troubles:
        print(f"collect_web.py: {shown_text(sentence)}", file=sys.stderr)
    return 1 if collected.troubles else 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "collect_web.py", stopped=GOES_ON, level=logging.WARNING))
