"""What an experiment has left in its work folder: which commands ran, and where their runs, web images and captions are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import argparser
from experiments.records import read_ended, run_options
from experiments.stage import Stage
from utils.errors import UserError

Curve = dict[int, float]


@dataclass(frozen=True)
class RunFiles:
    """One run.py command that ended.

    Attributes:
        arm: arm that was trained or tested.
        seed: its random seed.
        step: step of the task.
        options: its options by name, as given; None where the default holds.
        checkpoint: where its weights are; those of a test may be another run's.
    """

    arm: str
    seed: int
    step: int
    options: dict[str, Any]
    checkpoint: Path

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

    def curves(self) -> dict[str, Curve]:
        """Tag -> iteration -> value of every scalar of the log; what was logged again, by a run that went on or anew, counts."""
        curves: dict[str, Curve] = {}
        with contextlib.suppress(FileNotFoundError), (self.folder / "scalars.jsonl").open(encoding="utf-8") as file:
            for line in file:
                # A run that was killed may have left half a line.
                with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                    entry = json.loads(line)
                    where, value = int(entry["step"]), float(entry["value"])
                    curve = curves.setdefault(entry["tag"], {})
                    for later in [step for step in curve if step >= where]:
                        del curve[later]
                    curve[where] = value
        return curves


@dataclass(frozen=True)
class History:
    """What an experiment has done.

    Attributes:
        work: its work folder.
        stages: stages that ended, by name, in the order of their names.
        runs: run.py commands among them, by step and seed.
    """

    work: Path
    stages: Mapping[str, Stage]
    runs: list[RunFiles]

    def of_kind(self, kind: str) -> list[Stage]:
        """The stages of a kind."""
        return [stage for stage in self.stages.values() if stage.kind == kind]

    def of(self, arm: str, step: int | None = None) -> Iterator[RunFiles]:
        """The runs of an arm, by step and seed."""
        return (run for run in self.runs if run.arm == arm and step in (None, run.step))


def _run(stage: Stage) -> RunFiles | None:
    """None where it is no run, or this version's run.py does not know its command."""
    if stage.kind not in ("train", "test") or stage.seed is None or stage.step is None:
        return None
    options = run_options(stage.command)
    files = {**stage.inputs, **stage.outputs}
    if options is None or "checkpoint" not in files:
        return None
    return RunFiles(stage.arm, stage.seed, stage.step, options, files["checkpoint"])


def read_history(work: Path) -> History:
    """What ended in a work folder.

    Raises:
        UserError: nothing of an experiment is there.
    """
    records = (read_ended(path) for path in sorted((work / "stages").glob("*.json")))
    stages = {stage.name: stage for stage in records if stage is not None}
    runs = [run for stage in stages.values() if (run := _run(stage)) is not None]
    if not runs:
        raise UserError(
            f"--work {work}: no run of an experiment has ended there; python -m experiments ... --work {work} makes some"
        )
    return History(work, stages, sorted(runs, key=lambda run: (run.step, run.seed)))
