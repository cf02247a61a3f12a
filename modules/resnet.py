"""ResNet-50 and -101 with activated batch norm and dilation (arXiv 1512.03385), in the published layout of keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.bodies import Body
from modules.norm import ActivatedNorm

Norm = Callable[[int], nn.Module]

STRUCTURES = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
# Dilation of modules 2 to 5 for each output stride; a dilated module does not stride.
DILATIONS = {16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}


def linear(norm: nn.Module) -> nn.Module:
    """``norm`` without its activation."""
    norm.activation = "identity"  # type: ignore[assignment]
    return norm


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut; the sum passes the leaky ReLU of the first norm."""

    def __init__(self, channels: int, inner: int, out: int, norm: Norm, stride: int, dilation: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, inner, 1, bias=False),
                bn1=norm(inner),
                conv2=nn.Conv2d(inner, inner, 3, stride=stride, padding=dilation, dilation=dilation, bias=False),
                bn2=norm(inner),
                conv3=nn.Conv2d(inner, out, 1, bias=False),
                bn3=linear(norm(out)),
            )
        )
        self.projects = stride != 1 or channels != out
        if self.projects:
            self.proj_conv = nn.Conv2d(channels, out, 1, stride=stride, bias=False)
            self.proj_bn = linear(norm(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        shortcut = self.proj_bn(self.proj_conv(x)) if self.projects else x
        slope: float = self.convs.get_submodule("bn1").activation_param  # type: ignore[assignment]
        *layers, last = self.convs
        for layer in layers:
            x = layer(x)
        if torch.is_grad_enabled() and isinstance(last, ActivatedNorm):
            return last.add(x, shortcut, slope)
        # In place: the backward pass needs neither the sum nor its terms.
        return F.leaky_relu_(last(x) + shortcut, slope)


class ResNet(Body):
    """The body: (B, 3, H, W) to its last feature map (B, 2048, h, w) and module 3's (B, 512, H / 8, W / 8).

    Args:
        blocks: bottlenecks of modules 2 to 5.
        norm: constructor of the norm layers.
        output_stride: 8 or 16.
    """

    out_channels = 2048
    mid_channels = 512
    image_stats = "imagenet"
    mod2: nn.Sequential
    mod3: nn.Sequential
    mod4: nn.Sequential
    mod5: nn.Sequential

    def __init__(self, blocks: tuple[int, ...], norm: Norm, output_stride: int) -> None:
        super().__init__()
        self.mod1 = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
                bn1=norm(64),
                pool1=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        channels = 64
        for index, (count, dilation) in enumerate(zip(blocks, DILATIONS[output_stride], strict=True)):
            inner, module = 64 * 2**index, OrderedDict[str, nn.Module]()
            for block in range(count):
                stride = 2 if block == 0 and index > 0 and dilation == 1 else 1
                module[f"block{block + 1}"] = Bottleneck(channels, inner, 4 * inner, norm, stride, dilation)
                channels = 4 * inner
            setattr(self, f"mod{index + 2}", nn.Sequential(module))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Last feature map, and module 3's."""
        mid = self.mod3(self.mod2(self.mod1(x)))
        return self.mod5(self.mod4(mid)), mid


def make(name: str, output_stride: int, norm: Norm) -> ResNet:
    """The body called ``resnet50`` or ``resnet101``."""
    return ResNet(STRUCTURES[name], norm, output_stride)
