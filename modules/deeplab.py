"""The head of DeepLabV3 (arXiv 1706.05587) with activated batch norm, in the published layout of keys."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_CHANNELS = 256
DILATIONS = {16: (6, 12, 18), 8: (12, 24, 32)}


class DeeplabV3(nn.Module):
    """Parallel dilated convolutions and a pooled branch, summed.

    Args:
        channels: channels of the body's feature map.
        norm: constructor of the norm layers.
        output_stride: 8 or 16, of the body.
        pooling: side of the sliding average in evaluation, feature pixels: a training crop's, so that large images
            behave as training crops do.
    """

    def __init__(self, channels: int, norm: Callable[[int], nn.Module], output_stride: int, pooling: int) -> None:
        super().__init__()
        hidden = HEAD_CHANNELS
        self.pooling = pooling
        convs: list[nn.Module] = [nn.Conv2d(channels, hidden, 1, bias=False)]
        convs += [nn.Conv2d(channels, hidden, 3, padding=d, dilation=d, bias=False) for d in DILATIONS[output_stride]]
        self.map_convs = nn.ModuleList(convs)
        self.map_bn = norm(4 * hidden)
        self.global_pooling_conv = nn.Conv2d(channels, hidden, 1, bias=False)
        self.global_pooling_bn = norm(hidden)
        self.red_conv = nn.Conv2d(4 * hidden, HEAD_CHANNELS, 1, bias=False)
        self.pool_red_conv = nn.Conv2d(hidden, HEAD_CHANNELS, 1, bias=False)
        self.red_bn = norm(HEAD_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, 256, h, w)."""
        out = self.red_conv(self.map_bn(torch.cat([conv(x) for conv in self.map_convs], dim=1)))
        pooled = self.pool_red_conv(self.global_pooling_bn(self.global_pooling_conv(self._pool(x))))
        return self.red_bn(out + pooled)

    def _pool(self, x: Tensor) -> Tensor:
        """Training: (B, C, 1, 1) global mean. Evaluation: (B, C, h, w) sliding mean, its edges repeated outwards."""
        if self.training:
            return x.mean(dim=(2, 3), keepdim=True)
        height, width = min(self.pooling, x.shape[2]), min(self.pooling, x.shape[3])
        padding = ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)
        return F.pad(F.avg_pool2d(x, (height, width), stride=1), padding, mode="replicate")
