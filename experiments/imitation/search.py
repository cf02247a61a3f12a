"""A pool of images whose content is known, and the search for images of old classes in it.

The pool holds web images of base classes, captioned photographs (``captions.json``: file and captions), drawings, and images of new
classes. A search looks for training images of step 0, of which only the class words are kept. It finds images that share a class with
the original, and now and then anything else.
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
from experiments.imitation.noise import drawing, images
from tasks import BACKGROUND, load_task
from utils.errors import UserError
from utils.images import load_image
from utils.manifest import open_manifest

# Images that no original asks for, as shares of the pool's own.
DRAWN, FOREIGN = 0.1, 0.1
# Images found for each original (WEB, section B2), and the share of them that is anything.
FOUND, NOISE = 20, 0.3
PEOPLE = frozenset(
    "man woman boy girl child person people guy lady men women children boys girls player baby kid kids".split()
)
LISTING, IMAGES, CAPTIONS = "pool.json", "image", "captions.txt"


@dataclass(frozen=True)
class Picture:
    """An image of the pool, what a captioner says of it, and what it really shows."""

    path: Path
    caption: str
    shows: frozenset[str]


def make_pool(web: Path, captioned: Path, out: Path, new: Sequence[str], base: Sequence[str], seed: int = 0) -> int:
    """Write the pool's images and ``pool.json``, which says what they show; the number of images.

    Args:
        web: one folder of web images a class.
        captioned: photographs in ``images/`` with ``captions.json``; their captions tell what they show.
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
            picture = load_image(source)
            (drawing(picture) if draw else picture).save(out / IMAGES / name, quality=90)
        else:
            shutil.copyfile(source, out / IMAGES / name)
        entries.append({"name": name, "shows": sorted(shows), "caption": caption})

    own = [(path, name) for name in base for path in images(web / name)]
    for path, name in own:
        add(path, {name})
    for file, caption, words in _captioned(captioned):
        shows = {name for name in base if words & {name, f"{name}s"}} | ({"person"} if words & PEOPLE else set())
        add(file, shows, caption)
    total = len(entries)
    for index in rng.permutation(len(own))[: round(DRAWN * total)]:
        add(own[index][0], set(), draw=True)
    foreign = [path for name in new for path in images(web / name)]
    for index in rng.permutation(len(foreign))[: round(FOREIGN * total)]:
        add(foreign[index], set())
    (out / LISTING).write_text(json.dumps(entries), encoding="utf-8")
    return len(entries)


def _captioned(folder: Path) -> list[tuple[Path, str, set[str]]]:
    """File, first caption, and the words of all captions of each photograph."""
    path = folder / "captions.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        found = [(folder / "images" / entry["file"], list(map(str, entry["captions"]))) for entry in listed]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a list of file and captions ({error})") from error
    return [(file, texts[0], set(re.findall(r"\w+", " ".join(texts).lower()))) for file, texts in found if texts]


def read_pool(folder: Path) -> list[Picture]:
    """The pool with its captions: a photograph's own, else what generate_caption.py wrote.

    Args:
        folder: what ``make_pool`` made; or a manifest with the columns ``caption`` and ``true_class``, as drawn web images have.

    Raises:
        UserError: it is not there, or has no captions.
    """
    if folder.suffix == ".csv":
        manifest = open_manifest(folder)
        if not {"caption", "true_class"} <= set(manifest.columns):
            raise UserError(f"{folder}: a pool needs the columns caption and true_class")
        return [Picture(manifest.file(row), row["caption"], frozenset({row["true_class"]})) for row in manifest]
    path = folder / LISTING
    if not path.is_file():
        raise UserError(f"{path}: no such pool; make it with experiments.imitated_search pool")
    written = dict(read_captions(folder / CAPTIONS))
    return [
        Picture(folder / IMAGES / e["name"], e["caption"] or written.get(e["name"], ""), frozenset(e["shows"]))
        for e in json.loads(path.read_text(encoding="utf-8"))
    ]


def originals(dataset: str, folder: Path, task_name: str, protocol: str, count: int) -> dict[str, list[str]]:
    """Class words of ``count`` training images of step 0, by their id."""
    source = make_source(dataset, folder, "train")
    labels = source.image_labels()
    task = load_task(dataset, task_name)
    chosen = np.random.default_rng(0).permutation(select(labels, task, 0, protocol))[:count]
    base = [i for i in task.new(0) if i != BACKGROUND]
    return {source.ids[i]: [source.class_names[c] for c in base if labels[i, c - 1]] for i in np.sort(chosen)}


def find(pool: Sequence[Picture], wanted: dict[str, list[str]], seed: int = 1) -> dict[str, list[Picture]]:
    """What the search finds for each original, in the order of its results."""
    rng = np.random.default_rng(seed)
    found = {}
    for original, classes in wanted.items():
        fitting = [picture for picture in pool if picture.shows & set(classes)]
        noise = rng.permutation(len(pool))
        picks = [fitting[i] for i in rng.permutation(len(fitting))[: round((1 - NOISE) * FOUND)]]
        picks += [pool[i] for i in noise if pool[i] not in picks][: FOUND - len(picks)]
        found[original] = [picks[i] for i in rng.permutation(len(picks))]
    return found


def write_downloads(out: Path, found: dict[str, list[Picture]], wanted: dict[str, list[str]]) -> None:
    """Lay out what was found as downloads (hard links), with captions and class words."""
    for original, pictures in found.items():
        folder, partial = out / "downloads" / original, out / "downloads" / f".{original}"
        lines = [(f"{number:05}.jpg", picture.caption) for number, picture in enumerate(pictures, 1)]
        write_captions(out / "captions" / f"{original}.txt", lines)
        if folder.is_dir():
            continue
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for (name, _), picture in zip(lines, pictures, strict=True):
            os.link(picture.path, partial / name)
        partial.rename(folder)
    words = "".join(f"{name}.png {' '.join(classes)} \n" for name, classes in wanted.items())
    (out / "class_words.txt").write_text(words, encoding="utf-8")
