"""Norms folded into convolutions: what a network computes stays, and what cannot be folded is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from timm.layers import StdConv2d
from torch import Tensor, nn

from modules.folding import count_norms, fold_norms
from modules.norm import convert_sync, make_norm
from modules.resnet import ResNet
from modules.timm_body import TimmBody
from modules.wide_resnet import PreActivationBlock


class Wide(nn.Module):
    """Blocks of the wide ResNet; its forward cuts its sequence as the body's does."""

    def __init__(self, name: str) -> None:
        super().__init__()
        norm = make_norm(name)
        blocks = [PreActivationBlock(3, (8, 8), norm, 1, 1, 0.0), PreActivationBlock(8, (4, 8, 16), norm, 2, 1, 0.3)]
        self.blocks = nn.Sequential(*blocks, PreActivationBlock(16, (16, 16), norm, 1, 2, 0.0))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.blocks[1:](self.blocks[0](x)),)


def _resnet(name: str) -> nn.Module:
    return ResNet((1, 1, 1, 2), make_norm(name), 16)


# Network -> how it is made, norms that stay.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "abn": (lambda: _resnet("abn"), 0),
    "iabn_sync": (lambda: _resnet("iabn_sync"), 0),
    # The first norm of each block follows no convolution.
    "wide abn": (lambda: Wide("abn"), 3),
    "wide iabn": (lambda: Wide("iabn"), 3),
    "timm resnet": (lambda: TimmBody("resnet10t", 16), 0),
    "timm resnet, synchronised": (lambda: convert_sync(TimmBody("resnet10t", 16)), 0),
    "timm efficientnet": (lambda: TimmBody("tf_efficientnet_lite0", 16), 0),
    "timm mobilenet, synchronised": (lambda: convert_sync(TimmBody("mobilenetv3_small_050", 16)), 0),
}


def settled(network: nn.Module) -> nn.Module:
    """With statistics and weights as training leaves them, some negative; a norm that is folded wrongly shows."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.dim() == 1 and value.is_floating_point():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return network.eval()


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, int]]:
    torch.manual_seed(0)
    make, left = NETWORKS[request.param]
    yield settled(make()), left


def test_folded_computes_the_same(network: tuple[nn.Module, int]) -> None:
    """To 1e-5 of the greatest value; the network itself, and what is folded of it a second time, are bit for bit the same."""
    plain, left = network
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    plain.train()
    folded = fold_norms(plain, torch.float32)
    assert plain.training and not folded.training and count_norms(folded) == left < count_norms(plain)
    assert not any(value.requires_grad for value in folded.parameters())
    assert before.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())
    again = fold_norms(plain, torch.float32).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in folded.state_dict().items())
    images = torch.randn(2, 3, 40, 56)
    with torch.no_grad():
        for own, expected in zip(folded(images), plain.eval()(images), strict=True):
            assert (own - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_half_precision_is_rounded_once() -> None:
    """Under autocast the folded network is as near to float32 as the plain one, and holds half the bytes."""
    torch.manual_seed(0)
    plain = settled(_resnet("iabn"))
    folded = fold_norms(plain, torch.bfloat16)
    assert {value.dtype for value in folded.parameters()} == {torch.bfloat16}
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        exact = plain(images)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            halves = [body(images)[0].float() for body in (plain, folded)]
    errors = [float((half - exact).square().mean().sqrt() / exact.square().mean().sqrt()) for half in halves]
    assert errors[1] < 0.02 and errors[1] < 1.5 * errors[0], errors


class Odd(nn.Module):
    """Convolution and norm, called by ``way``."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv: nn.Module = StdConv2d(3, 3, 1) if way == "standardised" else nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3, track_running_stats=way != "statistics of the batch")
        if way == "under two names":
            self.other = self.norm
        if way == "forward of its own":
            self.forward = self.forward
        if way == "hooked":
            self.conv.register_forward_hook(lambda layer, given, output: output + 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "untraceable" and x.sum() > 1e9:
            return x
        seen = self.conv(x)
        if self.way == "convolution seen by two":
            return self.norm(seen) + seen
        if self.way == "norm of two":
            return self.norm(seen) + self.norm(x)
        if self.way == "convolution of two":
            return self.norm(seen) + self.conv(x)
        return self.norm(seen)


@pytest.mark.parametrize(
    "way",
    ["untraceable", "standardised", "statistics of the batch", "under two names", "hooked", "forward of its own", "convolution seen by two",
     "norm of two", "convolution of two"],
)  # fmt: skip
def test_what_cannot_be_folded_is_given_back(way: str) -> None:
    network = Odd(way)
    assert fold_norms(network, torch.float32) is network
    assert count_norms(fold_norms(Odd("plain"), torch.float32)) == 0
