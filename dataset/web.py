"""Web images as a step's training data: nothing but an image and the word it was searched with.

Source: docs/method.md, "New classes from web images".

Both layouts are read: one folder a class, as published, and a manifest; of a manifest that ``select_web.py`` wrote only the rows that
it kept.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from captions.labels import caption_labels
from captions.vocabulary import Vocabulary, make_vocabulary, match_class
from dataset.batch import Sample
from dataset.decoded import Decoded
from dataset.epochs import EpochDataset, sample_seed
from dataset.files import shown
from dataset.replay_placing import web_original
from dataset.replay_tree import LABELS, check_marker
from dataset.transform import Transform
from tasks import BACKGROUND, IGNORE, Task, label_column
from utils.errors import UserError
from utils.images import DecodeError, check_pair, load_mask, load_reduced, mapped, read_head, strangers
from utils.manifest import Manifest, Row, is_kept, open_manifest

LOG = logging.getLogger("webwilss")


class WebView(EpochDataset[Sample]):
    """Web images of a step's new classes, with image labels; pixels have none but those of ``masks``, so that every other is 255.

    Args:
        path: manifest, or folder of one folder a class.
        task: which classes are learned when.
        step: the step.
        class_names: class id -> name.
        per_class: at most so many images of each class, in the manifest's order.
        labels: ``folder``: the image holds the class it was searched for, as published; ``caption``: every class that the
            step knows and the caption names, and images whose caption lacks their class are dropped.
        transform: image and mask to tensors.
        seed: seed of the augmentation, which depends on (seed, epoch, image) alone.
        masks: tree of the same manifest's images, labelled by a model of this step (docs/method.md, "A second round"); what its
            labels show of new classes that the image does not hold is 255.

    Raises:
        UserError: a class that the data set does not know, a new class without images, or masks of other images or classes; the
            message lists the names.
    """

    def __init__(
        self,
        path: Path,
        task: Task,
        step: int,
        class_names: Mapping[int, str],
        *,
        per_class: int,
        labels: str,
        transform: Transform,
        seed: int,
        masks: Path | None = None,
    ) -> None:
        self.transform, self.seed = transform, seed
        foreground = [i for i in task.seen(step) if i != BACKGROUND]
        column = {class_names[i]: column for column, i in enumerate(foreground)}
        chosen = chosen_images(open_manifest(path), task, step, class_names, per_class=per_class, labels=labels)
        if chosen.faults:
            LOG.warning("%d web images cannot be read and are left out: %s", len(chosen.faults), shown(chosen.faults))
        if chosen.passed:
            LOG.info("Web images passed over: %s", ", ".join(f"{count} {why}" for why, count in chosen.passed.items()))
        counts = Counter(image.name for image in chosen.images)
        new = [class_names[i] for i in task.new(step)]
        empty = [name for name in new if not counts[name]]
        if empty:
            raise UserError(f"--web_path {path}: no usable image of the new classes {', '.join(empty)}")
        LOG.info("Web images: %s", ", ".join(f"{name} {counts[name]}" for name in new))
        self.paths = [image.file for image in chosen.images]
        self.names = [image.row["path"] for image in chosen.images]
        self.image_labels = np.zeros((len(chosen.images), len(foreground)), dtype=np.float32)
        for labels_of, image in zip(self.image_labels, chosen.images, strict=True):
            labels_of[[column[name] for name in image.named if name in column]] = 1
        self.masks: list[Path | None] = [None] * len(self.paths)
        if masks is not None:
            names = {i: class_names[i] for i in task.seen(step)}
            marker = check_marker(masks, names, "--web_masks", "class of this step", "this step")
            unknown = [] if marker is None else [name for i, name in names.items() if i not in dict(marker.classes)]
            if marker is not None and unknown:
                raise UserError(
                    f"--web_masks {masks}: labelled by {marker.origin}, which does not know {shown(unknown)} and takes them for "
                    "background; label it by a checkpoint of this step (generate_label.py --relabel)"
                )
            self.masks = _usable_masks(masks, chosen.images, bytes([*names, IGNORE]))
        # Seen classes have their channel, 255 stays.
        self.lookup = np.array(task.lookup(step, train=False, mask_old=False, unknown="ignore"), dtype=np.uint8)
        self.old = len(task.old(step))

    def __len__(self) -> int:
        return len(self.paths)

    def _mask(self, path: Path, position: int) -> NDArray[np.uint8]:
        """Channels (H, W) of a label; 255 too for new classes that the image does not hold."""
        labels = self.image_labels[position]
        absent = [c for c in range(self.old, len(labels) + 1) if not labels[label_column(c)]]
        lookup = np.where(np.isin(self.lookup, absent), IGNORE, self.lookup).astype(np.uint8)
        return mapped(load_mask(path), lookup)

    def at(self, epoch: int, position: int) -> Sample:
        """The sample at a position, as ``epoch`` sees it."""
        drawn = self.transform.drawn(sample_seed(self.seed, epoch, position))
        image, _ = load_reduced(self.paths[position], drawn.reduction)
        pixels, path = drawn.image(image), self.masks[position]
        unknown = torch.full(pixels.shape[-2:], IGNORE, dtype=torch.uint8)
        return Sample(
            image=pixels,
            mask=unknown if path is None else drawn.mask(self._mask(path, position)),
            image_labels=torch.from_numpy(self.image_labels[position]),
            is_replay=False,
            name=self.names[position],
        )


def _usable_masks(tree: Path, images: Sequence[WebImage], known: bytes) -> list[Path | None]:
    """The label of each image in a tree, None where there is none that can be used, which is told.

    Args:
        tree: where ``utils.measure_noun move_web_images`` placed the images, and ``generate_label.py`` labelled them.
        images: of the same manifest.
        known: what labels may hold.

    Raises:
        UserError: no image has a label.
    """
    masks: list[Path | None] = []
    faults: list[str] = []
    for image in tqdm(images, desc="Reading masks", disable=None):
        path = tree / web_original(image.name, image.number) / LABELS / f"{image.file.stem}.png"
        try:
            mask = load_mask(path)
            check_pair(read_head(image.file).size, mask, image.file, path)
            if wrong := strangers(mask, known):
                raise DecodeError(f"{path}: values {wrong} are no classes of this step")
            masks.append(path)
        except DecodeError as error:
            faults.append(str(error))
            masks.append(None)
    if len(faults) == len(images):
        raise UserError(
            f"--web_masks {tree}: has no label of an image of the manifest ({faults[0]}); make it of the same manifest: "
            "python -m utils.measure_noun move_web_images, then generate_label.py"
        )
    LOG.info("Web images with a mask: %d of %d", len(images) - len(faults), len(images))
    if faults:
        LOG.warning("%d web images have no usable mask and go without: %s", len(faults), shown(faults))
    return masks


@dataclass(frozen=True)
class WebImage:
    """A web image that a step learns from.

    Attributes:
        name: the new class that it was searched for.
        named: the classes that it shows, as far as is known; ``name`` is one of them.
        row: its row of the manifest.
        file: the image.
        number: of its row among all of its manifest, from 0.
    """

    name: str
    named: frozenset[str]
    row: Row
    file: Path
    number: int


@dataclass(frozen=True)
class Chosen:
    """What a step takes of a manifest.

    Attributes:
        images: in the manifest's order.
        faults: of files that cannot be read, in words.
        passed: how many rows were passed over, by why.
    """

    images: list[WebImage]
    faults: list[str]
    passed: Counter[str]


def chosen_images(
    source: Manifest,
    task: Task,
    step: int,
    class_names: Mapping[int, str],
    *,
    per_class: int,
    labels: str,
    later: bool = False,
) -> Chosen:
    """The images of a manifest that a step learns from; arguments as of ``WebView``.

    Args:
        later: whether this is asked of a step that is over: an image file that is no more was one then, and a class that is none of
            ``class_names``, which may be fewer than the data set's, is passed over.

    Raises:
        UserError: a row's class is none of the data set's, or may be two of them; there are no captions to read.
    """
    seen = [class_names[i] for i in task.seen(step) if i != BACKGROUND]
    known = tuple(name for i, name in class_names.items() if i != BACKGROUND)
    new = [class_names[i] for i in task.new(step)]
    # Made for rows whose labels nobody has read; names that WordNet does not know have theirs from select_web.py.
    words = cache(lambda: make_vocabulary(seen))
    chosen, decoded = Chosen([], [], Counter()), Decoded(source.path)
    counts: Counter[str] = Counter()
    for number, own, row in _rows_of_classes(source, known, new, chosen.passed, refuse=not later):
        if counts[own] >= per_class:
            chosen.passed[f"more than {per_class} of a class (--web_num)"] += 1
            continue
        named = _named(row, tuple(seen), words, source) if labels == "caption" else {own}
        if own not in named:
            chosen.passed["whose caption does not name their class"] += 1
            continue
        file = source.file(row)
        if not later or file.exists():
            try:
                decoded.check(file)
            except DecodeError as error:
                chosen.faults.append(str(error))
                continue
        counts[own] += 1
        chosen.images.append(WebImage(own, frozenset(named), row, file, number))
    decoded.keep()
    return chosen


def _rows_of_classes(
    source: Manifest, known: tuple[str, ...], new: list[str], passed: Counter[str], *, refuse: bool
) -> Iterator[tuple[int, str, Row]]:
    """(number among all rows, new class, row) of every kept row of a new class; ``passed`` counts the others, by why.

    Raises:
        UserError: a row's class may be two of the data set's or, where that is to ``refuse``, is none of them.
    """
    unknown = set()
    for number, (own, row) in enumerate(source.matched(lambda name: match_class(name, known))):
        if own is None:
            unknown.add(row["class"])
        elif own not in new:
            passed["of classes that are not new at this step"] += 1
        elif not is_kept(row):
            passed["that the selection did not keep"] += 1
        else:
            yield number, own, row
    if unknown and refuse:
        raise UserError(
            f"--web_path {source.path}: {', '.join(sorted(unknown))} is no class of the data set; its classes are {', '.join(known)}"
        )


def _named(row: Row, seen: tuple[str, ...], words: Callable[[], Vocabulary], source: Manifest) -> set[str]:
    """Classes that a row's caption names: what ``select_web.py`` read, where it did, else read here."""
    if row.get("labels"):
        named = (match_class(name, seen) for name in row["labels"].split(";"))
        return {name for name in named if name is not None}
    if "caption" not in row:
        raise UserError(f"{source.path}: has no captions (column caption); give --web_labels folder")
    return set(caption_labels(row["caption"], words()))
