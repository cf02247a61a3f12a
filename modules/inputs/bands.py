"""Radial bands of the amplitude spectrum: how much of each frequency an image has, whatever its direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from modules.inputs.base import everything
from modules.spectrum import amplitude_spectrum, radius

if TYPE_CHECKING:
    from modules.discriminator import Preprocessing

# Rings of equal width up to the highest frequency along an axis; the last one has the corners too.
BANDS = 16
HIDDEN = 32


class Bands:
    """Mean amplitude of each ring of each channel."""

    vector = True

    def __init__(self, amplitude: str) -> None:
        self.amplitude = amplitude

    def channels(self, given: int) -> int:
        return BANDS * given

    def prepare(self, values: Tensor) -> Tensor:
        amplitude = amplitude_spectrum(values, self.amplitude)
        rings = (radius(*amplitude.shape[-2:]) * BANDS).long().clamp(max=BANDS - 1)
        # (h, w, BANDS): a small feature map leaves rings empty, whose mean is 0.
        members = nn.functional.one_hot(rings, BANDS).to(amplitude)
        means = torch.einsum("bchw,hwk->bck", amplitude, members) / members.sum(dim=(0, 1)).clamp(min=1)
        return means.flatten(1)[:, :, None, None]

    def mask(self, height: int, width: int) -> Tensor:
        return everything(height, width)

    def network(self, channels: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))


def make(preprocessing: Preprocessing) -> Bands:
    return Bands(preprocessing.amplitude)
