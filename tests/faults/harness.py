"""Commands as a user starts them, what interrupts them, and whether two ends are the same."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT

LONG = os.environ.get("FAULTS") == "long"
# The smallest body that timm has: what is tested here is files.
SMALL = ("--backbone", "timm:test_resnet", "--val_interval", "1", "--print_interval", "1")
# Seconds that a command has for what it was asked; no test waits for them unless something hangs.
PATIENCE = 240.0
# Names of files that a program writes under before it gives them their own.
HALF_WRITTEN = (".tmp", ".part", ".ready")
MARK = "FAULTS_OF"
# Python lets a process ignore the signal that comes with this limit, and sees an error.
_LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


only_long = pytest.mark.skipif(not LONG, reason="many faults: FAULTS=long")


def seeds(long: int, short: int = 1) -> range:
    """Seeds of a test that draws its moments: many with ``FAULTS=long``, few in the suite."""
    return range(long if LONG else short)


def rng(*of: object) -> random.Random:
    """Draws that depend on nothing but a test's name and seed."""
    return random.Random(zlib.crc32(repr(of).encode()))


@contextmanager
def one_thread() -> Iterator[None]:
    """What is computed in this process is computed as by a command: sums have an order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# ---- commands -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, and what it said."""

    code: int
    out: str
    err: str

    def check_refused(self, *said: str) -> None:
        """One line that names what is wrong, exit code 2, and no traceback."""
        assert self.code == 2 and "Traceback" not in self.err, f"{self.code}: {self.err[-3000:]}"
        last = self.err.rstrip().splitlines()[-1]
        assert all(part in last for part in said), last


class Running:
    """A command at work in a process group of its own.

    Args:
        command: program and arguments.
        folder: gets its stdout and stderr.
        largest: bytes that a file of it may have (RLIMIT_FSIZE); more is an error to it, as a full disk is.
    """

    def __init__(self, command: Sequence[str], folder: Path, largest: int | None = None) -> None:
        self.mark = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / f"{self.mark}.out", folder / f"{self.mark}.err"
        if largest is not None:
            command = [sys.executable, "-c", _LIMITED, str(largest), *command]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", MARK: self.mark}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )  # fmt: skip

    def wait_for(self, seen: Callable[[], bool]) -> None:
        """Wait until ``seen``, or until the command has ended."""
        until = time.monotonic() + PATIENCE
        while not seen() and self.process.poll() is None:
            assert time.monotonic() < until, f"nothing is seen: {self.said()[-3000:]}"
            time.sleep(0.003)

    def said(self) -> str:
        """Its stderr so far."""
        return self.err.read_text(encoding="utf-8", errors="replace")

    def send(self, number: int, group: bool = False) -> None:
        """A signal to the process, or to its whole group; nothing where it has ended."""
        if self.process.poll() is None:
            (os.killpg if group else os.kill)(self.process.pid, number)

    def pids(self) -> list[int]:
        """All processes that the command has started, itself included, whatever their group."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
        return found

    def end(self) -> Ended:
        """Wait for its end."""
        self.process.wait(PATIENCE)
        return Ended(self.process.returncode, self.out.read_text(encoding="utf-8", errors="replace"), self.said())

    def remove(self) -> None:
        """End every process that is left."""
        for number in [self.process.pid, *self.pids()]:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait(PATIENCE)


@contextmanager
def running(command: Sequence[str], folder: Path, largest: int | None = None) -> Iterator[Running]:
    """A command at work; none of its processes outlives the block."""
    child = Running(command, folder, largest)
    try:
        yield child
    finally:
        child.remove()


def run(command: Sequence[str], folder: Path, largest: int | None = None) -> Ended:
    """A command from its start to its end."""
    with running(command, folder, largest) as child:
        return child.end()


def python(script: str, *arguments: object) -> list[str]:
    """The line of a script of the project."""
    return [sys.executable, script, *map(str, arguments)]


# ---- moments --------------------------------------------------------------------------------------------------------------


def watched(command: Sequence[str], notes: Path, folder: Path, when: int | str = 0, number: int = 0) -> list[str]:
    """The line that notes a command's changes to a folder, and sends it a signal in front of one, as ``tests.faults.child`` says."""
    return [command[0], "-m", "tests.faults.child", *map(str, (notes, folder, when, int(number))), *command[1:]]


def changes(notes: Path) -> list[str]:
    """The changes that a command has made so far, in order."""
    return notes.read_text().splitlines() if notes.is_file() else []


def count_changes(command: Sequence[str], folder: Path, where: Path) -> int:
    """How many changes to a folder a command makes that nobody disturbs."""
    ended = run(watched(command, where / "notes", folder), where)
    assert ended.code in (0, 1), ended.err[-3000:]
    return len(changes(where / "notes"))


def killed(command: Sequence[str], folder: Path, where: Path, when: int | str, later: float | None = None) -> Ended:
    """A command that gets SIGKILL in front of a change to ``folder``, or ``later`` seconds behind it."""
    notes = where / f"{uuid.uuid4().hex}.notes"
    with running(watched(command, notes, folder, 0 if later is not None else when, signal.SIGKILL), where) as child:
        if later is not None:
            child.wait_for(lambda: len(changes(notes)) >= int(when))
            time.sleep(later)
            child.send(signal.SIGKILL)
        return child.end()


def killed_somewhere(command: Sequence[str], folder: Path, where: Path, draws: random.Random, total: int) -> None:
    """Kill a command that makes ``total`` changes in front of one of them, or somewhere behind it; one to three times."""
    for _ in range(draws.randint(1, 3)):
        killed(command, folder, where, draws.randint(1, total), draws.choice((None, draws.uniform(0, 0.1))))


@contextmanager
def held(command: Sequence[str], folder: Path, where: Path, when: int | str) -> Iterator[Running]:
    """A command that stands still in front of a change to ``folder``, until SIGCONT."""
    with running(watched(command, where / f"{uuid.uuid4().hex}.notes", folder, when, signal.SIGSTOP), where) as child:
        child.wait_for(lambda: _state(child.process.pid) == "T")
        assert child.process.poll() is None, f"it did not come so far: {child.said()[-3000:]}"
        yield child


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# ---- ends -----------------------------------------------------------------------------------------------------------------


def half_written(folder: Path) -> list[str]:
    """Files that only a program that was killed leaves behind."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.suffix in HALF_WRITTEN)


def plain(value: Any) -> Any:
    """A checkpoint's value with tensors as type, shape and hash of their bytes: to be compared bit for bit."""
    if isinstance(value, torch.Tensor):
        content = value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(content).hexdigest()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Where two ends differ, ``weights/cls.0.bias``; nothing where they are the same."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        return [
            text
            for key in sorted(expected.keys() | found.keys(), key=str)
            for text in (
                differences(expected[key], found[key], f"{where}/{key}")
                if key in expected and key in found
                else [f"{where}/{key} is in one alone"]
            )
        ]
    return [] if expected == found else [f"{where}: {expected!r} and {found!r}"[:300]]


def files(folder: Path, *patterns: str) -> dict[str, bytes]:
    """Content of the files of a folder by their paths in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file()
    }


# ---- disks ----------------------------------------------------------------------------------------------------------------


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A disk of its own at ``folder``; gives what changes its size, as ``10m``. The test is left out where this process may not mount."""
    folder.mkdir(parents=True)
    if not _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder)):
        pytest.skip("this process may not mount a small disk")

    def resize(size: str) -> None:
        assert _mount("-o", f"remount,size={size}", str(folder))

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody can write into ``folder``; root neither, who may mount."""
    if os.geteuid():
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    if not _mount("--bind", str(folder), str(folder)):
        pytest.skip("root writes everywhere, and may not mount")
    try:
        assert _mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
