"""What an experiment has left in its work folder: which commands ran, and where their runs, web images and captions are."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import argparser
from utils.errors import UserError

Curve = dict[int, float]


@dataclass(frozen=True)
class RunFiles:
    """One run.py command that ended.

    Attributes:
        arm: the run's name without its seed.
        seed: its random seed.
        step: step of the task.
        options: its options by name, as given; None where the default holds.
        command: the arguments behind ``python``.
    """

    arm: str
    seed: int
    step: int
    options: dict[str, Any]
    command: tuple[str, ...]

    @property
    def experiment(self) -> str:
        """Folder name of its logs and checkpoints."""
        return argparser.experiment_name(self.options["dataset"], self.options["task"], self.options["protocol"])

    @property
    def results(self) -> str:
        """Name of the results table that it is in."""
        return argparser.experiment_name(self.options["dataset"], self.options["task"], "disjoint")

    @property
    def folder(self) -> Path:
        """Where its log is."""
        return Path(self.options["logdir"]) / self.experiment / self.options["name"]

    @property
    def checkpoint(self) -> Path:
        """Where its weights are; a test may name those of another run."""
        if self.options["ckpt"] is not None:
            return Path(self.options["ckpt"])
        return Path(self.options["checkpoints"]) / "step" / self.experiment / f"{self.options['name']}_{self.step}.pth"

    def curves(self) -> dict[str, Curve]:
        """Tag -> iteration -> value of every scalar of the log; what was logged again, by a run that went on or anew, counts."""
        found: dict[str, Curve] = {}
        with contextlib.suppress(FileNotFoundError), (self.folder / "scalars.jsonl").open(encoding="utf-8") as file:
            for line in file:
                # A run that was killed may have left half a line.
                with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                    entry = json.loads(line)
                    where, value = int(entry["step"]), float(entry["value"])
                    curve = found.setdefault(entry["tag"], {})
                    for later in [step for step in curve if step >= where]:
                        del curve[later]
                    curve[where] = value
        return found


@dataclass(frozen=True)
class History:
    """The commands of an experiment that ended, by stage name, in the order of their names."""

    work: Path
    stages: dict[str, tuple[str, ...]]
    runs: list[RunFiles]

    def option(self, stage: str, option: str) -> Path | None:
        """A path that the first stage whose name begins so was given; None where there is no such stage."""
        for name, command in self.stages.items():
            if name.startswith(stage) and option in command:
                return Path(command[command.index(option) + 1])
        return None

    def of(self, arm: str, step: int | None = None) -> Iterator[RunFiles]:
        """The runs of an arm, by seed and step."""
        return (run for run in self.runs if run.arm == arm and step in (None, run.step))


def _run(command: Sequence[str]) -> RunFiles | None:
    """None where this version's run.py does not know the command."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            options = vars(argparser.get_argparser().parse_args(list(command[1:])))
        except SystemExit:
            return None
    options["protocol"] = "overlap" if options["overlap"] else options["protocol"] or "disjoint"
    seed = options["random_seed"]
    return RunFiles(options["name"].removesuffix(f"-{seed}"), seed, options["step"], options, tuple(command))


def read_history(work: Path) -> History:
    """What ended in a work folder.

    Raises:
        UserError: nothing of an experiment is there.
    """
    stages: dict[str, tuple[str, ...]] = {}
    runs: list[RunFiles] = []
    for path in sorted((work / "stages").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            command, ended = tuple(record["command"]), record["ended"] is True
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError):
            continue
        if not ended:
            continue
        stages[path.stem] = command
        if command[0] == "run.py" and (run := _run(command)) is not None:
            runs.append(run)
    if not runs:
        raise UserError(
            f"--work {work}: no run of an experiment has ended there; python -m experiments ... --work {work} makes some"
        )
    return History(work, stages, sorted(runs, key=lambda run: (run.step, run.seed)))
