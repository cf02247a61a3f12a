"""What the tests of experiments share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """All that the experiments need, empty."""
    folder = tmp_path / "data"
    for name in ("voc-animals", "web-animals", "web-captioned", "voc", "coco", "web", "downloads"):
        (folder / name).mkdir(parents=True)
    for name in ("web-captioned/captions.json", "words.txt"):
        (folder / name).touch()
    return folder
