"""An experiment as its page sees it: its tables, its runs, and what turned out to be missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.arms import BASE, JOINT
from experiments.history import History, RunFiles
from experiments.pages.pieces import note
from results.rows import read_runs
from results.tables import Table, make_tables
from tasks import Task, load_task
from utils.errors import UserError


@dataclass(frozen=True)
class Group:
    """The runs of one step, by arm and seed.

    Attributes:
        title: the step, and of which task.
        last: whether it is the step that the page is about first.
        arms: its runs by arm.
    """

    title: str
    last: bool
    arms: dict[str, list[RunFiles]]


@dataclass
class Study:
    """What the sections are made from.

    Attributes:
        history: what ended in the work folder.
        tables: of the task's steps, the last step first; joint training stands in those that end with its classes.
        arms: of the last step, in the order of its table.
        baseline: arm that differences are taken to; None where the last step has none of that name.
        lacking: a sentence for each thing that should be there and is not.
    """

    history: History
    tables: list[Table]
    arms: list[str]
    baseline: str | None
    lacking: list[str] = field(default_factory=list)

    @property
    def table(self) -> Table:
        """That of the last step."""
        return self.tables[0]

    @property
    def base(self) -> Table | None:
        """That of the base step, where it was tested."""
        return next((table for table in self.tables if table.step == 0 and BASE in table.arms), None)

    @property
    def task(self) -> Task:
        """The task whose steps the arms learn.

        Raises:
            UserError: a task in a file that is gone.
        """
        options = self.sample.options
        return load_task(options["dataset"], options["task"])

    @property
    def sample(self) -> RunFiles:
        """A run of the last step."""
        return next(
            run for run in self.history.runs if (run.results, run.step) == (self.table.experiment, self.table.step)
        )

    def last_runs(self, arm: str) -> list[RunFiles]:
        """The runs of an arm, by seed, at the last step that it has."""
        found = list(self.history.of(arm))
        highest = max((run.step for run in found), default=0)
        return [run for run in found if run.step == highest]

    def groups(self) -> list[Group]:
        """The runs of the shown arms and of the base by step, the last step first, joint training last."""
        order = list(dict.fromkeys([BASE, *self.arms]))
        runs = [run for run in self.history.runs if run.arm in order]
        runs.sort(key=lambda run: (run.results != self.table.experiment, -run.step, order.index(run.arm), run.seed))
        found: dict[tuple[str, int], dict[str, list[RunFiles]]] = {}
        for run in runs:
            found.setdefault((run.results, run.step), {}).setdefault(run.arm, []).append(run)
        return [
            Group(f"{name}, step {step}", (name, step) == (self.table.experiment, self.table.step), arms)
            for (name, step), arms in found.items()
        ]

    def best(self) -> str | None:
        """The arm with the highest harmonic mean of those that learned step by step."""
        scores = {arm: self.table.spread(arm, "harmonic")[0] for arm in self.arms if arm not in (BASE, JOINT)}
        known = {arm: value for arm, value in scores.items() if not math.isnan(value)}
        return max(known, key=lambda arm: known[arm]) if known else None

    def lack(self, sentence: str) -> str:
        """Remember that something is missing; the sentence as HTML."""
        self.lacking.append(sentence)
        return note(sentence)


def study(history: History, arms: Sequence[str], baseline: str | None) -> Study:
    """The experiment of a work folder.

    Args:
        history: what ended there.
        arms: arms to show, in this order; all that were tested where none is given.
        baseline: arm that differences are taken to; the first of raw-web and WILSON that is there where none is given.

    Raises:
        UserError: no run was tested, or an arm was not.
    """
    tables = make_tables(read_runs(dict.fromkeys(Path(run.options["logdir"]) for run in history.runs)), arms)
    last = max(history.runs, key=lambda run: run.step)
    own = [table for table in tables if (table.experiment, table.protocol) == (last.results, last.options["protocol"])]
    if not own:
        raise UserError(
            f"--work {history.work}: its logs hold no test of {last.results}; the same experiment goes on and tests"
        )
    own.sort(key=lambda table: -table.step)
    known = {arm for table in own for arm in table.arms}
    if baseline is not None and baseline not in known:
        raise UserError(f"--baseline {baseline}: no such arm; there are {', '.join(sorted(known))}")
    chosen = baseline or next((arm for arm in ("raw-web", "WILSON") if arm in own[0].arms), None)
    return Study(history, own, [*own[0].arms], chosen if chosen in own[0].arms else None)
