"""The SSUL-like method: its labels and loss pixel by pixel, and what must not move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dataset.batch import Batch
from engine.state import start_from
from methods.base import Iteration, Prediction
from methods.ssul import SURE, Ssul, augmented_labels, salient

OLD, TOTAL = 3, 5
NOW = Iteration(epoch=0, average=lambda value: value)


def test_what_stands_out_is_where_features_are_strong() -> None:
    body = torch.zeros(2, 4, 4, 4)
    body[0, 0, 1:3, 1:3] = 5
    body[1, :, 0] = -1
    found = salient(body, torch.Size((8, 8)))
    assert found[0, 2:6, 2:6].all() and not found[0, 0].any() and not found[0, :, 7].any()
    assert found[1, :2].all() and not found[1, 4:].any(), "whatever the sign"
    assert not salient(torch.ones(1, 4, 4, 4), torch.Size((8, 8))).any()


def test_labels_of_the_background() -> None:
    masks = torch.tensor([[0, 0, 0, 0, 4, 0]])[:, None]
    stands_out = torch.tensor([[True, True, True, False, True, True]])[:, None]
    unsure = np.log(SURE / (1 - SURE)) - 0.01
    logits = torch.tensor(
        [[-9.0, 0.9, -9], [-9, unsure, -9], [9, 8, -9], [-9, -9, 3], [-9, -9, 3], [-9, -9, -9]]
    ).T.reshape(1, OLD, 1, 6)
    labels, unknown = augmented_labels(masks, stands_out, logits)
    assert labels[0, 0].tolist() == [1, 0, 0, 2, 4, 0]
    assert unknown[0, 0].tolist() == [False, True, True, False, False, True]
    labels, unknown = augmented_labels(masks, stands_out, None)
    assert torch.equal(labels, masks) and unknown[0, 0].tolist() == [True, True, True, False, False, True]


def given(seed: int = 0) -> tuple[Batch, Prediction, Prediction]:
    generator = torch.Generator().manual_seed(seed)

    def maps(channels: int) -> torch.Tensor:
        return torch.randn(2, channels, 4, 4, generator=generator)

    masks = torch.randint(0, 3, (2, 8, 8), generator=generator)
    masks = torch.where(masks > 0, masks + OLD - 1, 0)
    masks[0, 0] = 255
    batch = Batch(torch.zeros(2, 3, 8, 8), masks, torch.zeros(2, TOTAL - 1), torch.zeros(2).bool(), ("a", "b"))
    student = Prediction(maps(TOTAL).requires_grad_(), maps(8), unknown=maps(1).requires_grad_())
    return batch, student, Prediction(3 * maps(OLD), maps(8))


def plain(batch: Batch, student: Prediction, teacher: Prediction | None) -> dict[str, float]:
    """Pixel by pixel."""
    size = batch.masks.shape[-2:]
    up = [
        None if maps is None else nn.functional.interpolate(maps.detach(), size=size, mode="bilinear").double()
        for maps in (student.logits, student.unknown, None if teacher is None else teacher.logits)
    ]
    own, beside, old = up
    assert own is not None and beside is not None
    stands_out = salient(student.body, size)
    channels = range(TOTAL) if old is None else (0, *range(OLD, TOTAL))

    def bce(x: float, y: float) -> float:
        p = 1 / (1 + np.exp(-x))
        return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)))

    sums = {"seg": 0.0, "unknown": 0.0}
    for b, y, x in np.ndindex(*batch.masks.shape):
        label = int(batch.masks[b, y, x])
        if label == 255:
            continue
        if label == 0 and old is not None:
            best = int(old[b, :, y, x].argmax())
            label = best if 1 / (1 + np.exp(-old[b, best, y, x].item())) >= SURE else 0
        sums["seg"] += sum(bce(own[b, c, y, x].item(), label == c) for c in channels)
        sums["unknown"] += bce(beside[b, 0, y, x].item(), label == 0 and bool(stands_out[b, y, x]))
    return {name: value / batch.masks.numel() for name, value in sums.items()}


@pytest.mark.parametrize("old", [0, OLD])
def test_the_loss_is_that_of_single_pixels(old: int) -> None:
    batch, student, before = given()
    teacher = before if old else None
    found = Ssul(old, TOTAL).losses(batch, student, teacher, NOW)
    expected = plain(batch, student, teacher)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_nothing_teaches_old_channels() -> None:
    batch, student, teacher = given(1)
    terms = Ssul(OLD, TOTAL).losses(batch, student, teacher, NOW)
    torch.stack(list(terms.values())).sum().backward()
    assert student.logits.grad is not None
    moved = student.logits.grad.flatten(2).any(dim=2).any(dim=0)
    assert moved.tolist() == [True, False, False, True, True]


def test_an_image_of_one_class_alone_is_finite() -> None:
    batch, student, teacher = given(2)
    batch.masks[:] = 4
    terms = Ssul(OLD, TOTAL).losses(batch, student, teacher, NOW)
    assert all(value.isfinite() for value in terms.values())


def test_new_classes_start_as_the_unknown() -> None:
    unknown, new = nn.Conv2d(6, 1, 1), nn.Conv2d(6, 3, 1)
    start_from(unknown, new)
    features = torch.randn(1, 6, 2, 2)
    torch.testing.assert_close(new(features), unknown(features).expand(1, 3, 2, 2))
