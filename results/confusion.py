"""Confusion matrices as CSV files, written by a test and read by the pages."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.whole import write_whole


def write_confusion(path: Path, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """A confusion matrix as CSV: a heading of class names, then a row of pixel counts for each true class.

    Args:
        path: written whole; its folder is made.
        matrix: (C, C), rows are the true classes.
        names: C class names.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true", *names])
    writer.writerows([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))
    write_whole(path, text.getvalue())


def read_confusion(path: Path) -> tuple[NDArray[np.int64], list[str]]:
    """What ``write_confusion`` wrote: (C, C) counts and C class names.

    Raises:
        UserError: there is no such file, or it is none of that kind.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            heading, *rows = csv.reader(file)
        names = heading[1:]
        matrix = np.array([[int(value) for value in row[1:]] for row in rows], dtype=np.int64)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a confusion matrix ({error})") from error
    if matrix.shape != (len(names), len(names)) or [row[0] for row in rows] != names:
        raise UserError(f"{path}: is no confusion matrix: a row for each of {', '.join(names)} is needed")
    return matrix, names
