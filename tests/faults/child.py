"""Runs a script as it is, notes every change that it makes to the files of a folder, and sends it a signal in front of one of them.

    python -m tests.faults.child NOTES FOLDER WHEN SIGNAL SCRIPT ARGUMENTS ...

NOTES gets a line a change, ``open NAME``, ``rename NAME`` and so on, before it is made. WHEN is the number of a change, counted from
1, or what the line of the first such change begins with; SIGNAL is a number. Changes of child processes, a loader's workers, do not
count.
"""

from __future__ import annotations

import itertools
import os
import runpy
import sys
from typing import Any

CHANGES = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watch(notes: str, folder: str, when: str, number: int) -> None:
    """Note changes from now on; once ``when`` has come, this process gets the signal ``number``."""
    own, counted, place = os.getpid(), itertools.count(1), os.path.realpath(folder) + os.sep
    sent: list[str] = []
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event not in CHANGES or os.getpid() != own:
            return
        path = given[0]
        if not isinstance(path, str | bytes) or (event == "open" and not given[2] & WRITING):
            return
        path = os.path.realpath(os.fsdecode(path))
        if path.startswith(place):
            line = f"{event.removeprefix('os.')} {os.path.basename(path)}"
            os.write(file, f"{line}\n".encode())
            if when == str(next(counted)) or (not sent and not when.isdecimal() and line.startswith(when)):
                sent.append(line)
                os.kill(own, number)

    sys.addaudithook(hook)


if __name__ == "__main__":
    notes, folder, when, number, *sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    watch(notes, folder, when, int(number))
    runpy.run_path(sys.argv[0], run_name="__main__")
