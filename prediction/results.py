"""The folder of results: whose they are, which are done, the table of all, and the files that are made of all at the end.

DIR/predictions.json            the model, its classes and what else the masks depend on (``Marker``)
DIR/summary.csv                 one row an image: a row is written behind the image's files and says that it is done
DIR/masks/<name>.png            palette PNG of class ids, of the image's own size; 255 is unsure
DIR/overlays, probabilities, rle, polygons, thumbs     what else was asked for, under the same names
DIR/coco.json, page.html        of all images, made at the end
DIR/unreadable.csv              what could not be read, and why
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import IO, Any

from prediction.inputs import Item
from tasks import BACKGROUND, IGNORE
from utils import markers
from utils.errors import UserError, shown_text
from utils.whole import claimed, clear_leftovers_in, cut_half_line, whole_file

MARKER, SUMMARY, COCO, PAGE, UNREADABLE = "predictions.json", "summary.csv", "coco.json", "page.html", "unreadable.csv"
MASKS, OVERLAYS, PROBABILITIES, RLE, POLYGONS, THUMBS = (
    "masks",
    "overlays",
    "probabilities",
    "rle",
    "polygons",
    "thumbs",
)
# Folder -> suffix of its files.
SUFFIXES = {MASKS: ".png", OVERLAYS: ".jpg", PROBABILITIES: ".npz", RLE: ".json", POLYGONS: ".geojson", THUMBS: ".jpg"}
# Columns of the summary before those of the classes; ``bytes`` and ``modified`` say which state of the file was looked at.
COLUMNS = ("name", "file", "frame", "bytes", "modified", "width", "height", "confidence", "unsure")
SHARE = "share of "
UNSURE = "unsure"
Row = dict[str, str]


@dataclass(frozen=True)
class Marker:
    """Whose results a folder holds.

    Attributes:
        weights: hash of the model's weights.
        origin: the model in words.
        classes: id and name of every class that it knows, background first.
        settings: what else the masks depend on.
    """

    weights: str
    origin: str
    classes: tuple[tuple[int, str], ...]
    settings: dict[str, Any]

    @property
    def names(self) -> dict[int, str]:
        """Names of all ids that a mask may hold."""
        return {IGNORE: UNSURE} | dict(self.classes)


class Results:
    """A folder of results that this process has claimed.

    Args:
        root: the folder.
        marker: whose results it is to hold.
        kinds: folders that get a file for each image; ``MASKS`` is always one.
    """

    def __init__(self, root: Path, marker: Marker, kinds: Sequence[str] = ()) -> None:
        self.root, self.marker, self.kinds = root, marker, (MASKS, *kinds)
        self.columns = (*COLUMNS, *(f"{SHARE}{name}" for _, name in marker.classes))
        self.rows: dict[str, Row] = {}
        self._lock = Lock()
        self._summary: IO[str] | None = None

    def path(self, kind: str, name: str) -> Path:
        """The file of an image in the folder ``kind``."""
        return self.root / kind / f"{name}{SUFFIXES[kind]}"

    @contextmanager
    def open(self, again: bool) -> Iterator[None]:
        """Claim, sign and read the folder; what killed runs left half written goes.

        Args:
            again: whether results of another model or other settings are deleted; else they are a reason to refuse.

        Raises:
            UserError: the folder cannot be made, is in use, or holds results of others.
        """
        make_folder(self.root)
        with claimed(self.root, "predicting"):
            self._sign(again)
            self._clear_leftovers()
            summary = self.root / SUMMARY
            try:
                cut_half_line(summary)
                self.rows = self._read(summary)
                file = summary.open("a", encoding="utf-8", newline="")
            except OSError as error:
                raise UserError(f"{summary}: cannot be read or written ({error.strerror or error})") from error
            with file:
                self._summary = file
                if not self.rows:
                    file.truncate(0)
                    self._writer().writerow(self.columns)
                    file.flush()
                yield
            self._summary = None

    def _writer(self) -> Any:
        return csv.writer(self._summary, lineterminator="\n")  # type: ignore[arg-type]

    def _sign(self, again: bool) -> None:
        there = read_marker(self.root)
        if there is None and any((self.root / name).exists() for name in (*SUFFIXES, SUMMARY)):
            raise UserError(f"{self.root}: holds files that no {MARKER} signs; name another folder")
        if there is not None and (there.weights, there.classes, there.settings) != self._identity():
            if not again:
                raise UserError(
                    f"{self.root}: holds results of {there.origin}{_difference(there, self.marker)}; name another folder, or "
                    "--again to replace them"
                )
            self._delete(there)
        markers.write_marker(self.root / MARKER, self.marker)

    def _identity(self) -> tuple[Any, ...]:
        return self.marker.weights, self.marker.classes, self.marker.settings

    def _delete(self, there: Marker) -> None:
        """Delete the results that the summary lists, and what was made of them; files of others stay."""
        old = Results(self.root, there)
        rows = old._read(self.root / SUMMARY)
        for name, row in rows.items():
            for kind in SUFFIXES:
                self.path(kind, name).unlink(missing_ok=True)
            if row["frame"]:
                for suffix in (".mp4", ".gif"):
                    self.overlay_video(item_name(name, row), suffix).unlink(missing_ok=True)
        for name in (SUMMARY, COCO, PAGE, UNREADABLE):
            (self.root / name).unlink(missing_ok=True)

    def overlay_video(self, name: str, suffix: str) -> Path:
        """The video of the overlays of a video's frames."""
        return self.root / OVERLAYS / (name if name.lower().endswith(suffix) else f"{name}{suffix}")

    def _clear_leftovers(self) -> None:
        clear_leftovers_in(self.root)
        for kind in SUFFIXES:
            for folder in (self.root / kind, *(self.root / kind).glob("**/")):
                clear_leftovers_in(folder)

    def _read(self, summary: Path) -> dict[str, Row]:
        """Rows by name, the last of equal ones; lines that are no rows of ours do not count, and their images are looked at again."""
        if not summary.is_file():
            return {}
        rows = {}
        with summary.open(encoding="utf-8", errors="replace", newline="") as file:
            lines = csv.reader(file)
            try:
                if next(lines, None) != list(self.columns):
                    return {}
                for cells in lines:
                    row = dict(zip(self.columns, cells, strict=False))
                    if len(cells) == len(self.columns) and _is_row(row):
                        rows[row["name"]] = row
            except csv.Error:
                pass
        return rows

    @property
    def taken(self) -> dict[str, str]:
        """Names of items that have results -> the source of each."""
        return {item_name(name, row): row["file"] for name, row in self.rows.items()}

    def is_done(self, item: Item, name: str, state: Mapping[str, str], kinds: Sequence[str]) -> bool:
        """Whether the files of an image, or of a frame, are there and of this state of the file."""
        row = self.rows.get(name)
        return (
            row is not None
            and row["file"] == item.source
            and all(row[column] == state[column] for column in ("bytes", "modified"))
            and all(self.path(kind, name).is_file() for kind in kinds)
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Say that an image is done; from any thread."""
        own = {column: str(row.get(column, "")) for column in self.columns}
        with self._lock:
            assert self._summary is not None
            self._writer().writerow([own[column] for column in self.columns])
            self._summary.flush()
            self.rows[own["name"]] = own

    def finish(self, items: Sequence[Item], faults: Sequence[tuple[Path, str]]) -> None:
        """Write the whole table, images in the order in which they were named and others before them; and what is made of all."""
        order = {item.name: number for number, item in enumerate(items)}
        rows = [row for name, row in self.rows.items() if self.path(MASKS, name).is_file()]
        rows.sort(key=lambda row: (order.get(item_name(row["name"], row), -1), int(row["frame"] or 0)))
        self.rows = {row["name"]: row for row in rows}
        _write_table(self.root / SUMMARY, self.columns, ([row[column] for column in self.columns] for row in rows))
        if RLE in self.kinds:
            self._write_coco(rows)
        unreadable = self.root / UNREADABLE
        if faults:
            _write_table(
                unreadable, ("file", "fault"), ((shown_text(path), shown_text(fault)) for path, fault in faults)
            )
        else:
            unreadable.unlink(missing_ok=True)

    def _write_coco(self, rows: Sequence[Row]) -> None:
        """One file in COCO's form of the run lengths of all images."""
        names = {number: name for number, name in self.marker.names.items() if number != BACKGROUND}
        head = {"info": {"description": self.marker.origin}, "licenses": []}
        categories = [{"id": number, "name": name, "supercategory": ""} for number, name in sorted(names.items())]
        with whole_file(self.root / COCO) as temporary, temporary.open("x", encoding="utf-8") as file:
            images = [
                {"id": number, "file_name": row["file"], "width": int(row["width"]), "height": int(row["height"])}
                for number, row in enumerate(rows, 1)
            ]
            start = json.dumps(head | {"categories": categories, "images": images})
            file.write(start[:-1] + ', "annotations": [')
            count = 0
            for number, row in enumerate(rows, 1):
                path = self.path(RLE, row["name"])
                for annotation in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []:
                    count += 1
                    file.write(",\n" if count > 1 else "\n")
                    file.write(json.dumps({"id": count, "image_id": number} | annotation))
            file.write("]}\n")


def _is_row(row: Row) -> bool:
    """Whether the cells that are numbers are."""
    numbers = ("width", "height", "confidence", UNSURE, *(column for column in row if column.startswith(SHARE)))
    try:
        return (
            bool(row["name"])
            and all(math.isfinite(float(row[column])) for column in numbers)
            and int(row["frame"] or 0) >= 0
        )
    except ValueError:
        return False


def make_folder(folder: Path) -> None:
    """Make a folder of results.

    Raises:
        UserError: it is a file, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is a file; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be made ({error.strerror})") from error


def item_name(name: str, row: Mapping[str, str]) -> str:
    """The name of the image or video that a row is of."""
    return name.rpartition("/")[0] if row["frame"] else name


def frame_name(item: Item, number: int) -> str:
    """The name of a frame's results."""
    return f"{item.name}/{number:06}"


def state_of(path: Path) -> dict[str, str]:
    """Length and time of a file, as the summary notes them; empty where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return {"bytes": "", "modified": ""}
    modified = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="microseconds")
    return {"bytes": str(status.st_size), "modified": modified}


def read_marker(folder: Path) -> Marker | None:
    """Whose results a folder holds; None where nothing says so.

    Raises:
        UserError: the marker cannot be read.
    """
    return markers.read_marker(folder / MARKER, Marker, "name another folder")


def _difference(there: Marker, marker: Marker) -> str:
    """Where the model is the same: which settings are not."""
    if (there.weights, there.classes) != (marker.weights, marker.classes):
        return f", not of {marker.origin}"
    changed = [
        f"{key} {there.settings.get(key)} (now {value})"
        for key, value in marker.settings.items()
        if there.settings.get(key) != value
    ]
    return f" with {', '.join(changed)}"


def _write_table(path: Path, columns: Sequence[str], rows: Iterator[Sequence[str]] | Any) -> None:
    with whole_file(path) as temporary, temporary.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
