"""The web images that taught a model its classes: whose they are, under which licence, where they are found."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from captions.vocabulary import match_class
from dataset.web import chosen_images
from engine.state import read_state
from modules.description import Description
from tasks import BACKGROUND, Task
from utils.cells import read_csv
from utils.errors import UserError
from utils.manifest import Row, open_manifest, read_columns

FILE = "ATTRIBUTION.csv"
_ADDRESS = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class Image:
    """A web image that taught a class; what its manifest does not say is "".

    Attributes:
        name: the class that it was searched for.
        title: its caption where it was found.
        author: as named there.
        licence: name and, behind it, address.
        source: the search that found it.
        page: the page that shows it.
        url: its own address.
        sha256: of its file.
    """

    name: str
    title: str = ""
    author: str = ""
    licence: str = ""
    source: str = ""
    page: str = ""
    url: str = ""
    sha256: str = ""

    @classmethod
    def of(cls, name: str, row: Row) -> Image:
        """What a manifest says; addresses of files of this machine are left out."""
        said = {part: " ".join(row.get(part, "").split()) for part in COLUMNS[2:]}
        title = " ".join(row.get("caption", "").split())
        return cls(name, title, **(said | {key: _public(said[key]) for key in ("page", "url")}))

    @property
    def licence_name(self) -> str:
        """The licence without its address."""
        return _ADDRESS.sub("", self.licence).strip() or self.licence

    @property
    def licence_address(self) -> str:
        """The licence's address."""
        found = _ADDRESS.search(self.licence)
        return found[0] if found else ""


COLUMNS = ("class", *(part.name for part in fields(Image)[1:]))


def _public(address: str) -> str:
    return address if _ADDRESS.fullmatch(address) else ""


@dataclass
class Taught:
    """The web images of a model.

    Attributes:
        images: each once for a class.
        notes: sentences on what is not known of them.
        manifests: those whose images are among them, as far as a step took them.
    """

    images: list[Image] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    manifests: set[Path] = field(default_factory=set)

    def add(self, images: Iterable[Image]) -> None:
        """Add images that are not there yet."""
        self.images = list(dict.fromkeys([*self.images, *images]))

    @property
    def unlicensed(self) -> int:
        """Images of which no licence is known."""
        return sum(not image.licence for image in self.images)

    def licences(self) -> Counter[tuple[str, str]]:
        """Images by (licence, its address), the most first; ("", "") where none is known."""
        counts = Counter((image.licence_name, image.licence_address) for image in self.images)
        return Counter(dict(counts.most_common()))

    def table(self) -> str | None:
        """The text of ``ATTRIBUTION.csv``; None where there are no images."""
        if not self.images:
            return None
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *map(astuple, self.images)])
        return text.getvalue()


def read_table(path: Path) -> list[Image]:
    """Images of an ``ATTRIBUTION.csv``; UserError where it is none."""
    lines = read_csv(path, "a table of web images")
    header = next(lines, (0, []))[1]
    if tuple(header) != COLUMNS:
        raise UserError(f"{path}: its columns are not {', '.join(COLUMNS)}; move it away")
    images = []
    for line, cells in lines:
        if len(cells) != len(COLUMNS):
            raise UserError(f"{path} line {line}: has not {len(COLUMNS)} columns; repair or remove this line")
        images.append(Image(*cells))
    return images


def of_model(model: str, description: Description, manifests: Sequence[Path] = ()) -> Taught:
    """The web images that a model learned from, as far as its own files and ``manifests`` say.

    Args:
        model: of a checkpoint, which says what it was trained on, the earlier steps' beside it; a released folder, whose table is
            taken over; of other models nothing is known.
        description: what the model is.
        manifests: further ones; of each the kept rows of the model's classes are taken. One that a step of the checkpoint learned
            from adds nothing to what that step took. A released folder, or its table, stands for its images.

    Raises:
        UserError: one of ``manifests`` or the table cannot be read, or a row's class may be two of the model's.
    """
    taught = Taught()
    path = Path(model)
    if (path / FILE).is_file():
        taught.add(read_table(path / FILE))
    elif path.is_file():
        _of_checkpoint(path, taught)
    names = [name for number, name in description.names.items() if number != BACKGROUND]
    for manifest in manifests:
        if (table := _table_at(manifest)) is not None:
            taught.add(image for image in read_table(table) if image.name in names)
        else:
            _of_manifest(manifest, names, taught)
    return taught


def _table_at(path: Path) -> Path | None:
    """The table of a released folder, given as such or by the folder; None where it is a manifest."""
    table = path / FILE if path.is_dir() else path
    return table if table.is_file() and tuple(read_columns(table)) == COLUMNS else None


def _ids(steps: Iterable[Iterable[int]]) -> list[int]:
    return [number for step in steps for number in step]


def _of_manifest(path: Path, names: Sequence[str], taught: Taught) -> None:
    source = open_manifest(path)
    if source.path.resolve() in taught.manifests:
        return
    rows = [(match_class(row["class"], names), row) for _, row in source.kept()]
    images = [Image.of(name, row) for name, row in rows if name is not None]
    if not images:
        raise UserError(f"--web {path}: has no kept image of the model's classes, {', '.join(names)}")
    taught.add(images)


def _of_checkpoint(path: Path, taught: Taught) -> None:
    """The web images of a checkpoint's step and of the steps before it, as their own options say."""
    last: Mapping[str, Any] | None = None
    while True:
        state = read_state(path)
        if "identity" not in state:  # A published one.
            taught.notes.append(f"{path}: does not say what it learned from")
            return
        options, identity = state["options"], state["identity"]
        if last is not None and identity["classes"] != last["classes"][:-1]:
            taught.notes.append(f"{path}: is not the step before; what taught the earlier classes is not known")
            return
        _of_step(options, identity, state["class_names"], taught)
        step = len(identity["classes"]) - 1
        if step == 0:
            return
        before = _checkpoint_before(path, options, step)
        if before is None:
            taught.notes.append(
                f"step {step - 1}: its checkpoint is not beside {path}; where it learned from web images, name their manifest with --web"
            )
            return
        path, last = before, identity


def _checkpoint_before(path: Path, options: Mapping[str, Any], step: int) -> Path | None:
    named = options.get("step_ckpt")
    candidates = [Path(named)] if isinstance(named, str) else []
    candidates += [path.with_name(f"{path.stem.removesuffix(f'_{step}')}_{step - 1}.pth")]
    return next((place for place in candidates if place.is_file()), None)


def _of_step(
    options: Mapping[str, Any], identity: Mapping[str, Any], class_names: Sequence[str], taught: Taught
) -> None:
    step = len(identity["classes"]) - 1
    if options.get("replay") and options.get("replay_path"):
        taught.notes.append(
            f"step {step}: old classes were rehearsed on the images of {Path(options['replay_path']).name}, whose licences are not known"
        )
    if not options.get("web"):
        return
    lacking = [key for key in ("web_path", "web_num", "web_labels") if options.get(key) is None]
    if lacking:
        taught.notes.append(
            f"step {step}: does not say its {lacking[0]}; name the manifest of its web images with --web"
        )
        return
    task = Task(identity["dataset"], identity["task"], tuple(map(tuple, identity["classes"])))
    names = dict(zip(_ids(task.steps), class_names, strict=True))
    try:
        source = open_manifest(Path(options["web_path"]))
        chosen = chosen_images(
            source, task, step, names, per_class=options["web_num"], labels=options["web_labels"], later=True
        )
    except UserError as error:
        taught.notes.append(f"step {step}: its web images cannot be told ({error}); name their manifest with --web")
        return
    taught.manifests.add(source.path.resolve())
    taught.add(Image.of(image.name, image.row) for image in chosen.images)
