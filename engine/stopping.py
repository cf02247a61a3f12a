"""Stopping on request: what SIGTERM and Ctrl-C do while work that can be gone on with is under way."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util  # Its exit handler comes before ours, and so runs after it.
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# ``timeout`` signals its command and the command's group, and torchrun passes on what its whole group got: within so many
# seconds that is one request.
ECHO, LAUNCHED_ECHO = 1.0, 10.0


class Stopped(BaseException):
    """A run was asked to stop and has saved its state.

    No Exception: who guards against faults, around a board or a page, has to let it pass.

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
        echo: seconds after the first signal within which others are the same request (``echo_seconds``).

    Attributes:
        number: the last signal; None as long as nobody asked.
    """

    def __init__(self, forward: Callable[[int], None] | None = None, echo: float = 0.0) -> None:
        self.forward, self.echo = forward, echo
        self.number: int | None = None
        self._since = 0.0
        self._nothing_to_save = ""
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self.number is not None

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """The handler of both signals."""
        if self.asked and self.forward is None:
            if time.monotonic() - self._since < self.echo:
                return
            sys.exit(128 + number)
        self.number, self._since = number, time.monotonic()
        if self.forward is not None:
            self.forward(number)
        elif self._nothing_to_save:
            raise Stopped(number, f"stopped by signal {number} {self._nothing_to_save}")

    @contextmanager
    def at_once(self, when: str) -> Iterator[None]:
        """Nothing has to be saved in the block: the first signal ends it.

        Args:
            when: what the message says behind the signal.

        Raises:
            Stopped: at whatever place the block is, when a signal comes.
        """
        self._nothing_to_save = when
        try:
            yield
        finally:
            self._nothing_to_save = ""

    def __enter__(self) -> Stopping:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self.ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def echo_seconds() -> float:
    """How long after a signal another one is its echo: longer where a launcher started this process."""
    return LAUNCHED_ECHO if "LOCAL_RANK" in os.environ else ECHO


@contextmanager
def shielded() -> Iterator[None]:
    """Processes and threads that start in the block never get SIGTERM or Ctrl-C; signals to this one wait for its end.

    For the workers of a loader: a signal to the whole group would end them before the state is saved. Torch's
    workers end by themselves where their parent is gone, and are killed where it ends by an error.
    """
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is None:  # Windows
        yield
        return
    before = mask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        mask(signal.SIG_SETMASK, before)
        atexit.unregister(_kill_workers)
        atexit.register(_kill_workers)


def _kill_workers() -> None:
    """At the end of this process: multiprocessing would ask shielded workers by SIGTERM to end, and wait for ever."""
    # Torch's handler takes a worker that is killed for a fault.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
