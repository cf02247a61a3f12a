"""What is counted of classes that the teacher confuses, and what it makes of the old targets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.confusion import KEPT, Confusion, taken, yielding
from methods.weak import weak_targets

OLD, NEW, IMAGES, SIDE = 4, 2, 3, 5


def drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = (IMAGES, NEW, SIDE, SIDE), (IMAGES, OLD, SIDE, SIDE)
    one, other = (torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return one, other


def test_counts_pixel_by_pixel() -> None:
    claims, old = drawn()
    expected = torch.zeros(NEW, OLD, dtype=torch.float64)
    for b in range(IMAGES):
        for y in range(SIDE):
            for x in range(SIDE):
                for n in range(NEW):
                    for o in range(OLD):
                        expected[n, o] += claims[b, n, y, x] * old[b, o, y, x] / old[b, :, y, x].sum()
    found = taken(claims, old)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(dim=1), claims.sum(dim=(0, 2, 3)))
    assert not taken(claims, torch.zeros_like(old)).any(), "a teacher that says nothing is no division by zero"


def test_who_yields_how_far() -> None:
    counts = torch.tensor([[5.0, 4, 1, 0], [0, 0, 0, 0]])
    found = yielding(counts, 0.2)
    torch.testing.assert_close(found, torch.tensor([[1, 1, 0.5, 0], [1, 1, 1, 1]]))


def test_old_classes_that_are_never_confused_keep_their_targets() -> None:
    masks = torch.zeros(1, OLD + NEW, 2, 2)
    masks[:, OLD] = 1
    labels = torch.zeros(1, OLD + NEW - 1)
    labels[:, OLD - 1] = 1
    teacher = torch.tensor([0.1, 0.8, 0.1, 0.0])[None, :, None, None].repeat(1, 1, 2, 2)
    teacher[..., 1, 1] = torch.tensor([0.0, 0, 0, 1])
    memory = Confusion(NEW, OLD, 0.5)
    found = weak_targets(
        masks, masks, labels, teacher, alpha=0.5, background=-1, old_yields=True,
        confused=lambda claims, old: memory(claims, old, lambda value: value),
    ).segmenter  # fmt: skip
    torch.testing.assert_close(memory.counts[0], torch.tensor([0.3, 2.4, 0.3, 1.0]))
    # Three of four pixels are taken for class 1, one for class 3, of which a half would be needed.
    assert not found[:, :2].any() and found[0, OLD].eq(1).all()
    torch.testing.assert_close(found[0, 3], torch.tensor([[0, 0], [0, 1 - 0.25 / 0.5]]))
    plain = weak_targets(masks, masks, labels, teacher, alpha=0.5, background=-1, old_yields=True).segmenter
    everywhere = weak_targets(
        masks, masks, labels, teacher, alpha=0.5, background=-1, old_yields=True,
        confused=lambda claims, old: torch.ones(NEW, OLD),
    ).segmenter  # fmt: skip
    torch.testing.assert_close(everywhere, plain)


def test_counts_fade_and_ranks_agree() -> None:
    claims, old = (value.float() for value in drawn())
    one = Confusion(NEW, OLD, 0.5)
    for _ in range(2):
        last = one(claims, old, lambda value: value)
    torch.testing.assert_close(one.counts, (1 + KEPT) * taken(claims, old))
    # Two ranks, of which the average is made by hand: shares do not depend on how many there are.
    parts = [taken(claims[:1], old[:1]), taken(claims[1:], old[1:])]
    ranks = [Confusion(NEW, OLD, 0.5) for _ in parts]
    for rank, part in zip(ranks, ((claims[:1], old[:1]), (claims[1:], old[1:])), strict=True):
        torch.testing.assert_close(rank(*part, lambda _: sum(parts) / 2), last)
    again = Confusion(NEW, OLD, 0.5)
    again.load_state_dict(one.state_dict())
    assert torch.equal(again.counts, one.counts)
    with pytest.raises(RuntimeError, match="size mismatch"):
        Confusion(NEW, OLD + 1, 0.5).load_state_dict(one.state_dict())
