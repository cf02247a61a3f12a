"""A replay tree: web images that stand for images of old steps, and their pseudo-labels, one folder an original image (WEB, section B).

TREE/labels.json                     who labelled it, in which classes (``Marker``)
TREE/<original>/image/00001.jpg      or TREE/<original>/00001.jpg, as the downloads lie
TREE/<original>/label/00001.png      palette PNG of the image's size, values are class ids of the data set, 255 says nothing
TREE/<original>/label/00001.dropped  in place of a label: why the image is not to be used
TREE/<original>/train_fullPath.txt   lines ``image label``
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dataset.files import by_stem, need_folder, read_lines
from utils.errors import UserError

MARKER = "labels.json"
TRAIN_FILE = "train_fullPath.txt"
IMAGES, LABELS = "image", "label"


@dataclass(frozen=True)
class Marker:
    """Whose labels a tree holds.

    Attributes:
        checkpoint: hash of the model's weights.
        dataset: data set whose class ids the labels hold.
        task: task of the checkpoint.
        step: its step.
        classes: id and name of every class that it knows, background included.
        settings: what else the labels depend on.
    """

    checkpoint: str
    dataset: str
    task: str
    step: int
    classes: tuple[tuple[int, str], ...]
    settings: dict[str, Any]

    @property
    def origin(self) -> str:
        """The checkpoint in words."""
        return f"step {self.step} of {self.dataset} {self.task} (checkpoint {self.checkpoint[:8]})"


@dataclass(frozen=True)
class ReplayImage:
    """An image of a tree; ``label`` and ``dropped`` are where its label, or the reason to do without it, would be."""

    image: Path
    label: Path

    @property
    def dropped(self) -> Path:
        """File that says why the image is not to be used."""
        return self.label.with_suffix(".dropped")

    @property
    def done(self) -> bool:
        """Whether it has been labelled, or dropped."""
        return self.label.is_file() or self.dropped.is_file()


def originals(tree: Path) -> list[Path]:
    """The folders of a tree, one an original image, in order.

    Raises:
        UserError: there is none.
    """
    need_folder(tree, "replay images", "make them with python -m utils.measure_noun move_with_filtered_caption")
    folders = [path for path in sorted(tree.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if not folders:
        raise UserError(f"{tree}: holds no folder; a replay tree has one for each original image")
    return folders


def images_of(folder: Path) -> list[ReplayImage]:
    """The images of an original: those in ``image/``, or in the folder itself where there is no such folder.

    Raises:
        UserError: two images share a name but for the suffix, so that they would share a label.
    """
    inside = folder / IMAGES
    files = by_stem(inside if inside.is_dir() else folder)
    return [ReplayImage(path, folder / LABELS / f"{stem}.png") for stem, path in files.items()]


def write_whole(path: Path, text: str) -> None:
    """Write a text file to a temporary name and rename it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_marker(tree: Path) -> Marker | None:
    """Whose labels the tree holds; None where nothing says so.

    Raises:
        UserError: the marker cannot be read.
    """
    path = tree / MARKER
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        classes = tuple((int(number), str(name)) for number, name in fields.pop("classes"))
        return Marker(classes=classes, **fields)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: damaged; label the tree again (generate_label.py --relabel)") from error


def write_marker(tree: Path, marker: Marker) -> None:
    """Say whose labels the tree holds."""
    write_whole(tree / MARKER, json.dumps(asdict(marker), indent=1) + "\n")


def write_train_file(folder: Path, pairs: Sequence[ReplayImage]) -> None:
    """The train file of an original: full paths, as its name says."""
    lines = [f"{pair.image.absolute()} {pair.label.absolute()}\n" for pair in pairs]
    write_whole(folder / TRAIN_FILE, "".join(lines))


def _parts(line: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a line in two at a blank: paths may hold blanks themselves."""
    words = line.split(" ")
    for cut in range(1, len(words)):
        yield " ".join(words[:cut]), " ".join(words[cut:])


def read_train_file(folder: Path) -> list[ReplayImage]:
    """What the train file of an original lists.

    Paths may be full, or relative to the folder; those of a tree that was moved are looked for where the tree is now.

    Raises:
        UserError: the file cannot be read, or a line is not ``image label``.
    """
    path = folder / TRAIN_FILE
    found = []
    for number, line in enumerate(read_lines(path), 1):
        cuts = [(folder / image, folder / label) for image, label in _parts(line)]
        if not cuts:
            raise UserError(f"{path}: line {number} is not `image label`; write it again with generate_train_file.py")
        there = next((cut for cut in cuts if cut[0].exists() and cut[1].exists()), None)
        if there is None:
            image, label = next((cut for cut in cuts if cut[0].suffix and cut[1].suffix), cuts[0])
            inside = folder / IMAGES if image.parent.name == IMAGES else folder
            there = inside / image.name, folder / LABELS / label.name
        found.append(ReplayImage(*there))
    return found
