"""PASCAL VOC 2012 with SBD-augmented masks: ``JPEGImages/``, ``SegmentationClassAug/`` and, where it is there, ``splits/``."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset.files import by_stem, need_files, need_folder, one_in_ten, read_lines
from dataset.source import Source
from utils.errors import UserError

LOG = logging.getLogger("webwilss")
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


def pairs(folder: Path, split: str) -> list[tuple[Path, Path]]:
    """(image, mask) files of ``split``: from ``splits/``, else from VOC's own val list, else one in ten by hash is val.

    Raises:
        UserError: a folder or listed file is missing.
    """
    images = need_folder(folder / IMAGES, "the images", CURE)
    masks = need_folder(folder / MASKS, "the masks", CURE)
    list_file = folder / LISTS[split]
    if list_file.is_file():
        listed = [_listed(folder, line) for line in read_lines(list_file)]
        need_files(listed, list_file)
        return listed
    by_image, by_mask = by_stem(images), by_stem(masks)
    names = [name for name in sorted(by_mask) if name in by_image]
    own = folder / OWN_LISTS / "val.txt"
    if own.is_file():
        held_out = set(read_lines(own))
        LOG.info("%s is missing: %s is used, train is all other images that have a mask", list_file, own)
    else:
        held_out = {name for name in names if one_in_ten(name)}
        LOG.info("%s is missing: one image in ten, chosen by its name, is for validation", list_file)
    chosen = [name for name in names if (name in held_out) == (split == "val")]
    if not chosen:
        raise UserError(f"{masks}: no mask whose image is in {images} for the split {split}")
    return [(by_image[name], by_mask[name]) for name in chosen]


def _listed(folder: Path, line: str) -> tuple[Path, Path]:
    """The files of a ``list_line``, or of a line that is an image's name alone."""
    parts = line.split()
    if len(parts) != 2:
        parts = list_line(Path(parts[0]).stem).split()
    return folder / parts[0].lstrip("/"), folder / parts[1].lstrip("/")


def make(
    folder: Path,
    split: str,
    step: int = 0,
    value_map: NDArray[np.uint8] | None = None,
    names: dict[int, str] | None = None,
) -> Source:
    """The split ``train`` or ``val``; ``value_map`` and ``names`` give the masks other ids (COCO's)."""
    files = pairs(folder, split)
    return Source(f"voc {split}", names or CLASS_NAMES, files, [image.stem for image, _ in files], value_map)
