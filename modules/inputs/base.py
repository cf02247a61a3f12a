"""What all inputs of a discriminator have in common, and the networks that look at them."""

from __future__ import annotations

from typing import Protocol

import timm
import torch
from torch import Tensor, nn

from utils.errors import UserError


class Input(Protocol):
    """What a discriminator looks at, and what looks at it.

    Attributes:
        vector: whether it is a short vector (B, C, 1, 1). Its classifier is small and starts at random, so that ``--network`` and
            ``--pretrained`` play no part, and of each training image it is taken once, of the middle, for all epochs.
    """

    vector: bool

    def channels(self, given: int) -> int:
        """Number of its channels, of an image's or a feature map's ``given`` ones."""

    def prepare(self, values: Tensor) -> Tensor:
        """Images in [0, 1] or feature maps (B, C, H, W) to what is standardised, (B, C', h, w) float32."""

    def mask(self, height: int, width: int) -> Tensor:
        """(height, width) 1 where a prepared value counts, 0 elsewhere."""

    def network(self, channels: int) -> nn.Module:
        """Standardised values of ``channels`` channels to logits (B, 2), with random weights."""


def everything(height: int, width: int) -> Tensor:
    """The mask of an input of which every value counts."""
    return torch.ones(height, width)


def timm_network(name: str, channels: int) -> nn.Module:
    """timm's classifier of two classes.

    Raises:
        UserError: timm has none of this name.
    """
    if not timm.is_model(name):
        raise UserError(f"--network {name}: timm knows no model of this name")
    network: nn.Module = timm.create_model(name, num_classes=2, in_chans=channels)
    return network
