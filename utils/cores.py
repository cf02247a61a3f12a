"""The cores of a process, and how it splits them between loading and computing.

On a GPU other processes decode ahead of it. On a CPU that only asks a network, each core does the whole work on images of its own, from
the file to the result: it waits for nobody, and nobody computes beside the one who decodes (benchmarks/results/testing.md).
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

LOG = logging.getLogger("webwilss")
Item = TypeVar("Item")
Result = TypeVar("Result")

# Processes that decode for one GPU, and threads that have images of their own, at most. More threads wait for Python's lock.
MOST_WORKERS, MOST_STREAMS = 8, 8
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available() -> int:
    """Cores that the system gives this process: of its affinity mask, and no more than its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(quota() or cores)))


def quota(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> float | None:
    """Cores' worth of time that a container may use; None where nothing bounds it.

    Args:
        root: where control groups are mounted, of version 2 or 1.
        own: file that names those of this process.
    """
    try:
        lines = own.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    bounds = []
    for line in lines:
        _, _, entry = line.partition(":")
        controllers, _, path = entry.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        place, mount = Path(path.strip("/")), root / "cpu" if controllers else root
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        # A group's bound is its parents', too. Inside a container its own is the root.
        for folder in (place, *place.parents, Path()):
            bounds.append(_ratio([word for name in names for word in _words(mount / folder / name)]))
    known = [bound for bound in bounds if bound is not None]
    return min(known) if known else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []


def _ratio(words: list[str]) -> float | None:
    """Microseconds of computing in a period of so many; ``max`` and -1 bound nothing."""
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        return None
    return int(words[0]) / int(words[1])


def given_threads() -> int | None:
    """OMP_NUM_THREADS, where it is a number."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(given) if given.isdecimal() and int(given) else None


def fair_share() -> int:
    """Cores for this process where a launcher started several on this machine."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, available() // (int(ranks) if ranks.isdecimal() and int(ranks) else 1))


def share() -> int:
    """Cores for this process: OMP_NUM_THREADS where it is set, else its fair share."""
    return given_threads() or fair_share()


def settle() -> None:
    """Keep torch from computing on more cores than this process has; it sees neither launchers nor quotas."""
    import torch

    if given_threads() is None and torch.get_num_threads() > fair_share():
        torch.set_num_threads(fair_share())


@dataclass(frozen=True)
class Split:
    """How a process that asks a network spends its cores.

    Attributes:
        workers: processes that decode; with 0 each stream does.
        streams: threads with images of their own. Those that compute on one core wait for no other, whoever decodes beside them.
        threads: cores that each of them computes on.
    """

    workers: int
    streams: int
    threads: int

    def __str__(self) -> str:
        return f"Cores: {self.streams} streams of {self.threads} threads, {self.workers} decoding processes"


def loaders(device: str, alone: bool = False) -> int:
    """Processes that decode, where nobody says how many.

    Args:
        device: kind of the network's device.
        alone: all cores compute on the same images, as in training: of many some are spared to decode.
    """
    if device == "cpu":
        return min(2, share() // 4) if alone else 0
    # Under a launcher OMP_NUM_THREADS is 1 for ranks that nobody told otherwise; a GPU's rank decodes on its fair share all the same.
    cores = fair_share() if "LOCAL_WORLD_SIZE" in os.environ else share()
    return min(MOST_WORKERS, max(1, cores - 1))


def split(device: str, workers: int | None = None, *, alone: bool = False) -> Split:
    """The best split of this process's cores (measured: benchmarks/results/testing.md).

    Args:
        device: kind of the network's device.
        workers: processes that decode, where the user says how many.
        alone: all cores compute on the same images.
    """
    import torch

    settle()
    decoding = loaders(device, alone) if workers is None else workers
    threads = torch.get_num_threads()
    streams = min(threads, MOST_STREAMS) if device == "cpu" and not alone else 1
    return Split(decoding, streams, threads // streams)


def in_streams(work: Callable[[Item], Result], items: Iterable[Item], cores: Split) -> Iterator[Result]:
    """What ``work`` makes of each item, in their order; the streams work side by side, a few items ahead.

    Args:
        work: called in the streams' threads, where torch computes on their own cores.
        items: taken in this thread.
        cores: how many streams.
    """
    import torch

    before = torch.get_num_threads()
    if cores.streams == 1:
        torch.set_num_threads(cores.threads)
        try:
            yield from map(work, items)
        finally:
            torch.set_num_threads(before)
        return
    pool = ThreadPoolExecutor(cores.streams, initializer=torch.set_num_threads, initargs=(cores.threads,))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * cores.streams:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # A thread's number is the default of those that come after it.
        torch.set_num_threads(before)
