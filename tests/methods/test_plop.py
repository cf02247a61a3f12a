"""PLOP's losses against slow and plain versions, its thresholds over ranks, and images of one class alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dataset.batch import Batch
from methods import plop
from methods.base import Iteration, Prediction
from methods.plop import Plop, count_entropies, entropy, local_pod, medians, pod_distance, pseudo_labels

OLD, TOTAL = 3, 5
NOW = Iteration(epoch=0, average=lambda value: value)


def plain_pod(maps: np.ndarray) -> np.ndarray:
    """Of one image (D, h, w), region by region."""
    depth, height, width = maps.shape
    lines: list[float] = []
    columns: list[float] = []
    for count in plop.SCALES:
        tall, wide = height // count, width // count
        for d in range(depth):
            for y in range(height):
                lines += [maps[d, y, x * wide : (x + 1) * wide].mean() for x in range(count)]
    for count in plop.SCALES:
        tall, wide = height // count, width // count
        for d in range(depth):
            for y in range(count):
                columns += [maps[d, y * tall : (y + 1) * tall, x].mean() for x in range(width)]
    values = np.array(lines + columns)
    return values / np.linalg.norm(values)


def test_local_pod_is_what_its_regions_say() -> None:
    maps = torch.randn(2, 3, 8, 12)
    expected = np.stack([plain_pod(one) for one in maps.double().numpy()])
    np.testing.assert_allclose(local_pod(maps).numpy(), expected, atol=1e-6)
    other = torch.randn(2, 3, 8, 12)
    distance = ((expected - np.stack([plain_pod(one) for one in other.double().numpy()])) ** 2).sum(1).mean()
    assert pod_distance(maps, other).item() == pytest.approx(distance, rel=1e-5)


def test_local_pod_sees_where_things_lie() -> None:
    maps = torch.zeros(1, 1, 8, 8)
    maps[..., 1, 1] = 1
    moved = maps.roll((3, 3), dims=(2, 3))
    assert pod_distance(maps, moved) > 0.5
    assert pod_distance(maps, 2 * maps).item() == pytest.approx(0, abs=1e-6)
    assert pod_distance(maps, torch.zeros_like(maps)).isfinite() and local_pod(maps[..., :3, :3]).isfinite().all()


def test_entropy_from_sure_to_none() -> None:
    logits = torch.tensor([[0.0, 0, 0], [99, 0, 0], [1, 1, -99]]).reshape(3, 3, 1, 1)
    assert entropy(logits).flatten().tolist() == pytest.approx([1, 0, math.log(2) / math.log(3)], abs=1e-6)
    assert entropy(torch.zeros(1, 1, 2, 2)).flatten().tolist() == [0] * 4, "one channel alone is always sure"


def test_medians_are_those_of_sorted_entropies() -> None:
    logits = 3 * torch.randn(4, OLD, 16, 16)
    shown = torch.rand(4, 16, 16) > 0.3
    logits[:, 2] = -9
    found = medians(count_entropies(logits, shown))
    for number in range(2):
        values = entropy(logits)[shown & (logits.argmax(1) == number)].sort().values
        assert abs(found[number] - values[(len(values) - 1) // 2]) <= 1.5 / plop.BINS
    assert found[2] == 0, "never predicted, never believed"


def pixels(rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows)[:, None]


def test_sure_pixels_of_the_background_are_filled() -> None:
    masks = pixels([[0, 0, 0, 4], [4, 3, 3, 4], [0, 0, 4, 4], [0, 0, 255, 0]])
    sure, unsure = torch.tensor([0.0, 9, 0]), torch.tensor([0.0, 0.2, 0])
    old = torch.stack([sure, unsure, -sure, sure]).T.reshape(1, OLD, 1, 4).repeat(4, 1, 1, 1)
    labels, filled = pseudo_labels(masks, old, torch.tensor([0.0, 0.5, 0.5]))
    assert labels[:, 0].tolist() == [[1, 255, 255, 4], [4, 3, 3, 4], [1, 255, 4, 4], [1, 255, 255, 1]]
    assert filled.tolist() == pytest.approx([1 / 3, 1, 1 / 2, 2 / 3])


def batch_of(masks: Tensor) -> Batch:
    images = torch.zeros(len(masks), 3, *masks.shape[-2:], dtype=torch.uint8)
    return Batch(images, masks, torch.zeros(len(masks), TOTAL - 1), torch.zeros(len(masks)).bool(), ("x",) * len(masks))


def predictions(count: int, seed: int) -> tuple[Prediction, Prediction]:
    generator = torch.Generator().manual_seed(seed)

    def maps(channels: int, side: int) -> Tensor:
        return torch.randn(count, channels, side, side, generator=generator)

    def layers() -> tuple[Tensor, ...]:
        return maps(6, 8), maps(8, 4), maps(5, 4)

    student = Prediction(
        maps(TOTAL, 4).requires_grad_(), maps(8, 4), layers=tuple(m.requires_grad_() for m in layers())
    )
    return student, Prediction(3 * maps(OLD, 4), maps(8, 4), layers=layers())


def plain_losses(method: Plop, masks: Tensor, student: Prediction, teacher: Prediction) -> dict[str, float]:
    """Pixel by pixel."""
    size = masks.shape[-2:]
    own, old = (
        torch.nn.functional.interpolate(p.logits, size=size, mode="bilinear").detach().double().numpy()
        for p in (student, teacher)
    )
    assert method.thresholds is not None
    images = []
    for b in range(len(masks)):
        total, background, accepted = 0.0, 0, 0
        for y in range(size[0]):
            for x in range(size[1]):
                label = int(masks[b, y, x])
                if label == 0:
                    background += 1
                    p = np.exp(old[b, :, y, x]) / np.exp(old[b, :, y, x]).sum()
                    c = int(p.argmax())
                    if -(p * np.log(p)).sum() / np.log(OLD) >= method.thresholds[c].item():
                        continue
                    accepted, label = accepted + 1, c
                total -= own[b, label, y, x] - np.log(np.exp(own[b, :, y, x]).sum())
        images.append((accepted / background if background else 1) * total / (size[0] * size[1]))
    pod = [pod_distance(a, b).item() for a, b in zip(student.layers, teacher.layers, strict=True)]
    logits = pod_distance(student.logits[:, :OLD], teacher.logits).item()
    return {
        "seg": float(np.mean(images)),
        "pod": method.features * float(np.mean(pod)),
        "pod_logits": method.logits * logits,
    }


def test_losses_are_those_of_single_pixels() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.randint(0, 3, (3, 16, 16), generator=generator)
    masks = torch.where(masks > 0, masks + OLD - 1, 0)
    masks[2] = 4
    student, teacher = predictions(3, 2)
    method = Plop(OLD, features=0.3, logits=0.2, thresholds=torch.tensor([0.4, 0.6, 0.5]))
    found = method.losses(batch_of(masks), student, teacher, NOW)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        plain_losses(method, masks, student, teacher), rel=1e-5
    )


@pytest.mark.parametrize("label", [0, 3])
def test_an_image_of_one_class_alone_is_finite(label: int) -> None:
    """All new: no background whose share of sure pixels could be taken. All background, nothing of it sure: no label at all."""
    student, teacher = predictions(1, 3)
    method = Plop(OLD, thresholds=torch.zeros(OLD))
    terms = method.losses(batch_of(torch.full((1, 16, 16), label)), student, teacher, NOW)
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    grads = [student.logits.grad, *(layer.grad for layer in student.layers)]
    assert total.isfinite() and all(grad is not None and grad.isfinite().all() for grad in grads)
    assert (terms["seg"] > 0) == (label > 0)


def looks(total: Callable[[Tensor], Tensor], *numbers: int) -> Plop:
    method = Plop(OLD)
    seen = []
    for number in numbers:
        masks = torch.where(torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(number)) > 0.2, 0, 4)
        seen.append((batch_of(masks), predictions(2, number)[1]))
    method.survey(iter(seen), total)
    return method


def test_ranks_survey_as_one() -> None:
    one, counts = looks(lambda value: value, 1, 2), []

    def kept(value: Tensor) -> Tensor:
        counts.append(value)
        return value

    looks(kept, 1)
    two = looks(lambda value: value + counts[0], 2)
    assert one.thresholds is not None and two.thresholds is not None
    assert torch.equal(one.thresholds, two.thresholds) and (one.thresholds > 0).all()
