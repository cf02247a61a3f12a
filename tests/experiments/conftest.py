"""What the tests of experiments share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """All that the experiments need, empty."""
    folder = tmp_path / "data"
    for name in (
        "voc-animals", "web-animals", "web-captioned", "voc20", "web20", "web-captioned-coco", "captions", "voc", "coco",
        "web", "downloads",
    ):  # fmt: skip
        (folder / name).mkdir(parents=True)
    for name in (
        "web-captioned/captions.json", "web-captioned-coco/captions.json", "captions/voc_train_captions.json", "words.txt",
    ):  # fmt: skip
        (folder / name).touch()
    return folder
