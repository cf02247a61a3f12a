"""The manifest of web images: one CSV row an image, from download to training; each script adds columns and keeps the others.

``path`` (relative to the manifest's folder, or absolute) and ``class`` are always there. A folder of class folders, as the published
web data lie, is read as a manifest of these two columns.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from utils.errors import UserError
from utils.suffixes import is_image
from utils.whole import cut_half_line, whole_file

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
# A caption longer than this is a page of text, and no manifest of ours.
csv.field_size_limit(1 << 20)


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
            UserError: a row with too many or too few columns, or without path or class; names the file and the line.
        """
        if self.path.is_dir():
            yield from _folder_rows(self.path)
            return
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, strict=True)
                for row in reader:
                    where = f"{self.path} line {reader.line_num}"
                    if None in row or None in row.values():
                        raise UserError(f"{where}: has not {len(self.columns)} columns; repair or remove this line")
                    if not row["path"] or not row["class"]:
                        raise UserError(f"{where}: path or class is empty; repair or remove this line")
                    yield row
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{self.path}: cannot be read as a manifest ({error})") from error

    def file(self, row: Mapping[str, str]) -> Path:
        """The image file of a row."""
        return self.root / row["path"]

    def kept(self) -> Iterator[tuple[int, Row]]:
        """Number, from 0 among all rows, and row of what a selection kept; every row where there was none."""
        return ((number, row) for number, row in enumerate(self) if is_kept(row))

    def matched(self, match: Callable[[str], str | None]) -> Iterator[tuple[str | None, Row]]:
        """Every row, kept or not, behind the class that its own class means.

        Args:
            match: class of a row -> the reader's name of it, or None where it is none of the reader's.
        """
        return ((match(row["class"]), row) for row in self)


def is_kept(row: Mapping[str, str]) -> bool:
    """Whether a selection kept a row; also where there was none."""
    return row.get("kept", "1") == "1"


def _folder_rows(folder: Path) -> Iterator[Row]:
    for place in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        for path in sorted(place.iterdir()):
            if is_image(path):
                yield {"path": f"{place.name}/{path.name}", "class": place.name}


def open_manifest(path: Path | str) -> Manifest:
    """The manifest at ``path``: a CSV file, a folder with ``manifest.csv``, or a folder of class folders.

    Raises:
        UserError: nothing of the kind is there, or columns are missing.
    """
    path = Path(path)
    if path.is_dir() and (path / FILE).is_file():
        path = path / FILE
    if path.is_dir():
        if next(_folder_rows(path), None) is None:
            raise UserError(f"{path}: holds neither {FILE} nor one folder of images for each class")
        return Manifest(path, path, NEEDED)
    if not path.is_file():
        raise UserError(f"{path}: no such manifest or folder")
    columns = read_columns(path)
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
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return tuple(next(csv.reader(file), ()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a manifest ({error})") from error


def _one_line(value: object) -> str:
    """A value without line breaks, so that one line of the file is one row, and a file cut anywhere can be repaired."""
    return " ".join(str(value).split()) if isinstance(value, str) else str(value)


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
            cut_half_line(path)
            fresh = path.stat().st_size == 0
            if not fresh and read_columns(path) != self.columns:
                raise UserError(f"{path}: has other columns than {', '.join(self.columns)}; move it away")
            self.file: IO[str] = path.open("a", newline="", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        self.writer = csv.writer(self.file, lineterminator="\n")
        if fresh:
            self.writer.writerow(self.columns)
            self.file.flush()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; columns it lacks stay empty."""
        self.writer.writerow([_one_line(row.get(name, "")) for name in self.columns])
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
            writer.writerow([_one_line(row.get(name, "")) for name in columns])
            count += 1
    return count
