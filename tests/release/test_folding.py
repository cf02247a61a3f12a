"""Folded norms leave what a network computes as it is; what cannot be folded stays and is counted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from modules.norm import ActivatedNorm
from modules.resnet import Bottleneck, linear
from modules.wide_resnet import PreActivationBlock
from release.folding import Folding, fold_norms
from release.tracing import for_any_size
from segmentation_module import make_segmenter
from tests.release.segmenters import described, stir


def folded(network: nn.Module, channels: int = 3) -> tuple[Folding, float]:
    """What was folded, and the greatest relative difference of the outputs."""
    network = stir(network)
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    images = torch.randn(2, channels, 37, 53, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        module = torch.export.export(network, (images,), dynamic_shapes=(free,), strict=False).module()
        done = fold_norms(module)
        others = torch.randn(1, channels, 64, 41, generator=torch.Generator().manual_seed(2))
        expected, found = network(others), module(others)
    return done, float((found - expected).abs().max() / expected.abs().max())


class Logits(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).logits


@pytest.mark.parametrize(("backbone", "norm", "count"), [
    ("timm:test_efficientnet", "iabn_sync", 15), ("timm:test_resnet", "abn", 18)])  # fmt: skip
def test_every_norm_of_a_segmenter_is_folded(backbone: str, norm: str, count: int) -> None:
    """Those of the head after concatenated and added convolutions, too."""
    torch.manual_seed(0)
    done, difference = folded(Logits(for_any_size(stir(make_segmenter(described(backbone, norm))))))
    assert done.folded == count and not done.left and difference < 1e-5
    assert str(done) == f"{count} norms folded into convolutions, 0 left"


@pytest.mark.parametrize("absolute", [True, False])
def test_activated_norms_keep_their_activation(absolute: bool) -> None:
    """|weight| + eps or weight, negative ones too; the leaky ReLU stays behind the convolution."""
    torch.manual_seed(0)

    def norm(channels: int) -> nn.Module:
        return ActivatedNorm(channels, absolute=absolute, synchronised=True)

    done, difference = folded(nn.Sequential(Bottleneck(3, 4, 8, norm, 2, 1), nn.Conv2d(8, 8, 1), linear(norm(8))))
    assert done.folded == 5 and not done.left and difference < 1e-5


def test_norms_before_convolutions_stay() -> None:
    """A shift before a convolution's padding is none after it, and the leaky ReLU is between them."""
    torch.manual_seed(0)

    def norm(channels: int) -> nn.Module:
        return ActivatedNorm(channels, absolute=True, synchronised=False)

    first = nn.Conv2d(3, 8, 3, padding=1)
    done, difference = folded(nn.Sequential(first, PreActivationBlock(8, (8, 8), norm, 1, 2, 0.0)))
    # The block's own first norm stands behind a convolution whose output the shortcut needs, too.
    assert done.folded == 1 and done.left == {"batch norm": 1} and difference < 1e-5


class Seen(nn.Module):
    """A convolution whose output is asked for twice, and one of constants that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.weight = nn.Parameter(torch.randn(4, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.conv(x)
        standardised = (self.weight - self.weight.mean(1, keepdim=True)) / 2
        return self.last(nn.functional.conv2d(self.norm(seen) + seen, standardised))


@pytest.mark.parametrize(("groups", "count"), [(1, 2), (3, 1)])
def test_transposed_convolutions(groups: int, count: int) -> None:
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(3, 6, 3, stride=2, groups=groups)
    done, difference = folded(nn.Sequential(up, nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1), nn.BatchNorm2d(2)))
    assert done.folded == count and difference < 1e-5


class Shared(nn.Module):
    """One convolution in two places, one of which has a norm behind it; other kinds of norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.BatchNorm2d(3, affine=False)
        self.group, self.moments = nn.GroupNorm(1, 3), nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.moments(self.group(self.conv(x) + self.norm(nn.functional.dropout(self.conv(x), training=False))))


@pytest.mark.parametrize(("network", "count", "left"), [
    (Seen, 1, {"batch norm": 1}), (Shared, 1, {"group norm": 1, "batch norm": 1})])  # fmt: skip
def test_what_others_see_is_left_alone(network: type[nn.Module], count: int, left: dict[str, int]) -> None:
    torch.manual_seed(0)
    network_ = network()
    before = {key: value.clone() for key, value in stir(network_).state_dict().items()}
    done, difference = folded(network_)
    assert (done.folded, done.left) == (count, left) and difference < 1e-5
    assert str(done).endswith(f"({', '.join(f'1 {kind}' for kind in sorted(left))})")
    assert all(torch.equal(value, before[key]) for key, value in network_.state_dict().items())
