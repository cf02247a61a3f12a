"""The results of many runs, from their logs alone: arms, seeds, means, and differences with their intervals.

An arm is a set of runs whose names differ only in the ``-<seed>`` at their end; of the rows of one run the last one counts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from results.earlier import guessed_dataset, guessed_old_classes
from results.rows import Run, mean_iou
from utils.errors import UserError

LEVEL, RESAMPLES, SEED = 0.95, 10_000, 0
# Experiment, protocol and step of a table; and the runs of one, by arm and seed.
Key = tuple[str, str, int]
Runs = Mapping[tuple[str, int], Run]


@dataclass
class Table:
    """All arms of one step of an experiment.

    Attributes:
        experiment: as in ``Run``, as are the next two.
        arms: arm -> seed -> run, in the order of the logs.
        notes: what a reader of the numbers has to know.
    """

    experiment: str
    protocol: str
    step: int
    arms: dict[str, dict[int, Run]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """One line that says what it is a table of."""
        return f"{self.experiment}, {self.protocol}, step {self.step}"

    @property
    def seeds(self) -> list[int]:
        """The seeds of all arms together."""
        return sorted({seed for runs in self.arms.values() for seed in runs})

    def missing(self, arm: str) -> list[int]:
        """Seeds that other arms have and this one lacks."""
        return [seed for seed in self.seeds if seed not in self.arms[arm]]

    def spread(self, arm: str, key: str) -> tuple[float, float]:
        """Mean and standard deviation (n - 1) of a score or cost over the seeds of an arm.

        NaN where a run lacks the number; the deviation of one run is NaN too.
        """
        values = [(run.scores | run.costs)[key] for run in self.arms[arm].values()]  # type: ignore[operator]
        if any(math.isnan(value) for value in values):
            return math.nan, math.nan
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan

    def highest(self, arm: str, key: str) -> float:
        """The highest value of a cost over the seeds of an arm; NaN where a run lacks it."""
        return float(np.max([run.costs[key] for run in self.arms[arm].values()]))


@dataclass(frozen=True)
class Difference:
    """How much higher an arm's score is than the baseline's: mean over the seeds that both have, and its interval."""

    mean: float
    low: float
    high: float
    seeds: tuple[int, ...]


def bootstrap(differences: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean by the percentile bootstrap: ``RESAMPLES`` draws of as many values with replacement.

    The draws are the same in every call. One value says nothing of its spread: NaN. With n values no more than n^n draws differ, so for
    n = 3 the interval is the range of the values.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    draws = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def difference(table: Table, arm: str, baseline: str, score: str) -> Difference:
    """The difference of two arms of a table in a score, paired by seed; NaN where no seed has both."""
    own, other = table.arms[arm], table.arms[baseline]
    seeds = tuple(sorted(own.keys() & other.keys()))
    values = [own[seed].scores[score] - other[seed].scores[score] for seed in seeds]
    return Difference(statistics.fmean(values) if values else math.nan, *bootstrap(values), seeds)


def _latest(runs: Iterable[Run], notes: list[str]) -> dict[tuple[str, int], Run]:
    """The last row of each run by arm and seed; what training cost is told by the last row of a training."""
    last: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = run.arm, run.seed
        earlier = last.get(key)
        if earlier is not None and earlier.folder != run.folder:
            notes.append(
                f"{run.arm}, seed {run.seed}: in several log folders, {run.folder} has the last row, which counts."
            )
        if earlier is not None and earlier.trained and not run.trained:
            run = replace(run, costs=earlier.costs)
        last[key] = run
    return last


def _regrouped(run: Run, old: Sequence[str]) -> Run:
    """A run with all scores computed from its classes: those of ``old`` are old, its other foreground classes new."""
    names = list(run.classes)
    parts = {"old": list(old), "new": [name for name in names[1:] if name not in old], "all": names}
    scores = {key: mean_iou(run.classes, part) for key, part in parts.items()}
    both = scores["old"] + scores["new"]
    # The harmonic mean of nothing and nothing is nothing.
    scores["harmonic"] = 0.0 if both == 0 else 2 * scores["old"] * scores["new"] / both
    return replace(run, scores=scores)


def _dataset(run: Run) -> str:
    return run.dataset or guessed_dataset(run.experiment)


def _joint(table: Table, others: Mapping[Key, Runs]) -> list[Run]:
    """Joint training of a step's classes: runs of another task of the same data set that learned the same classes in one step."""
    *_, like = (run for runs in table.arms.values() for run in runs.values())
    return [
        run
        # Joint training has no protocol; where there is one of the table's own, it is the one that counts.
        for key, runs in sorted(others.items(), key=lambda item: item[0][1] == table.protocol)
        for run in runs.values()
        if run.step == 0
        and key[0] != table.experiment
        and _dataset(run) == _dataset(like)
        and run.classes.keys() == like.classes.keys()
    ]


def _old_classes(table: Table, others: Mapping[Key, Runs], arms: str) -> Sequence[str] | None:
    """The old foreground classes of a step, as its rows say them; None where they do not and it cannot be told.

    Args:
        table: of a step behind the base step; notes what had to be guessed.
        others: all runs, by experiment, protocol and step.
        arms: the names of those whose scores are made of the answer, for the notes.
    """
    own = [run for runs in table.arms.values() for run in runs.values()]
    said = {run.old_classes: run.arm for run in own if run.old_classes is not None}
    if len(said) > 1:
        table.notes.append(
            f"{', '.join(said.values())}: do not agree which classes are old; those of the last one count."
        )
    if said:
        return list(said)[-1]
    # From here on for rows of version 0.1.0 only. The classes of the step before are all old.
    before = [
        run
        for (experiment, _, step), runs in others.items()
        if (experiment, step) == (table.experiment, table.step - 1)
        for run in runs.values()
    ]
    if before:
        return list(before[-1].classes)[1:]
    guess = guessed_old_classes(own)
    if guess is None:
        table.notes.append(f"{arms}: which classes are old cannot be told from the other rows.")
    else:
        table.notes.append(
            f"{arms}: the rows are of version 0.1.0 and do not say which classes are old; guessed from the means: {', '.join(guess)}."
        )
    return guess


def _complete(table: Table, others: Mapping[Key, Runs]) -> None:
    """Fill in what rows lack, and add joint training."""
    own = [run for runs in table.arms.values() for run in runs.values()]
    lacking = [run for run in own if any(math.isnan(value) for value in run.scores.values())]
    joint = _joint(table, others)
    if not joint and not lacking:
        return
    old = _old_classes(table, others, ", ".join(dict.fromkeys(run.arm for run in [*lacking, *joint])))
    if old is None:
        return
    for run in lacking:
        table.arms[run.arm][run.seed] = _regrouped(run, old if run.old_classes is None else run.old_classes)
    taken = set(table.arms)
    for run in joint:
        arm = f"{run.arm} ({run.experiment})" if run.arm in taken else run.arm
        table.arms.setdefault(arm, {})[run.seed] = _regrouped(run, old)


def make_tables(runs: Sequence[Run], arms: Sequence[str] = ()) -> list[Table]:
    """One table an experiment, protocol and step.

    Args:
        runs: rows of the logs, the oldest first.
        arms: these only, in this order; all where none is given.

    Raises:
        UserError: there is no run, or none of an arm.
    """
    if not runs:
        raise UserError("--logs: no run has been tested yet, the results tables are empty")
    groups: dict[Key, list[Run]] = {}
    for run in runs:
        groups.setdefault((run.experiment, run.protocol, run.step), []).append(run)
    notes: dict[Key, list[str]] = {key: [] for key in groups}
    latest = {key: _latest(group, notes[key]) for key, group in groups.items()}
    tables = []
    for key in sorted(latest):
        table = Table(*key, notes=notes[key])
        for (arm, seed), run in latest[key].items():
            table.arms.setdefault(arm, {})[seed] = run
        if table.step > 0:
            _complete(table, latest)
        tables.append(table)
    known = {arm for table in tables for arm in table.arms}
    for arm in arms:
        if arm not in known:
            raise UserError(f"--arms {arm}: no run of it in the logs, which have {', '.join(sorted(known))}")
    if arms:
        for table in tables:
            table.arms = {arm: table.arms[arm] for arm in arms if arm in table.arms}
    return [table for table in tables if table.arms]
