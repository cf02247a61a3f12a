"""The files around ``captions/filters.py``: lists of nouns in folders and archives, lists of kept images."""

from __future__ import annotations

import logging
import os
import posixpath
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captions.filters import generate_NN
from captions.formats import by_original, parse_nouns, read_captions, read_nouns, write_nouns
from utils.errors import UserError
from utils.whole import claimed

if TYPE_CHECKING:
    from tqdm import tqdm

LOG = logging.getLogger("webwilss")
SUFFIX = ".txt"
# Names in an archive may be of any length; a message shows so many letters.
LONGEST_SHOWN = 100
# All noun files of an archive together, bytes; the published ones are 5 MB. A small archive can unpack to any size.
LARGEST = 1 << 26


def _texts(folder: Path, what: str) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {what} are expected there")
    with os.scandir(folder) as entries:
        # A pipe would be waited for.
        named = {one.name: one.is_file() for one in entries if one.name.endswith(SUFFIX) and one.name[0] != "."}
    files = sorted(name for name, is_file in named.items() if is_file)
    if not files:
        raise UserError(f"{folder}: holds no {what} ({SUFFIX})")
    if len(files) < len(named):
        others = sorted(named.keys() - set(files))
        LOG.warning("%s: %d things are no files and are left out: %s", folder, len(others), ", ".join(others[:3]))
    return [folder / name for name in files]


def read_lists(source: Path) -> dict[str, list[tuple[str, list[str]]]]:
    """Name and nouns of the images of each noun file of a folder or a zip archive, by the file's name without ``.txt``.

    Raises:
        UserError: there is none, or one is damaged, or two have the same name.
    """
    if source.suffix.lower() == ".zip":
        return dict(_zipped(source))
    return {path.stem: read_nouns(path) for path in _texts(source, "noun files")}


def _zipped(path: Path) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    seen: set[str] = set()
    name, left = "its list of files", LARGEST
    try:
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                name = posixpath.basename(item.filename)
                if not name.endswith(SUFFIX) or name.startswith("."):
                    continue
                stem = name.removesuffix(SUFFIX)
                if stem in seen:
                    raise UserError(f"{path}: holds two files {name[:LONGEST_SHOWN]}")
                seen.add(stem)
                with archive.open(item) as member:
                    # What the archive says of a size need not be true; where it is, nothing is unpacked in vain.
                    content = member.read(left + 1) if item.file_size <= left else b""
                left -= max(len(content), item.file_size)
                if left < 0:
                    raise UserError(f"{path}: unpacks to more than {LARGEST >> 20} MiB; are these noun files?")
                yield stem, parse_nouns(content.decode("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path}: is damaged or no zip archive of noun files ({error})") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: {name[:LONGEST_SHOWN]} is no text in UTF-8 ({error.reason} at byte {error.start})"
        ) from error
    if not seen:
        raise UserError(f"{path}: holds no noun files ({SUFFIX})")


def read_originals(path: Path) -> dict[str, list[str]]:
    """Nouns of the captions of the originals, by name without the image suffix, from a noun file.

    Raises:
        UserError: the file is missing or no text, or an original stands twice.
    """
    return by_original(path, read_nouns(path))


def write_kept(out: Path, kept: Mapping[str, Sequence[str]]) -> None:
    """Write one file of kept names per list, a name a line; empty where none is kept.

    All are written to a temporary folder that then takes the place of ``out``, so that old and new lists are never mixed.

    Raises:
        UserError: the folder holds anything but lists of the same names, cannot be written, or a name cannot stand in a list.
    """
    for image in (image for names in kept.values() for image in names):
        whole = image.isascii() or image == image.encode("utf-8", "replace").decode()
        if not whole or not image or not {"\n", "\r"}.isdisjoint(image):
            raise UserError(f"{out}: the name {image!r} cannot stand in a list; rename the image")
    files = {f"{name}{SUFFIX}": "".join(f"{image}\n" for image in names) for name, names in kept.items()}
    temporary, old = (out.with_name(f".{out.name}.{os.getpid()}.{what}") for what in ("tmp", "old"))
    try:
        others = sorted(set(os.listdir(out)) - files.keys()) if out.exists() else []
        if others:
            raise UserError(f"{out}: holds {len(others)} other files ({others[0]} ...); name a new folder")
        temporary.mkdir(parents=True)
        for name, text in files.items():
            with open(f"{temporary}{os.sep}{name}", "xb", buffering=0) as file:
                file.write(text.encode("utf-8"))
        _take_place(temporary, out, old)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(new: Path, out: Path, old: Path) -> None:
    """Rename ``new`` to ``out``; what was there goes only when this has worked."""
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read_kept(folder: Path) -> dict[str, list[str]]:
    """Names of the kept images of each list that ``write_kept`` wrote.

    Raises:
        UserError: there is none, one is no text, or a name is none of a file.
    """
    kept: dict[str, list[str]] = {}
    for path in _texts(folder, "lists of kept images"):
        try:
            # Nothing but a line's end parts names: others of Unicode's line breaks may stand in one.
            names = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
        wrong = next((name for name in names if Path(name).name != name or name in (".", "..") or "\0" in name), None)
        if wrong is not None:
            raise UserError(f"{path}: {wrong!r} is no name of an image file")
        kept[path.stem] = names
    return kept


def generate_noun_files(captions: Path, out: Path, make_tagger: Callable[[], Callable[[str], list[str]]]) -> int:
    """Noun files of caption files: of one file to one file, of a folder to a folder. Those that are done are not made again.

    Another tagger needs another folder, since a noun file does not say whose it is.

    Args:
        captions: a caption file, or a folder of them (``.txt``).
        out: the noun file, or the folder.
        make_tagger: gives the tagger; called only where something is to be done.

    Returns:
        Number of captions whose nouns were found now.

    Raises:
        UserError: a file is missing, no text or cannot be written, or another run is writing into the folder.
    """
    one = not captions.is_dir()
    if one and out.is_dir():
        raise UserError(f"{out}: is a folder, but {captions} is one caption file; name a file")
    if not one and out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file, but {captions} is a folder; name a folder")
    if captions.resolve() == out.resolve():
        raise UserError(f"{out}: would replace the captions; name another")
    paths = {captions: out} if one else {path: out / path.name for path in _texts(captions, "caption files")}
    if one:
        return _generate(paths, make_tagger)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    with claimed(out, "finding nouns"):
        return _generate(paths, make_tagger)


def _generate(paths: Mapping[Path, Path], make_tagger: Callable[[], Callable[[str], list[str]]]) -> int:
    """Noun files of caption files, path -> path, where they are not done; the number of captions whose nouns were found."""
    rows = {path: read_captions(path) for path in paths}
    todo = [path for path in paths if not _is_done(path, paths[path], [name for name, _ in rows[path]])]
    if not todo:
        return 0
    # Imported here: the filters need no bar, and are done sooner than it is loaded.
    from tqdm import tqdm

    tagger = make_tagger()
    count = sum(len(rows[path]) for path in todo)
    with tqdm(total=count, unit="caption", disable=None) as bar:
        for path in todo:
            write_nouns(paths[path], generate_NN(_counted(rows[path], bar), tagger))
    return count


def _counted(rows: Iterable[tuple[str, str]], bar: tqdm) -> Iterator[tuple[str, str]]:
    for row in rows:
        bar.update()
        yield row


def _is_done(captions: Path, nouns: Path, names: Sequence[str]) -> bool:
    """Whether a noun file is there that is no older than its captions and has the same images."""
    if not nouns.is_file() or nouns.stat().st_mtime < captions.stat().st_mtime:
        return False
    return [name for name, _ in read_nouns(nouns)] == list(names)
