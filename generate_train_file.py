"""List the labelled images of a replay tree, one train_fullPath.txt an original, lines `image label`.

    python generate_train_file.py --path data/replay

run.py --replay reads these files. Exit code 0; 1 where images have no label, or a name that no list can hold, and are left out; 2
for bad input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="generate_train_file.py",
        description="List the labelled images of a replay tree, one train_fullPath.txt an original.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--path", type=Path, required=True, help="replay tree that generate_label.py labelled")
    return parser


def main(given: argparse.Namespace) -> int:
    """Write the lists and report; the exit code."""
    # Imported here, so that --help answers at once.
    from dataset.files import shown
    from dataset.replay_tree import claimed_tree, originals, write_train_files

    originals(given.path)
    with claimed_tree(given.path):
        done = write_train_files(given.path)
    print(f"{done.images} images of {done.folders} originals listed, {done.dropped} dropped by their labels")
    if done.faults:
        print(
            f"generate_train_file.py: {len(done.faults)} files cannot be listed and are left out: {shown(done.faults)}",
            file=sys.stderr,
        )
    if done.missing:
        names = shown(map(str, done.missing))
        print(
            f"generate_train_file.py: {len(done.missing)} images have no label and are left out: {names}; "
            "run generate_label.py again, or remove them",
            file=sys.stderr,
        )
    return 1 if done.missing or done.faults else 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "generate_train_file.py"))
