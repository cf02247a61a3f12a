"""Stopping on request: the first signal asks, the second ends, and handlers are put back."""

from __future__ import annotations

import os
import signal

import pytest

from engine.stopping import SIGNALS, Stopped, Stopping


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
