"""A replay tree: web images that stand for images of old steps, and their pseudo-labels, one folder an original image.

Source: docs/method.md, "Old classes from captions". The names of the tree's files are written here alone.

TREE/labels.json                     who labelled it, in which classes (``Marker``)
TREE/.blocks/                        what other workers have labelled, until it is counted
TREE/<original>/image/00001.jpg      or TREE/<original>/00001.jpg, as the downloads lie
TREE/<original>/label/00001.png      palette PNG of the image's size, values are class ids of the data set, 255 says nothing
TREE/<original>/label/00001.dropped  in place of a label: why the image is not to be used
TREE/<original>/train_fullPath.txt   lines ``image label``

A line is cut at the blank behind an image's suffix, where image and label have the same name but for it; so names may hold blanks.
Names that a line cannot hold (line breaks, bytes that are no UTF-8) are left out of the list and told.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captions.formats import split_line
from dataset.files import by_stem, need_folder, read_lines, shown
from utils import markers
from utils.checks import other_class
from utils.errors import UserError
from utils.suffixes import IMAGE_SUFFIXES, is_image
from utils.whole import claimed, clear_leftovers_in, write_whole

LOG = logging.getLogger("webwilss")
MARKER, BLOCKS = "labels.json", ".blocks"
TRAIN_FILE = "train_fullPath.txt"
IMAGES, LABELS, DROPPED = "image", "label", ".dropped"
# Where a line of a train file may be cut: at a blank behind an image's suffix.
_CUT = re.compile(rf"(?<=.)(?:{'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))})( )", re.IGNORECASE)


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
    files = by_stem(_place(folder))
    return [ReplayImage(path, folder / LABELS / f"{stem}.png") for stem, path in files.items() if path.is_file()]


def _place(folder: Path) -> Path:
    inside = folder / IMAGES
    return inside if inside.is_dir() else folder


def left_out(folder: Path) -> list[str]:
    """What looks like an image of an original and is none of ``images_of``: a sentence each."""
    faults = []
    for path in sorted(_place(folder).iterdir()):
        if is_image(path) and not path.is_file() and not path.is_dir():
            faults.append(f"{path}: is no file")
        elif not is_image(path) and is_image(path.with_name(path.name.strip() or path.name)):
            faults.append(f"{str(path)!r}: its name begins or ends with a blank; rename the file")
    return faults


def read_marker(tree: Path) -> Marker | None:
    """Whose labels the tree holds; None where nothing says so.

    Raises:
        UserError: the marker cannot be read.
    """
    return markers.read_marker(tree / MARKER, Marker, "label the tree again (generate_label.py --relabel)")


def write_marker(tree: Path, marker: Marker) -> None:
    """Say whose labels the tree holds."""
    markers.write_marker(tree / MARKER, marker)


def check_marker(tree: Path, known: Mapping[int, str], option: str, what: str, step: str) -> Marker | None:
    """See that a tree's labels are of known classes; a tree that nobody signed is told.

    Args:
        tree: the tree.
        known: id and name of the classes that its labels may hold.
        option: that named the tree, for messages, as are the next two.
        what: these classes are.
        step: whose checkpoint knows them.

    Returns:
        who labelled it; None where nobody signed.

    Raises:
        UserError: the labels are of other classes, or theirs have other names.
    """
    marker = read_marker(tree)
    if marker is None:
        LOG.warning("%s: nothing says who labelled it; its values are read as class ids of the data set", tree)
        return None
    other = other_class(dict(marker.classes), known)
    if other:
        raise UserError(
            f"{option} {tree}: labelled by {marker.origin}: {other}; label it by a checkpoint of this data set "
            "(generate_label.py --relabel)"
        )
    foreign = [f"{name} ({number})" for number, name in marker.classes if number not in known]
    if foreign:
        raise UserError(
            f"{option} {tree}: labelled by {marker.origin}, whose {shown(foreign)} is no {what}; "
            f"label it by a checkpoint of {step} (generate_label.py --relabel)"
        )
    return marker


@contextmanager
def claimed_tree(tree: Path) -> Iterator[None]:
    """Keep other runs out of a tree while this one places, labels or lists its images; what killed ones left half written goes."""
    with claimed(tree, "placing, labelling or listing images"):
        for folder in (tree, *(path for path in tree.iterdir() if path.is_dir())):
            for place in (folder, folder / IMAGES, folder / LABELS):
                clear_leftovers_in(place)
        yield


def sign(tree: Path, marker: Marker, *, relabel: bool) -> None:
    """Make sure that the tree holds no labels but those of ``marker``, and say in it that it does.

    Args:
        tree: the replay tree.
        marker: who is about to label it.
        relabel: whether labels of others are deleted; else they are a reason to refuse.

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


def _line(pair: ReplayImage) -> str:
    """The line of a train file, without its end.

    Raises:
        UserError: it could not be read back.
    """
    image, label = str(pair.image.absolute()), str(pair.label.absolute())
    line = f"{image} {label}"
    try:
        line.encode()
    except UnicodeEncodeError:
        raise UserError(f"{image!r}: its name is no UTF-8") from None
    if len(line.splitlines()) != 1 or _cut(line.strip()) != (image, label):
        raise UserError(f"{image!r}: its name could not be read back from a line `image label`")
    return line


def _cut(line: str) -> tuple[str, str]:
    """Image and label of a line: where it may be cut at several blanks, at the one that gives both the same name."""
    cuts = [(line[: match.start(1)], line[match.end(1) :]) for match in _CUT.finditer(line)]
    same = [(image, label) for image, label in cuts if Path(image).stem == Path(label).stem]
    return same[0] if same else split_line(line)


def write_train_file(folder: Path, pairs: Sequence[ReplayImage]) -> list[str]:
    """Write the train file of an original: full paths, as its name says; none where no line can be written.

    Returns:
        a sentence for each image that a line cannot hold, which is left out.
    """
    lines: list[str] = []
    faults: list[str] = []
    for pair in pairs:
        try:
            lines.append(f"{_line(pair)}\n")
        except UserError as error:
            faults.append(str(error))
    if lines:
        write_whole(folder / TRAIN_FILE, "".join(lines))
    else:
        (folder / TRAIN_FILE).unlink(missing_ok=True)
    return faults


def read_train_file(folder: Path) -> list[ReplayImage]:
    """What the train file of an original lists.

    Paths may be full, or relative to the folder; those of a tree that was moved are looked for where the tree is now.

    Raises:
        UserError: the file cannot be read, or a line is not ``image label``.
    """
    path = folder / TRAIN_FILE
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        image, label = (folder / part for part in _cut(line))
        if label == folder:
            raise UserError(f"{path}: line {number} is not `image label`; write it again with generate_train_file.py")
        if not os.path.exists(image):
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
        faults: a sentence for each thing that no list can hold, or that is no image though its name says so.
    """

    folders: int
    images: int
    dropped: int
    missing: list[Path]
    faults: list[str]


def write_train_files(tree: Path) -> TrainFiles:
    """Write the train file of every original that has labelled images; those without a label are left out.

    Raises:
        UserError: no image of the tree is labelled, or none can be listed.
    """
    listed: dict[Path, list[ReplayImage]] = {}
    missing: list[Path] = []
    faults: list[str] = []
    dropped = 0
    for folder in originals(tree):
        pairs = images_of(folder)
        listed[folder] = [pair for pair in pairs if pair.label.is_file()]
        missing += [pair.image for pair in pairs if not pair.done]
        dropped += sum(pair.dropped.is_file() for pair in pairs)
        faults += left_out(folder)
    labels = sum(map(len, listed.values()))
    if not labels:
        cure = "run generate_label.py first"
        if dropped and not missing:
            cure = "all were dropped, because the model sees none of the wanted classes in them; give other images"
        raise UserError(f"{tree}: none of its {len(missing) + dropped} images is labelled; {cure}")
    images = folders = 0
    for folder, pairs in listed.items():
        unlisted = write_train_file(folder, pairs)
        faults += unlisted
        images += len(pairs) - len(unlisted)
        folders += len(pairs) > len(unlisted)
    if not images:
        raise UserError(f"{tree}: none of its {labels} labelled images can be listed ({faults[0]}); rename or move it")
    return TrainFiles(folders, images, dropped, missing, faults)
