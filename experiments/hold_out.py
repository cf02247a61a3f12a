"""A VOC tree without its test images: one in five training images is held out and tested on.

    python -m experiments.hold_out --data DIR --out DIR

Options are chosen on it, so that the test images stay unseen until the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dataset.voc import IMAGES, LISTS, MASKS, list_line
from utils.errors import UserError
from utils.script import run
from utils.texts import read_text
from utils.whole import write_whole

EVERY = 5


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="experiments.hold_out",
        description="A VOC tree whose test images are one in five of another one's training images.",
        allow_abbrev=False,
    )
    parser.add_argument("--data", type=Path, required=True, help="tree in VOC layout with its list of training images")
    parser.add_argument("--out", type=Path, required=True, help="tree to make; images and masks are links")
    return parser


def main(given: argparse.Namespace) -> None:
    """Link images and masks, write both lists, say how long they are.

    Raises:
        UserError: there is no list of training images, or the tree cannot be made.
    """
    names = sorted(Path(line.split()[0]).stem for line in read_text(given.data / LISTS["train"]).splitlines() if line)
    held = set(names[EVERY // 2 :: EVERY])
    if not held:
        raise UserError(f"{given.data / LISTS['train']}: names {len(names)} images; at least {EVERY} are needed")
    for folder in (IMAGES, MASKS):
        link = given.out / folder
        given.out.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to((given.data / folder).resolve(), target_is_directory=True)
    for split, path in LISTS.items():
        chosen = [name for name in names if (name in held) == (split == "val")]
        (given.out / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(given.out / path, "".join(f"{list_line(name)}\n" for name in chosen))
        print(f"{given.out / path}: {len(chosen)} images")


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "experiments.hold_out"))
