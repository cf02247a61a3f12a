"""The values themselves, for a network of timm's: what a spectrum is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from modules.inputs.base import everything, timm_network

if TYPE_CHECKING:
    from modules.discriminator import Preprocessing


class Pixels:
    """Images or feature maps as they are."""

    vector = False

    def __init__(self, name: str) -> None:
        self.name = name

    def channels(self, given: int) -> int:
        return given

    def prepare(self, values: Tensor) -> Tensor:
        return values.float()

    def mask(self, height: int, width: int) -> Tensor:
        return everything(height, width)

    def network(self, channels: int) -> nn.Module:
        return timm_network(self.name, channels)


def make(preprocessing: Preprocessing) -> Pixels:
    return Pixels(preprocessing.network)
