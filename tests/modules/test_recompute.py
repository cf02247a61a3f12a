"""Blocks that run again in the backward pass: the same gradients, running statistics and random draws, with less kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from modules.bodies import Body
from modules.norm import make_norm
from modules.recompute import blocks, recompute
from modules.resnet import Bottleneck, ResNet
from modules.timm_body import TimmBody
from modules.wide_resnet import PreActivationBlock
from utils.errors import UserError


class Small(Body):
    """Blocks with dropout, as WiderResNet's later modules have."""

    def __init__(self) -> None:
        super().__init__()
        norm = make_norm("iabn")
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.mod = nn.Sequential(
            PreActivationBlock(8, (8, 8), norm, 1, 1, 0.5), PreActivationBlock(8, (8, 8, 16), norm, 2, 1, 0.5)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.mod(self.first(x))
        return y, y


def make(kind: str) -> Body:
    torch.manual_seed(1)
    if kind == "small":
        return Small()
    if kind == "resnet":
        return ResNet((1, 2, 1, 1), make_norm("iabn"), 16)
    return TimmBody(kind, 16)


def trained(body: Body, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], int]:
    """Weights, statistics and losses of two steps; bytes that backward keeps in the first."""
    torch.manual_seed(2)
    body.train()
    optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
        ):
            loss = sum(one.float().square().mean() for one in body(torch.randn(2, 3, 48, 48)))
        assert isinstance(loss, Tensor)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*losses, *body.state_dict().values()], sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("small", torch.float32),
        ("resnet", torch.float32),
        ("resnet", torch.bfloat16),
        ("resnet10t", torch.float32),
        ("tf_efficientnet_lite0", torch.float32),
    ],
)
def test_same_training(kind: str, dtype: torch.dtype) -> None:
    plain, again = make(kind), make(kind)
    recompute(again, kind)
    keys = list(plain.state_dict())
    assert list(again.state_dict()) == keys
    expected, much = trained(plain, dtype)
    found, less = trained(again, dtype)
    for key, a, b in zip(["loss 1", "loss 2", *keys], found, expected, strict=True):
        assert torch.equal(a, b), key
    assert less < 0.8 * much


def test_blocks_are_the_bodys() -> None:
    body = make("resnet")
    assert list(blocks(body)) == [one for one in body.modules() if isinstance(one, Bottleneck)]
    assert len(list(blocks(make("resnet10t")))) == 4


def test_frozen_statistics_stay() -> None:
    """Norms in evaluation mode read theirs in both passes."""
    body = make("resnet")
    recompute(body, "resnet")
    before = copy.deepcopy(body.state_dict())
    body.eval()
    body(torch.randn(2, 3, 32, 32))[0].sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())


def test_what_cannot_be_run_again_is_refused() -> None:
    with pytest.raises(UserError, match="--backbone here cannot be run again"):
        recompute(nn.Sequential(nn.Conv2d(3, 3, 1)), "--backbone here")

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.conv, self.last = nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.conv(self.act(x)))

    body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(Writes()))
    recompute(body, "--backbone here")
    with pytest.raises(UserError, match="writes over the inputs"):
        body(torch.randn(1, 3, 4, 4)).sum().backward()
