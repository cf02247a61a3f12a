"""Captions of a folder of images, of a folder of such folders, or of a manifest: one line an image, written as soon as it is known.

A run may be killed at any moment: the same command cuts off half a line, keeps what is there and goes on. Images that cannot be
read or have no caption get no line; they are listed, and tried again by the next run. The work is spread by ``spread/``; whatever
spreads it, the main process alone writes, in the images' order.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from captions.captioners import make_captioner
from captions.captioners.base import Captioner, CaptionerSettings
from captions.formats import caption_line, read_captions
from spread.blocks import Row as Result
from spread.blocks import Store, Worker, in_batches, in_blocks
from spread.options import BLOCK_SIZE
from spread.ways import Way
from utils import distributed
from utils.errors import UserError
from utils.manifest import Manifest, Row, Writer, open_manifest
from utils.suffixes import is_image
from utils.whole import claimed, cut_half_line


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


@dataclass(frozen=True)
class CaptionWork:
    """How a worker elsewhere makes its captioner.

    Attributes:
        name: a key of ``CAPTIONERS``.
        settings: what the user chose.
        device: as ``--device``.
        precision: arithmetic.
    """

    name: str
    settings: CaptionerSettings
    device: str
    precision: str

    def __call__(self) -> Worker[str]:
        return caption_worker(make_captioner(self.name, self.settings, distributed.start(self.device, self.precision)))


def caption_worker(captioner: Captioner) -> Worker[str]:
    """Captions batches of files; a row is what it is, ``caption`` or ``fault``, and its text."""

    def finish(files: Sequence[str]) -> list[Result]:
        captions = captioner.caption_files([Path(file) for file in files])
        return [["fault", str(text)] if isinstance(text, UserError) else ["caption", text] for text in captions]

    # A captioner decodes by itself.
    return Worker(list, finish)


@dataclass(frozen=True)
class Captioning:
    """Who captions, and how the work is spread.

    Attributes:
        way: who does it.
        make: makes what does it.
        origin: all that the captions depend on.
        batch_size: images captioned at once.
        block_size: images that a worker takes at once.
        precision: arithmetic; blocks of another are not taken up.
    """

    way: Way
    make: Callable[[], Worker[str]]
    origin: Mapping[str, object]
    batch_size: int = 16
    block_size: int = BLOCK_SIZE
    precision: str = "auto"

    def results(self, batches: Iterator[list[str]], out: Path) -> Iterator[list[Result]]:
        """Rows of each batch of files, in order; those that wait lie beside ``out``."""
        key = json.dumps([dict(self.origin), self.precision], sort_keys=True)
        blocks = in_blocks(batches, max(1, self.block_size // self.batch_size))
        return self.way.results(blocks, self.make, Store(out.with_name(f"{out.name}.blocks"), key))


def caption_images(
    images: Path, out: Path, captioning: Captioning, *, only_missing: bool = False, inside: str | None = None
) -> Done:
    """Caption whatever ``images`` is.

    Args:
        images: a folder of images; a folder of folders of them; a manifest, or what ``open_manifest`` takes for one.
        out: for the first a caption file, for the second a folder of one caption file each, for the third a manifest (.csv).
        captioning: who writes.
        only_missing: rows of a manifest that have a caption keep it.
        inside: a folder of images may hold them in a folder of this name, as an original's folder of a replay tree does.

    Returns:
        what was done; of ranks the main one alone knows it.

    Raises:
        UserError: nothing is to be captioned, ``out`` cannot be written, holds captions of another origin, or another run is
            captioning into it.
    """
    if out.suffix == ".csv":
        source = open_manifest(images)
        if source.path.resolve() == out.resolve():
            raise UserError(f"{out}: is the manifest to read; choose another name")
        return _caption_manifest(source, out, captioning, only_missing)
    if only_missing:
        raise UserError(f"{out}: --only_missing needs a manifest (.csv) to write")
    return _caption_folders(_plan(images, out, inside), out, captioning)


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


def _marker(out: Path) -> Path:
    """The file beside a caption file or manifest that says what its captions depend on."""
    return out.with_name(f"{out.name}.captioner.json")


def captioner_of(path: Path) -> str | None:
    """Name of the captioner that wrote a caption file or a manifest's captions; None where nothing says it."""
    try:
        said = json.loads(_marker(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    name = said.get("captioner") if isinstance(said, dict) else None
    return name if isinstance(name, str) else None


def _sign(marker: Path, origin: Mapping[str, object], written: bool) -> None:
    """Make sure that what is there is of the same origin, and say what it is.

    Args:
        marker: file that says what the captions beside it depend on.
        origin: all that the captions depend on that are about to be written.
        written: whether there are captions.
    """
    signed = json.dumps(dict(origin), indent=1, sort_keys=True) + "\n"
    try:
        if written:
            there = marker.read_text(encoding="utf-8") if marker.is_file() else "{}"
            if there != signed:
                raise UserError(
                    f"{marker}: the captions that lie there are of another captioner, or of other settings "
                    f"({' '.join(there.split())}); remove them or write elsewhere"
                )
            return
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(signed, encoding="utf-8")
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


def _caption_folders(plan: Mapping[Path, Sequence[Path]], out: Path, captioning: Captioning) -> Done:
    one = out in plan
    done = Done()
    with ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(_claimed(out, out.parent if one else out))
            marker = _marker(out) if one else out / "captioner.json"
            _sign(marker, captioning.origin, any(path.is_file() and path.stat().st_size for path in plan))
            for path in plan:
                try:
                    cut_half_line(path)
                except OSError as error:
                    raise UserError(f"{path}: cannot be written ({error.strerror})") from error

        captioning.way.runtime.on_main(begin)
        batches = [_undone(batch, done) for batch in in_batches(_listed(plan), captioning.batch_size)]
        total = sum(map(len, plan.values()))
        done.before = total - sum(map(len, batches)) - len(done.faults)
        results = captioning.results(([str(image) for image, _ in batch] for batch in batches), out)
        with tqdm(total=total, initial=done.before, desc="Captions", unit="img", disable=_hidden(captioning)) as bar:
            for rows, batch in zip(results, batches, strict=False):
                _write_lines(batch, rows, done)
                bar.update(len(batch))
    return done


def _hidden(captioning: Captioning) -> bool | None:
    """Whether a bar is not shown: never of other ranks, else as the terminal is."""
    return None if captioning.way.runtime.main else True


def _listed(plan: Mapping[Path, Sequence[Path]]) -> Iterator[tuple[Path, Path, bool]]:
    """Every image, the file of its caption, and whether it is in there."""
    for path, images in plan.items():
        there = {name for name, _ in read_captions(path)}
        for image in images:
            yield image, path, image.name in there


def _undone(batch: Sequence[tuple[Path, Path, bool]], done: Done) -> list[tuple[Path, Path]]:
    """What is to do of a batch; ``done`` is told of what is no file."""
    todo = [(image, path) for image, path, there in batch if not there]
    done.faults += [f"{image}: is no file" for image, _ in todo if not image.is_file()]
    return [(image, path) for image, path in todo if image.is_file()]


def _write_lines(batch: Sequence[tuple[Path, Path]], rows: Sequence[Result], done: Done) -> None:
    lines: dict[Path, list[str]] = defaultdict(list)
    for (image, path), (kind, text) in zip(batch, rows, strict=True):
        try:
            if kind == "fault":
                raise UserError(text)
            lines[path].append(caption_line(image.name, text))
        except UserError as error:
            done.faults.append(str(error))
    for path, some in lines.items():
        _append(path, some)
    done.captioned += sum(map(len, lines.values()))


def _append(path: Path, lines: Sequence[str]) -> None:
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def _caption_manifest(source: Manifest, out: Path, captioning: Captioning, only_missing: bool) -> Done:
    columns = source.columns if "caption" in source.columns else (*source.columns, "caption")
    # Relative paths start from the manifest's own folder.
    same = out.resolve().parent == source.root.resolve()
    done = Done()
    with ExitStack() as stack:
        writers: list[Writer] = []

        def begin() -> None:
            stack.enter_context(_claimed(out, out.parent))
            _sign(_marker(out), captioning.origin, out.is_file() and out.stat().st_size > 0)
            writers.append(stack.enter_context(Writer(out, columns)))

        captioning.way.runtime.on_main(begin)
        total = sum(1 for _ in source)
        bar = stack.enter_context(tqdm(total=total, desc="Captions", unit="img", disable=_hidden(captioning)))
        rows = iter(source)
        for row in open_manifest(out):
            expected = next(rows, None)
            if expected is None or _path(source, expected, same) != row["path"]:
                raise UserError(f"{out}: its rows are not those of {source.path}; remove it or write elsewhere")
            _count_before(done, row)
            bar.update()
        before = done.before + len(done.faults)
        files = (
            [str(source.file(row)) for row in batch if not _kept(row, only_missing)]
            for batch in _batches_behind(source, captioning.batch_size, before)
        )
        batches = _batches_behind(source, captioning.batch_size, before)
        for texts, batch in zip(captioning.results(files, out), batches, strict=False):
            _fill(batch, texts, only_missing, done)
            for row in batch:
                writers[0].write(row | {"path": _path(source, row, same)})
            bar.update(len(batch))
    return done


def _path(source: Manifest, row: Row, same: bool) -> str:
    """A row's path, as a manifest in the ``same`` folder, or another one, has it."""
    return row["path"] if same else str(source.file(row).resolve())


def _batches_behind(source: Manifest, size: int, before: int) -> Iterator[list[Row]]:
    """All batches of a manifest, without the first ``before`` rows: batches are the same wherever an earlier run was stopped."""
    for number, batch in enumerate(in_batches(source, size)):
        yield batch[max(0, before - number * size) :]


def _kept(row: Row, only_missing: bool) -> bool:
    """Whether a row keeps the caption that it has."""
    return only_missing and bool(row.get("caption"))


def _count_before(done: Done, row: Row) -> None:
    if row["caption"]:
        done.before += 1
    else:
        done.faults.append(f"{row['path']}: got no caption in an earlier run")


def _fill(batch: Sequence[Row], texts: Sequence[Result], only_missing: bool, done: Done) -> None:
    """Put captions into rows; one that gets none keeps what it has."""
    todo = [row for row in batch if not _kept(row, only_missing)]
    done.before += len(batch) - len(todo)
    for row, (kind, text) in zip(todo, texts, strict=True):
        if kind == "fault":
            done.faults.append(text)
        else:
            row["caption"] = text
            done.captioned += 1
