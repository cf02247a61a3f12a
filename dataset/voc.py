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
SPLIT_FILES = {"train": "train_aug.txt", "val": "val.txt"}


def pairs(folder: Path, split: str) -> list[tuple[Path, Path]]:
    """(image, mask) files of ``split``: from ``splits/``, else from VOC's own val list, else one in ten by hash is val.

    Raises:
        UserError: a folder or listed file is missing.
    """
    images = need_folder(folder / "JPEGImages", "the images", CURE)
    masks = need_folder(folder / "SegmentationClassAug", "the masks", CURE)
    list_file = folder / "splits" / SPLIT_FILES[split]
    if list_file.is_file():
        found = [_listed(folder, line) for line in read_lines(list_file)]
        need_files(found, list_file)
        return found
    by_image, by_mask = by_stem(images), by_stem(masks)
    names = [name for name in sorted(by_mask) if name in by_image]
    own = folder / "ImageSets" / "Segmentation" / "val.txt"
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
    """A line of a split file: ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``, or ``ID``."""
    parts = line.split()
    if len(parts) == 2:
        return folder / parts[0].lstrip("/"), folder / parts[1].lstrip("/")
    name = Path(parts[0]).stem
    return folder / "JPEGImages" / f"{name}.jpg", folder / "SegmentationClassAug" / f"{name}.png"


def make(
    folder: Path,
    split: str,
    step: int = 0,
    value_map: NDArray[np.uint8] | None = None,
    names: dict[int, str] | None = None,
) -> Source:
    """The split ``train`` or ``val``; ``value_map`` and ``names`` give the masks other ids (COCO's)."""
    found = pairs(folder, split)
    return Source(f"voc {split}", names or CLASS_NAMES, found, [image.stem for image, _ in found], value_map)
