"""The judge of the caption filter: what counts as right, and which threshold wins."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.filtering import CLASSES, Point, Score, Task, ceiling, read_truth, score, winner
from tests.conftest import ROOT

TRUTH = read_truth(ROOT / "benchmarks" / "noun_truth.json")


@pytest.mark.parametrize(
    ("nouns", "classes"),
    [
        ("jetliner top airport", {"aeroplane"}),
        ("man dirt bike", {"person", "motorbike"}),
        ("man bike street", {"person", "bicycle"}),
        ("statue man horse", {"horse"}),
        ("toy car", set()),
        ("baby sheep", {"sheep"}),
        ("room coffee table couch", {"sofa"}),
        ("top table", {"diningtable"}),
        ("flower pot", {"pottedplant"}),
        ("pot stove", set()),
        ("computer desk", set()),
        ("", set()),
    ],
)
def test_what_is_named(nouns: str, classes: set[str]) -> None:
    assert TRUTH.named(nouns.split()) == classes


def test_no_word_names_two_classes() -> None:
    words = [word for name in CLASSES for word in TRUTH.words[name]]
    assert len(words) == len(set(words))


def test_scores() -> None:
    task = Task(
        lists={},
        labels={"a": ("dog",), "b": ("dog",), "c": ("cat", "dog"), **{name: (name,) for name in CLASSES}},
        wanted={},
        right={"a": frozenset("123"), "b": frozenset("1"), "c": frozenset(), **{name: frozenset() for name in CLASSES}},
    )
    kept = {"a": ["1", "2"], "b": ["1", "2"], "c": ["1"], **{name: [] for name in CLASSES}}
    found = score(task, kept)
    dog = CLASSES.index("dog")
    assert (found.kept, found.precision, found.recall) == (5, pytest.approx(3 / 5), pytest.approx(3 / 3))
    # Of a, b and the original named dog, two get two images and one two right ones; more than one cannot.
    assert (found.two[dog], found.two_right[dog], ceiling(task)[dog]) == (
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )


def test_winner() -> None:
    def point(threshold: float, precision: float, recall: float, kinds: float) -> Point:
        return Point(threshold, Score(1, precision, recall, np.zeros(1), np.zeros(1)), (kinds, kinds))

    points = [
        point(1, 0.94, 0.99, 0.9),
        point(2, 0.96, 0.98, 0.3),
        point(3, 0.96, 0.978, 0.6),
        point(4, 0.98, 0.97, 0.9),
    ]
    assert winner(points).threshold == 3
    assert winner([points[0], point(5, 0.9, 1, 1)]).threshold == 1
