"""What tests of adopted segmenters share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CLASSES = ("background", "cat", "dog", "horse")


@pytest.fixture
def names(tmp_path: Path) -> Callable[..., Path]:
    """A file of names."""

    def write(*given: str) -> Path:
        path = tmp_path / "names.txt"
        path.write_text("\n".join(given or CLASSES))
        return path

    return write


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged."""
    logger = logging.getLogger("webwilss")
    before = logger.propagate, logger.level
    logger.propagate = True
    logger.setLevel(logging.INFO)
    yield caplog
    logger.propagate, logger.level = before
