"""What a user names: files, folders, patterns, manifests, videos; as images and videos, each with a name for its results."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from dataset.files import shown
from prediction.video import check_decoder, is_video
from utils import manifest
from utils.errors import UserError, shown_text
from utils.images import DecodeError, has_frames
from utils.suffixes import image_stem, is_image
from utils.texts import composed

# Names of files that may hold a sequence of frames.
SEQUENCES = frozenset((".gif", ".png", ".apng", ".webp", ".tif", ".tiff", ".avif"))
# The longest part of a result's name, in bytes: suffixes and a temporary name have to find room.
LONGEST = 180
MANIFEST = ".csv"
# How the files of results end.
RESULTS = (".png", ".jpg", ".npz", ".json", ".geojson")


@dataclass(frozen=True)
class Item:
    """Something to look at.

    Attributes:
        image: the file.
        name: of its results, without suffix, parts separated by ``/``.
        frames: whether it is a video, or an image file that holds a sequence of frames.
    """

    image: Path
    name: str
    frames: bool = False

    @property
    def source(self) -> str:
        """The file's whole path as a table shows it."""
        return source_of(self.image)


def source_of(path: Path) -> str:
    """A file's whole path, in one line of text."""
    return shown_text(os.path.abspath(path))


@dataclass(frozen=True)
class _Named:
    """A file, and its name relative to what the user named."""

    file: Path
    name: PurePath


@dataclass
class Listed:
    """The files that a user named, in order, each once.

    Attributes:
        files: images and videos.
        frames: whether each is a video, or an image file that holds a sequence of frames.
        notes: sentences on what was left out.
    """

    files: list[_Named] = field(default_factory=list)
    frames: list[bool] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_files(inputs: Sequence[str], out: Path) -> Listed:
    """The images and videos of ``inputs``.

    Args:
        inputs: files, folders, which are searched with all below them, patterns (``photos/**/*.jpg``) and manifests (``*.csv``).
        out: the folder of the results, which may lie in none of these, nor they in it.

    Raises:
        UserError: an input is missing or holds no image; results would lie among the inputs; a video, and nothing to decode it.
    """
    listed = Listed()
    named: dict[str, _Named] = {}
    twice = 0
    for text in inputs:
        own = _named(text, out, listed.notes)
        if not own:
            raise UserError(
                f"{text}: holds no image or video; name a file, a folder, a pattern in quotes or a manifest (.csv)"
            )
        for one in own:
            twice += named.setdefault(os.path.abspath(one.file), one) is not one
    if twice:
        listed.notes.append(f"{twice} files are named more than once and are looked at once")
    listed.files = list(named.values())
    videos = [is_video(one.file) for one in listed.files]
    if any(videos):
        check_decoder(listed.files[videos.index(True)].file)
    with ThreadPoolExecutor() as pool:
        sequences = list(pool.map(lambda one: _is_sequence(one.file), listed.files))
    if any(sequences):
        names = [one.name.name for one, sequence in zip(listed.files, sequences, strict=True) if sequence]
        listed.notes.append(f"{len(names)} image files hold several frames and are read as videos: {shown(names)}")
    listed.frames = [video or sequence for video, sequence in zip(videos, sequences, strict=True)]
    return listed


def _named(text: str, out: Path, notes: list[str]) -> list[_Named]:
    path = Path(text)
    if path.is_dir():
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(path)):
            raise UserError(
                f"--out {out}: lies in {path}, and results would be taken for images; name a folder outside"
            )
        _not_inside(path, out)
        return _in_folder(path, notes)
    if path.exists():
        if path.suffix.lower() == MANIFEST:
            return _in_manifest(path, out, notes)
        _not_inside(path, out)
        return [_Named(path, PurePath(path.name))]
    if glob.has_magic(text):
        return _matching(text, out, notes)
    raise UserError(f"{text}: no such file or folder")


def _not_inside(given: Path, out: Path) -> None:
    if Path(os.path.realpath(given)).is_relative_to(os.path.realpath(out)):
        raise UserError(f"--out {out}: {given} lies in it, and results might replace it; name another folder")


def _in_folder(folder: Path, notes: list[str]) -> list[_Named]:
    """All images and videos in a folder and below; links to folders are not followed, what is hidden is left out."""
    files: list[_Named] = []
    others: list[str] = []

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if _wanted(path):
                files.append(_Named(path, path.relative_to(folder)))
            elif not name.startswith("."):
                others.append(name)
    if others:
        notes.append(f"{folder}: {len(others)} files are no image or video by name and are left out: {shown(others)}")
    if manifest.FILE in others:
        notes.append(f"{folder}: all its images are taken; for the rows that {manifest.FILE} keeps name that file")
    return files


def _wanted(path: Path) -> bool:
    return (is_image(path) or is_video(path)) and not path.name.startswith(".")


def _matching(pattern: str, out: Path, notes: list[str]) -> list[_Named]:
    root = Path(pattern)
    while glob.has_magic(str(root)):
        root = root.parent
    matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
    matches = [path for path in matches if not path.is_dir()]
    others = [path.name for path in matches if not _wanted(path)]
    if others:
        notes.append(f"{pattern}: {len(others)} files are no image or video by name and are left out: {shown(others)}")
    files = [path for path in matches if _wanted(path)]
    for path in files:
        _not_inside(path, out)
    return [_Named(path, path.relative_to(root)) for path in files]


def _in_manifest(path: Path, out: Path, notes: list[str]) -> list[_Named]:
    opened = manifest.open_manifest(path)
    rows = [row for _, row in opened.kept()]
    files = [_Named(opened.file(row), PurePath(row["path"])) for row in rows]
    for one in files:
        _not_inside(one.file, out)
    left = sum(1 for _ in opened) - len(rows)
    if left:
        notes.append(f"{path}: {left} rows are not kept and are left out")
    return files


def _is_sequence(path: Path) -> bool:
    if path.suffix.lower() not in SEQUENCES or not path.is_file():
        return False
    try:
        return has_frames(path)
    except DecodeError:
        # Decoding will say it.
        return False


def name_items(listed: Listed, taken: Mapping[str, str]) -> list[Item]:
    """Each file with a name for its results that no other has; what had to be renamed is noted in ``listed``.

    Args:
        listed: the files.
        taken: names of results that are there -> the ``source`` that each is of; a source keeps its name.
    """
    names = _Names(taken)
    kept = {source: name for name, source in taken.items()}
    wished = [_wish(one.name, frames, whole=False) for one, frames in zip(listed.files, listed.frames, strict=True)]
    counts = Counter(map(_key, wished))
    items, changed = [], []
    for one, frames, wish in zip(listed.files, listed.frames, wished, strict=True):
        name = kept.get(source_of(one.file))
        if name is None:
            # Of images that differ in their suffixes alone each keeps its own.
            name = names.free(wish if counts[_key(wish)] == 1 else _wish(one.name, frames, whole=True))
            if name != wish:
                changed.append(f"{one.file} is {name}")
        items.append(Item(one.file, name, frames))
    if changed:
        listed.notes.append(
            f"{len(changed)} results would have the name of another and got their own: {shown(changed)}"
        )
    return items


def _wish(name: PurePath, frames: bool, whole: bool) -> str:
    """The name of a file's results: its own, which stays in the folder of results and fits on a disk; with its suffix or without."""
    *folders, last = [part for part in name.parts if part not in (name.anchor, "..", ".")]
    if frames:
        # A sequence keeps its suffix, so that its folder of frames has not the name of a folder of images.
        folders, last = [*folders, last], ""
    elif not whole:
        last = image_stem(last)
    # No folder is called as the file of a result is.
    folders = [f"{part}_" if part.lower().endswith(RESULTS) else part for part in folders]
    return "/".join(_fitting(part) for part in (*folders, last) if part)


def _fitting(part: str) -> str:
    """A part of a name as any table shows it, and no longer than a disk takes."""
    part = shown_text(part)
    encoded = os.fsencode(part)
    if len(encoded) <= LONGEST:
        return part
    return f"{encoded[: LONGEST - 9].decode(errors='ignore')}~{hashlib.sha256(encoded).hexdigest()[:8]}"


def _key(name: str) -> str:
    """By what file systems may tell names apart: not by case, nor by how accents are written."""
    return composed(name).casefold()


class _Names:
    """Gives names that no other has: of equal ones the later are numbered."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(map(_key, taken))

    def free(self, wish: str) -> str:
        """``wish``, or else ``wish-2``, ``wish-3``: the first that is free; it is free no more."""
        name, number = wish, 2
        while _key(name) in self.taken:
            name, number = f"{wish}-{number}", number + 1
        self.taken.add(_key(name))
        return name
