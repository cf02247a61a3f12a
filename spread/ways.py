"""Three ways to do blocks: in this process, by the ranks that torchrun started, by actors on Ray. The rows come in the same order."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from spread.blocks import Block, Item, Row, Store, Worker, in_turn
from spread.options import RayOptions
from utils.cores import Split, in_streams, split
from utils.distributed import Runtime, start
from utils.errors import UserError

LOG = logging.getLogger("webwilss")
# Batches that each loading process holds ready.
AHEAD = 4
# Seconds between two looks for the blocks of other ranks.
LOOK = 0.1


class Way(Protocol):
    """How blocks are spread.

    Attributes:
        runtime: of this process; its main rank alone gets rows and writes.
    """

    runtime: Runtime

    def results(
        self, blocks: Iterable[Block[Item]], make: Callable[[], Worker[Item]], store: Store
    ) -> Iterator[list[Row]]:
        """Rows of each batch, in the order of blocks and batches; nothing where this process is not the main rank.

        All ranks call it after they have seen what is to do, and take from it to its end.

        Args:
            blocks: what is to do.
            make: makes what does it.
            store: where blocks wait that are done before their turn.

        Raises:
            UserError: a worker raised it, or the workers are lost.
        """
        ...


class _Prepared(Dataset[Any], Generic[Item]):
    """Batches made ready; a batch is its own index."""

    def __init__(self, prepare: Callable[[Sequence[Item]], Any]) -> None:
        self.prepare = prepare

    def __getitem__(self, batch: Sequence[Item]) -> Any:
        return self.prepare(batch)


def _same(value: Any) -> Any:
    return value


def looked_at(
    worker: Worker[Item], batches: Iterable[Sequence[Item]], cores: Split, runtime: Runtime
) -> Iterator[list[Row]]:
    """Rows of each batch, in order.

    Other processes prepare the next ones, or each stream its own; ``batches`` is read as far as they are ahead.
    """
    if runtime.main:
        LOG.info("%s", cores)
    if not cores.workers:
        return in_streams(lambda batch: worker.finish(worker.prepare(batch)), batches, cores)
    loader = DataLoader(
        _Prepared(worker.prepare),
        sampler=batches,
        batch_size=None,
        collate_fn=_same,
        num_workers=cores.workers,
        pin_memory=runtime.device.type == "cuda",
        prefetch_factor=AHEAD,
    )
    return in_streams(worker.finish, loader, cores)


class InProcess:
    """This process does it all, batch by batch; blocks that another way left finished are taken over.

    Args:
        runtime: device and precision.
        cores: processes that prepare batches, and streams that look at them; None chooses.
    """

    def __init__(self, runtime: Runtime, cores: Split | None = None) -> None:
        self.runtime, self.cores = runtime, cores or split(runtime.device.type)

    def results(
        self, blocks: Iterable[Block[Item]], make: Callable[[], Worker[Item]], store: Store
    ) -> Iterator[list[Row]]:
        """See ``Way``."""
        # What the loader has gone past: rows that were there, None for those to come.
        order: deque[list[Row] | None] = deque()

        def undone() -> Iterator[tuple[Item, ...]]:
            for block in blocks:
                there = store.read(block)
                for number, batch in enumerate(block.batches):
                    order.append([] if not batch else None if there is None else there[number])
                    if order[-1] is None:
                        yield batch

        for rows in looked_at(make(), undone(), self.cores, self.runtime):
            while (known := order.popleft()) is not None:
                yield known
            yield rows
        yield from (known for known in order if known is not None)
        store.clear()


class Ranks:
    """Each rank takes the next block that nobody has; the main rank hands the rows on. They share the store's folder.

    Args:
        runtime: the ranks.
        cores: processes that prepare batches, and streams that look at them, of each rank; None chooses.
    """

    def __init__(self, runtime: Runtime, cores: Split | None = None) -> None:
        self.runtime, self.cores = runtime, cores or split(runtime.device.type)

    def results(
        self, blocks: Iterable[Block[Item]], make: Callable[[], Worker[Item]], store: Store
    ) -> Iterator[list[Row]]:
        """See ``Way``."""
        plan = list(blocks)
        todo = [block for block in plan if store.read(block) is None]
        self.runtime.on_main(store.release)
        waiting = deque(plan)
        for _ in self._own(todo, make(), store):
            if self.runtime.main:
                yield from in_turn(waiting, store)
        while self.runtime.main and waiting:
            yield from in_turn(waiting, store)
            time.sleep(LOOK if waiting else 0)
        self.runtime.barrier()
        if self.runtime.main:
            store.clear()

    def _own(self, todo: Sequence[Block[Item]], worker: Worker[Item], store: Store) -> Iterator[None]:
        """Do blocks until none is left; one step for each of them."""
        taken: deque[Block[Item]] = deque()

        def batches() -> Iterator[tuple[Item, ...]]:
            for block in todo:
                if store.take(block):
                    taken.append(block)
                    yield from filter(None, block.batches)

        rows = looked_at(worker, batches(), self.cores, self.runtime)
        for first in rows:
            block = taken.popleft()
            # The loader is ahead by some batches, of this block and others.
            own = itertools.chain([first], rows)
            store.write(block, [next(own) if batch else [] for batch in block.batches])
            yield


def start_runtime(device: str, precision: str | None, ray: RayOptions | None, local_rank: int = 0) -> Runtime:
    """The runtime of a script: the device that was asked for; where actors do the work, a processor and their precision.

    Raises:
        UserError: the machine cannot give it, or Ray's workers would choose a precision each.
    """
    if ray is None:
        return start(device, precision, int(os.environ.get("LOCAL_RANK", local_rank)))
    if precision == "auto":
        raise UserError(
            "--precision auto: the workers of --ray may differ in what is fastest; name fp32, bf16 or another"
        )
    return replace(start("cpu", "fp32"), precision=precision or "fp32")


def make_way(
    runtime: Runtime, workers: int | None = None, ray: RayOptions | None = None, *, alone: bool = False
) -> Way:
    """The way that the options and the launcher ask for.

    Args:
        runtime: of ``start_runtime``.
        workers: processes that prepare batches; threads of an actor; None chooses.
        ray: where to find Ray; None for this process, or its ranks.
        alone: all cores compute on the same batch.

    Raises:
        UserError: Ray is asked for and not installed.
    """
    if ray is not None:
        from spread.on_ray import OnRay

        return OnRay(runtime, workers or 1, ray)
    cores = Split(workers or 0, 1, torch.get_num_threads()) if alone else split(runtime.device.type, workers)
    return Ranks(runtime, cores) if runtime.world > 1 else InProcess(runtime, cores)
