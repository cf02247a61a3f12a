"""Which images make up which batch: the same global batches for any number of ranks, and after any interruption."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from utils.errors import UserError

Key = tuple[int, int]


class GlobalBatchSampler(Sampler[list[Key]]):
    """This rank's slices of the global batches of an epoch.

    The images are permuted by (seed, round), one round after the other; an epoch is ``iters_per_epoch`` batches of this endless list, or
    the whole batches of one round. A key is (round, index): an image drawn again in a later round is augmented anew.

    Args:
        length: number of images.
        global_batch: batch size over all ranks.
        rank: number of this rank.
        world: number of ranks.
        seed: seed of the permutations.
        iters_per_epoch: batches of an epoch; None for one round without its last, smaller batch.

    Raises:
        UserError: a batch cannot be shared by the ranks, or the images do not fill one.
    """

    def __init__(
        self, length: int, global_batch: int, rank: int, world: int, seed: int, iters_per_epoch: int | None = None
    ) -> None:
        if global_batch % world:
            raise UserError(
                f"--batch_size {global_batch} cannot be shared by {world} processes: give a multiple of {world}"
            )
        if iters_per_epoch is None and length < global_batch:
            raise UserError(
                f"the step has {length} training images, fewer than --batch_size {global_batch}: "
                "give a smaller batch, or --iters_per_epoch"
            )
        self.length, self.global_batch, self.seed = length, global_batch, seed
        self.share = slice(rank * (global_batch // world), (rank + 1) * (global_batch // world))
        self.iterations = iters_per_epoch or length // global_batch
        self.whole_rounds = iters_per_epoch is None
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, start_iteration: int = 0) -> None:
        """Choose the epoch, and the iteration of it to begin with."""
        self.epoch, self.start = epoch, start_iteration

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self.iterations

    def _round(self, number: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return torch.randperm(self.length, generator=generator).tolist()

    def __iter__(self) -> Iterator[list[Key]]:
        if self.whole_rounds:
            keys = [(self.epoch, index) for index in self._round(self.epoch)]
            begin = 0
        else:
            first = self.epoch * self.iterations * self.global_batch
            last = first + self.iterations * self.global_batch
            rounds = range(first // self.length, -(-last // self.length))
            keys = [(number, index) for number in rounds for index in self._round(number)]
            begin = first - rounds.start * self.length
        for iteration in range(self.start, self.iterations):
            at = begin + iteration * self.global_batch
            yield keys[at : at + self.global_batch][self.share]


def evaluation_shard(length: int, rank: int, world: int) -> range:
    """Images of this rank in an evaluation: every image once over all ranks."""
    return range(rank, length, world)
