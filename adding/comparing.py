"""Two segmenters look at the same images: what they say is counted, and a few images are kept to be shown."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from adding.agreement import Classes, Judged, Statement, Tally
from captions.vocabulary import match_class
from dataset import folder as folder_data
from dataset import voc
from dataset.files import read_lines, shown
from dataset.groups import shrunk
from dataset.source import Source
from tasks import BACKGROUND, IGNORE
from utils.errors import UserError
from utils.images import DecodeError, load_image
from utils.manifest import open_manifest
from utils.spelling import on_disk
from utils.suffixes import is_image

if TYPE_CHECKING:
    from segmentation_module import Segmenter

# (H, W, 3) uint8 RGB -> (H, W) uint8 class ids.
Look = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
# Images that are shown because they lie evenly over the list, and because they changed most.
SPREAD, CHANGED = 4, 4
# The longer side of a picture on the page, in pixels.
SIDE = 320


@dataclass(frozen=True)
class Model:
    """A segmenter as a comparison needs it.

    Attributes:
        names: class id -> name, background among them.
        look: what it says of an image.
    """

    names: Mapping[int, str]
    look: Look

    @classmethod
    def of(cls, segmenter: Segmenter) -> Model:
        """One that was loaded."""
        return cls(segmenter.description.names, lambda pixels: segmenter.predict(pixels).mask)


@dataclass(frozen=True)
class Sample:
    """An image and what was made of it, at the size of the page.

    Attributes:
        name: of its file.
        image: (h, w, 3) uint8.
        masks: caption -> (h, w) uint8 class ids, 255 is not judged.
        changed: share of the pixels to which the two models give another class, in [0, 1].
        most: whether it is shown because it changed most.
    """

    name: str
    image: NDArray[np.uint8]
    masks: Mapping[str, NDArray[np.uint8]]
    changed: float
    most: bool


@dataclass(frozen=True)
class Measured:
    """What a comparison found.

    Attributes:
        statement: the numbers.
        held_back: images without labels to show.
        judged: images with masks to show.
    """

    statement: Statement
    held_back: Sequence[Sample] = ()
    judged: Sequence[Sample] = ()


class Gallery:
    """Chooses the images to show: ``SPREAD`` evenly over the list, and of the others the ``CHANGED`` that changed most.

    Args:
        count: how many images there are.
    """

    def __init__(self, count: int) -> None:
        self.evenly = set(np.linspace(0, count - 1, min(count, SPREAD)).round().astype(int).tolist())
        self.spread: dict[int, Sample] = {}
        # (share, minus the place): of equal ones the first stays.
        self.most: list[tuple[float, int, Sample]] = []

    def see(self, place: int, name: str, image: Image.Image, masks: Mapping[str, NDArray[np.uint8]]) -> None:
        """Take an image, or pass it over; ``masks`` ends with the old model's and the new one's."""
        before, after = list(masks.values())[-2:]
        changed = float(np.mean(before != after))
        evenly = place in self.evenly
        full = len(self.most) == CHANGED
        if not evenly and (changed == 0 or (full and (changed, -place) < self.most[0][:2])):
            return
        sample = Sample(name, *_small(image, masks), changed, not evenly)
        if evenly:
            self.spread[place] = sample
        else:
            (heapq.heappushpop if full else heapq.heappush)(self.most, (changed, -place, sample))

    @property
    def samples(self) -> list[Sample]:
        """Those that changed most, then those spread over the list."""
        most = [sample for _, _, sample in sorted(self.most, key=lambda one: one[:2], reverse=True)]
        return most + [sample for _, sample in sorted(self.spread.items())]


def _small(
    image: Image.Image, masks: Mapping[str, NDArray[np.uint8]]
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.uint8]]]:
    small = shrunk(image, SIDE)
    return np.asarray(small), {caption: resized(mask, small.size) for caption, mask in masks.items()}


def resized(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask (H, W) of another (width, height), each pixel the nearest one's class."""
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def both(image: Image.Image, before: Look, after: Look, max_side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What both models say of an image, (H, W) uint8 class ids each, at the image's own size.

    Larger images are looked at with their longer side of ``max_side`` pixels.
    """
    pixels = np.asarray(shrunk(image, max_side))
    one, other = (resized(look(pixels), image.size) for look in (before, after))
    return one, other


def measured(before: Model, after: Model, held_back: Sequence[Path], val: Path | None, max_side: int) -> Measured:
    """Look at all images with both models.

    Args:
        before: the old model.
        after: the new one.
        held_back: images without labels; none where none were held back.
        val: folder of images and masks; None where there are no masks.
        max_side: longer side of what the models look at, in pixels.

    Raises:
        UserError: the models are no steps of one, or images or masks cannot be used.
    """
    classes = Classes.of(before.names, after.names)
    # Before anything is looked at: what is wrong with it is known at once.
    source = None if val is None else masked_images(val, classes.names)
    tally = judged = None
    plain: list[Sample] = []
    masked: list[Sample] = []
    faults: list[str] = []
    if held_back:
        tally, plain, faults = compare(held_back, classes, before.look, after.look, max_side)
    if source is not None:
        judged, masked, unread = judge(source, classes, before.look, after.look, max_side)
        faults = faults + unread
    return Measured(Statement(classes, tally, judged, tuple(faults)), plain, masked)


def compare(
    images: Sequence[Path], classes: Classes, before: Look, after: Look, max_side: int
) -> tuple[Tally, list[Sample], list[str]]:
    """The old model's word against the new one's.

    Returns:
        the counts, images to show, and the faults of images that cannot be read.

    Raises:
        UserError: not one image can be read.
    """
    tally, gallery, faults = Tally(classes), Gallery(len(images)), []
    for place, path in enumerate(tqdm(images, desc="Held-back images", unit="image", disable=None)):
        try:
            image = load_image(path)
        except DecodeError as error:
            faults.append(str(error))
            continue
        old, new = both(image, before, after, max_side)
        tally.add(old, new)
        gallery.see(place, path.name, image, {"old model": old, "new model": new})
    _need_one(tally.images, "--held_back", faults)
    return tally, gallery.samples, faults


def judge(
    source: Source, classes: Classes, before: Look, after: Look, max_side: int
) -> tuple[Judged, list[Sample], list[str]]:
    """Both models against the masks of ``source``, whose classes are the models' by their names.

    Returns:
        as ``compare``.

    Raises:
        UserError: the masks name no class of the new model, two that are the same to it, or not one pair can be read.
    """
    table, labelled, unknown = class_table(source, classes)
    old_tally, new_tally, gallery = Tally(classes), Tally(classes), Gallery(len(source))
    faults = []
    for place in tqdm(range(len(source)), desc="Images with masks", unit="image", disable=None):
        try:
            image, mask = source.pair(place)
        except DecodeError as error:
            faults.append(str(error))
            continue
        truth = table[mask]
        old, new = both(image, before, after, max_side)
        old_tally.add(truth, old)
        new_tally.add(truth, new)
        name = source.image_path(place).name
        gallery.see(place, name, image, {"masks": truth, "old model": old, "new model": new})
    _need_one(old_tally.images, "--val", faults)
    return Judged(old_tally, new_tally, labelled, unknown), gallery.samples, faults


def _need_one(images: int, option: str, faults: Sequence[str]) -> None:
    if not images:
        raise UserError(f"{option}: no image can be read" + (f": {faults[0]}" if faults else ""))


def class_table(source: Source, classes: Classes) -> tuple[NDArray[np.uint8], frozenset[int], tuple[str, ...]]:
    """How the masks of ``source`` speak of the models' classes.

    Returns:
        (256,) mask value -> class id of the models, 255 where they have none; ids that the masks name; names of theirs that no model
        knows.

    Raises:
        UserError: a name may mean two classes, two names mean the same, or none means any.
    """
    known = {name: number for number, name in classes.names.items() if number != BACKGROUND}
    table = np.full(256, IGNORE, np.uint8)
    table[BACKGROUND] = BACKGROUND
    meant: dict[int, str] = {}
    unknown = []
    for value, name in source.class_names.items():
        if value == BACKGROUND:
            continue
        own = match_class(name, list(known))
        if own is None:
            unknown.append(name)
            continue
        number = known[own]
        if number in meant:
            raise UserError(f"--val: its classes {meant[number]} and {name} both mean {own}; rename one of them")
        meant[number] = name
        table[value] = number
    if not meant:
        raise UserError(f"--val: names no class of the model, only {shown(unknown)}; it knows {shown(known)}")
    return table, frozenset(meant), tuple(unknown)


def masked_images(folder: Path, names: Mapping[int, str]) -> Source:
    """Images and masks to judge by: the split ``val`` of a folder where it has splits, else all that is in it; or VOC's layout.

    Args:
        folder: ``images/``, ``masks/`` and ``classes.txt`` (dataset/folder.py), or VOC's folders.
        names: id -> name of the masks' classes where there is no ``classes.txt``.

    Raises:
        UserError: images or masks are missing.
    """
    if (folder / voc.IMAGES).is_dir():
        return voc.make(folder, "val")
    if not (folder / folder_data.CLASSES).is_file():
        return folder_data.everything(folder, names)
    split = any(folder_data.subfolders(folder).values()) or (folder / folder_data.list_file("val")).is_file()
    return folder_data.make(folder, "val") if split else folder_data.everything(folder)


def listed_images(path: Path) -> list[Path]:
    """Image files of a folder and all below it, of a manifest (.csv), or of a list with one path a line.

    Paths of a list start from its folder.

    Raises:
        UserError: there is nothing of the kind, or no image in it.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if is_image(file) and file.is_file())
    elif path.suffix == ".csv":
        manifest = open_manifest(path)
        files = [manifest.file(row) for row in manifest]
    elif path.is_file():
        files = [on_disk(path.parent / line) for line in read_lines(path)]
    else:
        raise UserError(f"{path}: no such list or folder of images")
    if not files:
        raise UserError(f"{path}: holds no image")
    return files
