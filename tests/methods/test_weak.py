"""What the options that the papers lack do to the weak step's targets and losses; parity is tests/test_training_step.py's."""

from __future__ import annotations

import pytest
import torch

from dataset.batch import Batch
from methods.base import Iteration, Prediction
from methods.losses import folded
from methods.sure import sure_shares
from methods.weak import Weak, weak_targets

OLD, TOTAL = 3, 5


def test_old_targets_yield_to_what_is_claimed() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(2, TOTAL, 4, 4, generator=generator).softmax(dim=1)
    labels = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0]])
    teacher = torch.rand(2, OLD, 4, 4, generator=generator)
    plain, yielding = (
        weak_targets(masks, masks, labels, teacher, alpha=0.5, background=-1, old_yields=yields)
        for yields in (False, True)
    )
    claimed = plain.soft[:, OLD:].sum(dim=1, keepdim=True)
    assert claimed[0].max() > 0.5 and not claimed[1].any(), "the second image has no new class"
    torch.testing.assert_close(yielding.segmenter[:, :OLD], teacher * (1 - claimed))
    torch.testing.assert_close(plain.segmenter[:, 1:OLD], teacher[:, 1:])
    torch.testing.assert_close(yielding.segmenter[:, OLD:], plain.segmenter[:, OLD:])


def test_absent_classes_are_folded_into_the_present_ones() -> None:
    masks = torch.tensor([0.2, 0.1, 0.3, 0.3, 0.1])[None, :, None, None].repeat(3, 1, 1, 1)
    present = torch.tensor([[1.0, 0, 0, 1, 0], [1, 1, 0, 1, 0], [1, 0, 0, 0, 0]])[:, :, None, None]
    found = folded(masks, present)[..., 0, 0]
    torch.testing.assert_close(found[0], torch.tensor([0.2, 0.1, 0.3, 0.8, 0.1]))
    torch.testing.assert_close(found[1], torch.tensor([0.2, 0.2, 0.3, 0.6, 0.1]))
    torch.testing.assert_close(found[2], masks[2, :, 0, 0])
    labels = present[:, 1:, 0, 0]
    plain, folding = (
        weak_targets(masks, masks, labels, masks[:, :OLD], alpha=0.5, background=-1, fold_absent=folds)
        for folds in (False, True)
    )
    assert plain.soft[0, 3].item() == pytest.approx(0.65) and folding.soft[0, 3].item() == pytest.approx(0.9)
    assert folding.refined.sum(dim=1).flatten().tolist() == pytest.approx([1, 1, 0.2]), (
        "nothing of absent classes is left"
    )


def seg_loss(replay_weight: float, replay: list[bool]) -> float:
    generator = torch.Generator().manual_seed(1)
    logits, masks = (torch.randn(2, TOTAL, 4, 4, generator=generator)[: len(replay)] for _ in range(2))
    batch = Batch(
        images=torch.zeros(len(replay), 3, 64, 64, dtype=torch.uint8),
        masks=torch.full((len(replay), 64, 64), 255),
        image_labels=torch.tensor([[1.0, 0, 0, 0] if is_replay else [0, 0, 1, 0] for is_replay in replay]),
        is_replay=torch.tensor(replay),
        names=("x",) * len(replay),
    )
    masks[:, 3, :2] += 9
    body = torch.zeros(len(replay), 8, 4, 4)
    method = Weak(old=OLD, total=TOTAL, replay_weight=replay_weight)
    terms = method.losses(
        batch,
        Prediction(logits, body, masks, masks),
        Prediction(torch.zeros(len(replay), OLD, 4, 4), body),
        Iteration(epoch=9, average=lambda value: value),
    )
    return terms["seg"].item()


def test_the_weight_of_replay_images() -> None:
    first, both = seg_loss(1, [False]), seg_loss(1, [False, True])
    second = 2 * both - first
    assert abs(first - second) > 0.01
    assert abs(seg_loss(0.25, [False, True]) - (first + 0.25 * second) / 1.25) < 1e-4
    assert abs(seg_loss(0.25, [False]) - first) < 1e-4, "without replay images nothing changes"


def test_sure_pixels_stand_in_for_the_masks() -> None:
    """Cell by cell in the ratio of what is sure; the old target yields to a label as to a mask."""
    mask = torch.full((1, 8, 8), 255)
    mask[0, :4, :4], mask[0, :2, 4:], mask[0, 4:, :4] = 3, 1, 0
    shares = sure_shares(mask, TOTAL, (2, 2))
    expected = torch.zeros(1, TOTAL, 2, 2)
    expected[0, 3, 0, 0], expected[0, 1, 0, 1], expected[0, 0, 1, 0] = 1, 0.5, 1
    assert torch.equal(shares, expected)
    masks = torch.rand(1, TOTAL, 2, 2, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    labels, teacher = torch.tensor([[1.0, 0, 1, 0]]), torch.full((1, OLD, 2, 2), 0.8)
    plain, taught = (
        weak_targets(masks, masks, labels, teacher, alpha=0.5, background=-1, old_yields=True, sure=sure)
        for sure in (None, shares)
    )
    wanted = expected + torch.tensor([[0, 0.5], [0, 1]]) * plain.soft
    torch.testing.assert_close(taught.soft, wanted)
    torch.testing.assert_close(
        taught.segmenter[:, :OLD], 0.8 * (1 - wanted[:, OLD:].sum(dim=1, keepdim=True)).expand_as(teacher)
    )
    assert torch.equal(taught.pseudo_mask, plain.pseudo_mask), "the localizer learns as before"


@pytest.mark.parametrize(
    ("replay", "web_masks", "moves"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_masks_of_web_images_alone_are_labels(replay: bool, web_masks: bool, moves: bool) -> None:
    """Others hold what the step must not see, or what the teacher says anyway."""
    generator = torch.Generator().manual_seed(0)
    logits, masks = (torch.randn(1, TOTAL, 4, 4, generator=generator) for _ in range(2))
    body = torch.zeros(1, 8, 4, 4)
    method = Weak(OLD, TOTAL, pseudo_ep=0, web_masks=web_masks)
    found = []
    for value in (3, 255):
        batch = Batch(
            images=torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
            masks=torch.full((1, 64, 64), value),
            image_labels=torch.tensor([[0.0, 0, 1, 0]]),
            is_replay=torch.tensor([replay]),
            names=("x",),
        )
        student = Prediction(logits, body, masks, masks)
        terms = method.losses(batch, student, Prediction(logits[:, :OLD], body), Iteration(0, lambda value: value))
        found.append(terms["seg"].item())
    assert (found[0] != found[1]) == moves
