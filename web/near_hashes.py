"""Hashes of 64 bits that differ in a few of them, found among very many without a look at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BITS = 64
# A hash is cut into parts that are looked up in a table each.
PART_BITS = 16
PARTS, KEYS = BITS // PART_BITS, 1 << PART_BITS
SHIFTS = np.arange(0, BITS, PART_BITS, dtype=np.uint64)
# Hashes that came last are swept over: so many, or this part of the others, whichever is more. Then the tables are made anew.
SWEPT, SWEPT_PART = 1 << 14, 64
# More places of the tables, or more hashes in them than this part of all, take longer than a sweep over all.
MOST_PLACES, MOST_PART = 1 << 12, 8
FIRST_SPACE = 1024


class NearHashes:
    """Hashes in the order in which they came, and those of them that are near another one.

    Let the parts of two hashes differ in d_1 ... d_4 bits, at most r in all. For any t_1 ... t_4 that add up to r + 1 one d_i is less
    than t_i (else the sum were more than r), so that it is enough to look where one part differs in less than t_i bits: at 428 places of
    262,144 for r = 10. The result is that of a comparison with all.

    Args:
        near: bits that near hashes may differ in, 0 to 64.
    """

    def __init__(self, near: int) -> None:
        self.near = near
        self._values = np.zeros(FIRST_SPACE, np.uint64)
        self._count = 0
        every = np.arange(KEYS)
        less, more = divmod(near + 1, PARTS)
        changes = [every[np.bitwise_count(every) < less + (part < more)] for part in range(PARTS)]
        # What is to be changed in a hash's parts, and in which.
        self._changes = np.concatenate(changes)
        self._parts = np.repeat(np.arange(PARTS), [len(own) for own in changes])
        # Hashes and their positions by key, part after part, so that those of a place lie side by side in memory; where each key's
        # begin; and how many hashes are in there.
        self._by_key = np.zeros((PARTS, 0), np.uint64)
        self._order = np.zeros((PARTS, 0), np.uint32)
        self._begins = np.zeros(PARTS * KEYS + 1, np.int64)
        self._sorted = 0

    def __len__(self) -> int:
        return self._count

    def add(self, value: int) -> None:
        """Remember a hash; its position is the number of those before it."""
        if self._count == len(self._values):
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
        self._values[self._count] = value
        self._count += 1

    def find(self, value: int) -> NDArray[np.int64]:
        """Positions of all hashes that differ from ``value`` in at most ``near`` bits, ascending."""
        if len(self._changes) > MOST_PLACES:
            return self.compared(value)
        if self._count - self._sorted > max(SWEPT, self._sorted // SWEPT_PART):
            self._sort()
        looked_up = self._looked_up(value) if self._sorted else np.zeros(0, np.int64)
        if looked_up is None:
            return self.compared(value)
        return np.concatenate([looked_up, self.compared(value, self._sorted)])

    def compared(self, value: int, begin: int = 0) -> NDArray[np.int64]:
        """What ``find`` finds from a position on, by a comparison with each."""
        differing = np.bitwise_count(self._values[begin : self._count] ^ np.uint64(value))
        return np.flatnonzero(differing <= self.near) + begin

    def _sort(self) -> None:
        """Make the tables of all hashes: 48 bytes each."""
        count = self._count
        by_key = np.empty((PARTS, count), np.uint64)
        order, sizes = np.empty((PARTS, count), np.uint32), np.empty((PARTS, KEYS), np.int64)
        for part, shift in enumerate(SHIFTS):
            keys = (self._values[:count] >> shift).astype(np.uint16)
            order[part] = np.argsort(keys, kind="stable")
            by_key[part] = self._values[order[part]]
            sizes[part] = np.bincount(keys, minlength=KEYS)
        self._by_key, self._order, self._sorted = by_key, order, count
        np.cumsum(sizes, out=self._begins[1:])

    def _looked_up(self, value: int) -> NDArray[np.int64] | None:
        """Those of the tables; None where so many have a part in common that a sweep over all is faster."""
        own = ((np.uint64(value) >> SHIFTS) & np.uint64(KEYS - 1)).astype(np.int64)
        places = (own[self._parts] ^ self._changes) + self._parts * KEYS
        begins = self._begins[places]
        sizes = self._begins[places + 1] - begins
        ends = np.cumsum(sizes)
        if ends[-1] > self._sorted // MOST_PART:
            return None
        # The places' runs one after another.
        runs = np.repeat(begins - ends + sizes, sizes) + np.arange(ends[-1])
        differing = np.bitwise_count(self._by_key.ravel()[runs] ^ np.uint64(value))
        # One that is near in several parts is found in each.
        return np.unique(self._order.ravel()[runs[differing <= self.near]]).astype(np.int64)
