"""From a model and folders of images to a released folder that knows more, with real commands on drawn shapes, and once more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataset.shapes import render_web
from tests.adding.base import checkpoint_of_four_shapes
from tests.conftest import ROOT
from utils.manifest import open_manifest

SMALL = "--crop_size 64 --batch_size 4 --steps 3 --num_workers 0 --device cpu --hold_back 0.2"


def add_class(line: str, *paths: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "add_class.py", *line.split(), *paths], cwd=ROOT, capture_output=True, text=True, timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> Path:
    return checkpoint_of_four_shapes(tmp_path_factory.mktemp("base"), small_shapes)


def test_adding_and_adding_again(tmp_path: Path, base: Path, small_shapes: Path) -> None:
    web, old, out, again = (tmp_path / name for name in ("web", "old", "OUT", "OUT2"))
    render_web(web, ["ring", "heart"], 6, label_noise=0, size=64)
    old.mkdir()
    for path in sorted((small_shapes / "images/train").iterdir())[:12]:
        (old / path.name).write_bytes(path.read_bytes())
    command = f"{SMALL} --images {web} --old_images {old}"
    done = add_class(f"{command} --model {base} --classes ring --out {out}")
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
