"""Image and mask files of a folder by name, and the lines of a list; what is left out is told."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from utils.errors import UserError, shown_text
from utils.suffixes import image_stem, is_image
from utils.texts import composed, read_text

LOG = logging.getLogger("webwilss")
SHOWN = 3
_NOISE = {"thumbs.db", "desktop.ini", "@eadir", "__macosx"}


@cache
def tell(message: str) -> None:
    """Warn, once in a process: several readers look at the same files."""
    LOG.warning("%s", message)


def need_folder(path: Path, what: str, cure: str) -> Path:
    """``path``, or UserError where it is no folder."""
    if not path.is_dir():
        raise UserError(f"{path}: {what} are missing (no such folder); {cure}")
    return path


def shown(names: Iterable[str]) -> str:
    """The first few names and the number of the others."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(shown_text, names[:SHOWN])) + more


def key(name: str) -> str:
    """By what a file is found: its name without the suffix of an image, in Unicode's composed form."""
    return composed(image_stem(name))


def by_stem(folder: Path, left_out: list[str] | None = None) -> dict[str, Path]:
    """Image files of ``folder``, which is not searched deeper, by name without suffix, in the order of their names.

    Args:
        folder: where they are.
        left_out: gets the names of all else: what is no image by its name, or no regular file.

    Raises:
        UserError: the folder cannot be read, or two images share a name.
    """
    files: dict[str, Path] = {}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    for entry in entries:
        if is_image(entry.name) and _is_file(entry):
            _add(files, image_stem(entry.name), folder / entry.name)
        elif left_out is not None and not _is_noise(entry.name):
            left_out.append(entry.name)
    return files


def by_key(folder: Path, left_out: list[str] | None = None) -> dict[str, Path]:
    """Image files of a data set's ``folder`` by ``key``; those whose names are no UTF-8 are left out, too.

    Args:
        folder: where they are.
        left_out: gets the names of what is left out; without it they are told, once.

    Raises:
        UserError: as for ``by_stem``; names that differ in their Unicode form alone are the same.
    """
    files: dict[str, Path] = {}
    left: list[str] = []
    for path in by_stem(folder, left).values():
        if _is_utf8(path.name):
            _add(files, key(path.name), path)
        else:
            left.append(path.name)
    if left_out is not None:
        left_out += left
    elif left:
        tell(f"{folder}: {len(left)} left out, no image by name or no file that can be read: {shown(left)}")
    return files


def _add(files: dict[str, Path], name: str, path: Path) -> None:
    other = files.setdefault(name, path)
    if other != path:
        where = path.with_name(shown_text(path.name))
        raise UserError(f"{where}: {shown_text(other.name)} has the same name; rename one of them")


def _is_noise(name: str) -> bool:
    """Whether systems and tools leave a file of this name in a folder, and nobody takes it for an image."""
    return name.lower() in _NOISE or (name.startswith(".") and not is_image(name.lstrip(".")))


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_lines(path: Path) -> list[str]:
    """Lines of a list without the blanks around them.

    Raises:
        UserError: the file cannot be read or is empty.
    """
    lines = [line.strip() for line in read_text(path).split("\n")]
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{path}: names no image")
    return lines
