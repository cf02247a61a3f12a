"""Features of the segmenter's body, pooled: what a network that knows objects sees, for a linear classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from modules.inputs.base import everything

if TYPE_CHECKING:
    from modules.discriminator import Preprocessing


class Pooled:
    """Mean and deviation of each channel over the feature map."""

    vector = True

    def channels(self, given: int) -> int:
        return 2 * given

    def prepare(self, values: Tensor) -> Tensor:
        values = values.float()
        pooled = (values.mean(dim=(-2, -1)), values.std(dim=(-2, -1), correction=0))
        return torch.cat(pooled, dim=1)[:, :, None, None]

    def mask(self, height: int, width: int) -> Tensor:
        return everything(height, width)

    def network(self, channels: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(channels, 2))


def make(preprocessing: Preprocessing) -> Pooled:
    return Pooled()
