"""A pool of images whose content is known: what an imitated search finds its downloads in.

It holds web images of base classes, captioned photographs (``captions.json``: file and captions),
drawings, and images of new classes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captions.formats import read_captions
from captions.labels import caption_labels
from captions.vocabulary import make_vocabulary
from experiments.imitation.noise import drawing, image_files
from utils.errors import UserError
from utils.images import load_image
from utils.json_files import read_json
from utils.manifest import open_manifest

# Images that no original asks for, as shares of the pool's own.
DRAWN, FOREIGN = 0.1, 0.1
LISTING, IMAGES, CAPTIONS = "pool.json", "image", "captions.txt"


@dataclass(frozen=True)
class PoolImage:
    """An image of the pool.

    Attributes:
        path: its file.
        caption: what a captioner, or a person, says of it.
        shows: names of the classes that it really shows.
        page: what the page that it was found on says beside the caption: the word that it was
            searched with.
    """

    path: Path
    caption: str
    shows: frozenset[str]
    page: str = ""


def make_pool(
    web: Path, captioned: Sequence[Path], out: Path, new: Sequence[str], base: Sequence[str], seed: int = 0
) -> int:
    """Write the pool's images and ``pool.json``, which says what they show; the number of images.

    Args:
        web: one folder of web images a class.
        captioned: folders of photographs in ``images/``, and ``captions.json``, which tells what
            they show.
        out: folder of the pool.
        new: classes whose images nobody should find.
        base: classes with web images; of an image that is here twice, the one with captions stays.
        seed: which images become drawings, and which of the new classes are there.

    Raises:
        UserError: images or captions are missing.
    """
    rng = np.random.default_rng(seed)
    (out / IMAGES).mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []

    def add(source: Path, shows: set[str], caption: str = "", draw: bool = False, page: str = "") -> None:
        name = f"{len(entries):05}.jpg"
        if draw or source.suffix.lower() not in (".jpg", ".jpeg"):
            image = load_image(source)
            (drawing(image) if draw else image).save(out / IMAGES / name, quality=90)
        else:
            shutil.copyfile(source, out / IMAGES / name)
        entries.append({"name": name, "shows": sorted(shows), "caption": caption, "page": page})

    # People stand in most photographs, whether or not they were searched for.
    vocabulary = make_vocabulary([*base, *({"person"} - {*base, *new})])
    photographs = [(file, texts) for folder in captioned for file, texts in _captioned(folder)]
    there = {file.read_bytes() for file, _ in photographs}
    own = [(path, name) for name in base for path in image_files(web / name) if path.read_bytes() not in there]
    for path, name in own:
        add(path, {name}, page=name)
    for file, texts in photographs:
        add(file, set().union(*(caption_labels(text, vocabulary) for text in texts)), texts[0])
    total = len(entries)
    for index in rng.permutation(len(own))[: round(DRAWN * total)]:
        add(own[index][0], set(), draw=True, page=own[index][1])
    foreign = [(path, name) for name in new for path in image_files(web / name)]
    for index in rng.permutation(len(foreign))[: round(FOREIGN * total)]:
        add(foreign[index][0], set(), page=foreign[index][1])
    (out / LISTING).write_text(json.dumps(entries), encoding="utf-8")
    return len(entries)


def _captioned(folder: Path) -> list[tuple[Path, list[str]]]:
    """File and captions of each photograph that has some."""
    path = folder / "captions.json"
    try:
        photographs = [(folder / "images" / e["file"], list(map(str, e["captions"]))) for e in read_json(path)]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a list of file and captions ({error})") from error
    return [(file, texts) for file, texts in photographs if texts]


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
        PoolImage(
            folder / IMAGES / entry["name"],
            entry["caption"] or written.get(entry["name"], ""),
            frozenset(entry["shows"]),
            entry.get("page", ""),
        )
        for entry in json.loads(path.read_text(encoding="utf-8"))
    ]
