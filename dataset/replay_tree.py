"""A replay tree: web images that stand for images of old steps, and their pseudo-labels, one folder an original image.

Source: docs/method.md, "Old classes from captions". The names of the tree's files are written here alone.

TREE/labels.json                     who labelled it, in which classes (``Marker``)
TREE/<original>/image/00001.jpg      or TREE/<original>/00001.jpg, as the downloads lie
TREE/<original>/label/00001.png      palette PNG of the image's size, values are class ids of the data set, 255 says nothing
TREE/<original>/label/00001.dropped  in place of a label: why the image is not to be used
TREE/<original>/train_fullPath.txt   lines ``image label``
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captions.formats import split_line
from dataset.files import by_stem, need_folder, read_lines
from utils.errors import UserError
from utils.whole import write_whole

MARKER = "labels.json"
TRAIN_FILE = "train_fullPath.txt"
IMAGES, LABELS, DROPPED = "image", "label", ".dropped"


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
    def original(self) -> str:
        """Name of the original image."""
        return self.label.parent.parent.name

    @property
    def dropped(self) -> Path:
        """File that says why the image is not to be used."""
        return self.label.with_suffix(DROPPED)

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


def sign(tree: Path, marker: Marker, *, relabel: bool, write: bool = True) -> None:
    """Make sure that the tree holds no labels but those of ``marker``, and say in it that it does.

    Args:
        tree: the replay tree.
        marker: who is about to label it.
        relabel: whether labels of others are deleted; else they are a reason to refuse.
        write: whether this process is the one that writes, where several are at work.

    Raises:
        UserError: the tree holds labels of another checkpoint, of other settings, or of nobody knows whom.
    """
    try:
        there = read_marker(tree)
    except UserError:
        if not relabel:
            raise
        there = None
    others = ""
    if there is not None and there != marker:
        others = f"was labelled by {there.origin}{_difference(there, marker)}"
    elif there is None and any(pair.done for folder in originals(tree) for pair in images_of(folder)):
        others = f"holds labels that nobody signed (no readable {MARKER})"
    if others and not relabel:
        raise UserError(f"{tree}: {others}; give another tree, or --relabel to replace its labels")
    if write:
        if others:
            _clear(tree)
        write_marker(tree, marker)


def _difference(there: Marker, marker: Marker) -> str:
    """Where the checkpoint is the same: which settings are not."""
    if there.checkpoint != marker.checkpoint:
        return f", not by {marker.origin}"
    before, now = there.settings, marker.settings
    changed = [f"{key} {before.get(key)} (now {now[key]})" for key in now if before.get(key) != now[key]]
    return f" with {', '.join(changed)}"


def _clear(tree: Path) -> None:
    """Delete a tree's labels and the train files that list them; the marker stays, so that a kill leaves nothing unsigned."""
    for folder in originals(tree):
        (folder / TRAIN_FILE).unlink(missing_ok=True)
        for pair in images_of(folder):
            pair.label.unlink(missing_ok=True)
            pair.dropped.unlink(missing_ok=True)


def write_train_file(folder: Path, pairs: Sequence[ReplayImage]) -> None:
    """The train file of an original: full paths, as its name says."""
    lines = [f"{pair.image.absolute()} {pair.label.absolute()}\n" for pair in pairs]
    write_whole(folder / TRAIN_FILE, "".join(lines))


def read_train_file(folder: Path) -> list[ReplayImage]:
    """What the train file of an original lists.

    Paths may be full, or relative to the folder; those of a tree that was moved are looked for where the tree is now.

    Raises:
        UserError: the file cannot be read, or a line is not ``image label``.
    """
    path = folder / TRAIN_FILE
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        image, label = (folder / part for part in split_line(line))
        if label == folder:
            raise UserError(f"{path}: line {number} is not `image label`; write it again with generate_train_file.py")
        if not image.exists():
            inside = folder / IMAGES if image.parent.name == IMAGES else folder
            image, label = inside / image.name, folder / LABELS / label.name
        pairs.append(ReplayImage(image, label))
    return pairs


@dataclass(frozen=True)
class TrainFiles:
    """What ``write_train_files`` did.

    Attributes:
        folders: originals with a train file.
        images: images that they list.
        dropped: images that the labelling dropped.
        missing: images without a label.
    """

    folders: int
    images: int
    dropped: int
    missing: list[Path]


def write_train_files(tree: Path) -> TrainFiles:
    """Write the train file of every original that has labelled images; those without a label are left out.

    Raises:
        UserError: no image of the tree is labelled.
    """
    listed: dict[Path, list[ReplayImage]] = {}
    missing: list[Path] = []
    dropped = 0
    for folder in originals(tree):
        pairs = images_of(folder)
        listed[folder] = [pair for pair in pairs if pair.label.is_file()]
        missing += [pair.image for pair in pairs if not pair.done]
        dropped += sum(pair.dropped.is_file() for pair in pairs)
    images = sum(map(len, listed.values()))
    if not images:
        raise UserError(f"{tree}: none of its {len(missing) + dropped} images is labelled; run generate_label.py first")
    for folder, pairs in listed.items():
        if pairs:
            write_train_file(folder, pairs)
        else:
            (folder / TRAIN_FILE).unlink(missing_ok=True)
    return TrainFiles(sum(map(bool, listed.values())), images, dropped, missing)
