"""A few threads that work ahead; nobody waits for one that hangs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
# Jobs under way for each thread: a slow one holds up the order of the results, not the work.
AHEAD = 2


class Crew:
    """Does jobs in threads and gives the results in the order of the jobs.

    The threads end with the process: one that waits for a name server cannot be told to stop, and a user who stops the program should
    not wait for it.
    """

    def __init__(self, threads: int) -> None:
        self.ahead = AHEAD * threads
        self._todo: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while (job := self._todo.get()) is not None:
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # Whoever asks for the result gets it.
                future.set_exception(error)

    def in_order(
        self, jobs: Iterator[tuple[Job, Callable[[], Result]]], room: Callable[[], int] | None = None
    ) -> Iterator[tuple[Job, Future[Result]]]:
        """Do ``jobs`` and give each with its result, which may still have to be waited for.

        Args:
            jobs: a name, and what to do; taken one by one while there is room.
            room: how many may be under way; asked before each job.
        """
        under_way: deque[tuple[Job, Future[Result]]] = deque()
        more = True
        while True:
            while more and len(under_way) < (self.ahead if room is None else min(self.ahead, room())):
                job = next(jobs, None)
                if job is None:
                    more = False
                else:
                    future: Future[Result] = Future()
                    self._todo.put((future, job[1]))
                    under_way.append((job[0], future))
            if not under_way:
                return
            yield under_way.popleft()

    def close(self, seconds: float) -> None:
        """End the threads after the jobs they are at; waits for them at most so long."""
        while not self._todo.empty():
            job = self._todo.get()
            if job is not None:
                job[0].cancel()
        for _ in self._threads:
            self._todo.put(None)
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
