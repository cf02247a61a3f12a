"""Threads that work ahead: order, room, errors, and an end that waits for nobody for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

import pytest

from web.crew import AHEAD, Crew


def test_results_come_in_the_order_of_the_jobs() -> None:
    crew = Crew(4)
    gates = [threading.Event() for _ in range(8)]

    def work(number: int) -> int:
        # Each job waits for the one after it.
        if number + 1 < len(gates) and number % 4 != 3:
            gates[number + 1].wait(10)
        gates[number].set()
        return number

    found = [(name, future.result()) for name, future in crew.in_order((n, partial(work, n)) for n in range(8))]
    assert found == [(n, n) for n in range(8)]
    crew.close(5)


def test_jobs_are_taken_while_there_is_room() -> None:
    crew = Crew(2)
    taken: list[int] = []

    def jobs() -> Iterator[tuple[int, Any]]:
        for number in range(100):
            taken.append(number)
            yield number, lambda: None

    results = crew.in_order(jobs())
    next(results)
    assert len(taken) == 2 * AHEAD
    taken.clear()
    wanted = [3]
    for done, (_, future) in enumerate(crew.in_order(jobs(), lambda: wanted[0]), 1):
        future.result()
        # From the sixth on, those under way are given, and none is begun.
        assert len(taken) == min(done + 2, 7)
        if done == 5:
            wanted[0] = 0
    assert done == 7
    crew.close(5)


def test_errors_are_for_who_asks_for_the_result() -> None:
    crew = Crew(1)

    def fails() -> None:
        raise ValueError("no")

    futures = [future for _, future in crew.in_order(iter([(1, fails), (2, lambda: None)]))]
    with pytest.raises(ValueError, match="no"):
        futures[0].result()
    assert futures[1].result() is None
    crew.close(5)


def test_the_end_leaves_a_hanging_thread_behind() -> None:
    crew = Crew(1)
    hanging = threading.Event()
    results = crew.in_order(iter([(1, lambda: hanging.wait(60)), (2, lambda: True)]))
    next(results)
    _, second = next(results)
    while crew._todo.qsize() != 1:
        time.sleep(0.01)
    crew.close(0.01)
    with pytest.raises(CancelledError):
        second.result(0)
    hanging.set()
