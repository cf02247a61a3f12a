"""Files that are written whole or not at all: under a temporary name beside them, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, under which nothing lies, renamed to ``path`` at the end.

    Where the block or the renaming fails, ``path`` is left as it was, and nothing stays under the temporary name.

    Raises:
        OSError: the file cannot be written; for callers that have their own words for it. Others take ``whole_file``.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        # What lies there under this name may be a link to somewhere else.
        temporary.unlink(missing_ok=True)
        yield temporary
        os.replace(temporary, path)
    finally:
        # Where a parent is a file this fails as the writing did, and would hide its error.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """``replacing``, with the folders of ``path`` made first, and failures told in one line.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_whole(path: Path, text: str) -> None:
    """Write a text in UTF-8, its line ends as they are; UserError where it cannot be written."""
    with whole_file(path) as temporary, temporary.open("x", encoding="utf-8", newline="") as file:
        file.write(text)
