"""Run lengths: a plain decoder gives the mask back, counts and string alike."""

from __future__ import annotations

import numpy as np
import pytest

from prediction import rle
from prediction.rle import annotations, compressed, encode
from tests.prediction.test_polygons import blobs


def counts_of(text: str) -> list[int]:
    """COCO's string read back, letter by letter."""
    counts: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[place]) - 48
            value |= (bits & 31) << shift
            more, shift, place = bool(bits & 32), shift + 5, place + 1
            if not more and bits & 16:
                value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def decoded(counts: list[int], size: tuple[int, int]) -> np.ndarray:
    """Runs of 0 and 1 in turn, down the columns."""
    flat = [value for number, count in enumerate(counts) for value in [number % 2] * count]
    assert len(flat) == size[0] * size[1]
    return np.array(flat, bool).reshape(size[1], size[0]).T


@pytest.mark.parametrize("part", [1 << 22, 50])
@pytest.mark.parametrize("seed", range(8))
def test_what_was_encoded_comes_back(seed: int, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rle, "PART", part)
    mask = blobs(seed)
    counts = encode(mask)
    assert counts.keys() == set(np.unique(mask).tolist())
    for value, own in counts.items():
        assert np.array_equal(decoded(own, mask.shape), mask == value)
        assert all(count > 0 for count in own[1:]), "no run is empty but the first"
        assert counts_of(compressed(own)) == own


def test_long_and_shrinking_counts() -> None:
    for counts in ([0, 1], [5], [108_000_000], [3, 70_000, 2, 1, 90_000, 40, 7], [16, 15, 17, 31, 32, 33, 1023, 1024]):
        assert counts_of(compressed(counts)) == counts


def test_known_strings() -> None:
    """Letters by hand: 6 is one group of five bits; 100 is 4 and 3; the fourth count is -2 from the second."""
    assert compressed([6, 100]) == chr(48 + 6) + chr(48 + 32 + 4) + chr(48 + 3)
    assert compressed([1, 4, 1, 2]) == "141" + chr(48 + 30)


@pytest.mark.parametrize("seed", range(8))
def test_annotations(seed: int) -> None:
    mask = blobs(seed, size=(17, 12), levels=4)
    found = annotations(mask)
    assert [one["category_id"] for one in found] == [value for value in np.unique(mask).tolist() if value]
    for one in found:
        own = mask == one["category_id"]
        y, x = np.nonzero(own)
        assert one["bbox"] == [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
        assert one["area"] == own.sum() and one["segmentation"]["size"] == [17, 12]
        assert np.array_equal(decoded(counts_of(one["segmentation"]["counts"]), (17, 12)), own)


def test_one_class_everywhere() -> None:
    mask = np.full((3, 4), 7, np.uint8)
    assert encode(mask) == {7: [0, 12]}
    assert annotations(mask)[0]["bbox"] == [0, 0, 4, 3] and annotations(mask, leave_out=7) == []
