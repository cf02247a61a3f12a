"""A small segmenter whose masks show every class, and photographs for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset import shapes
from segmentation_module import Segmenter, load_segmenter
from tests.odd_checkpoint import odd_checkpoint


@pytest.fixture(scope="session")
def ckpt(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> Path:
    """A checkpoint of shapes' classes in odd order."""
    return odd_checkpoint(tmp_path_factory.mktemp("ckpt"), small_shapes)


@pytest.fixture(scope="session")
def segmenter(ckpt: Path) -> Segmenter:
    """Its segmenter."""
    return load_segmenter(ckpt, device="cpu")


@pytest.fixture(scope="session")
def photos(small_shapes: Path) -> list[Path]:
    """Image files of the drawn data set."""
    source = shapes.make(small_shapes, "val")
    return [source.image_path(i) for i in range(6)]
