"""Work that says what it did: for tests of how it is spread."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spread.blocks import Row, Worker
from utils.errors import UserError


@dataclass(frozen=True)
class Count:
    """Doubles the length of each item's name, and notes in a folder which process did it.

    Attributes:
        notes: folder of a file a process, a line an item.
        pause: seconds that a batch takes.
    """

    notes: Path
    pause: float = 0.0

    def __call__(self) -> Worker[str]:
        return Worker(list, self.finish)

    def finish(self, names: Sequence[str]) -> list[Row]:
        self.notes.mkdir(exist_ok=True)
        for name in names:
            if name == "bad":
                raise UserError("bad: cannot be read; give another")
            if name == "broken":
                raise ValueError("a fault of ours")
            if name.startswith("deadly"):
                self.die(name)
        time.sleep(self.pause)
        with (self.notes / str(os.getpid())).open("a") as file:
            file.writelines(f"{name}\n" for name in names)
        return [[name, 2 * len(name) / 3] for name in names]

    def die(self, name: str) -> None:
        """Take the process with it: once, or whenever it comes."""
        once = self.notes / f"{name}.died"
        if name == "deadly_ever" or not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def noted(self) -> list[str]:
        """All items that were done, as often as they were."""
        files = [path for path in self.notes.iterdir() if path.name.isdecimal()]
        return sorted(line for path in files for line in path.read_text().splitlines())

    def processes(self) -> int:
        return sum(path.name.isdecimal() for path in self.notes.iterdir())


def expected(names: Sequence[str]) -> list[Any]:
    return [[name, 2 * len(name) / 3] for name in names]
