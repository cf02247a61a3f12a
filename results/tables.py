"""The results of many runs, from their logs alone: arms, seeds, means, and differences with their intervals.

An arm is a set of runs whose names differ only in the ``-<seed>`` at their end. ``logs/results/*.csv`` holds one row a test; of the rows
of one run the last one counts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from results.rows import read_table
from tasks import TASKS
from utils.errors import UserError

# Name of a score -> column of the results table (METHOD section 1).
SCORES = {"old": "old_iou", "new": "new_iou", "all": "all_iou", "harmonic": "harmonic"}
COSTS = ("iterations", "seconds", "memory_mib")
NEEDED = ("time", "name", "step", "protocol", "seed", *SCORES.values())
CLASS = "iou "
LEVEL, RESAMPLES, SEED = 0.95, 10_000, 0
# The results table has six digits.
ROUNDING = 2e-6


@dataclass(frozen=True)
class Run:
    """The last test of a run.

    Attributes:
        experiment: ``<dataset>-<task>``.
        protocol: disjoint, overlap or partitioned.
        step: step of the task.
        arm: the run's name without ``-<seed>``.
        seed: its random seed.
        time: when it was tested, ISO 8601.
        classes: class name -> IoU in [0, 1], in channel order, background first; NaN for a class that no test image shows.
        scores: ``SCORES`` by name in [0, 1]; NaN where there is none.
        costs: ``COSTS`` by name; NaN where the log does not say.
        folder: the log folder.
    """

    experiment: str
    protocol: str
    step: int
    arm: str
    seed: int
    time: str
    classes: Mapping[str, float]
    scores: Mapping[str, float]
    costs: Mapping[str, float]
    folder: Path

    @property
    def trained(self) -> bool:
        """Whether the row is that of a training, and not of a later ``--test``."""
        return self.costs["iterations"] > 0


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


def _number(row: Mapping[str, str], column: str, where: str) -> float:
    """A cell as a number; NaN where it is empty or the column is missing."""
    text = row.get(column, "")
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise UserError(f"{where}: {column} is {text!r}, which is no number; correct it or remove the row") from None


def _run(row: Mapping[str, str], experiment: str, folder: Path, where: str) -> Run:
    numbers = {key: _number(row, key, where) for key in ("step", "seed")}
    for key, value in numbers.items():
        if not value.is_integer():
            raise UserError(
                f"{where}: {key} is {row.get(key, '')!r}, a whole number is needed; correct it or remove the row"
            )
    step, seed = int(numbers["step"]), int(numbers["seed"])
    classes = {key.removeprefix(CLASS): _number(row, key, where) for key in row if key.startswith(CLASS) and row[key]}
    return Run(
        experiment=experiment,
        protocol=row["protocol"],
        step=step,
        arm=row["name"].removesuffix(f"-{seed}"),
        seed=seed,
        time=row["time"],
        classes=classes,
        scores={score: _number(row, column, where) for score, column in SCORES.items()},
        costs={cost: _number(row, cost, where) for cost in COSTS},
        folder=folder,
    )


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """All rows of the results tables of some log folders, the oldest first.

    Raises:
        UserError: a folder holds no results, or a table cannot be read; names it, and the row.
    """
    found = []
    for folder in folders:
        files = sorted((folder / "results").glob("*.csv"))
        if not files:
            raise UserError(f"--logs {folder}: holds no results/*.csv; name the folder that run.py got as --logdir")
        for path in files:
            columns, rows = read_table(path)
            missing = [name for name in NEEDED if rows and name not in columns]
            if missing:
                raise UserError(f"{path}: has no column {missing[0]}; it is no results table of run.py, move it away")
            for number, row in enumerate(rows, start=2):
                complete = dict.fromkeys(columns, "") | row
                found.append(_run(complete, path.stem, folder, f"{path}, row {number}"))
    return sorted(found, key=lambda run: run.time)


def _latest(runs: Iterable[Run], notes: list[str]) -> dict[tuple[str, int], Run]:
    """The last row of each run by arm and seed; what training cost is told by the last row of a training."""
    found: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = run.arm, run.seed
        earlier = found.get(key)
        if earlier is not None and earlier.folder != run.folder:
            notes.append(
                f"{run.arm}, seed {run.seed}: in several log folders, {run.folder} has the last row, which counts."
            )
        if earlier is not None and earlier.trained and not run.trained:
            run = replace(run, costs=earlier.costs)
        found[key] = run
    return found


def _mean(classes: Mapping[str, float], names: Sequence[str]) -> float:
    """Mean IoU of classes, those left out that no test image shows; NaN where none is left."""
    known = [classes[name] for name in names if not math.isnan(classes[name])]
    return statistics.fmean(known) if known else math.nan


def old_classes(runs: Sequence[Run]) -> list[str] | None:
    """The old foreground classes of a step where no log tells of the step before: the one cut of the runs' classes, which stand in
    channel order, that gives every run its old and its new mIoU. None where there is none, or more than one.
    """
    whole = [run for run in runs if not math.isnan(run.scores["old"]) and not math.isnan(run.scores["new"])]
    if not whole or any(run.classes.keys() != whole[0].classes.keys() for run in whole):
        return None
    # A class that no test image shows is neither.
    names = [name for name in list(whole[0].classes)[1:] if not math.isnan(whole[0].classes[name])]

    def fits(run: Run, count: int) -> bool:
        parts = {"old": names[:count], "new": names[count:]}
        return all(abs(_mean(run.classes, part) - run.scores[key]) <= ROUNDING for key, part in parts.items())

    cuts = [count for count in range(1, len(names)) if all(fits(run, count) for run in whole)]
    return names[: cuts[0]] if len(cuts) == 1 else None


def _regrouped(run: Run, old: Sequence[str]) -> Run:
    """A run with all scores computed from its classes: those of ``old`` are old, its other foreground classes new."""
    names = list(run.classes)
    parts = {"old": list(old), "new": [name for name in names[1:] if name not in old], "all": names}
    scores = {key: _mean(run.classes, part) for key, part in parts.items()}
    both = scores["old"] + scores["new"]
    # The harmonic mean of nothing and nothing is nothing.
    scores["harmonic"] = 0.0 if both == 0 else 2 * scores["old"] * scores["new"] / both
    return replace(run, scores=scores)


def _dataset(experiment: str) -> str:
    """The data set of ``<dataset>-<task>``; a data set's name may hold a dash itself."""
    known = [name for name in TASKS if experiment.startswith(f"{name}-")]
    return max(known, key=len, default=experiment)


def _is_before(key: tuple[str, str, int], table: Table) -> bool:
    """Whether rows are those of the step before a table's, whose classes are all old then."""
    return key[0] == table.experiment and key[2] == table.step - 1


def _complete(table: Table, others: Mapping[tuple[str, str, int], Mapping[tuple[str, int], Run]]) -> None:
    """Fill in what rows lack, and add joint training: runs of another task that learned the same classes in one step."""
    own = [run for runs in table.arms.values() for run in runs.values()]
    seen = own[-1].classes.keys()
    joint = [
        run
        # Joint training has no protocol; where there is one of the table's own, it is the one that counts.
        for key, runs in sorted(others.items(), key=lambda item: item[0][1] == table.protocol)
        for run in runs.values()
        if run.step == 0
        and key[0] != table.experiment
        and _dataset(key[0]) == _dataset(table.experiment)
        and run.classes.keys() == seen
    ]
    lacking = [run for run in own if any(math.isnan(value) for value in run.scores.values())]
    if not joint and not lacking:
        return
    earlier = [run for key, runs in others.items() if _is_before(key, table) for run in runs.values()]
    old = list(earlier[-1].classes)[1:] if earlier else old_classes(own)
    if old is None:
        names = ", ".join(dict.fromkeys(run.arm for run in [*lacking, *joint]))
        table.notes.append(f"{names}: which classes are old cannot be told from the other rows.")
        return
    for run in lacking:
        table.arms[run.arm][run.seed] = _regrouped(run, old)
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
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.experiment, run.protocol, run.step), []).append(run)
    notes: dict[tuple[str, str, int], list[str]] = {key: [] for key in groups}
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
