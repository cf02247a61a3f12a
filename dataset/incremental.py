"""A data set as one step of a task sees it: some of the images, and of the masks only the labels that the step may know."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dataset.batch import Sample
from dataset.epochs import EpochDataset, sample_seed
from dataset.groups import sizes_of
from dataset.source import Source
from dataset.transform import Transform
from tasks import Task, label_columns
from utils.errors import UserError
from utils.images import check_pair, load_mask, load_reduced, mapped, unreduced
from utils.texts import composed


class IncrementalView(EpochDataset[Sample]):
    """Samples of ``source[indices]`` under the protocol of ``task`` at ``step``.

    Args:
        source: images and masks.
        task: which classes are learned when.
        step: the step.
        indices: images of the source, in order.
        train: training masks (255 and unknown classes are background) or test masks.
        mask_old: whether old classes lose their label.
        unknown: what classes not yet learned become in test masks, one of ``TEST_UNKNOWN``.
        transform: image and mask to tensors.
        seed: seed of the augmentation, which depends on (seed, epoch, image) alone.
        pseudo: folder of pseudo-label PNGs ``<id>.png`` in class ids, used in place of the masks.

    Raises:
        UserError: a pseudo-label is missing.
    """

    def __init__(
        self,
        source: Source,
        task: Task,
        step: int,
        indices: NDArray[np.int64],
        *,
        train: bool,
        mask_old: bool,
        unknown: str,
        transform: Transform,
        seed: int,
        pseudo: Path | None = None,
    ) -> None:
        self.source, self.indices, self.transform, self.seed = source, np.asarray(indices), transform, seed
        self.train = train
        self.lookup = np.array(task.lookup(step, train=train, mask_old=mask_old, unknown=unknown), dtype=np.uint8)
        self.pseudo = pseudo
        if pseudo is not None:
            self.pseudo_labels = {composed(path.stem): path for path in sorted(pseudo.glob("*.png"))}
            missing = [source.ids[i] for i in self.indices if composed(source.ids[i]) not in self.pseudo_labels]
            if missing:
                raise UserError(f"--pseudo {pseudo}: no pseudo-label for {len(missing)} images: {missing[0]}.png ...")
        shown = np.array(task.image_label_mask(step, mask_old=mask_old), dtype=np.float32)
        columns = task.image_label_columns(step)
        self.image_labels = source.image_labels()[self.indices][:, columns].astype(np.float32) * shown

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) that the head of each image states; 0, 0 where it cannot be read."""
        return sizes_of([self.source.image_path(int(index)) for index in self.indices])

    def holding(self, classes: tuple[int, ...]) -> NDArray[np.int64]:
        """Positions of the images that hold one of the foreground ``classes`` (ids)."""
        return np.flatnonzero(self.source.image_labels()[self.indices][:, label_columns(classes)].any(axis=1))

    def pair(
        self, index: int, reduction: Callable[[tuple[int, int]], int] = unreduced
    ) -> tuple[Image.Image, NDArray[np.uint8]]:
        """Image and mask or pseudo-label ``index`` of the source, as ``Source.pair``; DecodeError likewise."""
        if self.pseudo is None:
            return self.source.pair(index, reduction)
        image, size = load_reduced(self.source.image_path(index), reduction)
        path = self.pseudo_labels[composed(self.source.ids[index])]
        mask = load_mask(path)
        check_pair(size, mask, self.source.image_path(index), path)
        return image, mask

    def at(self, epoch: int, position: int) -> Sample:
        """The sample at a position, as ``epoch`` sees it."""
        index = int(self.indices[position])
        drawn = self.transform.drawn(sample_seed(self.seed, epoch, index))
        image, mask = self.pair(index, drawn.reduction)
        return Sample(
            image=drawn.image(image),
            mask=drawn.mask(mapped(mask, self.lookup)),
            image_labels=torch.from_numpy(self.image_labels[position]),
            is_replay=False,
            name=self.source.ids[index],
        )
