"""Softmax's logits as log-odds: the same probabilities and the same greatest channel."""

from __future__ import annotations

import math

import pytest
import torch

from modules.adopted.parts import absence, log_odds
from modules.adopted.settings import normalisation_of
from utils.errors import UserError


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("channels", [2, 5, 150])
def test_sigmoid_of_them_is_softmax(channels: int, spread: float) -> None:
    logits = spread * torch.randn(3, channels, 8, 8, generator=torch.Generator().manual_seed(0)) + 7
    turned = log_odds(logits)
    assert turned.isfinite().all()
    assert torch.allclose(turned.sigmoid(), logits.softmax(dim=1), atol=1e-6)
    precise = logits.double()
    others = [torch.cat([precise[:, :c], precise[:, c + 1 :]], dim=1).logsumexp(dim=1) for c in range(channels)]
    wanted = precise - torch.stack(others, dim=1)
    assert torch.allclose(turned.double(), wanted, rtol=1e-5, atol=1e-5 * max(1.0, spread))
    assert torch.equal(turned.argmax(dim=1), logits.argmax(dim=1))
    assert turned.amax(dim=1).min() >= -math.log(channels - 1) - 1e-5


def test_nearly_equal_channels_keep_their_order() -> None:
    """One step of a float apart, and equal: the greatest stays, of equal ones the first."""
    generator = torch.Generator().manual_seed(1)
    base = 20 * torch.randn(20_000, 1, generator=generator)
    logits = base.expand(-1, 4).clone()
    up = torch.nextafter(base, torch.full_like(base, torch.inf))
    logits[:, 2:3] = torch.where(torch.rand(base.shape, generator=generator) < 0.7, up, base)
    turned = log_odds(logits)
    assert torch.equal(turned.argmax(dim=1), logits.argmax(dim=1))
    assert 0.2 < (logits.argmax(dim=1) == 0).float().mean() < 0.4


def test_their_gradients_are_right() -> None:
    logits = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(log_odds, (logits,))
    far = torch.tensor([[400.0, -400.0, 0.0]], requires_grad=True)
    log_odds(far).sum().backward()
    assert far.grad is not None and far.grad.isfinite().all()


def test_where_no_class_is() -> None:
    """A sigmoid network without background: background where every class is less probable than one half."""
    logits = torch.tensor([[0.0, -1.0, -2.0], [0.0, 3.0, 1.0]])
    assert absence(logits).tolist() == [[1.0, -1.0, -2.0], [-3.0, 3.0, 1.0]]


def test_normalisations_of_users() -> None:
    assert normalisation_of("0-1").mean == (0, 0, 0)
    assert normalisation_of("0.1,0.2,0.3/1,2,3").std == (1, 2, 3)
    image = torch.full((3, 1, 1), 0.5)
    assert torch.allclose(normalisation_of("0-255").apply(image), torch.full((3, 1, 1), 127.5))
    for odd in ("", "half,half", "0.1,0.2/1,1,1", "0,0,0/1,0,1", "-1,0,0/1,1,1", "imagenet "):
        with pytest.raises(UserError, match="--image_stats"):
            normalisation_of(odd)
