"""Masks as polygons along the edges of pixels: filled again they give the mask, to the pixel.

Coordinates are those of pixel corners, (0, 0) the upper left one of the image, x to the right, y down. A polygon is a 4-connected
region: its outline first, then its holes. Outlines have a positive area by the shoelace formula, holes a negative one; none of them
meets itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ring = list[tuple[int, int]]
# Rows of a mask that are searched for corners at once, times its width.
PART = 1 << 22


def polygons(region: NDArray[np.bool_]) -> list[list[Ring]]:
    """The polygons of a region (H, W): each an outline and its holes, rings of (x, y) corners whose last is the first again."""
    corners = _corners(region)
    if not len(corners):
        return []
    return _nested([part for ring in _rings(corners) for part in _simple(ring)], region.shape[1])


def _corners(region: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N, 5): x and y of every corner of an outline; whether its horizontal edge goes right, its vertical one down, and whether who
    walks along the horizontal edge, away from the corner, has the region to the right.

    Where two pixels meet at their corners alone there are two, one a pixel, so that outlines do not cross there.
    """
    height, width = region.shape
    rows = max(1, PART // (width + 1))
    found = []
    for top in range(0, height + 1, rows):
        bottom = min(height + 1, top + rows)
        # The place (x, y) lies between the pixels (x - 1, y - 1), (x, y - 1), (x - 1, y) and (x, y).
        around = np.zeros((bottom - top + 1, width + 2), bool)
        inner = region[max(0, top - 1) : bottom]
        first = 1 if top == 0 else 0
        around[first : first + len(inner), 1:-1] = inner
        pixels = around[:-1, :-1], around[:-1, 1:], around[1:, :-1], around[1:, 1:]
        total = sum(pixel.astype(np.uint8) for pixel in pixels)
        # Of a saddle's two pixels each has a corner.
        saddle = (total == 2) & (pixels[0] == pixels[3])
        for number, pixel in enumerate(pixels):
            right, down = number % 2, number // 2
            # Edges lie on the sides of the one pixel that differs from its neighbours.
            for corner, below in (
                ((total == 1) & pixel, down),
                ((total == 3) & ~pixel, 1 - down),
                (saddle & pixel, down),
            ):
                y, x = np.nonzero(corner)
                flags = [np.full_like(x, flag) for flag in (right, down, int(right == below))]
                found.append(np.stack([x, y + top, *flags], axis=1))
    return np.concatenate(found)


def _rings(corners: NDArray[np.int64]) -> list[Ring]:
    """The corners in rings, the region always to the right: along a row they end edges in pairs, and so along a column."""
    x, y, right, down, forward = corners.T
    across, along = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
    # Of two corners at one place the first ends an edge and the second begins the next.
    for other, order in ((across, np.lexsort((right, x, y))), (along, np.lexsort((down, y, x)))):
        other[order[::2]], other[order[1::2]] = order[1::2], order[::2]
    places = list(zip(x.tolist(), y.tolist(), strict=True))
    horizontal, vertical, starts = across.tolist(), along.tolist(), np.flatnonzero(forward).tolist()
    free = [True] * len(places)
    rings = []
    for start in starts:
        ring, at = [], start
        while free[at]:
            after = horizontal[at]
            free[at] = free[after] = False
            ring += [places[at], places[after]]
            at = vertical[after]
        if ring:
            rings.append(ring)
    return rings


def _simple(ring: Ring) -> list[Ring]:
    """A ring cut where it comes back to a place, so that no part of it meets itself."""
    parts: list[Ring] = []
    path: Ring = []
    seen: dict[tuple[int, int], int] = {}
    for place in ring:
        if place in seen:
            loop = path[seen[place] :]
            del path[seen[place] :]
            parts.append(loop)
            for gone in loop:
                del seen[gone]
        seen[place] = len(path)
        path.append(place)
    return [*parts, path]


def area(ring: Ring) -> float:
    """Signed area by the shoelace formula, square pixels."""
    return sum(x * y2 - x2 * y for (x, y), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True)) / 2


def _nested(rings: list[Ring], width: int) -> list[list[Ring]]:
    """Each outline with its holes.

    Left of a hole's leftmost edge lies the region; where it begins there is an edge of the same polygon, its outline's or that of a
    hole further left.
    """
    hole = np.array([area(ring) < 0 for ring in rings])
    edges, owners = _vertical_edges(rings)
    keys = edges[:, 1] * (width + 1) + edges[:, 0]
    order = np.argsort(keys, kind="stable")
    parents = np.arange(len(rings))
    # Of each ring the edge with the least x.
    leftmost = np.lexsort((edges[:, 0], owners))
    first = np.searchsorted(owners[leftmost], np.flatnonzero(hole))
    asked = keys[leftmost[first]]
    parents[hole] = owners[order[np.searchsorted(keys[order], asked) - 1]]
    while hole[parents].any():
        parents = np.where(hole[parents], parents[parents], parents)
    nested: dict[int, list[Ring]] = {number: [] for number in np.flatnonzero(~hole).tolist()}
    for number, ring in enumerate(rings):
        own = nested[int(parents[number])]
        own.insert(0 if not hole[number] else len(own), [*ring, ring[0]])
    return list(nested.values())


def _vertical_edges(rings: list[Ring]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Vertical edges of one pixel's length, (N, 2): x and the pixel row; and the number of the ring that each belongs to."""
    starts = np.concatenate([np.array(ring, np.int64) for ring in rings])
    stops = np.concatenate([np.array([*ring[1:], ring[0]], np.int64) for ring in rings])
    numbers = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    upright = starts[:, 0] == stops[:, 0]
    starts, stops, numbers = starts[upright], stops[upright], numbers[upright]
    top = np.minimum(starts[:, 1], stops[:, 1])
    length = abs(stops[:, 1] - starts[:, 1])
    row = np.repeat(top - np.cumsum(length) + length, length) + np.arange(length.sum())
    return np.stack([np.repeat(starts[:, 0], length), row], axis=1), np.repeat(numbers, length)


def features(mask: NDArray[np.uint8], names: Mapping[int, str], leave_out: int = 0) -> dict[str, Any]:
    """A mask (H, W) as a collection of features after GeoJSON, one polygon each, in pixels in place of degrees.

    Args:
        mask: class ids.
        names: of the ids.
        leave_out: the id that gets no polygon; all others do.
    """
    found: list[dict[str, Any]] = []
    for value in np.unique(mask).tolist():
        if value == leave_out:
            continue
        rows = np.flatnonzero((mask == value).any(axis=1))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        for polygon in polygons(mask[top:bottom] == value):
            rings = [[[x, y + top] for x, y in ring] for ring in polygon]
            size = int(sum(area(ring[:-1]) for ring in polygon))
            found.append(
                {
                    "type": "Feature",
                    "properties": {"class": names.get(value, str(value)), "id": value, "area": size},
                    "geometry": {"type": "Polygon", "coordinates": rings},
                }
            )
    height, width = mask.shape
    return {"type": "FeatureCollection", "size": [height, width], "features": found}
