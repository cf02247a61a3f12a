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
from web.candidate import holds_image
from web.crew import Crew
from web.duplicates import Fingerprint, fingerprint, from_row

COLUMNS = ("path", "size", "mtime_ns", "sha256", "phash", "thumb")
# Quoted name, size and time of the last change.
Key = tuple[str, str, str]


def image_files(places: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The image files of folders, however deep, links followed, and files that are given themselves; and what else the folders hold.

    A file is an image by its name or by what it holds.

    Raises:
        UserError: nothing is there, or a folder holds no image or cannot be read.
    """
    files: list[Path] = []
    others: list[Path] = []
    for place in places:
        if os.path.isfile(place):
            files.append(_real(place))
            continue
        if not os.path.isdir(place):
            raise UserError(f"--not_in {place}: no such file or folder")
        found = sorted(_all_files(place))
        # What is called an image and cannot be read is told by whoever reads it.
        images = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES or holds_image(path)]
        if not images:
            raise UserError(f"--not_in {place}: holds no image")
        files += map(_real, images)
        others += sorted(set(found) - set(images))
    return list(dict.fromkeys(files)), others


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _all_files(place: Path) -> Iterator[Path]:
    """Whatever lies in a folder, however deep, and is no folder; each folder once, though links lead round in circles."""
    todo, seen = [place], set()
    while todo:
        folder = todo.pop()
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            for path in folder.iterdir():
                if os.path.isdir(path):
                    todo.append(path)
                else:
                    yield path
        except OSError as error:
            raise UserError(f"--not_in {place}: {folder} cannot be read ({error.strerror})") from error


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
            if key in self._known:
                return key, self._known[key]
            # A pipe would be waited for without end.
            if not os.path.isfile(path):
                raise DecodeError(f"{path}: is no regular file")
            return key, fingerprint(path.read_bytes(), load_image(path))
        except OSError as error:
            raise DecodeError(f"{path}: cannot be read ({error.strerror})") from error
        except DecodeError:
            raise
        except Exception as error:  # Whatever a decoder raises is the fault of this image.
            raise DecodeError(f"{path}: is damaged ({type(error).__name__} {error})") from error

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
