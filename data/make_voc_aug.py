"""Makes VOC's augmented masks: VOC 2012's own where there are any, SBD's (Hariharan et al., ICCV 2011) elsewhere.

``python data/make_voc_aug.py --voc DIR --sbd DIR --out DIR`` writes ``SegmentationClassAug/ID.png`` (palette PNGs,
ids 0..20, 255 void) and ``splits/{train_aug,val}.txt`` (lines ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``).
Training images are those of SBD (train and val) and of VOC train, less those of VOC val: 10,582; validation images are
VOC val: 1,449. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dataset import voc as layout
from dataset.lists import read_names
from utils.errors import UserError

PUBLISHED = {"train_aug": 10582, "val": 1449}
LAST_CLASS = max(layout.CLASS_NAMES)


def voc_palette() -> list[int]:
    """The 256 RGB colours of VOC's masks: the bits of the class id, spread over the top bits of red, green and blue."""
    colours = np.zeros((256, 3), np.int64)
    ids = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((ids >> (3 * bit + channel)) & 1) << (7 - bit)
    return [int(value) for value in colours.ravel()]


def read_ids(path: Path) -> list[str]:
    """Image ids of a list, one a line, with or without suffix; they may hold blanks and dots."""
    try:
        return read_names(path)
    except UserError as error:
        raise UserError(f"{error}; is the data set unpacked there?") from error


def read_sbd(path: Path) -> NDArray[np.uint8]:
    """The class mask (H, W) of one SBD file, ids 0..20."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError("SBD's .mat files need SciPy: pip install scipy") from error
    try:
        mask = np.asarray(loadmat(path, squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation)
    except Exception as error:  # SciPy meets damaged files with errors of many kinds.
        raise UserError(f"{path}: not a mask of SBD ({error})") from error
    if mask.ndim != 2 or mask.min() < 0 or mask.max() > LAST_CLASS:
        raise UserError(f"{path}: expected a mask of two dimensions with values 0 to {LAST_CLASS}")
    return mask.astype(np.uint8)


def split_ids(voc: Path, sbd: Path) -> dict[str, list[str]]:
    """Sorted image ids of ``train_aug`` and ``val``."""
    lists = voc / layout.OWN_LISTS
    val = set(read_ids(lists / "val.txt"))
    train = set(read_ids(lists / "train.txt")) | set(read_ids(sbd / "train.txt")) | set(read_ids(sbd / "val.txt"))
    return {"train_aug": sorted(train - val), "val": sorted(val)}


def write_masks(ids: Sequence[str], voc: Path, sbd: Path, folder: Path) -> None:
    """Write the mask of each id to ``folder/ID.png``; what is there is kept, each appears whole or not at all."""
    palette = voc_palette()
    folder.mkdir(parents=True, exist_ok=True)
    for name in tqdm(ids, "masks", disable=None):
        target, part = folder / f"{name}.png", folder / f"{name}.part"
        if target.exists():
            continue
        own, other = voc / "SegmentationClass" / f"{name}.png", sbd / "cls" / f"{name}.mat"
        if own.exists():
            shutil.copyfile(own, part)
        elif other.exists():
            mask = Image.fromarray(read_sbd(other), "L")
            mask.putpalette(palette)
            mask.save(part, format="PNG")
        else:
            raise UserError(f"{name}: neither {own} nor {other} exists; unpack both data sets again")
        os.replace(part, target)


def write_split(path: Path, ids: Sequence[str]) -> None:
    """Write a list of images and masks, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text("".join(f"{layout.list_line(name)}\n" for name in ids), encoding="utf-8")
    os.replace(part, path)


def make(voc: Path, sbd: Path, out: Path) -> dict[str, int]:
    """Write masks and lists; returns the number of images of each list.

    The lists are written last, the training list after the other: where it stands, everything stands.
    """
    splits = split_ids(voc, sbd)
    write_masks(splits["train_aug"] + splits["val"], voc, sbd, out / layout.MASKS)
    for name in ("val", "train_aug"):
        write_split(out / "splits" / f"{name}.txt", splits[name])
    return {name: len(ids) for name, ids in splits.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 and one line on stderr where the input is missing or damaged."""
    parser = argparse.ArgumentParser(description="Make SegmentationClassAug and splits from VOC 2012 and SBD.")
    parser.add_argument("--voc", type=Path, required=True, help="holds SegmentationClass and ImageSets/Segmentation")
    parser.add_argument("--sbd", type=Path, required=True, help="holds cls, train.txt and val.txt")
    parser.add_argument("--out", type=Path, required=True, help="gets SegmentationClassAug and splits")
    options = parser.parse_args(arguments)
    try:
        counts = make(options.voc, options.sbd, options.out)
    except UserError as error:
        print(f"make_voc_aug.py: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"make_voc_aug.py: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    for name, count in counts.items():
        published = PUBLISHED[name]
        print(f"{name}: {count} images" + ("" if count == published else f" (published: {published})"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
