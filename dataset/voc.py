"""PASCAL VOC 2012 with SBD-augmented masks: ``JPEGImages/``, ``SegmentationClassAug/`` and, where it is there, ``splits/``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset.files import by_key, key, need_folder, shown, tell
from dataset.lists import Files, Pair, read_names, split_pairs
from dataset.source import Source
from utils.errors import UserError
from utils.suffixes import image_stem
from utils.texts import composed

CURE = "bash data/download_voc.sh makes the tree, or --dataset_dir names it"

CLASS_NAMES = dict(
    enumerate(
        "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
        "pottedplant sheep sofa train tvmonitor".split()
    )
)
IMAGES, MASKS = "JPEGImages", "SegmentationClassAug"
# List of the images of each split, one line an image (``list_line``).
LISTS = {"train": "splits/train_aug.txt", "val": "splits/val.txt"}
# VOC's own lists of image names.
OWN_LISTS = "ImageSets/Segmentation"


def list_line(name: str) -> str:
    """A line of a split's list: ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``."""
    return f"/{IMAGES}/{name}.jpg /{MASKS}/{name}.png"


def pairs(folder: Path, split: str) -> list[Pair]:
    """(image, mask) files of ``split``.

    Its list in ``splits/``, or for val VOC's own one, names them; where only the other split has a list, all other images that have a
    mask are left for it; without any list one in ten by hash is for val.

    Raises:
        UserError: a folder or listed file is missing, or both lists name an image.
    """
    images = need_folder(folder / IMAGES, "the images", CURE)
    masks = need_folder(folder / MASKS, "the masks", CURE)
    files = Files(folder, by_key(images), by_key(masks))
    lists = {name: folder / path for name, path in LISTS.items()}
    listed = files.split_lists(lists, split)
    everything = list(files.all())
    own = folder / OWN_LISTS / "val.txt"
    if "val" not in listed and own.is_file():
        lists["val"], names = own, set(map(composed, read_names(own)))
        listed["val"] = [pair for pair in everything if key(pair[0].name) in names]
        if len(listed["val"]) < len(names):
            tell(f"{own}: {len(names) - len(listed['val'])} of {len(names)} names are left out, without image and mask")
    chosen = split_pairs(masks, everything, lists, listed, split)
    if not chosen:
        raise UserError(f"{masks}: no mask whose image is in {images} for the split {split}")
    orphans = sorted(files.masks.keys() - files.images.keys())
    if orphans:
        tell(f"{masks}: {len(orphans)} masks are left out, whose images are not there: {shown(orphans)}")
    return chosen


def make(
    folder: Path,
    split: str,
    step: int = 0,
    value_map: NDArray[np.uint8] | None = None,
    names: dict[int, str] | None = None,
) -> Source:
    """The split ``train`` or ``val``; ``value_map`` and ``names`` give the masks other ids (COCO's)."""
    files = pairs(folder, split)
    return Source(
        f"voc {split}", names or CLASS_NAMES, files, [image_stem(image.name) for image, _ in files], value_map
    )
