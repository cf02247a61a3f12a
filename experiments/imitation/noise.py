"""Noisy candidates for new classes, with known truth, out of clean web images.

Of the candidates for each new class some show another class, half of them another new class and
half a base class, and some are drawings. The columns ``true_class`` and ``domain`` of the manifest
say so; no script of the method reads them.
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


def mix(web: Path, out: Path, new: Sequence[str], base: Sequence[str], seed: int = 0) -> int:
    """Write the candidates and their manifest; the number of rows.

    Args:
        web: one folder of web images a class.
        out: folder of the candidates, one folder a new class, and of ``manifest.csv``.
        new: the classes searched for.
        base: other classes; what is taken of them is what the discriminator holds out, so that it
            has not been trained on it.
        seed: which images are mixed in.

    Raises:
        UserError: a class has no images.
    """
    rng = np.random.default_rng(seed)
    right = {name: image_files(web / name) for name in new}
    spare = {name: [p for p in image_files(web / name) if is_held_out(Example(p, name, False))] for name in base}
    rows: list[dict[str, str]] = []
    for number, name in enumerate(new):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        total = len(right[name]) / (1 - WRONG - DRAWN)
        wrong_count, drawn_count = round(total * WRONG), round(total * DRAWN)
        # Each held-out image of a base class is used for one new class alone.
        old = [(path, other) for other in base for path in spare[other][number :: len(new)]]
        foreign = [(path, other) for other in new if other != name for path in right[other]]
        half = wrong_count // 2 if foreign else wrong_count
        wrong = [old[i] for i in rng.permutation(len(old))[:half]]
        wrong += [foreign[i] for i in rng.permutation(len(foreign))[: wrong_count - len(wrong)]]
        for index, (path, true) in enumerate([*((path, name) for path in right[name]), *wrong]):
            target = folder / f"{index:04}{path.suffix.lower()}"
            target.write_bytes(path.read_bytes())
            rows.append(_row(target, out, name, true, "photo"))
        for index in range(drawn_count):
            if index % 2:
                drawn = drawing(load_image(right[name][int(rng.integers(len(right[name])))]))
            else:
                drawn = Image.fromarray(web_picture(rng, SHAPES[index % len(SHAPES)], "clipart", 200)[0])
            target = folder / f"drawn{index:04}.jpg"
            drawn.save(target, quality=90)
            rows.append(_row(target, out, name, name if index % 2 else "none", "drawing"))
    return write(out / FILE, COLUMNS, [rows[i] for i in rng.permutation(len(rows))])


def _row(path: Path, root: Path, name: str, true: str, domain: str) -> dict[str, str]:
    return {"path": path.relative_to(root).as_posix(), "class": name, "true_class": true, "domain": domain}
