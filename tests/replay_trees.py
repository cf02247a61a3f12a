"""Small replay trees of drawn shapes, with pseudo-labels that a hand made instead of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dataset.replay_tree import Marker, images_of, originals, write_marker, write_train_file
from dataset.shapes import CLASS_NAMES, render_web

IDS = {name: number for number, name in CLASS_NAMES.items()}


def images(
    tree: Path, classes: Sequence[str] = ("circle", "square"), per_class: int = 3, *, flat: bool = False
) -> Path:
    """Web images of shapes, one folder ``NAME_0`` a class, as the filter of captions leaves them."""
    render_web(tree.parent / f"{tree.name}-web", list(classes), per_class, 0, 0.0, 0.5, size=64)
    for name in classes:
        target = tree / f"{name}_0" if flat else tree / f"{name}_0" / "image"
        target.parent.mkdir(parents=True, exist_ok=True)
        (tree.parent / f"{tree.name}-web" / name).rename(target)
    return tree


def labelled(tree: Path, classes: Sequence[str] = ("circle", "square"), per_class: int = 3) -> Path:
    """The same with labels, marker and train files: the class in the middle of the image, 255 in its last row."""
    images(tree, classes, per_class)
    for folder in originals(tree):
        pairs = images_of(folder)
        for pair in pairs:
            width, height = Image.open(pair.image).size
            label = np.zeros((height, width), np.uint8)
            label[height // 4 : -height // 4, width // 4 : -width // 4] = IDS[folder.name.removesuffix("_0")]
            label[-1] = 255
            pair.label.parent.mkdir(exist_ok=True)
            Image.fromarray(label).save(pair.label)
        write_train_file(folder, pairs)
    write_marker(tree, marker(range(6)))
    return tree


def marker(classes: Sequence[int], **changes: object) -> Marker:
    """A marker of a checkpoint of 5-3's first step that knows ``classes``."""
    fields = {"checkpoint": "c0ffee", "dataset": "shapes", "task": "5-3", "step": 0, "settings": {}} | changes
    return Marker(classes=tuple((i, CLASS_NAMES[i]) for i in classes), **fields)
