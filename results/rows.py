"""Rows of the results table: one a test, in a file that many runs share."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.whole import locked, whole_file


def append_results(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a table that many runs share.

    New columns go to the right and stay empty in older rows. The file is replaced whole, so that a run that is killed
    leaves the old table or the new one, and runs that end together wait for each other.

    Args:
        path: CSV file with a header, made where it is missing.
        row: values by column.

    Raises:
        UserError: the file cannot be read as such a table, or not be written; it is left as it is.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), wait=True):
        columns, rows = read_table(path) if path.exists() else ([], [])
        columns = list(dict.fromkeys([*columns, *row]))
        with whole_file(path) as temporary, temporary.open("x", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows([*rows, dict(row)])


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a table that ``append_results`` wrote.

    Raises:
        UserError: it cannot be read, or not without loss.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            header, *lines = [line for line in csv.reader(handle) if line] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); move it away") from error
    if len(set(header)) != len(header):
        raise UserError(f"{path}: a column name occurs twice; correct the first line or move the file away")
    for number, line in enumerate(lines, start=2):
        if len(line) > len(header):
            raise UserError(f"{path}: row {number} has more cells than the header; correct it or move the file away")
    return header, [dict(zip(header, line, strict=False)) for line in lines]
