"""A replay tree: who labelled it, and its train files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from hypothesis import strategies as st

from dataset.replay_tree import (
    LABELS,
    MARKER,
    TRAIN_FILE,
    Marker,
    images_of,
    read_marker,
    read_train_file,
    sign,
    write_marker,
    write_train_files,
)
from tests.fuzz import strategies as draw
from tests.fuzz.harness import emptied, fuzz, outcome
from utils.errors import UserError

MADE = Marker("ab" * 32, "shapes", "5-3", 0, ((0, "background"), (1, "red circle")), {"flip": False, "scales": [1.0]})
ODD_MARKERS = [
    *((content,) for content in draw.HUGE_JSON),
    (json.dumps(asdict(MADE) | {"settings": [""]}).encode(),),
    (json.dumps(asdict(MADE) | {"classes": [[0, None]]}).encode(),),
]
names = st.one_of(st.sampled_from(["00001", "a b", "a.b"]), draw.file_names)


@fuzz(
    draw.json_files(st.just(asdict(MADE) | {"classes": [[0, "background"], [1, "red circle"]]})),
    examples=ODD_MARKERS,
    times=150,
)
def test_markers(place: Path, content: bytes) -> None:
    """One that can be read says who labelled the tree, in words and in classes."""
    tree = emptied(place / "tree")
    (tree / "original/image").mkdir(parents=True)
    (tree / MARKER).write_bytes(content)
    marker = outcome(lambda: read_marker(tree), tree / MARKER, memory=True)
    if not isinstance(marker, UserError):
        assert marker is not None and marker.origin.isprintable()
        assert all(type(number) is int and type(name) is str for number, name in marker.classes)
    outcome(lambda: sign(tree, MADE, relabel=False), tree)


@fuzz(st.lists(st.tuples(st.integers(0, 254), st.text(max_size=8)), max_size=4), st.text(max_size=8), st.integers(0, 9))
def test_markers_come_back(place: Path, classes: list[tuple[int, str]], task: str, step: int) -> None:
    marker = Marker("ab" * 32, "folder", task, step, tuple(classes), {"threshold": 0.5, "words": None})
    try:
        write_marker(place, marker)
    except UserError as error:
        assert str(place) in str(error)
        return
    assert read_marker(place) == marker


@fuzz(
    draw.encoded(
        draw.lines(st.one_of(st.sampled_from(["image/00001.jpg", "label/00001.png", "/x/image/00001.jpg"]), draw.words))
    )
)
def test_train_files(place: Path, content: bytes) -> None:
    folder = emptied(place / "original")
    (folder / TRAIN_FILE).write_bytes(content)
    pairs = outcome(lambda: read_train_file(folder), folder / TRAIN_FILE, memory=True)
    assert isinstance(pairs, UserError) or pairs


@fuzz(
    st.lists(names, min_size=1, max_size=3, unique=True),
    names.filter(lambda name: not name.startswith(".")),
    examples=[(["0"], "},-\n0"), (["a.jpg "], "a.b"), (["0"], "a\u2028b")],
    times=120,
)
def test_train_files_come_back(place: Path, images: list[str], original: str) -> None:
    """A train file that was written without complaint lists the images that are there."""
    tree = emptied(place / "tree")
    folder = tree / original
    (folder / LABELS).mkdir(parents=True)
    (folder / "image").mkdir()
    for name in images:
        (folder / "image" / f"{name}.jpg").touch()
    found = outcome(lambda: images_of(folder), folder)
    if isinstance(found, UserError):
        return
    for pair in found:
        pair.label.touch()
    written = outcome(lambda: write_train_files(tree), tree, folder)
    if isinstance(written, UserError):
        return
    read = read_train_file(folder)
    assert len(read) == written.images
    assert {(pair.image.name, pair.label.name) for pair in read} <= {
        (pair.image.name, pair.label.name) for pair in found
    }
    assert all(pair.image.is_file() and pair.label.is_file() for pair in read)
