"""Fingerprints on disk, so that no image is read a second time for them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

from utils.errors import UserError
from utils.images import DecodeError, load_image
from utils.manifest import Writer
from utils.suffixes import IMAGE_SUFFIXES
from web.crew import Crew
from web.duplicates import Fingerprint, fingerprint, from_row

COLUMNS = ("path", "size", "mtime_ns", "sha256", "phash", "thumb")
# Quoted name, size and time of the last change.
Key = tuple[str, str, str]


def image_files(places: Iterable[Path]) -> list[Path]:
    """The image files of folders, however deep, and files that are given themselves.

    Raises:
        UserError: nothing is there, or a folder holds no image.
    """
    files: list[Path] = []
    for place in places:
        if place.is_file():
            files.append(place.resolve())
            continue
        if not place.is_dir():
            raise UserError(f"--not_in {place}: no such file or folder")
        images = sorted(path.resolve() for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise UserError(f"--not_in {place}: holds no image")
        files += images
    return list(dict.fromkeys(files))


class Fingerprints:
    """Fingerprints of image files, in a CSV file; one of a file that has changed since is made anew.

    Args:
        path: the CSV file; lines of it that are damaged are made anew, too.

    Raises:
        UserError: the file has other columns, or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._writer = Writer(path, COLUMNS)
        self._known: dict[Key, Fingerprint] = {}
        try:
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                for row in csv.DictReader(file, restval=""):
                    print_ = from_row(row)
                    if print_ is not None:
                        self._known[row["path"], row["size"], row["mtime_ns"]] = print_
        except (OSError, csv.Error) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it, it is made anew") from error

    def of_files(
        self, files: Iterable[tuple[str, Path]], crew: Crew
    ) -> Iterator[tuple[str, Fingerprint | DecodeError]]:
        """Fingerprints by name, in the order of ``files`` (name, file), or what is wrong with a file."""
        for name, future in crew.in_order((name, partial(self._make, name, path)) for name, path in files):
            try:
                key, print_ = future.result()
            except DecodeError as error:
                yield name, error
                continue
            if key not in self._known:
                self._write(key, print_)
            yield name, print_

    def _make(self, name: str, path: Path) -> tuple[Key, Fingerprint]:
        try:
            key = _key(name, path)
            return key, self._known.get(key) or fingerprint(path.read_bytes(), load_image(path))
        except OSError as error:
            raise DecodeError(f"{path}: cannot be read ({error.strerror})") from error

    def add(self, name: str, path: Path, print_: Fingerprint) -> None:
        """Note the fingerprint of a file."""
        self._write(_key(name, path), print_)

    def _write(self, key: Key, print_: Fingerprint) -> None:
        self._writer.write(dict(zip(COLUMNS, key, strict=False)) | print_.row())

    def close(self) -> None:
        self._writer.close()


def _key(name: str, path: Path) -> Key:
    state = os.stat(path)
    # Quoted, because a name may hold anything and a line of the file no line break.
    return quote(os.fsencode(name)), str(state.st_size), str(state.st_mtime_ns)
