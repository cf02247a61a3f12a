"""Noisy candidates with known truth, out of clean web images.

Of the candidates for each new class some show another class, half of them another new class and
half a base class, and some are drawings. Those for base classes, which a real search finds in the
same place, carry the same noise where it is asked for. The columns ``true_class`` and ``domain`` of
the manifest say so; no script of the method reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from dataset.shapes_drawing import SHAPES
from dataset.shapes_web import web_picture
from utils.errors import UserError
from utils.images import load_image
from utils.manifest import FILE, write
from utils.suffixes import IMAGE_SUFFIXES
from web.examples import Example, is_held_out

# Shares of the candidates that are not what they were searched for.
WRONG, DRAWN = 0.3, 0.2
COLUMNS = ("path", "class", "true_class", "domain")


def drawing(image: Image.Image) -> Image.Image:
    """A photograph as a flat drawing with outlines, as a cartoonist would have it."""
    flat = image.filter(ImageFilter.MedianFilter(7)).filter(ImageFilter.ModeFilter(9))
    flat = ImageOps.posterize(flat, 2)
    edges = ImageOps.invert(image.convert("L").filter(ImageFilter.GaussianBlur(1.5)).filter(ImageFilter.FIND_EDGES))
    lines = edges.point(lambda value: 0 if value < 225 else 255).convert("RGB")
    return Image.composite(flat, Image.new("RGB", flat.size, (15, 15, 15)), lines.convert("L"))


def image_files(folder: Path) -> list[Path]:
    """Image files of a folder, in order.

    Raises:
        UserError: there is none.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(f"{folder}: holds no images")
    return files


def mix(web: Path, out: Path, new: Sequence[str], base: Sequence[str], seed: int = 0, noisy_base: bool = False) -> int:
    """Write the candidates and their manifest; the number of rows.

    Args:
        web: one folder of web images a class.
        out: folder of the candidates, one folder a class, and of ``manifest.csv``.
        new: the classes searched for.
        base: other classes, which the search finds by mistake. The discriminator learns from no
            image of them that stands among the candidates for a new class.
        seed: which images are mixed in.
        noisy_base: whether there are candidates for the base classes too, with the same noise: the
            manifest is then all that the discriminator sees of them.

    Raises:
        UserError: a class has no images, or too few for all that is asked of them.
    """
    rng = np.random.default_rng(seed)
    right = {name: image_files(web / name) for name in new}
    own = {name: image_files(web / name) for name in base}
    wrong = {name: round(_total(right[name]) * WRONG) for name in new}
    old = {name: count // 2 if len(new) > 1 else count for name, count in wrong.items()}
    if noisy_base:
        spare = _set_aside(own, -(-sum(old.values()) // len(base)), rng)
    else:
        spare = {name: [path for path in own[name] if is_held_out(Example(path, name, False))] for name in base}
    rows: list[dict[str, str]] = []
    for number, name in enumerate(new):
        # Each spare image of a base class is used for one new class alone.
        strange = [(path, other) for other in base for path in spare[other][number :: len(new)]]
        foreign = [(path, other) for other in new if other != name for path in right[other]]
        mixed = [strange[i] for i in rng.permutation(len(strange))[: old[name]]]
        mixed += [foreign[i] for i in rng.permutation(len(foreign))[: wrong[name] - len(mixed)]]
        rows += _candidates(out, name, right[name], mixed, rng)
    if noisy_base:
        # An image is right for its own class or wrong for another one, and stands here once.
        given = _set_aside(own, 0, rng, share=WRONG / (1 - DRAWN))
        lacking = {name: round(_total(own[name]) * WRONG) for name in base}
        strangers: dict[str, list[tuple[Path, str]]] = {name: [] for name in base}
        pairs = [(path, name) for name in base for path in given[name]]
        for path, true in (pairs[i] for i in rng.permutation(len(pairs))):
            # Whoever lacks most gets it; the last one or two may be of the only class that lacks some.
            name = max((name for name in base if name != true), key=lambda name: lacking[name])
            if lacking[name] > 0:
                lacking[name] -= 1
                strangers[name].append((path, true))
        for name in base:
            rows += _candidates(out, name, own[name], strangers[name], rng)
    return write(out / FILE, COLUMNS, [rows[i] for i in rng.permutation(len(rows))])


def _total(right: Sequence[Path]) -> float:
    """Number of candidates of which the images of a class are the right ones."""
    return len(right) / (1 - WRONG - DRAWN)


def _set_aside(
    images: dict[str, list[Path]], count: int, rng: np.random.Generator, share: float = 0.0
) -> dict[str, list[Path]]:
    """Take ``count`` images, and a share of the rest, out of those of each class."""
    aside = {}
    for name, files in images.items():
        mixed = [files[i] for i in rng.permutation(len(files))]
        number = count + round(share * (len(files) - count))
        if number >= len(files):
            raise UserError(f"{files[0].parent}: has {len(files)} images; more than {number} are needed for the noise")
        aside[name], images[name] = mixed[:number], sorted(mixed[number:])
    return aside


def _candidates(
    out: Path, name: str, right: Sequence[Path], wrong: Sequence[tuple[Path, str]], rng: np.random.Generator
) -> list[dict[str, str]]:
    """Write what a search for one class finds; its rows.

    Args:
        out: folder of all candidates.
        name: the class.
        right: images of it.
        wrong: images of other classes, with their names.
        rng: which of the right images are drawn as well.
    """
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, (path, true) in enumerate([*((path, name) for path in right), *wrong]):
        target = folder / f"{index:04}{path.suffix.lower()}"
        target.write_bytes(path.read_bytes())
        rows.append(_row(target, out, name, true, "photo"))
    for index in range(round(_total(right) * DRAWN)):
        if index % 2:
            drawn = drawing(load_image(right[int(rng.integers(len(right)))]))
        else:
            drawn = Image.fromarray(web_picture(rng, SHAPES[index % len(SHAPES)], "clipart", 200)[0])
        target = folder / f"drawn{index:04}.jpg"
        drawn.save(target, quality=90)
        rows.append(_row(target, out, name, name if index % 2 else "none", "drawing"))
    return rows


def _row(path: Path, root: Path, name: str, true: str, domain: str) -> dict[str, str]:
    return {"path": path.relative_to(root).as_posix(), "class": name, "true_class": true, "domain": domain}
