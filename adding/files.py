"""Image files of a user's folders: found, told apart, and given a second name where a stage wants them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError
from utils.suffixes import is_image
from utils.whole import replacing


def image_files(folders: Sequence[Path]) -> list[Path]:
    """Image files of folders and of all folders in them, by path; what is hidden is left out.

    Raises:
        UserError: a folder is none, or cannot be read.
    """
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of images")
        for place, inner, names in os.walk(folder, onerror=refuse):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            files = (Path(place, name) for name in sorted(names) if not name.startswith("."))
            found += [path for path in files if is_image(path) and path.is_file()]
    return found


def without_twins(files: Sequence[Path]) -> list[Path]:
    """The files without those whose content an earlier one has."""
    sizes = Counter(path.stat().st_size for path in files)
    seen: set[str] = set()
    kept = []
    for path in files:
        if sizes[path.stat().st_size] > 1:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest in seen:
                continue
            seen.add(digest)
        kept.append(path)
    return kept


def digest_of(files: Sequence[Path]) -> str:
    """Digest of the names and sizes of files."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.fsencode(path) + f"\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()[:12]


def link(source: Path, target: Path) -> bool:
    """Give a file a second name, or a copy where its disk has no second names; False where one lies there already.

    Raises:
        UserError: neither can be made.
    """
    if target.is_file():
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            try:
                os.link(source.resolve(), temporary)
            except OSError:
                shutil.copyfile(source, temporary)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error
    return True
