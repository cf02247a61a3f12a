"""Which images make up which batch: the same global batches for any number of ranks, and after any interruption."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from utils.checks import images_per_rank, replay_places
from utils.errors import UserError

Key = tuple[int, int]
# Between the seeds of the step's own images and of its replay images, so that equally many of both are not paired up for ever.
REPLAY_SEED = 7919


def _round(length: int, seed: int, number: int) -> list[Key]:
    """All images once, in the order of (seed, number)."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    return [(number, index) for index in torch.randperm(length, generator=generator).tolist()]


def endless(length: int, seed: int, first: int, count: int) -> list[Key]:
    """``count`` keys from place ``first`` on of the endless list of permutations of ``length`` images.

    No image comes again before all others have come.
    """
    rounds = range(first // length, -(-(first + count) // length))
    keys = [key for number in rounds for key in _round(length, seed, number)]
    begin = first - rounds.start * length
    return keys[begin : begin + count]


class BatchSampler(Sampler[list[Key]]):
    """This rank's slices of the global batches of an epoch.

    A key is (round, index): an image drawn again in a later round is augmented anew.

    Args:
        global_batch: batch size over all ranks.
        rank: number of this rank.
        world: number of ranks.
        seed: seed of the permutations.
        iterations: batches of an epoch.

    Raises:
        UserError: a batch cannot be shared by the ranks.
    """

    def __init__(self, global_batch: int, rank: int, world: int, seed: int, iterations: int) -> None:
        each = images_per_rank(global_batch, world)
        self.global_batch, self.seed, self.iterations = global_batch, seed, iterations
        self.share = slice(rank * each, (rank + 1) * each)
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, start_iteration: int = 0) -> None:
        """Choose the epoch, and the iteration of it to begin with."""
        self.epoch, self.start = epoch, start_iteration

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self.iterations

    @abstractmethod
    def _keys(self) -> list[Key]:
        """The keys of all global batches of the epoch, one batch after the other."""

    def __iter__(self) -> Iterator[list[Key]]:
        keys = self._keys()
        for iteration in range(self.start, self.iterations):
            at = iteration * self.global_batch
            yield keys[at : at + self.global_batch][self.share]


class GlobalBatchSampler(BatchSampler):
    """Batches of one kind of images.

    The images are permuted by (seed, round), one round after the other; an epoch is
    ``iters_per_epoch`` batches of this endless list, or the whole batches of one round.

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
        super().__init__(global_batch, rank, world, seed, iters_per_epoch or length // global_batch)
        self.length = length
        self.whole_rounds = iters_per_epoch is None
        _need_a_batch(self.iterations, length, global_batch)

    def _keys(self) -> list[Key]:
        if self.whole_rounds:
            return _round(self.length, self.seed, self.epoch)
        count = self.iterations * self.global_batch
        return endless(self.length, self.seed, self.epoch * count, count)


class InterleavedBatchSampler(BatchSampler):
    """Batches that mix new and replay images evenly: new, replay, new, replay ... as published.

    Both kinds are endless lists of permutations of their own, which go on from epoch to epoch. An
    epoch is ``iters_per_epoch`` batches, or as many as show every image of both kinds: with equal
    shares 2 x max(new, replay) images, as published (docs/method.md, "Old classes from captions").
    Replay image i is at index ``new`` + i.

    Args:
        new: number of the step's own images.
        replay: number of replay images.
        global_batch: batch size over all ranks.
        rank: number of this rank.
        world: number of ranks.
        seed: seed of the permutations.
        iters_per_epoch: batches of an epoch; None for the published length.
        share: share of replay images in a batch, between 0 and 1.

    Raises:
        UserError: a batch cannot be divided so, or not be shared by the ranks, or the images do not fill one.
    """

    def __init__(
        self,
        new: int,
        replay: int,
        global_batch: int,
        rank: int,
        world: int,
        seed: int,
        iters_per_epoch: int | None = None,
        share: float = 0.5,
    ) -> None:
        self.places = replay_places(global_batch, share)
        self.per_batch = sum(self.places)
        needed = max(new // (global_batch - self.per_batch), replay // self.per_batch)
        super().__init__(global_batch, rank, world, seed, iters_per_epoch or needed)
        self.new, self.replay = new, replay
        _need_a_batch(self.iterations, new + replay, global_batch)

    def _keys(self) -> list[Key]:
        size, per_batch = self.global_batch, self.per_batch
        counts = self.iterations * (size - per_batch), self.iterations * per_batch
        new = iter(endless(self.new, self.seed, self.epoch * counts[0], counts[0]))
        replay = endless(self.replay, self.seed + REPLAY_SEED, self.epoch * counts[1], counts[1])
        behind = iter([(number, self.new + index) for number, index in replay])
        return [next(behind if kind else new) for _ in range(self.iterations) for kind in self.places]


def _need_a_batch(iterations: int, images: int, global_batch: int) -> None:
    """UserError where the images do not fill a batch."""
    if not iterations:
        raise UserError(
            f"the step has {images} training images, fewer than --batch_size {global_batch}: "
            "give a smaller batch, or --iters_per_epoch"
        )


def evaluation_shard(length: int, rank: int, world: int) -> range:
    """Images of this rank in an evaluation: every image once over all ranks."""
    return range(rank, length, world)


def shared_evenly(groups: Sequence[Sequence[int]], costs: Sequence[int], world: int) -> list[list[list[int]]]:
    """Groups of images for each rank, every group once and about equally much of them on each.

    Args:
        groups: positions of images that go together.
        costs: of each group, in pixels.
        world: number of ranks.

    Returns:
        each rank's groups, the costliest first.
    """
    shares: list[list[list[int]]] = [[] for _ in range(world)]
    loads = [0] * world
    for number in sorted(range(len(groups)), key=lambda number: -costs[number]):
        # Of equal loads the one with fewer groups, so that ranks end together whatever the pixels say.
        rank = min(range(world), key=lambda rank: (loads[rank], len(shares[rank]), rank))
        shares[rank].append(list(groups[number]))
        loads[rank] += costs[number]
    return shares
