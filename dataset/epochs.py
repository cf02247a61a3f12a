"""Data sets whose draws depend on (seed, epoch, position) alone: a stopped run goes on with the same."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TypeVar

from torch.utils.data import Dataset

Item = TypeVar("Item", covariant=True)


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Seed of one image's augmentation in one epoch."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch} {index}".encode()).digest()[:7])


class EpochDataset(Dataset[Item], ABC):
    """Items by (epoch, position), the keys of the batch samplers; a position alone is of epoch 0."""

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        epoch, position = key if isinstance(key, tuple) else (0, key)
        return self.at(epoch, position)

    @abstractmethod
    def at(self, epoch: int, position: int) -> Item:
        """The item at a position, as ``epoch`` sees it."""

    @abstractmethod
    def __len__(self) -> int: ...
