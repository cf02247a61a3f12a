"""A small segmenter whose masks show every class, and photographs for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset import shapes
from segmentation_module import Segmenter, load_segmenter


@pytest.fixture(scope="session")
def segmenter(odd_ckpt: Path) -> Segmenter:
    """The segmenter of ``odd_ckpt``."""
    return load_segmenter(odd_ckpt, device="cpu")


@pytest.fixture(scope="session")
def photos(small_shapes: Path) -> list[Path]:
    """Image files of the drawn data set."""
    source = shapes.make(small_shapes, "val")
    return [source.image_path(i) for i in range(6)]
