"""RaSP's prior: what it says, what it leaves alone, and its loss pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import argparser
from dataset.batch import Batch
from methods import make_method
from methods.base import Iteration, Prediction
from methods.rasp import Rasp, prior_loss, semantic_prior
from methods.weak import Weak
from utils.errors import UserError

OLD, TOTAL = 3, 5
ALIKE = torch.tensor([[0.0, 0.8, 0.1], [0.0, 0.3, 0.2]])


def test_the_prior_follows_what_the_teacher_sees() -> None:
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 1, 2]]).T.reshape(1, OLD, 1, 3)
    prior, things = semantic_prior(logits, ALIKE)
    torch.testing.assert_close(prior[0, :, 0], torch.tensor([[0, 0.8, 0.1], [0, 0.3, 0.2]]))
    assert things[0, 0].tolist() == [0, 1, 1], "background says nothing"


def test_the_loss_is_that_of_single_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    localizer = torch.randn(3, 2, 4, 5, generator=generator, requires_grad=True)
    teacher = torch.randn(3, OLD, 4, 5, generator=generator)
    labels = torch.tensor([[1.0, 0], [1, 1], [0, 0]])
    prior, things = semantic_prior(teacher, ALIKE)
    images = []
    for b in range(3):
        classes = [n for n in range(2) if labels[b, n]]
        total = 0.0
        for n in classes:
            for y in range(4):
                for x in range(5):
                    seen = int(teacher[b, :, y, x].argmax())
                    if seen > 0:
                        s, p = ALIKE[n, seen].item(), 1 / (1 + np.exp(-localizer[b, n, y, x].item()))
                        total -= (s * np.log(p) + (1 - s) * np.log(1 - p)) / 20
        images.append(total / max(len(classes), 1))
    loss = prior_loss(localizer, prior, things, labels)
    assert loss.item() == pytest.approx(np.mean(images), rel=1e-5)
    loss.backward()
    assert localizer.grad is not None and not localizer.grad[0, 1].any(), "a class that is not there hears nothing"


def test_all_else_is_wilson() -> None:
    generator = torch.Generator().manual_seed(1)
    student = Prediction(
        *(torch.randn(2, channels, 4, 4, generator=generator) for channels in (TOTAL, 8, TOTAL, TOTAL))
    )
    teacher = Prediction(torch.randn(2, OLD, 4, 4, generator=generator), torch.randn(2, 8, 4, 4, generator=generator))
    batch = Batch(
        images=torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        masks=torch.zeros(2, 64, 64, dtype=torch.long),
        image_labels=torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0]]),
        is_replay=torch.tensor([False, True]),
        names=("a", "b"),
    )
    now = Iteration(epoch=9, average=lambda value: value)
    plain = Weak(old=OLD, total=TOTAL).losses(batch, student, teacher, now)
    found = Rasp(old=OLD, total=TOTAL, alike=ALIKE).losses(batch, student, teacher, now)
    assert found.pop("prior") > 0 and plain == found


def test_names_become_likeness(tmp_path: Path) -> None:
    (tmp_path / "previous.pth").touch()
    line = (
        f"--dataset shapes --task 5-3 --step 1 --weakly --method rasp --pseudo_ep 2 --step_ckpt {tmp_path}/previous.pth"
    )
    options = argparser.parse(line.split())
    method = make_method(options, OLD, TOTAL, ["background", "cow", "bus", "sheep", "train"])
    assert isinstance(method, Rasp) and method.alike is not None and method.pseudo_ep == 2
    assert method.alike.argmax(dim=1).tolist() == [1, 2]
    with pytest.raises(UserError, match="class xyzzy"):
        make_method(options, OLD, TOTAL, ["background", "cow", "bus", "sheep", "xyzzy"])
