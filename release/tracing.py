"""The network of a segmenter as a graph that any size of image passes: pixels in, classes or logits out, norms folded."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from modules.deeplab import DeeplabV3
from release.folding import Folding, fold_norms
from utils.errors import UserError, reason


class AnySizeDeeplabV3(DeeplabV3):
    """The head, with the sliding mean of evaluation as two matrix products, whose form does not depend on the size."""

    def _pool(self, x: Tensor) -> Tensor:
        rows, columns = (window_means(x, dim, self.pooling) for dim in (2, 3))
        return rows @ x @ columns.transpose(0, 1)


def window_means(x: Tensor, dim: int, window: int) -> Tensor:
    """The matrix (n, n) that turns n values into means over a sliding window of min(window, n), its edges repeated outwards.

    Row i has 1 / length at the places of the window whose middle is i, moved inwards where it would leave the values: what
    ``avg_pool2d`` with stride 1 and replicating padding does along one axis, for any n.

    Args:
        x: (B, C, H, W); n is its size along ``dim``. Tensors alone know n, so that no size is written into the graph.
        dim: 2 or 3.
        window: greatest length.
    """
    places = torch.arange(x.shape[dim], device=x.device)
    size = places[-1] + 1
    length = size.clamp(max=window)
    start = torch.minimum((places - (length - 1) // 2).clamp(min=0), size - length)[:, None]
    inside = (places >= start) & (places < start + length)
    return inside.to(x.dtype) / length.to(x.dtype)


class AnySizeConv2dSame(Conv2dSame):
    """timm's convolution with TensorFlow's padding, without the questions about the size that stop torch.export or take it minutes."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        padding: list[int] = []
        for size, kernel, stride, dilation in zip(
            reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride), reversed(self.dilation), strict=True
        ):
            reach = (kernel - 1) * dilation + 1
            missing = (size - 1) // stride * stride + reach - size
            if reach < stride:
                missing = torch.sym_max(missing, 0)
            padding += [missing // 2, missing - missing // 2]
        return F.conv2d(F.pad(x, padding), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


# Layer -> one of the same weights and values whose graph holds for every size.
ANY_SIZE: dict[type[nn.Module], type[nn.Module]] = {DeeplabV3: AnySizeDeeplabV3, Conv2dSame: AnySizeConv2dSame}


def for_any_size(network: nn.Module) -> nn.Module:
    """A copy of the network in evaluation, on the CPU and in float32, whose layers compute the same at every size."""
    twin = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    for layer in twin.modules():
        # The layers differ from their parents in forward alone.
        layer.__class__ = ANY_SIZE.get(type(layer), type(layer))
    return twin
