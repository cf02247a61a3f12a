"""The folder that web images are collected into: its files, and what earlier runs left in it.

    OUT/<class>/<number>.<suffix>    the images
    OUT/manifest.csv                 one row an image
    OUT/rejected.csv                 one row an address that was tried in vain, and why
    OUT/fingerprints.csv             what duplicates are found by

What stands in the manifest or among the rejected is not asked for again; lines that are removed from ``rejected.csv`` are. An image
gets its row first and its name after that, so that a run which is killed in between leaves enough to finish; an image file without
a row is therefore never ours, and left alone.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from utils import manifest
from utils.cells import read_csv
from utils.errors import UserError
from utils.manifest import Row, Writer
from utils.whole import InUse, locked
from web.candidate import SUFFIXES, Candidate, Query
from web.duplicates import Fingerprint

REJECTED = "rejected.csv"
REJECTED_COLUMNS = ("class", "source", "url", "reason")
FINGERPRINTS = "fingerprints.csv"
OUR_PATH = re.compile(rf"([a-z0-9_]+)/(\d{{5,9}})({'|'.join(sorted(map(re.escape, set(SUFFIXES.values()))))})")
# Reason of an image that is no more where its row says.
REMOVED = "file was removed"
# Names of files that are being written; no image has such a name.
HALF_WRITTEN = re.compile(r"\.\d+\S*\.(part|ready)")


@dataclass(frozen=True)
class Taken:
    """An image that passed every check of its own, under a temporary name.

    Attributes:
        part: the file.
        suffix: by its format, with the dot.
        size: of the file, bytes.
        width: in pixels, upright.
        height: likewise.
        print_: its fingerprint.
    """

    part: Path
    suffix: str
    size: int
    width: int
    height: int
    print_: Fingerprint


class Store:
    """Opens such a folder, mends what a killed run left, and keeps or refuses candidates.

    Args:
        out: the folder; made where it is missing.
        folders: class -> name of its folder, of the classes that are collected.

    Attributes:
        kept: class -> number of its images.
        refused: class -> how often it was refused for what.
        total: bytes of all images.

    Raises:
        UserError: the folder is in use, holds links that would lead out of it, or files that are not of this program.
    """

    def __init__(self, out: Path, folders: Mapping[str, str]) -> None:
        self.out, self.folders = out, dict(folders)
        self.kept: Counter[str] = Counter()
        self.refused: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.total = 0
        self._tried: dict[str, set[str]] = {}
        self._removed: set[str] = set()
        self._parts = count(1)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {out}: is no folder and cannot be made one ({error.strerror})") from error
        self._lock = ExitStack()
        try:
            self._lock.enter_context(locked(out, wait=False))
        except InUse as error:
            raise UserError(f"--out {out}: another run is collecting into it; wait for it or stop it") from error
        except OSError as error:
            raise UserError(f"--out {out}: cannot be locked ({error.strerror})") from error
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        out = self.out
        for name in (manifest.FILE, REJECTED, FINGERPRINTS, *self.folders.values()):
            self._refuse_link(out / name)
        for folder in self.folders.values():
            if (out / folder).exists() and not (out / folder).is_dir():
                raise UserError(f"{out / folder}: is no folder; move it away")
            (out / folder).mkdir(exist_ok=True)
        self._rejected = Writer(out / REJECTED, REJECTED_COLUMNS)
        self._read_rejected()
        rows, lost = self._read_rows()
        if lost and not rows:
            raise UserError(
                f"{out}: none of the {len(lost)} images of its manifest is there; put them back, or move the manifest away"
            )
        for row in lost:
            self._refuse(row["class"], row["source"], row["url"], f"{REMOVED}: {row['path']}")
        if lost:
            manifest.write(out / manifest.FILE, manifest.COLUMNS, rows)
        self._numbers = {name: self._first_number(name) for name in self.folders}
        self._manifest = Writer(out / manifest.FILE)
        self.paths = [row["path"] for row in rows]
        for row in rows:
            self._count(row)
        self._sweep({row["path"].partition("/")[0] for row in rows} | set(self.folders.values()))

    def _refuse_link(self, path: Path) -> None:
        if path.is_symlink():
            raise UserError(f"{path}: is a link, and might lead out of the folder; remove it")

    def _read_rejected(self) -> None:
        path = self.out / REJECTED
        lines = read_csv(path, "a list of refused addresses", is_row=lambda cells: "://" in cells[2])
        next(lines, None)
        for line, cells in lines:
            if len(cells) != len(REJECTED_COLUMNS):
                raise UserError(f"{path} line {line}: has not {len(REJECTED_COLUMNS)} columns; repair or remove it")
            name, _, url, reason = cells
            self._note(name, url, reason)

    def _read_rows(self) -> tuple[list[Row], list[Row]]:
        """Rows of the manifest whose file is there, and those whose file is not."""
        path = self.out / manifest.FILE
        Writer(path).close()  # Cuts half a line, refuses other columns.
        slugs = {folder: name for name, folder in self.folders.items()}
        rows: list[Row] = []
        lost: list[Row] = []
        for row in manifest.open_manifest(path):
            match = OUR_PATH.fullmatch(row["path"])
            if match is None:
                raise UserError(
                    f"{path}: the path {row['path']} is none that this program gives; move the manifest away"
                )
            if slugs.get(match[1], row["class"]) != row["class"]:
                raise UserError(f"--classes {slugs[match[1]]}: its folder {match[1]} is that of {row['class']} already")
            self._refuse_link(self.out / match[1])
            (rows if self._is_there(self.out / row["path"]) else lost).append(row)
        return rows, lost

    def _is_there(self, path: Path) -> bool:
        """Whether an image is there, perhaps after giving it the name that a killed run did not come to give."""
        ready = _ready(path)
        if not path.is_file() and ready.is_file():
            os.replace(ready, path)
        return path.is_file()

    def _first_number(self, name: str) -> int:
        """The number after the highest that is in use in a class's folder, or was: a number never means another image later."""
        folder = self.folders[name]
        there = {f"{folder}/{path.name}" for path in (self.out / folder).iterdir()}
        matches = (OUR_PATH.fullmatch(path) for path in there | self._removed)
        return 1 + max((int(match[2]) for match in matches if match and match[1] == folder), default=0)

    def _sweep(self, folders: set[str]) -> None:
        for folder in folders:
            place = self.out / folder
            for path in list(place.iterdir()) if place.is_dir() else []:
                if HALF_WRITTEN.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def _count(self, row: Mapping[str, str]) -> None:
        self.kept[row["class"]] += 1
        self.total += int(row["size"][:18]) if row["size"].isdecimal() else 0
        self._tried.setdefault(row["url"], set()).add(row["class"])

    def _note(self, name: str, url: str, reason: str) -> None:
        fixed, _, rest = reason.partition(": ")
        self.refused[name][fixed] += 1
        if fixed == REMOVED:
            self._removed.add(rest)
        self._tried.setdefault(url, set()).add(name)

    def fresh(self, candidates: Iterator[Candidate], name: str) -> Iterator[Candidate]:
        """Candidates of a class whose address has not been tried; one that was tried for another class is refused."""
        for candidate in candidates:
            before = self._tried.setdefault(candidate.url, set())
            if name in before:
                continue
            others = before - {name}
            before.add(name)
            if others:
                self.refuse(name, candidate, f"same address in another class: {min(others)}")
            else:
                yield candidate

    def part(self, name: str) -> Path:
        """A new temporary name beside the images of a class."""
        return self.out / self.folders[name] / f".{next(self._parts)}.part"

    def keep(self, query: Query, candidate: Candidate, taken: Taken) -> str:
        """Give an image its row and its name; the path of the row."""
        name = query.name
        path = f"{self.folders[name]}/{self._numbers[name]:05d}{taken.suffix}"
        self._numbers[name] += 1
        row = {
            "path": path,
            "class": name,
            "query": query.text,
            "source": candidate.source,
            "url": candidate.url,
            "page": candidate.page,
            "licence": candidate.licence,
            "author": candidate.author,
            "sha256": taken.print_.sha256,
            "width": str(taken.width),
            "height": str(taken.height),
            "size": str(taken.size),
            "caption": candidate.caption,
        }
        ready = _ready(self.out / path)
        os.replace(taken.part, ready)
        self._manifest.write(row)
        os.replace(ready, self.out / path)
        self._count(row)
        return path

    def refuse(self, name: str, candidate: Candidate, reason: str) -> None:
        """Note that a candidate is not taken, and why."""
        self._refuse(name, candidate.source, candidate.url, reason)

    def _refuse(self, name: str, source: str, url: str, reason: str) -> None:
        self._rejected.write({"class": name, "source": source, "url": url, "reason": reason})
        self._note(name, url, reason)

    def close(self) -> None:
        """Remove half-written files, close the others, and let the next run in."""
        self._sweep(set(self.folders.values()))
        self._manifest.close()
        self._rejected.close()
        self._lock.close()


def _ready(path: Path) -> Path:
    return path.with_name(f".{path.name}.ready")
