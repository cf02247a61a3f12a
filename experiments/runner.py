"""Runs the stages of an experiment: prints each command, skips what is done, goes on where it was, several side by side.

``WORK/stages/NAME.json`` says which commands a stage was made by, and whether it ended; ``NAME.log`` holds its output where several run
side by side. A stage that was made by other commands runs anew, and what it had left is kept with ``.bak`` behind its name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from engine.stopping import Stopping
from experiments.records import record
from experiments.stage import Stage, check, keys, missing
from utils.errors import UserError
from utils.whole import InUse, locked, write_whole

ROOT = Path(__file__).resolve().parent.parent
# Seconds between two looks at the commands that run, and lines of a failed command's log to show.
PAUSE, TAIL = 0.1, 15
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node")


@dataclass(frozen=True)
class Slot:
    """Where one command runs.

    Attributes:
        devices: GPUs, as CUDA_VISIBLE_DEVICES names them; none is the CPU.
        threads: threads of each of its processes.
    """

    devices: tuple[str, ...]
    threads: int

    def environment(self) -> dict[str, str]:
        """Variables of a command that runs here."""
        return os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(self.devices), "OMP_NUM_THREADS": str(self.threads)}

    def line(self, stage: Stage) -> list[str]:
        """The whole command of a stage, without the interpreter."""
        launcher = (*TORCHRUN, str(len(self.devices))) if stage.ranks and len(self.devices) > 1 else ()
        return [*launcher, *stage.command, *stage.speed]


def make_slots(gpus: Sequence[str], per_stage: int, jobs: int | None, cores: int) -> list[Slot]:
    """Places for commands that run side by side.

    Args:
        gpus: GPUs of this machine; none runs everything on the CPU.
        per_stage: GPUs of one command that can use several.
        jobs: commands that run side by side; None: as many as the GPUs allow, or 1 on the CPU.
        cores: cores that all commands share.

    Raises:
        UserError: there are not so many GPUs.
    """
    if per_stage > max(1, len(gpus)):
        raise UserError(f"--gpus {per_stage}: this machine has {len(gpus)}")
    groups = [tuple(gpus[i : i + per_stage]) for i in range(0, len(gpus) - per_stage + 1, per_stage)] or [()]
    count = jobs or len(groups)
    threads = max(1, cores // (count * max(1, len(groups[0]))))
    return [Slot(groups[i % len(groups)], threads) for i in range(count)]


@dataclass
class _Job:
    """A command that runs."""

    stage: Stage
    slot: int
    process: subprocess.Popen[bytes]
    log: IO[bytes] | None
    started: float


class Runner:
    """Runs stages in their order, each as soon as what it waits for is done and a slot is free.

    Args:
        stages: as ``stage.check`` wants them.
        work: folder of all that the experiment makes.
        slots: where commands run.
        name: what stands before each line on stderr.
    """

    def __init__(self, stages: Sequence[Stage], work: Path, slots: Sequence[Slot], name: str = "experiments") -> None:
        check(stages)
        self.stages, self.slots, self.name = stages, slots, name
        self.folder = work / "stages"
        self.keys = keys(stages)
        self.jobs: list[_Job] = []
        self.stopping = Stopping(self._forward)
        self.lock: int | None = None

    # ---- what is done -------------------------------------------------------------------------------------------------

    def _record(self, stage: Stage) -> dict[str, Any]:
        try:
            read = json.loads((self.folder / f"{stage.name}.json").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError):
            return {}
        return read if isinstance(read, dict) else {}

    def _note(self, stage: Stage, ended: bool, seconds: float = 0.0) -> None:
        noted = record(stage, self.keys[stage.name], ended, seconds)
        write_whole(self.folder / f"{stage.name}.json", json.dumps(noted, indent=1) + "\n")

    def _stale(self, stage: Stage) -> bool:
        """Whether it was made, or begun, by other commands."""
        noted = self._record(stage)
        return bool(noted) and noted.get("key") != self.keys[stage.name]

    def done(self, stage: Stage) -> bool:
        """Whether a stage ended in an earlier run, by the same commands, and what it made is there."""
        noted = self._record(stage)
        same = noted.get("key") == self.keys[stage.name] and noted.get("ended") is True
        return same and all(path.exists() for path in stage.makes)

    def _todo(self) -> list[Stage]:
        return [stage for stage in self.stages if not self.done(stage)]

    # ---- running ------------------------------------------------------------------------------------------------------

    def dry_run(self) -> int:
        """Print every command, with a line above that says so where it is done or was another one; say what is missing."""
        for stage in self.stages:
            if self.done(stage):
                print(f"# {stage.name}: done")
            elif self._stale(stage):
                print(f"# {stage.name}: was made by other commands, which is kept as .bak")
            self._show(stage, self.slots[0])
        for sentence in missing(self._todo()):
            self._say(sentence)
        return 0

    def run(self) -> int:
        """Run what is not done; the exit code: that of the first command that failed, 128 + n where signal n stopped it.

        Raises:
            UserError: data is missing, the work folder cannot be used, or another run of it is at work.
        """
        for sentence in missing(self._todo()):
            raise UserError(sentence)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone(), self.stopping:
                return self._loop()
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be used ({error.strerror})") from error

    def _loop(self) -> int:
        waiting = self._todo()
        ended = {stage.name for stage in self.stages} - {stage.name for stage in waiting}
        print(f"{len(ended)} of {len(self.stages)} stages are done", flush=True)
        failure = 0
        while True:
            free = [i for i in range(len(self.slots)) if i not in {job.slot for job in self.jobs}]
            for stage in list(waiting) if not failure and not self.stopping.asked else []:
                if free and ended.issuperset(stage.after):
                    waiting.remove(stage)
                    self._start(stage, free.pop(0))
            if not self.jobs:
                break
            time.sleep(PAUSE)
            for job in [job for job in self.jobs if job.process.poll() is not None]:
                self.jobs.remove(job)
                code = self._end(job)
                if code == 0:
                    ended.add(job.stage.name)
                failure = failure or code
        if self.stopping.number is not None:
            self._say("stopped; the same command goes on where it was")
            return 128 + self.stopping.number
        if failure:
            self._say(f"{len(ended)} of {len(self.stages)} stages are done; the same command goes on from here")
        return failure

    def _start(self, stage: Stage, slot: int) -> None:
        if self._stale(stage):
            for path in stage.makes:
                _set_aside(path)
        self._note(stage, ended=False)
        self._show(stage, self.slots[slot])
        # With one slot the terminal is the command's own, with its progress bars.
        log = (self.folder / f"{stage.name}.log").open("ab") if len(self.slots) > 1 else None
        # In a session of its own, so that Ctrl-C reaches it once, through this process. It inherits the lock: should this process
        # be killed, nobody starts the same stage beside it.
        process = subprocess.Popen(
            [sys.executable, *self.slots[slot].line(stage)],
            cwd=ROOT,
            env=self.slots[slot].environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[self.lock] if self.lock is not None else [],
        )
        self.jobs.append(_Job(stage, slot, process, log, time.monotonic()))
        if self.stopping.asked:  # The signal came while the command was started, and did not reach it.
            process.send_signal(signal.SIGINT)

    def _end(self, job: _Job) -> int:
        """Note how a command ended; 0, or the exit code of the failure."""
        code, stage = job.process.returncode, job.stage
        if job.log is not None:
            job.log.close()
        absent = [path for path in stage.makes if not path.exists()]
        if code in stage.allowed and not absent:
            seconds = time.monotonic() - job.started
            self._note(stage, ended=True, seconds=seconds)
            left_out = "" if code == 0 else ", something is missing and was left out"
            print(f"# {stage.name}: done in {seconds:.0f} s{left_out}", flush=True)
            return 0
        if not self.stopping.asked:
            why = f"left no {absent[0]} behind" if code in stage.allowed else f"ended with exit code {code}"
            if job.log is not None:
                path = self.folder / f"{stage.name}.log"
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                sys.stderr.write("\n".join([*lines[-TAIL:], ""]))
                why += f", see {path}"
            running = f"; {len(self.jobs)} others end first" if self.jobs else ""
            self._say(f"{stage.name} {why}{running}")
        return code if code > 0 else 128 - code if code < 0 else 1

    def _show(self, stage: Stage, slot: Slot) -> None:
        devices = f"CUDA_VISIBLE_DEVICES={','.join(slot.devices)} " if slot.devices else ""
        print(f"+ {devices}python {shlex.join(slot.line(stage))}", flush=True)

    def _say(self, sentence: str) -> None:
        sys.stderr.write(f"{self.name}: {sentence}\n")

    # ---- alone, and stopped -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other runs of this work folder out, where the system has file locks."""
        try:
            with locked(self.folder / ".lock", wait=False) as self.lock:
                yield
        except InUse:
            raise UserError(
                f"{self.folder}: another run of this experiment is at work; wait for it or stop it"
            ) from None

    def _forward(self, number: int) -> None:
        """The commands save and stop; a second signal ends them at once."""
        for job in self.jobs:
            if job.process.poll() is None:
                job.process.send_signal(signal.SIGINT)


def _set_aside(path: Path) -> None:
    """Keep what other commands made under the first free name."""
    if not path.exists():
        return
    names = (path.with_name(f"{path.name}.bak{number or ''}") for number in range(10_000))
    kept = next(name for name in names if not name.exists())
    path.rename(kept)
    print(f"# {path} was made by other commands and is kept as {kept.name}", flush=True)
