"""A practitioner's own data: ``classes.txt``, images, and masks of the same names.

    my_data/classes.txt                the names of the classes (dataset/classes.py says in which forms)
    my_data/images/{train,val}/NAME.*  any image format
    my_data/masks/{train,val}/NAME.png class numbers, 0 is background, 255 is ignore

Without the subfolders ``train`` and ``val`` the lists ``splits/train.txt`` and ``splits/val.txt`` say which image belongs where (one
name a line, dataset/lists.py); with one of them the other split is the rest; without both one image in ten is for validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dataset.classes import read_classes
from dataset.files import by_key, need_folder, shown, tell
from dataset.lists import SPLITS, Files, Pair, split_pairs
from dataset.source import Source
from utils.errors import UserError
from utils.suffixes import image_stem

CURE = "see dataset/folder.py for the layout"
CLASSES = "classes.txt"


def class_names(folder: Path) -> dict[int, str]:
    """id -> name, of ``classes.txt``, background included.

    Raises:
        UserError: the file is missing, or may be read in several ways.
    """
    return read_classes(folder / CLASSES)


def list_file(split: str) -> str:
    """The list of a split, from the data set's folder."""
    return f"splits/{split}.txt"


def subfolders(folder: Path) -> dict[str, str]:
    """Where in ``images`` and ``masks`` the files of each split lie: in a folder of its own, or in these two themselves."""
    images = folder / "images"
    return {split: f"/{split}" if (images / split).is_dir() else "" for split in SPLITS}


def make(folder: Path, split: str, step: int = 0) -> Source:
    """The split ``train`` or ``val``.

    Raises:
        UserError: files are missing, or an image has no mask, or both lists name an image.
    """
    names = class_names(folder)
    images = need_folder(folder / "images", "the images", CURE)
    need_folder(folder / "masks", "the masks", CURE)
    pairs = _own_folder(folder, split) if any(subfolders(folder).values()) else _listed(folder, split)
    if not pairs:
        raise UserError(f"{images}: no image for the split {split}; {CURE}")
    return Source(f"{folder.name} {split}", names, pairs, [image_stem(image.name) for image, _ in pairs])


def everything(folder: Path, names: Mapping[int, str] | None = None) -> Source:
    """All images for validation with their masks: those of its folder, or of a folder without splits.

    Args:
        folder: the data set.
        names: id -> name of the masks' classes; of ``classes.txt`` where left out.

    Raises:
        UserError: files are missing, or an image has no mask.
    """
    names = class_names(folder) if names is None else names
    place = subfolders(folder)["val"]
    images = by_key(need_folder(folder / f"images{place}", "the images", CURE))
    files = Files(folder, images, by_key(need_folder(folder / f"masks{place}", "the masks", CURE)))
    if not images:
        raise UserError(f"{folder / 'images'}: no image; {CURE}")
    _need_masks(files, folder / "masks")
    pairs = list(files.all())
    return Source(folder.name, names, pairs, [image_stem(image.name) for image, _ in pairs])


def _own_folder(folder: Path, split: str) -> list[Pair]:
    """A split in folders of its own, or what lies beside those of the other split."""
    place = subfolders(folder)[split]
    images = by_key(folder / f"images{place}", None if place else [])
    beside = len(by_key(folder / "images", [])) if place else 0
    if not place and not images:
        raise UserError(f"{folder / 'images' / split}: the images are missing (no such folder); {CURE}")
    if not place:
        tell(f"{folder / 'images' / split} is missing: the {len(images)} images beside the other split are for {split}")
    elif beside and all(subfolders(folder).values()):
        tell(f"{folder / 'images'}: {beside} images beside the folders of the splits are left out")
    unread = [list_file(name) for name in SPLITS if (folder / list_file(name)).is_file()]
    if unread:
        tell(f"{folder}: {' and '.join(unread)} not read, because images lie in folders of the splits")
    masks = by_key(need_folder(folder / f"masks{place}", "the masks", CURE), None if place else [])
    files = Files(folder, images, masks)
    _need_masks(files, folder / "masks")
    return list(files.all())


def _listed(folder: Path, split: str) -> list[Pair]:
    """A split of images that all lie in one folder."""
    files = Files(folder, by_key(folder / "images"), by_key(folder / "masks"))
    lists = {name: folder / list_file(name) for name in SPLITS}
    listed = files.split_lists(lists, split)
    if len(listed) < len(SPLITS):
        _need_masks(files, folder / "masks")
    else:
        named = {image for pairs in listed.values() for image, _ in pairs}
        others = [name for name, image in files.images.items() if image not in named]
        if others:
            tell(f"{folder / 'images'}: {len(others)} images stand in neither list and are left out: {shown(others)}")
    return split_pairs(folder / "images", list(files.all()), lists, listed, split)


def _need_masks(files: Files, masks: Path) -> None:
    """UserError where an image has no mask; masks without an image are told."""
    without = [name for name in files.images if name not in files.masks]
    if without:
        raise UserError(f"{masks}: no mask for {len(without)} of {len(files.images)} images: {shown(without)}")
    orphans = [name for name in files.masks if name not in files.images]
    if orphans:
        tell(f"{masks}: {len(orphans)} masks are left out, whose images are not there: {shown(orphans)}")
