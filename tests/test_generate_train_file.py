"""Train files of a replay tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dataset.replay_tree import claimed_tree, images_of, read_train_file
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


ODD = ["a b.jpg", "x.jpg y.jpg", "q. z.png.jpg", "b.jpg c.png d.jpg", "e  f.jpg", "\u00fc\u4e00.jpg", "g.h.JPG"]
LOST = ["a\nb.jpg", "a\rb.jpg", "a\u2028b.jpg", "a\x85b.jpg", "a\udcff.jpg"]


def renamed(tree: Path, names: list[str]) -> None:
    """Give images of circle_0, and their labels, other names."""
    for pair, name in zip(images_of(tree / "circle_0"), names, strict=True):
        pair.label.rename(pair.label.with_name(f"{Path(name).stem}.png"))
        pair.image.rename(pair.image.with_name(name))


def test_names_with_blanks_are_read_back(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "my.jpg tree", per_class=len(ODD))
    (tree / "square_0").rename(tree / "x.jpg ")
    renamed(tree, ODD)
    done = run(tree)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    for name in ("circle_0", "x.jpg "):
        pairs = read_train_file(tree / name)
        assert pairs == images_of(tree / name) and len(pairs) == len(ODD)
        assert all(pair.image.is_file() and pair.label.is_file() for pair in pairs)
    assert {pair.image.name for pair in read_train_file(tree / "circle_0")} == set(ODD)


def test_names_that_no_line_can_hold_are_left_out_and_told(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree", per_class=len(LOST))
    renamed(tree, LOST)
    done = run(tree)
    assert done.returncode == 1 and done.stdout == "5 images of 1 originals listed, 0 dropped by their labels\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("generate_train_file.py: 5 files cannot be listed and are left out: ") and "a\\n" in line
    assert not (tree / "circle_0/train_fullPath.txt").exists(), "a list of other names is no list"
    assert [pair.image for pair in read_train_file(tree / "square_0")] == [
        p.image for p in images_of(tree / "square_0")
    ]


def test_a_tree_whose_own_name_no_line_can_hold(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree").rename(tmp_path / "tree\nother")
    done = run(tree)
    assert done.returncode == 2 and "none of its 6 labelled images can be listed" in done.stderr
    assert "Traceback" not in done.stderr


def test_pipes_and_blanks_at_the_end_are_told(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree")
    os.mkfifo(tree / "circle_0/image/pipe.jpg")
    (tree / "square_0/image/00001.jpg").rename(tree / "square_0/image/00001.jpg ")
    done = run(tree)
    assert done.returncode == 1 and done.stdout.startswith("5 images of 2 originals listed")
    assert "2 files cannot be listed" in done.stderr and "pipe.jpg: is no file" in done.stderr


def test_a_tree_that_is_being_labelled(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree")
    with claimed_tree(tree):
        done = run(tree)
    assert done.returncode == 2 and "another run is at work on it" in done.stderr


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
