"""Stopping on request: the first signal asks, the second ends, and handlers are put back."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from engine.stopping import SIGNALS, Stopped, Stopping, echo_seconds, shielded
from tests.conftest import ROOT


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_first_signal_asks_and_the_second_ends(first: signal.Signals, second: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    stopping = Stopping()
    with pytest.raises(SystemExit) as ended, stopping:
        assert not stopping.asked
        os.kill(os.getpid(), first)
        assert stopping.asked and stopping.number == first
        os.kill(os.getpid(), second)
    assert ended.value.code == 128 + second
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_every_signal_is_forwarded() -> None:
    """Whoever forwards, an experiment to its commands, decides when it ends."""
    forwarded: list[int] = []
    with Stopping(forwarded.append) as stopping:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert forwarded == [signal.SIGTERM, signal.SIGINT] and stopping.number == signal.SIGINT


def test_the_exit_code_of_a_stopped_run() -> None:
    stopped = Stopped(signal.SIGTERM, "the state is saved")
    assert stopped.exit_code == 143 and str(stopped) == "the state is saved"


def test_an_echo_is_the_same_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """``timeout`` and torchrun send what the whole group got a second time; a later signal ends the program."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(SystemExit) as ended, Stopping(echo=1.0) as stopping:
        os.kill(os.getpid(), signal.SIGTERM)
        now = 100.9
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.number == signal.SIGTERM
        now = 101.1
        os.kill(os.getpid(), signal.SIGINT)
    assert ended.value.code == 128 + signal.SIGINT
    monkeypatch.setenv("LOCAL_RANK", "0")
    launched = echo_seconds()
    monkeypatch.delenv("LOCAL_RANK")
    assert launched > echo_seconds() > 0


def test_where_nothing_has_to_be_saved_the_first_signal_ends_it() -> None:
    with Stopping() as stopping:
        asked = pytest.raises(Stopped, match=r"^stopped by signal 15 before the start$")
        with asked as stopped, stopping.at_once("before the start"):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except Exception:
                pytest.fail("whoever guards against faults lets it pass")
        assert stopped.value.exit_code == 143
    with Stopping() as stopping:
        with stopping.at_once("before the start"):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.asked


def numbers() -> DataLoader:
    return DataLoader(list(range(40)), num_workers=1, prefetch_factor=2)


@pytest.mark.parametrize("number", SIGNALS)
def test_workers_outlive_a_signal_to_the_group(number: signal.Signals) -> None:
    with Stopping() as stopping:
        with shielded():
            found = iter(numbers())
        assert int(next(found)) == 0
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, number)
        assert [int(value) for value in found] == list(range(1, 40)) and not stopping.asked


def test_a_signal_waits_for_the_end_of_the_shield() -> None:
    with Stopping() as stopping:
        with shielded():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert not stopping.asked
        assert stopping.asked


PARENT = """
import multiprocessing, os, signal, sys
from engine.stopping import shielded
from torch.utils.data import DataLoader
with shielded():
    found = iter(DataLoader(list(range(1000)), num_workers=1))
next(found)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_shielded_workers_end_with_their_parent() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT], cwd=ROOT, capture_output=True, text=True, check=False)
    workers = [int(word) for word in done.stdout.split()]
    assert done.returncode == -signal.SIGKILL and len(workers) == 1
    deadline = time.monotonic() + 60
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(alive(worker) for worker in workers)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waited for has ended, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
