"""The amplitude of an image's spectrum, and parts of it.

Source: docs/method.md, "New classes from web images".

Amplitude carries style and texture and varies little with what is shown, so that a discriminator trained on the base classes can
judge classes that it never saw (arXiv 2407.13363). Log scale, centring and bands are options of ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A band ends or begins at this share of the highest frequency along an axis.
BAND_RADIUS = 0.25


def radius(height: int, width: int) -> Tensor:
    """(height, width) distance of each frequency of a centred spectrum from zero; 1 is the highest one along an axis."""
    rows = torch.fft.fftshift(torch.fft.fftfreq(height))[:, None] * 2
    columns = torch.fft.fftshift(torch.fft.fftfreq(width))[None, :] * 2
    return (rows**2 + columns**2).sqrt()


def band_mask(height: int, width: int, band: str) -> Tensor:
    """(height, width) 1 where a centred spectrum's frequency belongs to ``band``, 0 elsewhere."""
    near = radius(height, width) <= BAND_RADIUS
    if band == "all":
        return torch.ones(height, width)
    return (near if band == "low" else ~near).float()


def amplitude_spectrum(values: Tensor, scale: str = "log") -> Tensor:
    """Amplitude of the 2-D spectrum of each channel, zero frequency in the middle; the phase is dropped.

    Args:
        values: (B, C, H, W), float; images in [0, 1] or feature maps.
        scale: ``log`` for log(1 + |F|), ``raw`` for |F|.

    Returns:
        (B, C, H, W) float32, at least 0.
    """
    # Half precision has neither the range of a sum over all pixels nor a transform of every size.
    amplitude = torch.fft.fft2(values.float()).abs()
    amplitude = torch.fft.fftshift(amplitude, dim=(-2, -1))
    return amplitude.log1p() if scale == "log" else amplitude
