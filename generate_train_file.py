"""List the labelled images of a replay tree, one train_fullPath.txt an original, lines `image label`.

    python generate_train_file.py --path data/replay

run.py --replay reads these files. Exit code 0; 1 where images have no label and are left out; 2 for bad input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
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
    from dataset.replay_tree import write_train_files

    done = write_train_files(given.path)
    print(f"{done.images} images of {done.folders} originals listed, {done.dropped} dropped by their labels")
    if done.missing:
        names = shown(map(str, done.missing))
        print(
            f"generate_train_file.py: {len(done.missing)} images have no label and are left out: {names}; "
            "run generate_label.py again, or remove them",
            file=sys.stderr,
        )
    return 1 if done.missing else 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "generate_train_file.py"))
