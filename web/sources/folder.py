"""Images that are here already: a folder of one folder a class; NAME.txt beside NAME.jpg is its caption.

A file is an image by its name, or by what it holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError
from utils.spelling import separated
from utils.suffixes import is_image
from web.candidate import LONGEST_TEXT, Candidate, Query, clean, holds_image, shown
from web.download import Client


def check(argument: str, client: Client) -> None:
    """Refuse a folder that is not there."""
    if not argument or not os.path.isdir(argument):
        raise UserError(f"--source folder:{argument}: no such folder")


def search(argument: str, query: Query, client: Client) -> Iterator[Candidate]:
    """The images of the class's folder, by name.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        named = [place for place in sorted(Path(argument).iterdir()) if place.is_dir() and query.names(place.name)]
        # Of type_1 and type1 both are spellings of the second; where it is there, the first is another class.
        folders = [place for place in named if separated(place.name) == separated(query.name)] or named
        if len(folders) < len(named):
            aside = shown([place.name for place in named if place not in folders])
            query.notes.append(
                f"the folders {aside} are left out: another one is spelled as the class {clean(query.name)}"
            )
        for folder in folders:
            images, others = _sifted(folder)
            if others:
                query.notes.append(f"{len(others)} things in {folder} are no images and are left out ({shown(others)})")
            for path in images:
                yield Candidate(path.resolve().as_uri(), "folder", path, _caption(path.with_suffix(".txt"), query))
    except OSError as error:
        raise UserError(f"{argument}: cannot be read ({error.strerror})") from error


def _sifted(folder: Path) -> tuple[list[Path], list[str]]:
    """Image files of a folder, and names of what else it holds besides their captions; what is hidden is left alone."""
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    images = [path for path in paths if (is_image(path) and os.path.isfile(path)) or holds_image(path)]
    known = {*images, *(path.with_suffix(".txt") for path in images)}
    return images, [path.name for path in paths if path not in known]


def _caption(path: Path, query: Query) -> str:
    if not os.path.isfile(path):
        return ""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return clean(file.read(LONGEST_TEXT))
    except OSError as error:
        query.troubles.append(f"{path}: the caption cannot be read ({error.strerror})")
        return ""
