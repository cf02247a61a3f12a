"""What ``--images`` holds: one folder of images a class, images of one class, or a manifest; the stage that lists them:

    python -m adding.inputs --images DIR --classes cow sheep --old cat dog --captioner tags --out WORK/web/manifest.csv

Writes the manifest of candidates, which generate_caption.py and select_web.py read, and beside it the images and the words of all
classes (``vocabulary.json``). Exit code 0; 1 where images are left out and the rest went on; 2 for bad input.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adding.files import image_files, link
from adding.names import make_words, named_by_tags, told_unnamed
from captions.vocabulary import Vocabulary, match_class
from dataset.files import shown
from dataset.replay_placing import folder_name
from utils import manifest
from utils.errors import UserError, shown_text
from utils.images import DecodeError, read_head
from utils.manifest import Row, open_manifest
from utils.script import run
from utils.suffixes import is_image

# Fewer images teach no class.
LEAST = 5
# What a selection adds to a manifest; this one is selected from anew.
SELECTED = ("p_ds", "p_web", "ratio", "kept", "reason", "labels")
VOCABULARY, IMAGES = "vocabulary.json", "images"
# Column of the manifest: where the user has the image.
ORIGINAL = "original"
NO_CAPTIONER = "none"


@dataclass(frozen=True)
class Found:
    """What ``--images`` holds, as the plan sees it.

    Attributes:
        counts: images of each new class, by name, in order.
        captioned: whether every image has a caption.
        listing: digest of the files' names and sizes, and of their captions.
        files: the images.
    """

    counts: dict[str, int]
    captioned: bool
    listing: str
    files: list[Path]


def candidates(images: Path, wanted: Sequence[str]) -> Iterator[tuple[str, Path, Row]]:
    """(new class, file, row) of every image.

    Args:
        images: a manifest, a folder of one folder a class, or a folder of images of the only class that is wanted.
        wanted: names of the new classes; none means all that ``images`` names.

    Raises:
        UserError: there is nothing of the kind, or a class may be two of those wanted.
    """
    if _is_flat(images):
        if len(wanted) != 1:
            raise UserError(f"--images {images}: holds images, not one folder a class; name their class with --classes")
        for file in image_files([images]):
            yield wanted[0], file, {"path": file.name, "class": wanted[0]}
        return
    source = open_manifest(images)
    for _, row in source.kept():
        name = match_class(row["class"], wanted) if wanted else row["class"]
        if name is not None:
            yield name, source.file(row), row


def _is_flat(images: Path) -> bool:
    """Whether a folder holds images and no class folders and no manifest."""
    if not images.is_dir() or (images / manifest.FILE).is_file():
        return False
    entries = [path for path in images.iterdir() if not path.name.startswith(".")]
    return any(is_image(path) and path.is_file() for path in entries) and not any(path.is_dir() for path in entries)


def find(images: Path, wanted: Sequence[str]) -> Found:
    """What ``images`` holds of the classes ``wanted``; of all that it names where none is.

    Raises:
        UserError: nothing is there, or a class has no image or too few to learn from.
    """
    if not images.exists():
        raise UserError(f"--images {images}: no such folder or manifest")
    counts: Counter[str] = Counter(dict.fromkeys(wanted, 0))
    digest = hashlib.sha256()
    files, captioned = [], True
    for name, file, row in candidates(images, wanted):
        counts[name] += 1
        files.append(file)
        captioned = captioned and bool(row.get("caption"))
        size = file.stat().st_size if file.is_file() else -1
        digest.update(f"{row['path']}\0{name}\0{size}\0{row.get('caption', '')}\n".encode(errors="surrogateescape"))
    if not wanted and images.is_dir() and not (images / manifest.FILE).is_file():
        empty = [path.name for path in sorted(images.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        counts.update(dict.fromkeys((name for name in empty if name not in counts), 0))
    none = [name for name, count in counts.items() if not count]
    if none:
        raise UserError(f"--images {images}: no image of {shown(none)}; put some there, or leave the class out")
    few = [f"{name} has {count}" for name, count in counts.items() if count < LEAST]
    if few:
        raise UserError(f"--images {images}: {shown(few)} images; a class needs at least {LEAST}, better hundreds")
    return Found(dict(counts), captioned, digest.hexdigest()[:12], files)


@dataclass
class Listed:
    """What the stage did: rows by class, faults of images left out, images held back, classes that captions cannot name."""

    counts: Counter[str]
    faults: list[str]
    held_back: int
    unnamed: list[str]


def write_candidates(
    images: Path,
    new: Sequence[str],
    old: Sequence[str],
    out: Path,
    *,
    captioner: str,
    held_back: Path | None = None,
    share: float = 0.1,
    seed: int = 0,
) -> Listed:
    """Write the manifest of candidates, and beside it the vocabulary and the images under second names, so that nothing else is needed.

    An image without a caption, of a class that the captioner cannot name, gets the class's name as its caption: what the folder says.

    Args:
        images: as for ``candidates``.
        new: names of the new classes.
        old: names of the classes that the model knows.
        out: the manifest (.csv).
        captioner: who will caption what has no caption; ``none`` for nobody.
        held_back: folder for a share of the images, which teach nothing; None where nothing is held back.
        share: that share of each class, between 0 and 1.
        seed: seed of the choice.

    Raises:
        UserError: no image of a class can be read.
    """
    vocabulary = make_words(new, old)
    listed = Listed(Counter(dict.fromkeys(new, 0)), [], 0, [])
    columns: dict[str, None] = dict.fromkeys((*manifest.NEEDED, "caption", "sha256"))
    rows: list[Row] = []
    for name, file, row in tqdm(candidates(images, new), desc="Candidates", unit="image", disable=None):
        try:
            read_head(file)
        except DecodeError as error:
            listed.faults.append(str(error))
            continue
        columns.update(dict.fromkeys(key for key in row if key not in SELECTED))
        rows.append({"caption": ""} | row | {"class": name, ORIGINAL: os.path.abspath(file)})
    lacking = [name for name in new if any(row["class"] == name and not row["caption"] for row in rows)]
    nameable = _nameable(vocabulary, captioner, lacking)
    listed.unnamed = [name for name in lacking if name not in nameable]
    for row in rows:
        row["caption"] = row["caption"] or (row["class"] if row["class"] in listed.unnamed else "")
    if held_back is not None:
        rows = _hold_back(rows, held_back, share, seed, listed)
    for number, row in enumerate(rows):
        row["path"] = f"{IMAGES}/{folder_name(row['class'])}/{number:06}{Path(row[ORIGINAL]).suffix.lower()}"
        link(Path(row[ORIGINAL]), out.parent / row["path"])
        # What tells an image of the user's from another, where it has no address.
        row["sha256"] = row.get("sha256", "") or hashlib.sha256(Path(row[ORIGINAL]).read_bytes()).hexdigest()
    listed.counts.update(row["class"] for row in rows)
    none = [name for name in new if not listed.counts[name]]
    if none:
        raise UserError(f"--images {images}: no image of {shown(none)} can be read ({shown(listed.faults)})")
    vocabulary.write(out.parent / VOCABULARY)
    manifest.write(out, [*columns, ORIGINAL], rows)
    return listed


def _nameable(vocabulary: Vocabulary, captioner: str, lacking: Sequence[str]) -> set[str]:
    """Classes that a captioner can name, where images lack a caption."""
    if not lacking or captioner == NO_CAPTIONER:
        return set()
    return named_by_tags(vocabulary) if captioner == "tags" else set(vocabulary.classes)


def _hold_back(rows: list[Row], folder: Path, share: float, seed: int, listed: Listed) -> list[Row]:
    """Place a share of each class in ``folder`` and give the rest."""
    chosen: set[int] = set()
    for name in dict.fromkeys(row["class"] for row in rows):
        own = [number for number, row in enumerate(rows) if row["class"] == name]
        count = max(1, round(share * len(own)))
        chosen |= set(np.random.default_rng((seed, len(chosen))).permutation(own)[:count].tolist())
    for number in sorted(chosen):
        file = Path(rows[number][ORIGINAL])
        link(file, folder / f"{number:06}{file.suffix.lower()}")
    listed.held_back = len(chosen)
    return [row for number, row in enumerate(rows) if number not in chosen]


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adding.inputs", description="List the images of new classes.")
    add = parser.add_argument
    add("--images", type=Path, required=True, help="one folder a class, images of one class, or a manifest")
    add("--classes", nargs="+", required=True, help="names of the new classes")
    add("--old", nargs="*", default=[], help="names of the classes that the model knows")
    add("--out", type=Path, required=True, help="manifest to write (.csv); vocabulary.json goes beside it")
    add("--captioner", default="tags", help="who will caption the images; none: they keep their folder's class")
    add("--held_back", type=Path, help="folder for images that teach nothing")
    add("--share", type=float, default=0.1, help="share of each class that is held back")
    add("--random_seed", type=int, default=0, help="seed of the choice")
    add("--listing", default="", help="digest of the images as the plan saw them; changed images make another plan")
    return parser


def main(given: argparse.Namespace) -> int:
    """List and report; the exit code."""
    done = write_candidates(
        given.images, given.classes, given.old, given.out,
        captioner=given.captioner, held_back=given.held_back, share=given.share, seed=given.random_seed,
    )  # fmt: skip
    held = f", {done.held_back} held back" if given.held_back is not None else ""
    print(f"Candidates: {shown_text(', '.join(f'{name} {count}' for name, count in done.counts.items()))}{held}")
    if done.unnamed:
        print(shown_text(told_unnamed(done.unnamed, given.captioner)))
    if done.faults:
        print(f"adding.inputs: {len(done.faults)} images left out: {shown(done.faults)}", file=sys.stderr)
    return 1 if done.faults else 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "adding.inputs"))
