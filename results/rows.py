"""Rows of the results tables, written and read: one a test, in files that many runs share.

``logs/results/<dataset>-<task>.csv`` holds a row for each test of that data set and task.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from utils.cells import read_csv
from utils.errors import UserError
from utils.whole import clear_leftovers, locked, whole_file

# Name of a score -> column of the results table (docs/method.md, "The task").
SCORES = {"old": "old_iou", "new": "new_iou", "all": "all_iou", "harmonic": "harmonic"}
COSTS = ("iterations", "seconds", "memory_mib")
NEEDED = ("time", "name", "step", "protocol", "seed", *SCORES.values())
CLASS = "iou "
# Behind the name of a table that cannot be kept: the table that new rows go to instead.
ASIDE = ".aside"


@dataclass(frozen=True)
class Run:
    """The last test of a run.

    Attributes:
        experiment: ``<dataset>-<task>``.
        dataset: the data set; None in rows of version 0.1.0, which do not say it.
        protocol: disjoint, overlap or partitioned.
        step: step of the task.
        arm: the run's name without ``-<seed>``.
        seed: its random seed.
        time: when it was tested, ISO 8601.
        old_classes: the old foreground classes of the step, in channel order; None in rows of version 0.1.0, which do not say them.
        classes: class name -> IoU in [0, 1], in channel order, background first; NaN for a class that no test image shows.
        scores: ``SCORES`` by name in [0, 1]; NaN where there is none.
        costs: ``COSTS`` by name; NaN where the log does not say.
        folder: the log folder.
    """

    experiment: str
    dataset: str | None
    protocol: str
    step: int
    arm: str
    seed: int
    time: str
    old_classes: tuple[str, ...] | None
    classes: Mapping[str, float]
    scores: Mapping[str, float]
    costs: Mapping[str, float]
    folder: Path

    @property
    def trained(self) -> bool:
        """Whether the row is that of a training, and not of a later ``--test``."""
        return self.costs["iterations"] > 0


def mean_iou(classes: Mapping[str, float], names: Sequence[str]) -> float:
    """Mean IoU of classes, those left out that no test image shows; NaN where none is left."""
    known = [classes[name] for name in names if not math.isnan(classes[name])]
    return statistics.fmean(known) if known else math.nan


def names_cell(names: Sequence[str]) -> str:
    """Class names as one cell, a JSON list: a name may hold commas and blanks."""
    return json.dumps(list(names), ensure_ascii=False)


def append_results(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a table that many runs share.

    New columns go to the right and stay empty in older rows. The file is replaced whole, so that a run that is killed
    leaves the old table or the new one, and runs that end together wait for each other.

    Args:
        path: CSV file with a header, made where it is missing.
        row: values by column.

    Raises:
        UserError: the file cannot be read as such a table, or not be written; it is left as it is. A row that a table cannot take is
            kept in another beside it, which the message names and ``read_runs`` reads, too.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock"), wait=True):
            try:
                columns, rows = read_table(path) if path.exists() else ([], [])
                _refuse_other_spellings(path, columns, row)
            except UserError as error:
                if path.stem.endswith(ASIDE):
                    raise
                aside = path.with_name(f"{path.stem}{ASIDE}.csv")
                append_results(aside, row)
                raise UserError(f"{error}; the new row is kept in {aside}") from error
            clear_leftovers(path)
            columns = list(dict.fromkeys(map(_without_returns, [*columns, *row])))
            lines = [
                {_without_returns(name): _without_returns(cell) for name, cell in each.items()} for each in [*rows, row]
            ]
            with whole_file(path) as temporary, temporary.open("x", newline="", encoding="utf-8") as handle:
                writer = csv.DictWriter(handle, columns, restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(lines)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def _without_returns(cell: object) -> str:
    """A cell whose line breaks are line feeds: a carriage return would not be quoted, and make two rows of one."""
    return "" if cell is None else str(cell).replace("\r\n", "\n").replace("\r", "\n")


def _refuse_other_spellings(path: Path, columns: Iterable[str], row: Mapping[str, Any]) -> None:
    """UserError where a column of the row is there in other letters: a second one like it would split the numbers."""
    there = {_plain(name): name for name in columns}
    for name in row:
        other = there.get(_plain(name), name)
        if other != name and name not in columns:
            raise UserError(f"{path}: the column {other!r} is written {name!r}; correct the first line")


def _plain(name: str) -> str:
    """A column's name as a spreadsheet or a person may not have changed it; names of classes may differ in case alone."""
    return name.strip() if name.strip().startswith(CLASS) else name.strip().lower()


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a table that ``append_results`` wrote, also where a spreadsheet saved it: with a byte order mark, other line
    ends, quoted cells, or empty columns on the right.

    Raises:
        UserError: it cannot be read, or not without loss.
    """
    header, *lines = [cells for _, cells in read_csv(path, "a table")] or [[]]
    while (
        header
        and not header[-1].strip()
        and not any(cell.strip() for line in lines for cell in line[len(header) - 1 :])
    ):
        header.pop()
        lines = [line[: len(header)] for line in lines]
    if not all(name.strip() for name in header):
        raise UserError(f"{path}: a column has no name; correct the first line or move the file away")
    if len(set(header)) != len(header):
        raise UserError(f"{path}: a column name occurs twice; correct the first line or move the file away")
    for number, line in enumerate(lines, start=2):
        if len(line) > len(header):
            raise UserError(f"{path}: row {number} has more cells than the header; correct it or move the file away")
    return header, [dict(zip(header, line, strict=False)) for line in lines]


def _number(row: Mapping[str, str], column: str, where: str) -> float:
    """A cell as a number; NaN where it is empty or the column is missing."""
    text = row.get(column, "")
    try:
        return float(text) if text else math.nan
    except ValueError:
        cure = "write it with a point" if "," in text else "correct it or remove the row"
        raise UserError(f"{where}: {column} is {text!r}, which is no number; {cure}") from None


def _time(text: str, where: str) -> str:
    """A moment as the tables have it, by which rows are ordered; UserError where it is another one's spelling."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{where}: time is {text!r}; write it as 2026-01-31T12:00:00+00:00 (a spreadsheet may have changed it)"
        ) from None
    return text


def _old_classes(text: str, classes: Mapping[str, float], where: str) -> tuple[str, ...] | None:
    """What ``names_cell`` wrote; None where the cell is empty."""
    if not text:
        return None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"{where}: old_classes is {text!r}, a JSON list of names is needed; correct it or remove the row"
        )
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UserError(
            f"{where}: old_classes names {unknown[0]}, of which the row has no IoU; correct it or remove the row"
        )
    return tuple(names)


def _run(row: Mapping[str, str], file: str, folder: Path, where: str) -> Run:
    numbers = {key: _number(row, key, where) for key in ("step", "seed")}
    for key, value in numbers.items():
        if not value.is_integer():
            raise UserError(
                f"{where}: {key} is {row.get(key, '')!r}, a whole number is needed; correct it or remove the row"
            )
    step, seed = int(numbers["step"]), int(numbers["seed"])
    classes = {key.removeprefix(CLASS): _number(row, key, where) for key in row if key.startswith(CLASS) and row[key]}
    dataset, task = row.get("dataset", ""), row.get("task", "")
    return Run(
        # Rows of version 0.1.0 say neither; their file's name does.
        experiment=f"{dataset}-{task}" if dataset and task else file,
        dataset=dataset or None,
        protocol=row["protocol"],
        step=step,
        arm=row["name"].removesuffix(f"-{seed}"),
        seed=seed,
        time=_time(row["time"], where),
        old_classes=_old_classes(row.get("old_classes", ""), classes, where),
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
    runs = []
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
                runs.append(_run(complete, path.stem, folder, f"{path}, row {number}"))
    return sorted(runs, key=lambda run: run.time)
