"""A pool of images whose content is known, and the search for images of old classes in it.

The pool holds web images of base classes, captioned photographs (``captions.json``: file and
captions), drawings, and images of new classes. A search looks for training images of step 0, of
which only the class words are kept. It finds images that share a class with the original, and now
and then anything else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captions.formats import read_captions, write_captions
from dataset import make_source
from dataset.protocol import select
from experiments.imitation.noise import drawing, image_files
from tasks import BACKGROUND, label_column, load_task
from utils.errors import UserError
from utils.images import load_image
from utils.manifest import open_manifest

# Images that no original asks for, as shares of the pool's own.
DRAWN, FOREIGN = 0.1, 0.1
# Downloads for each original (docs/method.md, "Old classes from captions"), and the share of them
# that is anything.
DOWNLOADS, NOISE = 20, 0.3
PEOPLE = frozenset(
    "man woman boy girl child person people guy lady men women children boys girls player baby kid kids".split()
)
LISTING, IMAGES, CAPTIONS = "pool.json", "image", "captions.txt"


@dataclass(frozen=True)
class PoolImage:
    """An image of the pool.

    Attributes:
        path: its file.
        caption: what a captioner, or a person, says of it.
        shows: names of the classes that it really shows.
    """

    path: Path
    caption: str
    shows: frozenset[str]


def make_pool(web: Path, captioned: Path, out: Path, new: Sequence[str], base: Sequence[str], seed: int = 0) -> int:
    """Write the pool's images and ``pool.json``, which says what they show; the number of images.

    Args:
        web: one folder of web images a class.
        captioned: photographs in ``images/``, and ``captions.json``, which tells what they show.
        out: folder of the pool.
        new: classes whose images nobody should find.
        base: classes with web images.
        seed: which images become drawings, and which of the new classes are there.

    Raises:
        UserError: images or captions are missing.
    """
    rng = np.random.default_rng(seed)
    (out / IMAGES).mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []

    def add(source: Path, shows: set[str], caption: str = "", draw: bool = False) -> None:
        name = f"{len(entries):05}.jpg"
        if draw or source.suffix.lower() not in (".jpg", ".jpeg"):
            image = load_image(source)
            (drawing(image) if draw else image).save(out / IMAGES / name, quality=90)
        else:
            shutil.copyfile(source, out / IMAGES / name)
        entries.append({"name": name, "shows": sorted(shows), "caption": caption})

    own = [(path, name) for name in base for path in image_files(web / name)]
    for path, name in own:
        add(path, {name})
    for file, caption, words in _captioned(captioned):
        shows = {name for name in base if words & {name, f"{name}s"}} | ({"person"} if words & PEOPLE else set())
        add(file, shows, caption)
    total = len(entries)
    for index in rng.permutation(len(own))[: round(DRAWN * total)]:
        add(own[index][0], set(), draw=True)
    foreign = [path for name in new for path in image_files(web / name)]
    for index in rng.permutation(len(foreign))[: round(FOREIGN * total)]:
        add(foreign[index], set())
    (out / LISTING).write_text(json.dumps(entries), encoding="utf-8")
    return len(entries)


def _captioned(folder: Path) -> list[tuple[Path, str, set[str]]]:
    """File, first caption, and the words of all captions of each photograph."""
    path = folder / "captions.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        photographs = [(folder / "images" / entry["file"], list(map(str, entry["captions"]))) for entry in listed]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a list of file and captions ({error})") from error
    return [(file, texts[0], set(re.findall(r"\w+", " ".join(texts).lower()))) for file, texts in photographs if texts]


def read_pool(folder: Path) -> list[PoolImage]:
    """The pool with its captions: a photograph's own, else what generate_caption.py wrote.

    Args:
        folder: what ``make_pool`` made; or a manifest with the columns ``caption`` and
            ``true_class``, as drawn web images have.

    Raises:
        UserError: it is not there, or has no captions.
    """
    if folder.suffix == ".csv":
        manifest = open_manifest(folder)
        if not {"caption", "true_class"} <= set(manifest.columns):
            raise UserError(f"{folder}: a pool needs the columns caption and true_class")
        return [PoolImage(manifest.file(row), row["caption"], frozenset({row["true_class"]})) for row in manifest]
    path = folder / LISTING
    if not path.is_file():
        raise UserError(f"{path}: no such pool; make it with experiments.imitated_search pool")
    written = dict(read_captions(folder / CAPTIONS))
    return [
        PoolImage(folder / IMAGES / e["name"], e["caption"] or written.get(e["name"], ""), frozenset(e["shows"]))
        for e in json.loads(path.read_text(encoding="utf-8"))
    ]


def originals(dataset: str, folder: Path, task_name: str, protocol: str, count: int) -> dict[str, list[str]]:
    """Class words of training images of step 0, by their id, in the order of the data set.

    Args:
        dataset: name of the data set.
        folder: its folder.
        task_name: task of which step 0 is taken.
        protocol: which images step 0 sees.
        count: images to draw, always the same ones; all where there are fewer.

    Raises:
        UserError: the task is unknown, or the data set cannot be read.
    """
    source = make_source(dataset, folder, "train")
    labels = source.image_labels()
    task = load_task(dataset, task_name)
    chosen = np.random.default_rng(0).permutation(select(labels, task, 0, protocol))[:count]
    base = [i for i in task.new(0) if i != BACKGROUND]
    return {source.ids[i]: [source.class_names[c] for c in base if labels[i, label_column(c)]] for i in np.sort(chosen)}


def find(pool: Sequence[PoolImage], wanted: dict[str, list[str]], seed: int = 1) -> dict[str, list[PoolImage]]:
    """Downloads for each original, in the order of its results: most share a class with it, the
    rest are anything.

    Args:
        pool: where to search.
        wanted: class words of each original.
        seed: what is drawn.
    """
    rng = np.random.default_rng(seed)
    downloads = {}
    for original, classes in wanted.items():
        fitting = [image for image in pool if image.shows & set(classes)]
        noise = rng.permutation(len(pool))
        picks = [fitting[i] for i in rng.permutation(len(fitting))[: round((1 - NOISE) * DOWNLOADS)]]
        picks += [pool[i] for i in noise if pool[i] not in picks][: DOWNLOADS - len(picks)]
        downloads[original] = [picks[i] for i in rng.permutation(len(picks))]
    return downloads


def write_downloads(out: Path, downloads: dict[str, list[PoolImage]], wanted: dict[str, list[str]]) -> None:
    """Lay out the downloads (hard links), captions and class words; folders that are there stay.

    Args:
        out: gets ``downloads/ID/00001.jpg`` ..., ``captions/ID.txt`` and ``class_words.txt``.
        downloads: images of each original, as ``find`` gives them.
        wanted: class words of each original.
    """
    for original, images in downloads.items():
        folder, partial = out / "downloads" / original, out / "downloads" / f".{original}"
        lines = [(f"{number:05}.jpg", image.caption) for number, image in enumerate(images, 1)]
        write_captions(out / "captions" / f"{original}.txt", lines)
        if folder.is_dir():
            continue
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for (name, _), image in zip(lines, images, strict=True):
            os.link(image.path, partial / name)
        partial.rename(folder)
    words = "".join(f"{name}.png {' '.join(classes)} \n" for name, classes in wanted.items())
    (out / "class_words.txt").write_text(words, encoding="utf-8")
