"""An image in overlapping tiles whose logits fade into each other, at a memory that does not grow with the image.

The head pools over a window of a training crop's size (docs/method.md, "The network"), so a pixel at a tile's edge sees another
context than in the whole image. Hence tiles overlap, each counts least at its edges, and all begin on the grid of the body's features.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

# Tiles begin at multiples of this, the coarsest stride of any body.
ALIGN = 32


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in pixels; ends lie behind the last pixel.

    Attributes:
        start: first pixel that the network looks at.
        stop: the end of what it looks at.
        begin: first pixel to which the tile contributes.
        done: from here on the next tile contributes, too.
        end: the end of what the tile contributes to.
    """

    start: int
    stop: int
    begin: int
    done: int
    end: int


def least_tile(overlap: int) -> int:
    """The smallest tile for an overlap: no pixel belongs to three tiles of a row."""
    return 3 * overlap + 2 * ALIGN


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Tiles that cover ``length`` pixels, evenly spread, neighbours fading over ``overlap`` pixels in the middle of what both see.

    Args:
        length: of the image along the axis.
        tile: of the network's view; the last may be up to 31 pixels longer.
        overlap: pixels over which neighbours fade, at least 1.

    Raises:
        ValueError: the overlap is too large for the tile.
    """
    if overlap < 1 or tile < least_tile(overlap):
        raise ValueError(f"tiles of {tile} pixels cannot overlap by {overlap}")
    if length <= tile + ALIGN - 1:
        return [Span(0, length, 0, length, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [(length - tile) * k // (count - 1) // ALIGN * ALIGN for k in range(count)]
    stops = [start + tile for start in starts[:-1]] + [length]
    fades = [(after + stop - overlap) // 2 for stop, after in zip(stops, starts[1:], strict=False)]
    begins, dones = [0, *fades], [*fades, length]
    ends = [*(fade + overlap for fade in fades), length]
    return [Span(*fields) for fields in zip(starts, stops, begins, dones, ends, strict=True)]


def weights(along: list[Span], number: int) -> Tensor:
    """How much tile ``number`` counts at each pixel from its ``begin`` to its ``end``; over all tiles they sum to 1 at each pixel."""
    span = along[number]
    weight = torch.ones(span.end - span.begin)
    if number:
        rise = along[number - 1].end - span.begin
        weight[:rise] = (torch.arange(rise) + 0.5) / rise
    if span.end > span.done:
        fall = span.end - span.done
        weight[span.done - span.begin :] = 1 - (torch.arange(fall) + 0.5) / fall
    return weight


@dataclass(frozen=True)
class Piece:
    """Finished logits (1, C, h, w) of a part of the image, whose upper left pixel is (top, left)."""

    top: int
    left: int
    logits: Tensor


def blended(
    size: tuple[int, int],
    look: Callable[[int, int, int, int], Tensor],
    *,
    tile: int,
    overlap: int,
    folder: Path | None = None,
) -> Iterator[Piece]:
    """The blended logits of an image, piece by piece; the pieces cover it once.

    At a time one tile's logits lie in memory; those of the lower edge of a row of tiles wait in a file for the next row.

    Args:
        size: the image's width and height.
        look: left, top, right, bottom -> float32 logits (1, C, bottom - top, right - left), which are changed.
        tile: side of what is looked at, pixels.
        overlap: pixels over which neighbours fade.
        folder: where the file lies; None takes the system's.
    """
    columns, rows = spans(size[0], tile, overlap), spans(size[1], tile, overlap)
    with tempfile.TemporaryFile(dir=folder) as file:
        for r, row in enumerate(rows):
            down = weights(rows, r)
            rise = rows[r - 1].end - row.begin if r else 0
            from_left: Tensor | None = None
            for c, column in enumerate(columns):
                logits = look(column.start, row.start, column.stop, row.stop)
                part = logits[..., row.begin - row.start : row.end - row.start, :]
                part = part[..., column.begin - column.start : column.end - column.start]
                part *= (down[:, None] * weights(columns, c)[None]).to(part.device)
                if from_left is not None:
                    part[..., : from_left.shape[-1]] += from_left
                finished = column.done - column.begin
                from_left = part[..., finished:].clone()
                part = part[..., :finished]
                channels = part.shape[1]
                if r:
                    part[..., :rise, :] += _read(
                        file, channels * rise * column.begin, (1, channels, rise, finished)
                    ).to(part.device)
                yield Piece(row.begin, column.begin, part[..., : row.done - row.begin, :])
                fall = row.end - row.done
                if fall:
                    _write(file, channels * fall * column.begin, part[..., row.done - row.begin :, :])


def _write(file: IO[bytes], place: int, values: Tensor) -> None:
    file.seek(4 * place)
    file.write(memoryview(values.contiguous().cpu().numpy()).cast("B"))


def _read(file: IO[bytes], place: int, shape: tuple[int, ...]) -> Tensor:
    file.seek(4 * place)
    values = np.frombuffer(bytearray(file.read(4 * int(np.prod(shape)))), np.float32)
    return torch.from_numpy(values).view(shape)
