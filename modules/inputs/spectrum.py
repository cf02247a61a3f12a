"""The amplitude spectrum, for a network of timm's: the published input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from modules.inputs.base import timm_network
from modules.spectrum import amplitude_spectrum, band_mask

if TYPE_CHECKING:
    from modules.discriminator import Preprocessing


class Spectrum:
    """As many channels as were given, and their size."""

    vector = False

    def __init__(self, name: str, amplitude: str, band: str) -> None:
        self.name, self.amplitude, self.band = name, amplitude, band

    def channels(self, given: int) -> int:
        return given

    def prepare(self, values: Tensor) -> Tensor:
        return amplitude_spectrum(values, self.amplitude)

    def mask(self, height: int, width: int) -> Tensor:
        return band_mask(height, width, self.band)

    def network(self, channels: int) -> nn.Module:
        return timm_network(self.name, channels)


def make(preprocessing: Preprocessing) -> Spectrum:
    return Spectrum(preprocessing.network, preprocessing.amplitude, preprocessing.band)
