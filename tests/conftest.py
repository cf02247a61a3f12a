"""Where the tests find what lies outside the project, and what they say where it is absent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def _folder(variable: str, default: str) -> Path:
    path = (ROOT / os.environ.get(variable, default)).resolve()
    if not path.is_dir():
        pytest.skip(f"{variable} ({path}) is not a folder: tests on shared data are left out")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with inputs and outputs of the reference implementation (``GOLDEN_DIR``)."""
    return _folder("GOLDEN_DIR", "../shared/golden")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real images, masks and published lists (``SHARED_DATA_DIR``)."""
    return _folder("SHARED_DATA_DIR", "../shared/data")
