"""What travels from a data set to a loss: one sample, one batch, nothing positional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One training or test image, cut out and cut to size.

    Attributes:
        image: (3, H, W) uint8, RGB; ``Normalisation.apply`` makes the network's input of it, on the device.
        mask: (H, W) uint8, channels of the network, 255 where a pixel must not count.
        image_labels: (C - 1,) float32, 1 for each foreground class that the image holds and the step may know.
        is_replay: the image stands for old classes (rehearsal), it is a negative for the new ones.
        name: what to call the image when it has to be named to a person.
    """

    image: Tensor
    mask: Tensor
    image_labels: Tensor
    is_replay: bool
    name: str


@dataclass(frozen=True)
class Batch:
    """Samples side by side: images (B, 3, H, W), masks (B, H, W), image_labels (B, C - 1), is_replay (B,), names.

    Images and masks travel as bytes; on the device ``to`` makes masks int64, as losses want them.
    """

    images: Tensor
    masks: Tensor
    image_labels: Tensor
    is_replay: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
        """The batch on ``device``, masks as int64, image labels as ``dtype``."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            masks=self.masks.to(device, non_blocking=True).long(),
            image_labels=self.image_labels.to(device, dtype, non_blocking=True),
            is_replay=self.is_replay.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """Called by the data loader: page-locked copies, so that the transfer to a GPU overlaps with work."""
        return replace(
            self,
            images=self.images.pin_memory(),
            masks=self.masks.pin_memory(),
            image_labels=self.image_labels.pin_memory(),
            is_replay=self.is_replay.pin_memory(),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size into a batch."""
    return Batch(
        # Side by side as they lie, values of a pixel together: other orders are copied many times as slowly.
        images=torch.stack([s.image.permute(1, 2, 0) for s in samples]).permute(0, 3, 1, 2),
        masks=torch.stack([s.mask for s in samples]),
        image_labels=torch.stack([s.image_labels for s in samples]),
        is_replay=torch.tensor([s.is_replay for s in samples]),
        names=tuple(s.name for s in samples),
    )


def collate_sizes(samples: Sequence[Sample]) -> list[Batch]:
    """Batches of samples by their size: usually one, for those whose files stated the same."""
    by_size: dict[torch.Size, list[Sample]] = {}
    for sample in samples:
        by_size.setdefault(sample.image.shape, []).append(sample)
    return [collate(alike) for alike in by_size.values()]
