"""Data set ``shapes``: drawn scenes of eight classes, made on the spot, the same for the same seed.

``make`` draws the pictures into a folder in the layout of ``dataset/folder.py`` and hands out that folder's source;
``render_web`` draws the same classes as a web search would find them, with wrong labels whose truth is known.

Command line: ``python -m dataset.shapes --out DIR [--web]``.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dataset.folder import make as make_folder
from dataset.shapes_drawing import CLASS_NAMES, SHAPES, scene
from dataset.shapes_web import DOMAINS, web_picture
from dataset.source import Source
from utils.errors import UserError

__all__ = ["CLASS_NAMES", "make", "render_web"]

LOGGER = logging.getLogger("webwilss")
SPLITS = ("train", "val")
DEFAULTS = {"seed": 0, "size": 128, "train": 600, "val": 120}
PARAMETERS_FILE = "shapes.json"
# Raised when the same seed gives other pictures than before, so that folders drawn earlier are not taken for the same.
VERSION = 1
# First word of each picture's seed, so that the pictures of the web are not those of a split.
_WEB_STREAM = len(SPLITS)
_STALE_SECONDS = 3600.0

Parameters = dict[str, object]


def make(
    folder: Path,
    split: str,
    step: int = 0,
    seed: int | None = None,
    *,
    size: int | None = None,
    train: int | None = None,
    val: int | None = None,
) -> Source:
    """The drawn data set in ``folder``, drawn there first if the folder is missing or empty.

    A picture depends on seed, split and index alone, not on the number of pictures. Several processes may
    call this at once.

    Args:
        folder: where the pictures are, or shall be; gets ``classes.txt``, ``shapes.json``, ``images/{train,val}/*.png``
            and ``masks/{train,val}/*.png``.
        split: ``train`` or ``val``.
        step: the step that the source is for.
        seed: seed of the drawing, >= 0.
        size: side of the square pictures, pixels, >= 32.
        train: number of training pictures.
        val: number of validation pictures.
            Of these four None means: as the folder has it, or 0, 128, 600 and 120 for a new one.

    Returns:
        The folder's source for ``split``.

    Raises:
        UserError: the folder was drawn with other parameters, or holds something else, or cannot be written.
    """
    wanted = {"seed": seed, "size": size, "train": train, "val": val}
    given: Parameters = {name: value for name, value in wanted.items() if value is not None}
    for name, least in (("seed", 0), ("size", 32), ("train", 1), ("val", 1)):
        value = wanted[name]
        if value is not None and value < least:
            raise UserError(f"shapes: {name} is {value}, but must be at least {least}")
    if not _is_drawn(folder, given):
        parameters: Parameters = {"version": VERSION, "classes": list(SHAPES), **DEFAULTS, **given}
        _create(folder, parameters, lambda place: _draw_splits(place, parameters))
    return make_folder(folder, split, step)


def render_web(
    folder: Path,
    classes: Sequence[str],
    per_class: int,
    seed: int = 0,
    label_noise: float = 0.3,
    other_domain: float = 0.2,
    *,
    size: int = 160,
) -> Path:
    """Draw web images of single classes: one folder a class, and the truth beside them.

    Args:
        folder: where the pictures are, or shall be; gets ``CLASS/00001.jpg`` and so on, ``manifest.csv``,
            ``shapes.json``.
        classes: names out of CLASS_NAMES to search for, without background.
        per_class: images per class.
        seed: seed of the drawing, >= 0.
        label_noise: share of each class's images that show another class, 0..1.
        other_domain: share of each class's images that are flat drawings (domain ``clipart``), 0..1; the others are
            ``photo`` and ``studio`` pictures in equal parts.
        size: typical side of a picture, pixels.

    Returns:
        The manifest: columns path (relative to the folder), class (asked for), query, caption, true_class (shown),
        domain.

    Raises:
        UserError: an unknown class, a share outside 0..1, or a folder with other contents.
    """
    unknown = sorted(set(classes) - set(SHAPES))
    if unknown or not classes:
        raise UserError(f"shapes: web classes {unknown or 'are missing'}; choose out of {', '.join(SHAPES)}")
    for name, share in (("label_noise", label_noise), ("other_domain", other_domain)):
        if not 0 <= share <= 1:
            raise UserError(f"shapes: {name} is {share}, but must be between 0 and 1")
    for name, number, least in (("per_class", per_class, 1), ("seed", seed, 0), ("size", size, 32)):
        if number < least:
            raise UserError(f"shapes: {name} is {number}, but must be at least {least}")
    parameters: Parameters = {
        "version": VERSION,
        "web": list(classes),
        "per_class": per_class,
        "seed": seed,
        "label_noise": label_noise,
        "other_domain": other_domain,
        "size": size,
    }
    if not _is_drawn(folder, parameters):
        _create(
            folder,
            parameters,
            lambda place: _draw_web(place, classes, per_class, seed, label_noise, other_domain, size),
        )
    return folder / "manifest.csv"


def _is_drawn(folder: Path, wanted: Parameters) -> bool:
    """Whether ``folder`` already holds a drawing with the ``wanted`` parameters; UserError if anything else."""
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return False
        there = dict(json.loads((folder / PARAMETERS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder}: not a drawn data set ({PARAMETERS_FILE}: {error}); remove it or choose another"
        ) from error
    expected = {"version": VERSION, **wanted}
    other = [f"{k} {there.get(k)} instead of {expected[k]}" for k in expected if there.get(k) != expected[k]]
    if other:
        raise UserError(f"{folder}: drawn with {', '.join(other)}; remove the folder or choose another")
    return True


def _create(folder: Path, parameters: Parameters, draw: Callable[[Path], None]) -> None:
    """Fill a hidden folder beside ``folder`` with ``draw`` and rename it: ``folder`` is either whole or not there."""
    folder = folder.absolute()
    place = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        place.mkdir(parents=True)
        _remove_stale(folder)
        draw(place)
        (place / PARAMETERS_FILE).write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8")
        try:
            os.rename(place, folder)
        except OSError:
            # Another process was faster: its folder counts, if it is the same.
            if not _is_drawn(folder, parameters):
                raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Remove what drawings into ``folder`` left behind that were killed an hour ago or more."""
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _draw_splits(place: Path, parameters: Parameters) -> None:
    (place / "classes.txt").write_text("".join(f"{name}\n" for name in SHAPES), encoding="utf-8")
    seed, size = int(str(parameters["seed"])), int(str(parameters["size"]))
    for stream, split in enumerate(SPLITS):
        images, masks = place / "images" / split, place / "masks" / split
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for index in tqdm(range(int(str(parameters[split]))), f"drawing {split}", disable=None):
            image, mask = scene(np.random.default_rng((seed, stream, index)), size, index)
            # Noise hardly compresses: the fastest level writes almost the smallest file.
            Image.fromarray(image).save(images / f"{index:05}.png", compress_level=1)
            Image.fromarray(mask).save(masks / f"{index:05}.png")


def _draw_web(
    place: Path, classes: Sequence[str], per_class: int, seed: int, label_noise: float, other_domain: float, size: int
) -> None:
    rows = []
    for name in tqdm(classes, "drawing web images", disable=None):
        (place / name).mkdir()
        column = SHAPES.index(name)
        rng = np.random.default_rng((seed, _WEB_STREAM, column))
        wrong = set(rng.permutation(per_class)[: round(label_noise * per_class)].tolist())
        flat = set(rng.permutation(per_class)[: round(other_domain * per_class)].tolist())
        others = [other for other in SHAPES if other != name]
        for index in range(per_class):
            own = np.random.default_rng((seed, _WEB_STREAM, column, index))
            shown = others[int(own.integers(len(others)))] if index in wrong else name
            domain = "clipart" if index in flat else DOMAINS[int(own.integers(2))]
            image, caption = web_picture(own, shown, domain, size)
            path = f"{name}/{index + 1:05}.jpg"
            Image.fromarray(image).save(place / path, quality=int(own.integers(70, 96)))
            rows.append((path, name, name, caption, shown, domain))
    with (place / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "class", "query", "caption", "true_class", "domain"))
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw a data set, or with ``--web`` web images, from the command line; 0 on success, 2 with one line otherwise."""
    parser = argparse.ArgumentParser(prog="python -m dataset.shapes", description="Draw the procedural data set.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to draw into")
    parser.add_argument("--seed", type=int, help="same seed, same pictures [0]")
    parser.add_argument("--size", type=int, help="side in pixels [128; web 160]")
    parser.add_argument("--train", type=int, help="training pictures [600]")
    parser.add_argument("--val", type=int, help="validation pictures [120]")
    web = parser.add_argument_group("web images")
    web.add_argument("--web", action="store_true", help="draw web images of single classes instead")
    web.add_argument("--classes", nargs="+", default=list(SHAPES), metavar="NAME", help="classes to search for [all]")
    web.add_argument("--per_class", type=int, default=100, help="images per class [100]")
    web.add_argument("--label_noise", type=float, default=0.3, help="share that shows another class [0.3]")
    web.add_argument("--other_domain", type=float, default=0.2, help="share of flat drawings [0.2]")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if options.web:
            render_web(
                options.out,
                options.classes,
                options.per_class,
                options.seed or 0,
                options.label_noise,
                options.other_domain,
                size=options.size or 160,
            )
        else:
            make(options.out, "train", seed=options.seed, size=options.size, train=options.train, val=options.val)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    LOGGER.info("%s is ready", options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
