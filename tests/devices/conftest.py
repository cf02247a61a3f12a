"""Devices that the tests of this room run on: ``DEVICE=cuda`` names one; by default the CPU, and a GPU where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for ``device`` runs on each."""
    if "device" in metafunc.fixturenames:
        chosen = os.environ.get("DEVICE")
        every = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        metafunc.parametrize("device", [chosen] if chosen else every)


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Convolutions in float32 are computed in float32, which cuDNN does not do by itself."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before
