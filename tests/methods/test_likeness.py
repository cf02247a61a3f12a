"""What likeness of classes tells the localizer: against a slow version, pixel by pixel, and by its gradient."""

from __future__ import annotations

import torch

from methods.likeness import LEAST, hints, likeness_loss

OLD, NEW, SIDE = 4, 2, 3


def test_hints_pixel_by_pixel() -> None:
    generator = torch.Generator().manual_seed(5)
    labels = torch.tensor([[0.0, 0, 0, 1, 0], [0, 1, 0, 1, 1], [1, 0, 0, 0, 0]])
    alike = torch.tensor([[0, 0.9, 0.6, 0.4], [0, 0.2, 1.0, LEAST]])
    teacher = torch.rand(3, OLD, SIDE, SIDE, generator=generator)
    expected = torch.zeros(3, NEW, SIDE, SIDE)
    for b in range(3):
        for n in range(NEW):
            for y in range(SIDE):
                for x in range(SIDE):
                    seen = [
                        float(alike[n, o] * teacher[b, o, y, x])
                        for o in range(1, OLD)
                        if alike[n, o] >= LEAST and not labels[b, o - 1]
                    ]
                    expected[b, n, y, x] = max(seen, default=0) if labels[b, OLD - 1 + n] else 0
    found = hints(alike, teacher, labels)
    torch.testing.assert_close(found, expected)
    assert found[0, 0].min() > 0 and not found[0, 1].any() and not found[2].any()


def test_the_loss_is_a_mean_over_images_that_hears_hints_alone() -> None:
    generator = torch.Generator().manual_seed(6)
    logits = torch.randn(2, OLD + NEW, SIDE, SIDE, generator=generator, requires_grad=True)
    hinted = torch.zeros(2, NEW, SIDE, SIDE)
    hinted[0, 1, 0, :2] = torch.tensor([0.5, 0.75])
    expected = 0.0
    for x, weight in ((0, 0.5), (1, 0.75)):
        expected -= weight * float(logits.detach()[0, :, 0, x].softmax(dim=0)[OLD + 1].log())
    loss = likeness_loss(logits, hinted)
    torch.testing.assert_close(loss.item(), expected / (1 + 1.25) / 2)
    loss.backward()
    assert logits.grad is not None and logits.grad[0, OLD + 1, 0, :2].lt(0).all()
    assert not logits.grad[1].any() and not logits.grad[0, :, 1:].any()
