"""Lists of image and mask files: from published split files, or from the folders themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from utils.errors import UserError
from utils.suffixes import is_image

SHOWN = 3


def need_folder(path: Path, what: str, cure: str) -> Path:
    """``path``, or UserError where it is no folder."""
    if not path.is_dir():
        raise UserError(f"{path}: {what} are missing (no such folder); {cure}")
    return path


def by_stem(folder: Path) -> dict[str, Path]:
    """Image files of ``folder`` by name without suffix; UserError where two files share one."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image(path):
            continue
        if path.stem in files:
            raise UserError(f"{path}: {files[path.stem].name} has the same name; rename one of them")
        files[path.stem] = path
    return files


def shown(names: Iterable[str]) -> str:
    """The first few names and the number of the others."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def one_in_ten(name: str) -> bool:
    """Whether an image belongs to a validation split made by hash: the same on every machine, about one in ten."""
    return hashlib.sha256(name.encode()).digest()[0] % 10 == 0


def read_lines(path: Path) -> list[str]:
    """Lines of a split file without blanks.

    Raises:
        UserError: the file cannot be read or is empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{path}: names no image")
    return lines


def need_files(pairs: Iterable[tuple[Path, Path]], where: Path) -> None:
    """UserError naming the first of the files that ``pairs`` lists and that are not there."""
    missing = [str(path) for pair in pairs for path in pair if not path.is_file()]
    if missing:
        raise UserError(f"{where}: lists files that are missing: {shown(missing)}")
