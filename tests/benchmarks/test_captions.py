"""The judge of the caption filter: what counts as right, and which threshold wins."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.captions import page
from benchmarks.filtering import CLASSES, Measurement, Point, Score, Task, ceiling, read_truth, score, winner
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
    judged = score(task, kept)
    dog = CLASSES.index("dog")
    assert (judged.kept, judged.precision, judged.recall) == (5, pytest.approx(3 / 5), pytest.approx(3 / 3))
    # Of a, b and the original named dog, two get two images and one two right ones; more than one
    # cannot.
    assert (judged.two[dog], judged.two_right[dog], ceiling(task)[dog]) == (
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


def test_the_page() -> None:
    """Two originals a class, two downloads each: all right but one of each class other than dog."""
    right = {f"{name}{i}": frozenset({"1", "2"} if i or name == "dog" else {"1"}) for name in CLASSES for i in range(2)}
    task = Task(
        lists={original: [("1", ["x"]), ("2", ["x"])] for original in right},
        labels={original: (original[:-1],) for original in right},
        wanted={},
        right=right,
    )
    good = score(task, {original: ["1", "2"] for original in right})
    poor = score(task, {original: ["2"] for original in right})
    curve = [Point(0.8, poor, (0.5, 0.25)), Point(0.9, good, (0.75, 0.5))]
    text = page(
        Measurement(
            task, {"wup": (curve, curve[::-1])}, poor, poor, good, {"without rivals": (0.9, good)}, ["x is out"]
        ),
        "captions.png",
    )
    shown = text.splitlines()
    assert good.precision == 61 / 80 and good.recall == 1.0
    for line in (
        "`python -m benchmarks.captions --data DIR`, on the published noun lists: 40 originals of VOC, 80 downloads.",
        "*statue man* a person. 61 downloads (76%) are right. What the pictures show was not looked at; only nouns are "
        "published.",
        "![Precision over recall, and two right images per class](captions.png)",
        "| | threshold | kept | precision | recall | two images, mean of classes | least class "
        "| two right images, mean |",
        "| published: depth, published class file | 0.600 | 40 | 0.525 | 0.344 | 0.00 | 0.00 (aeroplane) | 0.00 |",
        "| **default: wup** | 0.860 | 80 | 0.762 | 1.000 | 1.00 | 1.00 (aeroplane) | 0.53 |",
        "| dog | 2 | 0.00 | 0.00 | 1.00 | 1.00 | 1.00 |",
        "| cat | 2 | 0.00 | 0.00 | 1.00 | 0.50 | 0.50 * |",
        "| wup | 0.900 | 80 | 0.762 | 1.000 | 1.00 | 1.00 (aeroplane) | 0.53 | 0.75 | 0.50 |",
        "x is out",
        "| without rivals | 0.900 | 80 | 0.762 | 1.000 | 1.00 | 1.00 (aeroplane) | 0.53 |",
        "| 0.800 | 0.525 | 0.344 | 40 | 0.00 (aeroplane) | 0.50 | 0.25 | 0.762 | 1.000 | 80 |",
    ):
        assert line in shown, line
