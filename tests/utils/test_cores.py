"""The cores of a process: what the system, the launcher and the user give it, and how it splits them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from utils import cores
from utils.cores import Split

# The fixture replaces it.
QUOTA = cores.quota


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, no launcher, and nobody said how many threads."""
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores, "quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3.0),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("4:memory:/x\n1:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("nonsense", {"cpu.max": "words\n"}, None),
        ("", {}, None),
    ],
)  # fmt: skip
def test_quota_of_a_container(own: str, files: dict[str, str], expected: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    assert QUOTA(tmp_path / "cgroup", tmp_path / "own") == expected
    assert QUOTA(tmp_path, tmp_path / "nowhere") is None


def test_a_quota_bounds_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.available() == cores.share() == 8
    for bound, expected in ((2.5, 2), (0.5, 1), (64.0, 8)):
        monkeypatch.setattr(cores, "quota", lambda bound=bound: bound)
        assert cores.available() == expected


def test_ranks_of_a_machine_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert cores.share() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert cores.share() == 5 and cores.fair_share() == 2, "the user's word for computing"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "99")
    assert cores.fair_share() == 1


@pytest.mark.parametrize("given", ["", "0", "-3", "many"])
def test_a_number_of_threads_that_is_none_says_nothing(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert cores.given_threads() is None and cores.share() == 8


def test_torch_computes_on_no_more_than_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        cores.settle()
        assert torch.get_num_threads() == 4, "fewer than it might have"
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        cores.settle()
        assert torch.get_num_threads() == 4, "as the user said"
        monkeypatch.delenv("OMP_NUM_THREADS")
        cores.settle()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [1]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    assert cores.split("cpu") == Split(0, 1, 1)
    threads[0] = 8
    assert cores.split("cpu") == Split(0, 8, 1)
    assert cores.split("cpu", 3) == Split(3, 8, 1), "streams of one thread wait for nobody"
    assert cores.split("cpu", alone=True) == Split(2, 1, 8)
    assert cores.split("cuda") == Split(7, 1, 8) and cores.split("cuda", 0) == Split(0, 1, 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(40)), raising=False)
    threads[0] = 20
    assert cores.split("cpu") == Split(0, 8, 2) and cores.split("cuda").workers == 8
    assert str(cores.split("cuda")) == "Cores: 1 streams of 20 threads, 8 decoding processes"


def test_a_gpu_s_rank_decodes_on_its_fair_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun sets OMP_NUM_THREADS to 1 where nobody has."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores.loaders("cuda") == 3
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert cores.loaders("cuda") == 1, "the user's word"


def test_streams_give_results_in_order_side_by_side() -> None:
    before, meeting = torch.get_num_threads(), threading.Barrier(3, timeout=20)

    def work(number: int) -> tuple[int, int]:
        if number < 3:
            meeting.wait()
        time.sleep(0.01 * (number % 3))
        return number, torch.get_num_threads()

    found = list(cores.in_streams(work, range(20), Split(0, 3, 1)))
    assert found == [(number, 1) for number in range(20)]
    assert torch.get_num_threads() == before
    assert [n for n, _ in cores.in_streams(lambda n: (n, 0), range(4), Split(0, 1, before))] == [0, 1, 2, 3]


def test_streams_read_no_further_than_they_need() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    stream = cores.in_streams(lambda number: number, items(), Split(0, 2, 1))
    assert next(stream) == 0 and len(taken) <= 4
    stream.close()  # type: ignore[attr-defined]
    assert len(taken) <= 4


@pytest.mark.parametrize("streams", [1, 2])
def test_a_fault_in_a_stream_ends_the_work(streams: int) -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("no")
        done.append(number)
        return number

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="no"):
        list(cores.in_streams(work, range(1000), Split(0, streams, 1)))
    assert len(done) < 20 and torch.get_num_threads() == before
