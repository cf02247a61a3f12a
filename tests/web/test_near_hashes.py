"""Near hashes: those that a comparison with each finds, in their order."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from web import near_hashes
from web.near_hashes import NearHashes


def compared(values: NDArray[np.uint64], value: int, near: int) -> list[int]:
    """The quadratic way."""
    return [i for i, other in enumerate(values.tolist()) if (other ^ value).bit_count() <= near]


def turned(value: int, bits: int, generator: np.random.Generator) -> int:
    """``value`` with so many of its bits changed, anywhere."""
    for bit in generator.choice(64, bits, replace=False):
        value ^= 1 << int(bit)
    return value


@pytest.mark.parametrize("near", [0, 1, 2, 3, 6, 10, 11, 20, 64])
def test_as_a_comparison_with_each(near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_hashes, "SWEPT", 100)
    monkeypatch.setattr(near_hashes, "MOST_PART", 1)
    generator = np.random.default_rng(near)
    centres = generator.integers(0, 1 << 64, 40, dtype=np.uint64).tolist()
    hashes, values, found = NearHashes(near), [], 0
    for i in range(1200):
        # Copies of few, at every distance around the bound, and strangers.
        bits = int(generator.integers(0, min(64, near + 3) + 1))
        value = (
            turned(centres[i % 40], bits, generator) if i % 3 else int(generator.integers(0, 1 << 64, dtype=np.uint64))
        )
        if i % 10 == 0:
            expected = compared(np.array(values, np.uint64), value, near)
            assert hashes.find(value).tolist() == expected
            found += len(expected)
        hashes.add(value)
        values.append(value)
    assert len(hashes) == 1200 and found > 20
    # Both ways were gone: tables where they are worth it, and never where nearly everything is near.
    assert (hashes._sorted > 1000) == (near <= 11)


def test_each_part_may_be_the_near_one() -> None:
    """All the difference that is allowed in three parts, or in one: nothing is lost where parts are looked up."""
    hashes = NearHashes(10)
    changes = [0x3FF, 0x3FF << 16, 0x3FF << 32, 0x3FF << 48, 0x0003_0003_0007_0007, 0x8001_8003_8003_8003 ^ 1]
    for value in (*changes, 0x7FF, 0x000F_000F_0007_0000):
        hashes.add(value)
    hashes._sort()
    for value in range(5000):
        hashes.add(turned(0, 40, np.random.default_rng(value)))
    hashes._sort()
    near = [i for i, value in enumerate([*changes, 0x7FF, 0x000F_000F_0007_0000]) if value.bit_count() <= 10]
    assert hashes._looked_up(0) is not None
    assert hashes.find(0).tolist() == near and len(near) == 6


def test_many_alike_are_swept() -> None:
    """A collection of flat pictures has one hash: their list would be several times as long as all hashes."""
    hashes = NearHashes(10)
    for _ in range(50):
        hashes.add(0)
    hashes._sort()
    assert hashes._looked_up(0) is None
    assert hashes.find(0b111).tolist() == list(range(50))
