"""CSV files that people and spreadsheets wrote: read to the letter, or refused with the line and the cure."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from utils.errors import UserError

# A cell longer than this is no text of ours; an open quotation mark may have swallowed the rest of the file.
csv.field_size_limit(1 << 20)
COMMAS, TABS = ",", "\t"
# What spreadsheets put between cells instead.
OTHERS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SAVE = "save it as CSV (comma separated, UTF-8)"

Cells = list[str]


def read_csv(
    path: Path,
    what: str,
    *,
    between: str = COMMAS,
    errors: str = "strict",
    is_row: Callable[[Sequence[str]], bool] = lambda cells: True,
) -> Iterator[tuple[int, Cells]]:
    """Lines of a CSV file, the header first: the number of the line, from 1, that each begins at, and its cells.

    A byte order mark goes, any line ends are read, empty lines are left out. Cells may hold line breaks, unless one of their lines is
    a row itself: then a quotation mark was not closed.

    Args:
        path: the file.
        what: what it is read as, for messages: ``a manifest``.
        between: what stands between cells; files of tabs are written without quotes, a quotation mark in them is a letter.
        errors: what becomes of bytes that are no UTF-8, as for ``open``.
        is_row: whether cells, as many as the header's, are those of a row.

    Raises:
        UserError: it is no regular file, cannot be read, is separated by something else, or a quotation mark is not closed; names
            the file and the line.
    """
    last = width = 0
    try:
        if path.exists() and not os.path.isfile(path):
            raise UserError(f"{path}: cannot be read as {what}: it is no regular file")
        with path.open("rb") as head:
            if head.read(2) in UTF_16:
                raise UserError(f"{path}: cannot be read as {what}: it is UTF-16; {SAVE}")
        with path.open(newline="", encoding="utf-8-sig", errors=errors) as file:
            reader = csv.reader(
                file,
                delimiter=between,
                quoting=csv.QUOTE_NONE if between == TABS else csv.QUOTE_MINIMAL,
                strict=True,
            )
            for cells in reader:
                first, last = last + 1, reader.line_num
                if not cells:
                    continue
                if not width:
                    width = len(cells)
                    _check_header(path, what, cells, between)
                elif last > first:
                    _check_swallowed(path, cells, first, width, is_row)
                yield first, cells
    except csv.Error as error:
        raise UserError(
            f"{path} line {last + 1}: cannot be read as {what} ({error}); is a quotation mark not closed, or not doubled?"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as {what} ({error})") from error


def _check_header(path: Path, what: str, cells: Sequence[str], between: str) -> None:
    """Refuse a first line of one cell that something else separates."""
    for sign, name in OTHERS.items():
        if len(cells) == 1 and sign != between and sign in cells[0]:
            raise UserError(f"{path}: cannot be read as {what}: {name} stand between its cells; {SAVE}")


def _check_swallowed(
    path: Path, cells: Sequence[str], line: int, width: int, is_row: Callable[[Sequence[str]], bool]
) -> None:
    """Refuse a cell that holds whole lines of the file."""
    for cell in cells:
        for inner in cell.splitlines()[1:]:
            row = next(csv.reader([inner]), [])
            if len(row) == width > 1 and is_row(row):
                raise UserError(
                    f"{path} line {line}: a quotation mark is not closed, it swallows the line {inner[:80]!r}; correct it"
                )
