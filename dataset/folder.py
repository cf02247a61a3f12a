"""A practitioner's own data: ``classes.txt``, images, and masks of the same names.

    my_data/classes.txt                one class a line, numbered from 1; or with its number: "3 cow", "3: cow"
    my_data/images/{train,val}/NAME.*  any image format
    my_data/masks/{train,val}/NAME.png class numbers, 0 is background, 255 is ignore

Without the subfolders ``train`` and ``val`` the lists ``splits/train.txt`` and ``splits/val.txt`` say which image belongs where (one
name a line); without these lists one image in ten is for validation.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from dataset.files import by_stem, need_folder, one_in_ten, read_lines, shown
from dataset.source import Source
from utils.errors import UserError

LOG = logging.getLogger("webwilss")
CURE = "see dataset/folder.py for the layout"


def class_names(folder: Path) -> dict[int, str]:
    """id -> name, of ``classes.txt``.

    Raises:
        UserError: the file is missing, or a number stands twice or is not from 1 to 254 (0 may be background).
    """
    path = folder / "classes.txt"
    if not path.is_file():
        raise UserError(f"{path}: missing; write one class name a line")
    names = {0: "background"}
    for number, line in enumerate(
        line for line in read_lines(path) if line.lower() not in ("background", "0 background")
    ):
        match = re.fullmatch(r"(\d+)\s*[:\s]\s*(.+)", line)
        class_id, name = (int(match[1]), match[2]) if match else (number + 1, line)
        if class_id == 0:
            continue
        if not 1 <= class_id <= 254 or class_id in names:
            raise UserError(f"{path}: class number {class_id} ({name}) stands twice or is not from 1 to 254")
        if name in names.values():
            raise UserError(f"{path}: class {name} stands twice")
        names[class_id] = name
    if len(names) == 1:
        raise UserError(f"{path}: names no class")
    return names


def make(folder: Path, split: str, step: int = 0) -> Source:
    """The split ``train`` or ``val``.

    Raises:
        UserError: files are missing, or an image has no mask.
    """
    names = class_names(folder)
    images, masks = (need_folder(folder / part, f"the {part}", CURE) for part in ("images", "masks"))
    if (images / split).is_dir():
        by_image, by_mask = by_stem(images / split), by_stem(need_folder(masks / split, "the masks", CURE))
        chosen = sorted(by_image)
    else:
        by_image, by_mask = by_stem(images), by_stem(masks)
        chosen = _split(folder, split, sorted(by_image))
    unknown = [name for name in chosen if name not in by_image]
    if unknown:
        raise UserError(f"{folder / 'splits' / split}.txt: names images that are missing: {shown(unknown)}")
    without = [name for name in chosen if name not in by_mask]
    if without:
        raise UserError(f"{masks}: no mask for {len(without)} of {len(chosen)} images: {shown(without)}")
    if not chosen:
        raise UserError(f"{images}: no image for the split {split}; {CURE}")
    return Source(f"{folder.name} {split}", names, [(by_image[n], by_mask[n]) for n in chosen], chosen)


def _split(folder: Path, split: str, names: list[str]) -> list[str]:
    path = folder / "splits" / f"{split}.txt"
    if path.is_file():
        return [Path(line.split()[0]).stem for line in read_lines(path)]
    LOG.info("%s is missing: one image in ten, chosen by its name, is for validation", path)
    return [name for name in names if one_in_ten(name) == (split == "val")]
