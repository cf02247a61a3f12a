"""Sure pixels: where a model of the step itself has labelled the web images, its labels stand in for the localizer's masks.

Source: docs/method.md, "A second round".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sure_shares(masks: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """How much of each cell of a grid is labelled, by channel.

    Args:
        masks: (B, H, W) channels, 255 where nobody is sure.
        channels: of the network.
        size: (h, w) of the grid.

    Returns:
        (B, channels, h, w) shares; their sum over the channels is 1 where every pixel of the cell is sure, 0 where none is.
    """
    height, width = size
    # One channel at a time: all at once would take as many maps of the images' size as there are channels.
    return torch.stack([F.adaptive_avg_pool2d((masks == c).float(), (height, width)) for c in range(channels)], dim=1)


def with_sure(soft: Tensor, shares: Tensor) -> Tensor:
    """The soft targets (B, C, h, w) q, in which the share of a cell that is sure has its label; ``shares`` are of ``sure_shares``."""
    return shares + (1 - shares.sum(dim=1, keepdim=True)) * soft
