"""The two folders that add_class.py is given, from web images and captioned photographs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.imitation.noise import image_files

# Folders of what is made.
NEW, OLD = "new", "old"


def write_images(web: Path, captioned: Path, out: Path, new: Sequence[str], old: Sequence[str]) -> tuple[int, int]:
    """Copy the images of new classes to ``out/new/CLASS``, those in which old classes occur to ``out/old``.

    The names of files in ``out/old`` say nothing of classes to add_class.py, which takes them for images without labels.

    Args:
        web: one folder of web images a class.
        captioned: photographs in ``images/``.
        out: folder of both.
        new: classes to learn.
        old: known classes that have web images.

    Returns:
        how many images of new classes there are, and how many others.

    Raises:
        UserError: a folder holds no images.
    """
    copies = {out / NEW / name / path.name: path for name in new for path in image_files(web / name)}
    first = len(copies)
    for name, folder in [*((name, web / name) for name in old), ("photograph", captioned / "images")]:
        copies |= {out / OLD / f"{name}-{path.name}": path for path in image_files(folder)}
    for target, source in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return first, len(copies) - first
