"""A step-0 checkpoint on drawn shapes and web images of the same classes, made once; and a server that lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import argparser
import run
from dataset.shapes import render_web
from tests.web.server import LyingServer


@pytest.fixture(scope="session")
def step_ckpt(small_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of step 0 (one iteration: its data count here, not its weights)."""
    folder = tmp_path_factory.mktemp("step0")
    line = (
        f"--name base --dataset shapes --dataset_dir {small_shapes} --task 5-3 --step 0 --bce --epochs 1 --iters_per_epoch 1 "
        f"--batch_size 4 --crop_size 64 --crop_size_val 64 --num_workers 0 --device cpu --sample_num 0 --overlap "
        f"--logdir {folder}/logs --checkpoints {folder}/checkpoints"
    )
    assert run.main(argparser.parse(line.split())) == 0
    return folder / "checkpoints/step/shapes-5-3-ov/base_0.pth"


@pytest.fixture(scope="session")
def web_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Web images of all drawn classes, with captions; all of them flat drawings, so that the domains differ clearly."""
    folder = tmp_path_factory.mktemp("web") / "web"
    classes = ["circle", "square", "triangle", "star", "ring", "cross", "crescent", "heart"]
    render_web(folder, classes, 12, 0, 0.0, 1.0, size=64)
    return folder


@pytest.fixture
def server() -> Iterator[LyingServer]:
    """A server on the loopback interface that answers as it is told."""
    liar = LyingServer()
    yield liar
    liar.close()
