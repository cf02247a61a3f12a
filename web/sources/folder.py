"""Images that are here already: a folder of one folder a class; NAME.txt beside NAME.jpg is its caption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError
from utils.suffixes import is_image
from web.candidate import LONGEST_TEXT, Candidate, Query, clean
from web.download import Client


def check(argument: str, client: Client) -> None:
    """Refuse a folder that is not there."""
    if not argument or not Path(argument).is_dir():
        raise UserError(f"--source folder:{argument}: no such folder")


def search(argument: str, query: Query, client: Client) -> Iterator[Candidate]:
    """The images of the class's folder, by name.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        folders = [place for place in sorted(Path(argument).iterdir()) if place.is_dir() and query.names(place.name)]
        for path in (path for folder in folders for path in sorted(folder.iterdir())):
            if is_image(path) and path.is_file():
                yield Candidate(path.resolve().as_uri(), "folder", path, _caption(path.with_suffix(".txt"), query))
    except OSError as error:
        raise UserError(f"{argument}: cannot be read ({error.strerror})") from error


def _caption(path: Path, query: Query) -> str:
    if not path.is_file():
        return ""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return clean(file.read(LONGEST_TEXT))
    except OSError as error:
        query.troubles.append(f"{path}: the caption cannot be read ({error.strerror})")
        return ""
