"""Captions of a folder of images, of a folder of such folders, or of a manifest: one line an image, written as soon as it is known.

A run may be killed at any moment: the same command cuts off half a line, keeps what is there and goes on. Images that cannot be
read or have no caption get no line; they are listed, and tried again by the next run.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from captions.captioners.base import Captioner
from captions.formats import caption_line, read_captions
from utils.errors import UserError
from utils.manifest import Manifest, Row, Writer, open_manifest
from utils.suffixes import is_image
from utils.whole import claimed, cut_half_line

T = TypeVar("T")


@dataclass
class Done:
    """What a run did.

    Attributes:
        captioned: images that it gave a caption.
        before: images that had one.
        faults: images without one, and why.
    """

    captioned: int = 0
    before: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        """All images."""
        return self.captioned + self.before + len(self.faults)


def caption_images(
    images: Path,
    out: Path,
    captioner: Captioner,
    *,
    batch_size: int = 16,
    only_missing: bool = False,
    inside: str | None = None,
) -> Done:
    """Caption whatever ``images`` is.

    Args:
        images: a folder of images; a folder of folders of them; a manifest, or what ``open_manifest`` takes for one.
        out: for the first a caption file, for the second a folder of one caption file each, for the third a manifest (.csv).
        captioner: who writes.
        batch_size: images captioned at once.
        only_missing: rows of a manifest that have a caption keep it.
        inside: a folder of images may hold them in a folder of this name, as an original's folder of a replay tree does.

    Raises:
        UserError: nothing is to be captioned, ``out`` cannot be written, holds captions of another origin, or another run is
            captioning into it.
    """
    if out.suffix == ".csv":
        source = open_manifest(images)
        if source.path.resolve() == out.resolve():
            raise UserError(f"{out}: is the manifest to read; choose another name")
        with _claimed(out, out.parent):
            return _caption_manifest(source, out, captioner, batch_size, only_missing)
    if only_missing:
        raise UserError(f"{out}: --only_missing needs a manifest (.csv) to write")
    plan = _plan(images, out, inside)
    with _claimed(out, out.parent if out in plan else out):
        return _caption_folders(plan, out, captioner, batch_size)


def _images(folder: Path, inside: str | None) -> list[Path]:
    """What has an image's name; whether it can be read is seen later."""
    return sorted(path for path in _place(folder, inside).iterdir() if is_image(path) and not path.is_dir())


def _place(folder: Path, inside: str | None) -> Path:
    """Where a folder's images lie: in its folder ``inside``, if it has one, or in itself."""
    inner = folder / (inside or "")
    return inner if inner.is_dir() else folder


def _plan(images: Path, out: Path, inside: str | None) -> dict[Path, list[Path]]:
    """Images of every caption file."""
    if images.is_file():
        raise UserError(f"{out}: captions of a manifest go into a manifest; give a name that ends in .csv")
    if not images.is_dir():
        raise UserError(f"{images}: no such folder or manifest")
    own = _images(images, inside)
    folders = []
    if _place(images, inside) == images:
        folders = sorted(path for path in images.iterdir() if path.is_dir() and not path.name.startswith("."))
    by_file = {out / f"{folder.name}.txt": _images(folder, inside) for folder in folders}
    if own and any(by_file.values()):
        raise UserError(f"{images}: holds images and folders of images; caption one of them at a time")
    if not own and not any(by_file.values()):
        raise UserError(f"{images}: holds no images, nor folders of images")
    if own and out.is_dir():
        raise UserError(f"{out}: is a folder; the captions of one folder of images go into a file")
    if not own and out.is_file():
        raise UserError(f"{out}: is a file; the captions of a folder of folders go into a folder")
    return {out: own} if own else by_file


def _sign(marker: Path, captioner: Captioner, written: bool) -> None:
    """Make sure that what is there is of the same origin, and say what it is.

    Args:
        marker: file that says what the captions beside it depend on.
        captioner: who is about to write.
        written: whether there are captions.
    """
    origin = json.dumps(dict(captioner.origin), indent=1, sort_keys=True) + "\n"
    try:
        if written:
            there = marker.read_text(encoding="utf-8") if marker.is_file() else "{}"
            if there != origin:
                raise UserError(
                    f"{marker}: the captions that lie there are of another captioner, or of other settings "
                    f"({' '.join(there.split())}); remove them or write elsewhere"
                )
            return
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(origin, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{marker}: cannot be written ({error.strerror})") from error


@contextmanager
def _claimed(out: Path, folder: Path) -> Iterator[None]:
    """Keep other runs from captioning into ``out``; ``folder`` is made first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    with claimed(out, "captioning"):
        yield


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _caption_folders(plan: Mapping[Path, Sequence[Path]], out: Path, captioner: Captioner, batch_size: int) -> Done:
    one = out in plan
    marker = out.with_name(f"{out.name}.captioner.json") if one else out / "captioner.json"
    _sign(marker, captioner, any(path.is_file() and path.stat().st_size for path in plan))
    done = Done()
    todo: list[tuple[Path, Path]] = []
    for path, images in plan.items():
        try:
            cut_half_line(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        there = {name for name, _ in read_captions(path)}
        for image in (image for image in images if image.name not in there):
            if image.is_file():
                todo.append((image, path))
            else:
                done.faults.append(f"{image}: is no file")
    done.before = sum(map(len, plan.values())) - len(todo) - len(done.faults)
    with tqdm(total=len(todo) + done.before, initial=done.before, desc="Captions", unit="img", disable=None) as bar:
        for batch in _batches(todo, batch_size):
            captions = captioner.caption_files([image for image, _ in batch])
            lines: dict[Path, list[str]] = defaultdict(list)
            for (image, path), caption in zip(batch, captions, strict=True):
                try:
                    if isinstance(caption, UserError):
                        raise caption
                    lines[path].append(caption_line(image.name, caption))
                except UserError as error:
                    done.faults.append(str(error))
            for path, text in lines.items():
                _append(path, text)
            done.captioned += sum(map(len, lines.values()))
            bar.update(len(batch))
    return done


def _append(path: Path, lines: Sequence[str]) -> None:
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def _caption_manifest(source: Manifest, out: Path, captioner: Captioner, batch_size: int, only_missing: bool) -> Done:
    columns = source.columns if "caption" in source.columns else (*source.columns, "caption")
    _sign(out.with_name(f"{out.name}.captioner.json"), captioner, out.is_file() and out.stat().st_size > 0)
    # Relative paths start from the manifest's own folder.
    same = out.resolve().parent == source.root.resolve()
    rows = (row if same else row | {"path": str(source.file(row).resolve())} for row in source)
    total = sum(1 for _ in source)
    done = Done()
    with Writer(out, columns) as writer, tqdm(total=total, desc="Captions", unit="img", disable=None) as bar:
        for row in open_manifest(out):
            expected = next(rows, None)
            if expected is None or expected["path"] != row["path"]:
                raise UserError(f"{out}: its rows are not those of {source.path}; remove it or write elsewhere")
            _count_before(done, row)
            bar.update()
        for batch in _batches(rows, batch_size):
            _caption_rows(batch, source, captioner, only_missing, done)
            for row in batch:
                writer.write(row)
            bar.update(len(batch))
    return done


def _count_before(done: Done, row: Row) -> None:
    if row["caption"]:
        done.before += 1
    else:
        done.faults.append(f"{row['path']}: got no caption in an earlier run")


def _caption_rows(batch: Sequence[Row], source: Manifest, captioner: Captioner, only_missing: bool, done: Done) -> None:
    """Put captions into rows; one that gets none keeps what it has."""
    todo = [row for row in batch if not (only_missing and row.get("caption"))]
    done.before += len(batch) - len(todo)
    captions = captioner.caption_files([source.file(row) for row in todo]) if todo else []
    for row, caption in zip(todo, captions, strict=True):
        if isinstance(caption, UserError):
            done.faults.append(str(caption))
        else:
            row["caption"] = caption
            done.captioned += 1
