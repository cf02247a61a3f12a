"""Tiles cover an image once, fade without a jump, and give back what is the same in all of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from prediction.tiles import ALIGN, Piece, blended, least_tile, spans, weights


@pytest.mark.parametrize("overlap", [1, 16, 64])
@pytest.mark.parametrize("extra", [0, 96])
def test_spans_cover_an_axis_once(overlap: int, extra: int) -> None:
    tile = least_tile(overlap) + extra
    for length in [*range(1, 3 * tile, 7), *range(10 * tile, 10 * tile + 70, 9)]:
        along = spans(length, tile, overlap)
        total = torch.zeros(length)
        for number, span in enumerate(along):
            assert span.start <= span.begin < span.done <= span.end <= span.stop <= length
            assert span.start % ALIGN == 0 and (len(along) == 1 or tile <= span.stop - span.start < tile + ALIGN)
            total[span.begin : span.end] += weights(along, number)
        assert torch.allclose(total, torch.ones(length), atol=1e-6)
        assert [span.begin for span in along] == [0, *(span.done for span in along[:-1])] and along[-1].done == length
        for before, after in pairwise(along):
            assert before.end - before.done == overlap and after.begin == before.done
            assert before.end <= after.done, "no pixel belongs to three tiles"


def test_an_overlap_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="tiles of 255 pixels cannot overlap by 64"):
        spans(1000, 255, 64)


def whole(size: tuple[int, int], pieces: list[Piece]) -> Tensor:
    width, height = size
    channels = pieces[0].logits.shape[1]
    result, seen = torch.zeros(1, channels, height, width), torch.zeros(height, width)
    for piece in pieces:
        h, w = piece.logits.shape[-2:]
        place = (slice(piece.top, piece.top + h), slice(piece.left, piece.left + w))
        result[(..., *place)] = piece.logits
        seen[place] += 1
    assert bool((seen == 1).all()), "each pixel is given once"
    return result


@pytest.mark.parametrize("size", [(300, 200), (167, 600), (40, 900), (500, 431), (1, 1)])
def test_what_all_tiles_agree_on_stays(size: tuple[int, int]) -> None:
    values = torch.randn(1, 5, size[1], size[0], generator=torch.Generator().manual_seed(0))

    def look(left: int, top: int, right: int, bottom: int) -> Tensor:
        return values[..., top:bottom, left:right].clone()

    pieces = [Piece(p.top, p.left, p.logits.clone()) for p in blended(size, look, tile=160, overlap=32)]
    assert torch.allclose(whole(size, pieces), values, atol=1e-5)


def test_tiles_that_disagree_fade() -> None:
    """The worst case, a number of its own for each tile: over the overlap it changes evenly."""
    generator = torch.Generator().manual_seed(1)
    size = (700, 520)

    def look(left: int, top: int, right: int, bottom: int) -> Tensor:
        return torch.rand(1, 3, 1, 1, generator=generator).expand(1, 3, bottom - top, right - left).clone()

    pieces = [Piece(p.top, p.left, p.logits.clone()) for p in blended(size, look, tile=160, overlap=32)]
    result = whole(size, pieces)
    steps = [float(result.diff(dim=dim).abs().max()) for dim in (-1, -2)]
    assert max(steps) <= 1 / 32 + 1e-6 and min(steps) > 1 / 64, "as steep as a ramp over 32 pixels, and there are ramps"
    assert result.min() >= 0 and result.max() <= 1


def test_tiles_see_the_grid_of_the_whole_image() -> None:
    """A network of stride 32 gives the same features wherever a tile lies, away from its edges."""
    net = torch.nn.Conv2d(3, 2, 32, 32)
    image = torch.rand(1, 3, 416, 608)

    def look(left: int, top: int, right: int, bottom: int) -> Tensor:
        with torch.no_grad():
            maps = net(
                torch.nn.functional.pad(
                    image[..., top:bottom, left:right], (0, -(right - left) % 32, 0, -(bottom - top) % 32)
                )
            )
        return maps.repeat_interleave(32, -1).repeat_interleave(32, -2)[..., : bottom - top, : right - left]

    pieces = [Piece(p.top, p.left, p.logits.clone()) for p in blended((608, 416), look, tile=160, overlap=32)]
    assert torch.allclose(whole((608, 416), pieces), look(0, 0, 608, 416), atol=1e-5)


def test_one_tile_waits_in_memory() -> None:
    """Between two pieces nothing lies there but the last tile and the right edge that it shares."""
    import tracemalloc

    def peak(side: int) -> float:
        def look(left: int, top: int, right: int, bottom: int) -> Tensor:
            return torch.from_numpy(np.zeros((1, 4, bottom - top, right - left), np.float32))

        tracemalloc.start()
        for _ in blended((side, side), look, tile=160, overlap=32):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / (4 * 4 * 160 * 160)

    assert peak(2000) < 1.3 * peak(600)
