"""What is kept of web images whose captions name their class, under noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.tags import CLASSES, NOISE, Images, named, photo_table, score, shares_of, web_files, web_table
from utils.errors import UserError

NAMES = np.repeat(CLASSES, 4)
CAT, DOG = CLASSES.index("cat"), CLASSES.index("dog")


def test_precision_is_of_a_search_with_noise() -> None:
    """Three of four cats named; of each dog search's four images one is called a cat."""
    found = np.zeros((len(NAMES), len(CLASSES)), dtype=bool)
    found[np.flatnonzero(NAMES == "cat")[:3], CAT] = True
    found[np.flatnonzero(NAMES == "dog")[:1], CAT] = True
    judged = score(found, NAMES)
    wrong = 0.25 / (len(CLASSES) - 1)
    assert judged.kept[CAT] == 0.75 and judged.wrong[CAT] == pytest.approx(wrong)
    assert judged.precision[CAT] == pytest.approx((1 - NOISE) * 0.75 / ((1 - NOISE) * 0.75 + NOISE * wrong))
    assert judged.reached.tolist() == [name == "cat" for name in CLASSES]
    table = web_table({"now": judged}, [2] * len(CLASSES))
    (row,) = (line for line in table if line.startswith("| cat "))
    assert row == "| cat | 2 | 75% | 0.993 |" and "**0%**" in next(line for line in table if line.startswith("| dog "))


def test_every_other_image_is_tuned_on() -> None:
    images = Images(np.zeros((len(NAMES), 1000), np.float32), NAMES, np.zeros((len(NAMES), len(CLASSES)), np.float32))
    tuned = images.tuned()
    assert [int(tuned[name == NAMES].sum()) for name in CLASSES] == [2] * len(CLASSES) and tuned[:4].tolist() == [
        1,
        0,
        1,
        0,
    ]


def test_captions_are_read_by_the_vocabulary() -> None:
    found = named(["horse, sorrel", "a flowerpot", "horse, sorrel"])
    assert [[CLASSES[i] for i in np.flatnonzero(row)] for row in found] == [["horse"], ["pottedplant"], ["horse"]]


def test_photographs(tmp_path: Path) -> None:
    """By the masks: recall of large ones, precision of any."""
    mask = np.zeros((10, 10), dtype=np.uint8)
    mask[:5], mask[5, 0], mask[9] = 8, 12, 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    shares = shares_of(tmp_path / "mask.png")
    assert (shares[CAT], shares[DOG], shares.sum()) == (0.5, pytest.approx(0.01), pytest.approx(0.51))
    found = np.zeros((2, len(CLASSES)), dtype=bool)
    found[:, [CAT, DOG]] = True
    rows = photo_table({"now": found}, np.stack([shares, np.zeros_like(shares)]))
    assert "| cat | 1 | 100% | 0.50 |" in rows and "| dog | 0 | | 0.50 |" in rows


def test_a_folder_that_lacks_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fewer than two images"):
        web_files(tmp_path)
