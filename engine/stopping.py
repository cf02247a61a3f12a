"""Stopping on request: what SIGTERM and Ctrl-C do while work that can be gone on with is under way."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A run was asked to stop and has saved its state.

    Args:
        number: the signal that asked.
        message: what is saved where, in one line.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it."""
        return 128 + self.number


class Stopping:
    """While it is entered, SIGTERM and Ctrl-C ask for a stop and end nothing; a second one ends the program.

    Args:
        forward: called with the number of every signal, for instance to pass it on to child processes.
            Whoever forwards decides what a second signal does: it no longer ends the program.

    Attributes:
        number: the last signal; None as long as nobody asked.
    """

    def __init__(self, forward: Callable[[int], None] | None = None) -> None:
        self.forward = forward
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self.number is not None

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """The handler of both signals."""
        if self.asked and self.forward is None:
            sys.exit(128 + number)
        self.number = number
        if self.forward is not None:
            self.forward(number)

    def __enter__(self) -> Stopping:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self.ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
