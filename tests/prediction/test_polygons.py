"""Polygons filled again give the mask, outlines and holes are what they say, and none meets itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from prediction import polygons as module
from prediction.polygons import area, features, polygons


def filled(shape: tuple[int, int], rings: list[list[tuple[int, int]]]) -> np.ndarray:
    """The pixels whose centre is inside by the even-odd rule, one ring after the other, one edge after the other."""
    inside = np.zeros(shape, bool)
    for ring in rings:
        for (x, y), (x2, y2) in pairwise(ring):
            if x == x2:
                inside[min(y, y2) : max(y, y2), x:] ^= True
    return inside


def blobs(seed: int, size: tuple[int, int] = (23, 31), levels: int = 3) -> np.ndarray:
    """Noise in grains of one to three pixels."""
    rng = np.random.default_rng(seed)
    grain = 1 + seed % 3
    small = rng.integers(0, levels, (size[0] // grain + 1, size[1] // grain + 1)).astype(np.uint8)
    return np.kron(small, np.ones((grain, grain), np.uint8))[: size[0], : size[1]]


def parts(region: np.ndarray) -> int:
    """Number of 4-connected regions, by flooding."""
    left, count = region.copy(), 0
    while left.any():
        count += 1
        waiting = [tuple(np.argwhere(left)[0])]
        while waiting:
            y, x = waiting.pop()
            if 0 <= y < left.shape[0] and 0 <= x < left.shape[1] and left[y, x]:
                left[y, x] = False
                waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return count


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("part", [1 << 22, 40])
def test_filled_again_they_give_the_mask(seed: int, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", part)
    mask = blobs(seed)
    collection = features(mask, {1: "cat", 2: "dog"})
    again = np.zeros_like(mask)
    for feature in collection["features"]:
        rings = feature["geometry"]["coordinates"]
        inside = filled(mask.shape, rings)
        assert not again[inside].any() and inside.sum() == feature["properties"]["area"]
        assert parts(inside) == 1, "a polygon is one region"
        again[inside] = feature["properties"]["id"]
    assert np.array_equal(again, mask)
    assert collection["size"] == [23, 31]
    assert {feature["properties"]["class"] for feature in collection["features"]} == {"cat", "dog"}


@pytest.mark.parametrize("seed", range(12))
def test_rings_are_simple_and_turn_as_promised(seed: int) -> None:
    region = blobs(seed, levels=2) == 1
    found = polygons(region)
    assert len(found) == parts(region)
    for outline, *holes in found:
        assert area(outline[:-1]) > 0 and all(area(hole[:-1]) < 0 for hole in holes)
        for ring in (outline, *holes):
            assert ring[0] == ring[-1] and len(set(ring[:-1])) == len(ring) - 1, "a ring meets no place twice"
            assert all((x == x2) != (y == y2) for (x, y), (x2, y2) in pairwise(ring))


def test_a_ring_in_a_ring() -> None:
    region = np.zeros((9, 9), bool)
    region[1:8, 1:8] = True
    region[2:7, 2:7] = False
    region[4, 4] = True
    outer, inner = sorted(polygons(region), key=len, reverse=True)
    assert set(outer[0]) == {(1, 1), (8, 1), (8, 8), (1, 8)}
    assert set(outer[1]) == {(2, 2), (7, 2), (7, 7), (2, 7)} and len(outer) == 2
    assert [set(ring) for ring in inner] == [{(4, 4), (5, 4), (5, 5), (4, 5)}]


@pytest.mark.parametrize(
    "region", [np.zeros((4, 5), bool), np.zeros((0, 5), bool), np.ones((1, 1), bool), np.ones((3, 4), bool)]
)
def test_all_and_nothing(region: np.ndarray) -> None:
    found = polygons(region)
    assert len(found) == int(region.any()) and all(len(polygon) == 1 for polygon in found)
    assert np.array_equal(filled(region.shape, [ring for polygon in found for ring in polygon]), region)
