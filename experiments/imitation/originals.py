"""Training images of step 0 that are searched for: of them class words and, maybe, a caption are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset import make_source
from dataset.protocol import select
from tasks import BACKGROUND, label_column, load_task
from utils.errors import UserError
from utils.json_files import read_json
from utils.manifest import open_manifest, write

COLUMNS = ("path", "class", "id", "words", "caption")


@dataclass(frozen=True)
class Original:
    """A training image of step 0 that is searched for.

    Attributes:
        name: its id.
        classes: its class words.
        caption: the query; "" where only the class words are known.
    """

    name: str
    classes: tuple[str, ...]
    caption: str = ""


def originals(
    dataset: str,
    folder: Path,
    task_name: str,
    protocol: str,
    count: int,
    captions: Mapping[str, Sequence[str]] | None = None,
) -> list[Original]:
    """Training images of step 0 that are searched for, in the order of the data set.

    Args:
        dataset: name of the data set.
        folder: its folder.
        task_name: task of which step 0 is taken.
        protocol: which images step 0 sees.
        count: images to draw, always the same ones; all where there are fewer.
        captions: captions by id. Where they are given, each base class has its share of the images,
            and those with captions come first.

    Raises:
        UserError: the task is unknown, or the data set cannot be read.
    """
    source = make_source(dataset, folder, "train")
    labels = source.image_labels()
    task = load_task(dataset, task_name)
    mixed = np.random.default_rng(0).permutation(select(labels, task, 0, protocol))
    base = [i for i in task.new(0) if i != BACKGROUND]
    if captions is None:
        chosen = mixed[:count]
    else:
        mixed = mixed[np.argsort([source.ids[i] not in captions for i in mixed], kind="stable")]
        chosen = _balanced(mixed, labels[:, [label_column(c) for c in base]], count)
    return [
        Original(
            source.ids[i],
            tuple(source.class_names[c] for c in base if labels[i, label_column(c)]),
            next(iter((captions or {}).get(source.ids[i], ())), ""),
        )
        for i in np.sort(chosen)
    ]


def _balanced(images: NDArray[np.int64], labels: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """The first images of each class in turn, rare classes first, until there are ``count``.

    Args:
        images: numbers of images, the best ones first.
        labels: (N, K) what each image holds, by number.
        count: how many.
    """
    order = np.argsort(labels[images].sum(axis=0), kind="stable")
    waiting = [iter(images[labels[images, column]].tolist()) for column in order]
    chosen: dict[int, None] = {}
    while waiting and len(chosen) < count:
        for turn in list(waiting):
            following = next((image for image in turn if image not in chosen), None)
            if following is None:
                waiting.remove(turn)
            elif len(chosen) < count:
                chosen[following] = None
    return np.array(list(chosen), dtype=np.int64)


def read_own_captions(path: Path) -> dict[str, list[str]]:
    """Captions of training images by their ids, out of a JSON file.

    Raises:
        UserError: it cannot be read as one.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(texts, list) for texts in content.values()):
        raise UserError(f"{path}: cannot be read as captions by id; lists of captions by the ids of images are needed")
    return {str(name): list(map(str, texts)) for name, texts in content.items()}


def write_originals(path: Path, chosen: Sequence[Original], dataset: str, folder: Path) -> int:
    """Write the originals as a manifest, to be captioned where they are not; the number of rows."""
    source = make_source(dataset, folder, "train")
    files = {name: source.image_path(i) for i, name in enumerate(source.ids)}
    rows = [
        {
            "path": str(files[original.name]), "class": original.classes[0], "id": original.name,
            "words": " ".join(original.classes), "caption": original.caption,
        }
        for original in chosen
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, COLUMNS, rows)


def read_originals(path: Path) -> list[Original]:
    """The originals of a manifest that ``write_originals`` wrote and generate_caption.py completed.

    Raises:
        UserError: it is none, or lacks a caption.
    """
    manifest = open_manifest(path)
    if not {"id", "words", "caption"} <= set(manifest.columns):
        raise UserError(f"{path}: queries need the columns id, words and caption")
    found = [Original(row["id"], tuple(row["words"].split()), row["caption"]) for row in manifest]
    bare = [original.name for original in found if not original.caption]
    if bare:
        raise UserError(f"{path}: {len(bare)} originals have no caption, {bare[0]} the first; generate_caption.py them")
    return found
