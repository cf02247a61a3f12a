"""Images in which old classes occur: a share held back for the statement, the others a replay tree, one original an image:

    python -m adding.rehearsal --images DIR --out WORK/replay --held_back WORK/held_back

generate_label.py labels the tree then. ``WORK/held_back.csv`` says which image is whose. Exit code 0; 1 where images are left out and
the rest went on; 2 for bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adding.files import image_files, link, without_twins
from dataset.files import shown
from dataset.replay_tree import IMAGES, claimed_tree
from utils import manifest
from utils.errors import UserError
from utils.images import DecodeError, read_head
from utils.script import run

# One to learn from and one to judge by.
LEAST = 2


@dataclass
class Placed:
    """What the stage did: images rehearsed and held back, those beyond ``most``, twins of others, and faults of images left out."""

    rehearsed: int = 0
    held_back: int = 0
    beyond: int = 0
    twins: int = 0
    faults: list[str] = field(default_factory=list)


def split(count: int, share: float, most: int, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the images that are rehearsed, and of those held back, each in order; at most ``most`` in all.

    Args:
        count: number of images, at least 2.
        share: share that is held back, between 0 and 1; at least one image is, and one is not.
        most: images in all.
        seed: seed of the choice.
    """
    order = np.random.default_rng(seed).permutation(count)[: max(LEAST, most)]
    held = min(max(1, round(share * len(order))), len(order) - 1)
    return sorted(order[held:].tolist()), sorted(order[:held].tolist())


def place(folders: Sequence[Path], out: Path, held_back: Path, *, share: float, most: int, seed: int) -> Placed:
    """Place the images of folders in a replay tree and, those held back, in a folder.

    Args:
        folders: any images, in these folders or deeper.
        out: the tree, ``out/<number>/image/<number>.jpg``.
        held_back: the folder, ``held_back/<number>.jpg``.
        share: as for ``split``, like the next two.
        most: images in all.
        seed: seed of the choice.

    Raises:
        UserError: there are fewer than two images that can be read.
    """
    done = Placed()
    files = []
    for path in tqdm(image_files(folders), desc="Old images", unit="image", disable=None):
        try:
            read_head(path)
            files.append(path)
        except DecodeError as error:
            done.faults.append(str(error))
    different = without_twins(files)
    done.twins = len(files) - len(different)
    if len(different) < LEAST:
        why = f" ({shown(done.faults)})" if done.faults else ""
        names = ", ".join(map(str, folders))
        raise UserError(
            f"--old_images {names}: {len(different)} images{why}; at least {LEAST} are needed, better hundreds"
        )
    rehearsed, held = split(len(different), share, most, seed)
    out.mkdir(parents=True, exist_ok=True)
    with claimed_tree(out):
        for number in tqdm(rehearsed, desc="Rehearsed", unit="image", disable=None):
            name = f"{number:06}"
            link(different[number], out / name / IMAGES / f"{name}{different[number].suffix.lower()}")
    held_names = {number: f"{number:06}{different[number].suffix.lower()}" for number in held}
    for number, name in held_names.items():
        link(different[number], held_back / name)
    rows = [{"image": name, "source": str(different[number])} for number, name in held_names.items()]
    manifest.write(held_back.with_name(f"{held_back.name}.csv"), ("image", "source"), rows)
    done.rehearsed, done.held_back = len(rehearsed), len(held)
    done.beyond = len(different) - len(rehearsed) - len(held)
    return done


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adding.rehearsal", description="Images of old classes, to rehearse.")
    add = parser.add_argument
    add("--images", type=Path, nargs="+", required=True, help="folders of images in which old classes occur")
    add("--out", type=Path, required=True, help="replay tree to make")
    add("--held_back", type=Path, required=True, help="folder for the images that are held back")
    add("--share", type=float, default=0.1, help="share that is held back")
    add("--most", type=int, default=2000, help="images in all")
    add("--random_seed", type=int, default=0, help="seed of the choice")
    add("--listing", default="", help="digest of the images as the plan saw them; changed images make another plan")
    return parser


def main(given: argparse.Namespace) -> int:
    """Place and report; the exit code."""
    if not 0 < given.share < 1 or given.most < LEAST:
        raise UserError(f"--share needs a number between 0 and 1, --most at least {LEAST}")
    done = place(
        given.images, given.out, given.held_back, share=given.share, most=given.most, seed=given.random_seed
    )  # fmt: skip
    left = [f"{done.twins} are the same as others"] if done.twins else []
    left += [f"{done.beyond} beyond --most {given.most}"] if done.beyond else []
    print(", ".join([f"{done.rehearsed} images to rehearse, {done.held_back} held back", *left]))
    if done.faults:
        print(f"adding.rehearsal: {len(done.faults)} images left out: {shown(done.faults)}", file=sys.stderr)
    return 1 if done.faults else 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "adding.rehearsal"))
