"""Rehearsal: replay images of old classes beside the images of a step's new classes.

Source: docs/method.md, "Old classes from captions".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from dataset.batch import Sample
from dataset.epochs import EpochDataset, sample_seed
from dataset.files import shown
from dataset.incremental import IncrementalView
from dataset.replay_tree import TRAIN_FILE, ReplayImage, check_marker, originals, read_train_file
from dataset.transform import Transform
from dataset.web import WebView
from tasks import BACKGROUND, IGNORE, Task, label_column
from utils.errors import UserError
from utils.images import DecodeError, check_pair, load_mask, load_reduced, mapped, strangers, unreduced

LOG = logging.getLogger("webwilss")
# An image counts for the classes that cover this share of it, where classes are balanced: less is a speck.
PRESENT = 0.01
# Keeps the augmentation of replay image i apart from that of the step's own image i.
STREAM = 1


def repeats(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How often each image is to be seen, so that rare classes are rehearsed about as often as the most frequent one.

    Args:
        present: (images, classes).

    Returns:
        (images,) how many times as rare the rarest class of an image is as the most frequent class, rounded; 1 where it shows none.
    """
    counts = present.sum(axis=0)
    rarity = np.rint(counts.max(initial=0) / np.maximum(counts, 1))
    times: NDArray[np.int64] = np.where(present, rarity, 1).max(axis=1, initial=1).astype(np.int64)
    return times


class ReplayView(EpochDataset[Sample]):
    """Images of a replay tree: their crops hold the old classes that their pseudo-labels show there, and no new class.

    Args:
        path: the tree, labelled by a model of an earlier step, with its train files.
        task: which classes are learned when.
        step: the step, 1 or later.
        class_names: class id -> name.
        per_original: at most so many images of each original, in the train file's order.
        balance: images of rare classes stand in the view several times (``repeats``).
        transform: image and mask to tensors.
        seed: seed of the augmentation, which depends on (seed, epoch, image) alone.

    Raises:
        UserError: the tree is not ready, is labelled in other classes than the step's old ones, or has no usable image.
    """

    def __init__(
        self,
        path: Path,
        task: Task,
        step: int,
        class_names: Mapping[int, str],
        *,
        per_original: int,
        balance: bool,
        transform: Transform,
        seed: int,
    ) -> None:
        self.transform, self.seed = transform, seed
        self.foreground = len(task.seen(step)) - 1
        # Old classes keep their channel, 255 stays.
        self.lookup = np.array(task.lookup(step - 1, train=False, mask_old=False, unknown="ignore"), dtype=np.uint8)
        self._known = bytes({*task.old(step), IGNORE})
        old = {i: class_names.get(i, str(i)) for i in task.old(step)}
        check_marker(path, old, "--replay_path", "old class of this step", "an earlier step")
        every = originals(path)
        folders = [folder for folder in every if (folder / TRAIN_FILE).is_file()]
        if not folders:
            raise UserError(
                f"--replay_path {path}: no {TRAIN_FILE} in it; run generate_label.py and generate_train_file.py"
            )
        if len(folders) < len(every):
            without = [folder.name for folder in every if folder not in set(folders)]
            LOG.warning("%d replay originals have no %s and are left out: %s", len(without), TRAIN_FILE, shown(without))
        self.images: list[ReplayImage] = []
        beyond = 0
        shares: list[NDArray[np.float64]] = []
        skipped: list[str] = []
        # Decoding leaves the interpreter lock, so threads are enough.
        with ThreadPoolExecutor() as pool:
            lists = [read_train_file(folder) for folder in folders]
            usable = pool.map(lambda pairs: self._usable(pairs, per_original), lists)
            bar = tqdm(zip(lists, usable, strict=True), total=len(folders), desc="Reading replay images", disable=None)
            for pairs, (good, faults) in bar:
                beyond += len(pairs) - len(good) - len(faults)
                self.images += [pair for pair, _ in good]
                shares += [share for _, share in good]
                skipped += faults
        if skipped:
            LOG.warning("%d replay images cannot be used and are left out: %s", len(skipped), shown(skipped))
        if not self.images:
            raise UserError(f"--replay_path {path}: no usable image")
        LOG.info("Replay images: %d of %d originals", len(self.images), len(folders))
        if beyond:
            LOG.info("Replay images beyond %d of an original (--replay_num): %d", per_original, beyond)
        if balance:
            foreground = [i for i in task.old(step) if i != BACKGROUND]
            times = repeats(np.stack(shares)[:, foreground] >= PRESENT)
            self.images = [pair for pair, count in zip(self.images, times, strict=True) for _ in range(count)]
            LOG.info("Replay images of rare classes are repeated: %d in all", len(self.images))

    def _usable(
        self, pairs: list[ReplayImage], most: int
    ) -> tuple[list[tuple[ReplayImage, NDArray[np.float64]]], list[str]]:
        """The first ``most`` pairs that can be used, with the share of each label value, and the faults of those passed over."""
        good: list[tuple[ReplayImage, NDArray[np.float64]]] = []
        faults = []
        for pair in pairs:
            if len(good) == most:
                break
            try:
                _, label = self._load(pair)
                good.append((pair, np.bincount(label.ravel(), minlength=256) / label.size))
            except DecodeError as error:
                faults.append(str(error))
        return good, faults

    def _load(
        self, pair: ReplayImage, reduction: Callable[[tuple[int, int]], int] = unreduced
    ) -> tuple[Image.Image, NDArray[np.uint8]]:
        """Image and pseudo-label; DecodeError where one cannot be read, or the label holds what is no old class."""
        (image, size), label = load_reduced(pair.image, reduction), load_mask(pair.label)
        check_pair(size, label, pair.image, pair.label)
        wrong = strangers(label, self._known)
        if wrong:
            raise DecodeError(f"{pair.label}: values {wrong} are no old classes of this step")
        return image, label

    def __len__(self) -> int:
        return len(self.images)

    def at(self, epoch: int, position: int) -> Sample:
        """The sample at a position, as ``epoch`` sees it."""
        pair = self.images[position]
        drawn = self.transform.drawn(sample_seed(self.seed + STREAM, epoch, position))
        image, label = self._load(pair, drawn.reduction)
        mask = drawn.mask(mapped(label, self.lookup))
        labels = torch.zeros(self.foreground)
        values = mask.numpy().tobytes()
        for channel in range(1, self.foreground + 1):
            labels[label_column(channel)] = channel in values
        return Sample(
            image=drawn.image(image),
            mask=mask,
            image_labels=labels,
            is_replay=True,
            name=f"{pair.original}/{pair.image.name}",
        )


class WithReplay(EpochDataset[Sample]):
    """A step's own images and, behind them, its replay images; ``InterleavedBatchSampler`` draws from both."""

    def __init__(self, new: IncrementalView | WebView, replay: ReplayView) -> None:
        self.new, self.replay = new, replay

    def __len__(self) -> int:
        return len(self.new) + len(self.replay)

    def at(self, epoch: int, position: int) -> Sample:
        """The sample at a position, as ``epoch`` sees it; positions of replay images begin behind the step's own."""
        if position < len(self.new):
            return self.new.at(epoch, position)
        return self.replay.at(epoch, position - len(self.new))
