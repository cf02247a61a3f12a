"""The manifest of web images: one CSV row an image, from download to training; each script adds columns and keeps the others.

``path`` (relative to the manifest's folder, or absolute) and ``class`` are always there. A folder of class folders, as the published
web data lie, is read as a manifest of these two columns.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from utils.cells import read_csv
from utils.errors import UserError, shown_text
from utils.spelling import on_disk, slashed
from utils.suffixes import is_image
from utils.whole import cut_half_line, whole_file

LOG = logging.getLogger("webwilss")
Row = dict[str, str]
FILE = "manifest.csv"
# What a collected image has; later scripts add scores and labels behind these.
COLUMNS = (
    "path",
    "class",
    "query",
    "source",
    "url",
    "page",
    "licence",
    "author",
    "sha256",
    "width",
    "height",
    "size",
    "caption",
)
NEEDED = ("path", "class")
# Columns that scripts read besides; a spelling that differs in case or blanks alone would go unread.
READ = (*COLUMNS, "kept", "labels")
# Spellings of ``kept``, whatever their case, as people and spreadsheets write them; besides, any number that is 1 or 0.
KEPT, LEFT = ("true", "yes", "y", "x"), ("false", "no", "n", "")
SPELLINGS = "1, true, yes or x where an image is kept, and 0, false, no or nothing where it is not"
# The longest name of a file, and of a whole path, that Linux takes, in bytes.
LONGEST_NAME, LONGEST_PATH = 255, 4095
# Names that are told one by one.
TOLD = 3


@dataclass(frozen=True)
class Manifest:
    """Where a manifest's rows come from.

    Attributes:
        path: the CSV file, or the folder of class folders.
        root: folder that relative paths start from.
        columns: names of the columns.
    """

    path: Path
    root: Path
    columns: tuple[str, ...]

    def __iter__(self) -> Iterator[Row]:
        """Rows, one after the other, however many there are.

        Raises:
            UserError: a row with too many or too few columns, without path or class, with a path that no file can have, or whose
                ``kept`` says neither yes nor no; names the file and the line.
        """
        if self.path.is_dir():
            yield from _folder_rows(self.path)
            return
        lines = read_csv(self.path, "a manifest", is_row=self._is_row)
        next(lines, None)
        turned = 0
        for line, cells in lines:
            where = f"{self.path} line {line}"
            if len(cells) != len(self.columns):
                raise UserError(f"{where}: has not {len(self.columns)} columns; repair or remove this line")
            row = dict(zip(self.columns, cells, strict=True))
            if not row["path"] or not row["class"]:
                raise UserError(f"{where}: path or class is empty; repair or remove this line")
            fault = path_fault(row["path"])
            if fault:
                raise UserError(f"{where}: its path {fault}; repair or remove this line")
            if kept_cell(row.get("kept", "1")) is None:
                raise UserError(f"{where}: kept is {row['kept']!r}; write {SPELLINGS}")
            turned += self._turned(row)
            yield row
        _tell_turned(self.path, turned)

    def _is_row(self, cells: Sequence[str]) -> bool:
        return is_image(cells[self.columns.index("path")])

    def _turned(self, row: Row) -> bool:
        """Write a path as it is written here, where Windows wrote it; whether it was."""
        given = row["path"]
        row["path"] = slashed(self.root, given)
        return row["path"] != given

    def file(self, row: Mapping[str, str]) -> Path:
        """The image file of a row, whose accents may be written in another way there."""
        return on_disk(self.root / row["path"])

    def inside(self, row: Mapping[str, str]) -> bool:
        """Whether a row's file lies in the manifest's folder or below, links followed; a file that is not there may lie there, too."""
        root, file = os.path.realpath(self.root), os.path.realpath(self.file(row))
        return Path(file).is_relative_to(root)

    def kept(self) -> Iterator[tuple[int, Row]]:
        """Number, from 0 among all rows, and row of what a selection kept; every row where there was none."""
        return ((number, row) for number, row in enumerate(self) if is_kept(row))

    def matched(self, match: Callable[[str], str | None]) -> Iterator[tuple[str | None, Row]]:
        """Every row, kept or not, behind the class that its own class means.

        Args:
            match: class of a row -> the reader's name of it, or None where it is none of the reader's.
        """
        return ((match(row["class"]), row) for row in self)


def kept_cell(text: str) -> bool | None:
    """What a cell of ``kept`` says: ``SPELLINGS``; None where it is none of them."""
    word = text.strip().lower()
    if word in KEPT or word in LEFT:
        return word in KEPT
    try:
        return {1.0: True, 0.0: False}.get(float(word))
    except ValueError:
        return None


def is_kept(row: Mapping[str, str]) -> bool:
    """Whether a selection kept a row; also where there was none.

    Raises:
        UserError: the cell says neither; a row that came from a ``Manifest`` says one of both.
    """
    kept = kept_cell(row.get("kept", "1"))
    if kept is None:
        raise UserError(f"{row.get('path', '')}: kept is {row['kept']!r}; write {SPELLINGS}")
    return kept


def _lost_in_csv(path: str) -> str:
    """Why a path would not come back from a manifest; empty where it would."""
    if "\n" in path or "\r" in path:
        return f"{shown_text(path)[:80]} holds a line break"
    return f"{shown_text(path)[:80]} is no UTF-8" if path.encode("utf-8", "replace").decode() != path else ""


def path_fault(path: str) -> str:
    """Why no image of a manifest can have this path; empty where one can."""
    if "\0" in path:
        return "holds a NUL"
    encoded = os.fsencode(path)
    if len(encoded) > LONGEST_PATH or max(map(len, encoded.split(b"/"))) > LONGEST_NAME:
        return f"{shown_text(path)[:40]}... is longer than a path can be"
    return _lost_in_csv(path)


def _listed(folder: Path) -> list[Path]:
    """What a folder holds and does not hide, by name; UserError where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error


def _class_files(folder: Path) -> Iterator[tuple[str, Path, bool]]:
    """Path in a folder of class folders, file, and whether it is an image by its name and kind."""
    for place in _listed(folder):
        for path in _listed(place) if place.is_dir() else []:
            yield f"{place.name}/{path.name}", path, is_image(path) and os.path.isfile(path)


@cache
def _tell_turned(path: Path, count: int) -> None:
    """Say once how many paths of a manifest were written by Windows."""
    if count:
        LOG.info("%s: %d paths are written with \\ and read with /", path, count)


def _folder_rows(folder: Path) -> Iterator[Row]:
    for name, path, image in _class_files(folder):
        if image and (fault := path_fault(name)):
            raise UserError(f"{folder}: the name {fault}; rename the file")
        if image:
            yield {"path": name, "class": path.parent.name}


def _tell_left_out(folder: Path) -> None:
    """Log what class folders hold besides images, once, where a folder is opened as a manifest."""
    others = [name for name, _, image in _class_files(folder) if not image]
    if others:
        more = f" and {len(others) - TOLD} more" if len(others) > TOLD else ""
        shown = ", ".join(map(shown_text, others[:TOLD]))
        LOG.warning(
            "%s: %d things in its class folders are no image files by name and are left out: %s%s",
            folder,
            len(others),
            shown,
            more,
        )


def open_manifest(path: Path | str) -> Manifest:
    """The manifest at ``path``: a CSV file, a folder with ``manifest.csv``, or a folder of class folders.

    Raises:
        UserError: nothing of the kind is there, or columns are missing.
    """
    path = Path(path)
    if os.path.isdir(path) and os.path.isfile(path / FILE):
        path = path / FILE
    if os.path.isdir(path):
        if next(_folder_rows(path), None) is None:
            raise UserError(f"{path}: holds neither {FILE} nor one folder of images for each class")
        _tell_left_out(path)
        return Manifest(path, path, NEEDED)
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such manifest or folder")
    columns = read_columns(path)
    for name in columns:
        near = name.strip().lower()
        if near in READ and name != near:
            raise UserError(f"{path}: the column {name!r} of its first line is written {near}; correct it")
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise UserError(
            f"{path}: a manifest needs the columns path and class in its first line; {missing[0]} is missing"
        )
    if len(set(columns)) != len(columns):
        raise UserError(f"{path}: a column stands twice in its first line ({', '.join(columns)})")
    return Manifest(path, path.parent, columns)


def read_columns(path: Path) -> tuple[str, ...]:
    """The first line of a CSV file; UserError where it cannot be read."""
    return tuple(next(read_csv(path, "a manifest"), (0, []))[1])


def _cell(name: str, value: object) -> str:
    """A value as a cell of one line, so that one line of the file is one row, and a file cut anywhere can be repaired.

    Raises:
        UserError: a path that would not survive this.
    """
    text = str(value)
    if name == "path":
        # Blanks, however many, belong to a file's name.
        fault = _lost_in_csv(text)
        if fault:
            raise UserError(f"the path {fault}, and cannot stand in a manifest; rename the file")
        return text
    return " ".join(text.split()).encode("utf-8", "replace").decode() if isinstance(value, str) else text


def _half_a_header(path: Path, columns: Sequence[str]) -> bool:
    """Whether a file is not there, empty, or what a process leaves that is killed while it writes the first line."""
    if not path.exists():
        return True
    whole = ",".join(columns).encode()
    with path.open("rb") as file:
        return whole.startswith(file.read(len(whole) + 1))


class Writer:
    """Appends rows to a CSV file, each of them on disk when ``write`` returns; goes on with a file that is there.

    Args:
        path: the file; its folder is made.
        columns: names of the columns.

    Raises:
        UserError: the file is there with other columns, or cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str] = COLUMNS) -> None:
        self.path, self.columns = path, tuple(columns)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Before anything of it is cut: it may be somebody else's.
            if not _half_a_header(path, self.columns) and read_columns(path) != self.columns:
                raise UserError(f"{path}: has other columns than {', '.join(self.columns)}; move it away")
            size = path.stat().st_size if path.exists() else 0
            cut_half_line(path)
            kept = path.stat().st_size
            if 0 < kept < size:
                LOG.warning(
                    "%s: %d bytes behind its last line's end, half a row of a stopped run, are cut", path, size - kept
                )
            fresh = kept == 0
            self.file: IO[str] = path.open("a", newline="", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        self.writer = csv.writer(self.file, lineterminator="\n")
        if fresh:
            self.writer.writerow(self.columns)
            self.file.flush()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; columns it lacks stay empty."""
        self.writer.writerow([_cell(name, row.get(name, "")) for name in self.columns])
        self.file.flush()

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a whole manifest: to a temporary file, then renamed; the number of rows.

    Raises:
        UserError: it cannot be written.
    """
    count = 0
    with whole_file(path) as temporary, temporary.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(name, row.get(name, "")) for name in columns])
            count += 1
    return count
