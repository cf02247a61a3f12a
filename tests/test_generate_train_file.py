"""Train files of a replay tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dataset.replay_tree import images_of
from tests.conftest import ROOT
from tests.replay_trees import images, labelled


def run(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "generate_train_file.py", "--path", str(tree)], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_lines_of_image_and_label(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree")
    (tree / "circle_0/train_fullPath.txt").unlink()
    done = run(tree)
    assert done.returncode == 0 and done.stdout == "6 images of 2 originals listed, 0 dropped by their labels\n"
    lines = (tree / "circle_0/train_fullPath.txt").read_text().splitlines()
    assert lines == [f"{tree}/circle_0/image/{n:05}.jpg {tree}/circle_0/label/{n:05}.png" for n in (1, 2, 3)]
    assert all(Path(part).is_file() for line in lines for part in line.split())


def test_images_without_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree")
    first, second, third = images_of(tree / "circle_0")
    first.label.unlink()
    second.label.rename(second.dropped)
    for pair in images_of(tree / "square_0"):
        pair.label.unlink()
    done = run(tree)
    assert done.returncode == 1 and done.stdout == "1 images of 1 originals listed, 1 dropped by their labels\n"
    assert done.stderr.startswith(f"generate_train_file.py: 4 images have no label and are left out: {first.image}, ")
    assert (tree / "circle_0/train_fullPath.txt").read_text() == f"{third.image} {third.label}\n"
    assert not (tree / "square_0/train_fullPath.txt").exists(), "a list of labels that are gone is no list"


@pytest.mark.parametrize("kind", ["no labels", "no tree", "twins"])
def test_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    message = "replay images are missing (no such folder)"
    if kind == "no labels":
        images(tree)
        message = "none of its 6 images is labelled; run generate_label.py first"
    elif kind == "twins":
        labelled(tree)
        (tree / "circle_0/image/00001.png").touch()
        message = "00001.jpg has the same name"
    done = run(tree)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
