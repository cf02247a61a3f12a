"""A Ray of its own: a killed and a stopped driver, two nodes of which one is lost. Each takes a minute."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from captions.formats import read_captions
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
COUNT = 40


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    pytest.importorskip("ray.data", reason="the extra ray is not installed: tests on Ray are left out")
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (700, 500), (number, 90, 200 - number)).save(folder / f"{number:03}.png")
    return folder


def line(photos: Path, out: Path, *more: str) -> list[str]:
    words = ("--device", "cpu", "--batch_size", "1", "--block_size", "2", *more)
    return [sys.executable, "generate_caption.py", str(photos), str(out), *words]


def started(words: list[str], out: Path) -> subprocess.Popen[str]:
    """The script, with some captions written and some to go."""
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None and not (out.is_file() and out.stat().st_size > 60):
        time.sleep(0.01)
    return process


def test_a_killed_driver_goes_on(photos: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.txt", tmp_path / "out.txt"
    process = started(line(photos, out, "--ray", "local", "--ray_actors", "2"), out)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = [name for name, _ in read_captions(out)]
    assert 0 < len(there) < COUNT and there == sorted(set(there))
    # In another way, which takes over what was finished out of turn.
    ended = subprocess.run(line(photos, out), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and f"{COUNT} images" in ended.stdout, ended.stderr
    subprocess.run(line(photos, whole), cwd=ROOT, capture_output=True, check=True)
    assert out.read_bytes() == whole.read_bytes() and not list(tmp_path.glob("*.blocks"))


def test_ctrl_c_is_one_line(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    process = started(line(photos, out, "--ray", "local", "--ray_actors", "1"), out)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    # Bars are drawn on terminals alone.
    assert process.returncode == 130, said
    assert said == "generate_caption.py: stopped; the same command goes on where it was\n"
    assert 0 < len(read_captions(out)) < COUNT


def test_a_node_is_lost(tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="the extra ray is not installed: tests on Ray are left out")
    words = [sys.executable, "-m", "tests.spread.two_nodes", str(tmp_path)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert ended.returncode == 0 and "40 rows" in ended.stdout, ended.stderr[-3000:]
