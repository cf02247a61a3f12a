"""Masks as COCO's run lengths: columns one after the other, from the top; runs of 0 and 1 in turn, of 0 first.

The compressed form is COCO's, too: each count (from the fourth on its difference to the last but one) in groups of five bits, lowest
first, a sixth bit set where another group follows, 48 added to make a letter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Pixels that are turned into runs at once.
PART = 1 << 20


def runs(mask: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where the runs of equal values begin in a mask (H, W) whose columns stand one after the other, and their values."""
    height, width = mask.shape
    starts: list[NDArray[np.int64]] = []
    values: list[NDArray[np.uint8]] = []
    before = -1
    columns = max(1, PART // max(1, height))
    for left in range(0, width, columns):
        flat = mask[:, left : left + columns].ravel(order="F")
        changed = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        if flat.size and int(flat[0]) != before:
            changed = np.concatenate([[0], changed])
        starts.append(changed.astype(np.int64) + left * height)
        values.append(flat[changed])
        before = int(flat[-1]) if flat.size else before
    return np.concatenate(starts), np.concatenate(values)


def encode(mask: NDArray[np.uint8]) -> dict[int, list[int]]:
    """The counts of each value of a mask (H, W): pixels that do not have it, pixels that have it, and so on."""
    starts, values = runs(mask)
    ends = np.append(starts[1:], mask.size)
    counts: dict[int, list[int]] = {}
    for value in np.unique(values).tolist():
        own = values == value
        edges = np.stack([starts[own], ends[own]], axis=1).ravel()
        own_counts = np.diff(edges, prepend=0).tolist()
        # The pixels behind the last one, unless it is the mask's last.
        rest = mask.size - int(edges[-1])
        counts[value] = own_counts + ([rest] if rest else [])
    return counts


def compressed(counts: list[int]) -> str:
    """Counts as COCO's string."""
    letters = []
    for number, count in enumerate(counts):
        rest = count - counts[number - 2] if number > 2 else count
        while True:
            bits, rest = rest & 31, rest >> 5
            last = rest == (-1 if bits & 16 else 0)
            letters.append(chr((bits if last else bits | 32) + 48))
            if last:
                break
    return "".join(letters)


def coco_annotations(mask: NDArray[np.uint8], leave_out: int = 0) -> list[dict[str, Any]]:
    """COCO's annotations of a mask (H, W), one a value but ``leave_out``: category, segmentation, area, box, ``iscrowd``.

    The box is COCO's: left, top, width, height.
    """
    height, width = mask.shape
    found = []
    for value, counts in encode(mask).items():
        if value == leave_out:
            continue
        starts = np.cumsum(counts)[::2][: len(counts) // 2]
        lengths = np.array(counts[1::2])
        ends = starts + lengths - 1
        left, right = int(starts[0]) // height, int(ends[-1]) // height
        # A run that goes on in the next column touches both the lower and the upper edge.
        across = starts // height != ends // height
        top = 0 if across.any() else int((starts % height).min())
        bottom = height - 1 if across.any() else int((ends % height).max())
        found.append(
            {
                "category_id": value,
                "segmentation": {"size": [height, width], "counts": compressed(counts)},
                "area": int(lengths.sum()),
                "bbox": [left, top, right - left + 1, bottom - top + 1],
                "iscrowd": 1,
            }
        )
    return found
