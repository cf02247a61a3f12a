"""The Fourier-based domain discriminator: does an image look like the training data or like the web?

Source: docs/method.md, "New classes from web images".

Its input is the amplitude of the image's spectrum. Amplitude carries style and texture and varies little with what is shown, so
that a discriminator trained on the base classes can judge classes that it never saw (arXiv 2407.13363). The paper gives the
network and the rule; log scale, centring, bands and standardisation are options of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn

from utils.errors import UserError

# Channels of the output: probability of the training data's domain, and of the web's.
DATASET, WEB = 0, 1
# A band ends or begins at this share of the highest frequency along an axis.
BAND_RADIUS = 0.25
MIN_DEVIATION = 1e-6


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input; kept with the weights.

    Attributes:
        network: timm's name of the classifier.
        source: ``amplitude`` of the spectrum, or the ``pixels`` themselves (for comparison).
        features: ``image``, or ``encoder`` for the feature map of the segmenter's body.
        amplitude: ``log`` for log(1 + |F|), ``raw`` for |F|.
        band: ``all`` frequencies, the ``low`` ones or the ``high`` ones.
        size: side of the square input image, pixels.
    """

    network: str = "efficientnet_b0"
    source: str = "amplitude"
    features: str = "image"
    amplitude: str = "log"
    band: str = "all"
    size: int = 224

    def __post_init__(self) -> None:
        choices = {
            "source": ("amplitude", "pixels"),
            "features": ("image", "encoder"),
            "amplitude": ("log", "raw"),
            "band": ("all", "low", "high"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"--{name} {getattr(self, name)}: choose one of {', '.join(allowed)}")
        if self.size < 32:
            raise UserError(f"--size {self.size}: the network needs at least 32 pixels a side")


def band_mask(height: int, width: int, band: str) -> Tensor:
    """(height, width) 1 where a centred spectrum's frequency belongs to ``band``, 0 elsewhere."""
    rows = torch.fft.fftshift(torch.fft.fftfreq(height))[:, None] * 2
    columns = torch.fft.fftshift(torch.fft.fftfreq(width))[None, :] * 2
    near = (rows**2 + columns**2).sqrt() <= BAND_RADIUS
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


class Discriminator(nn.Module):
    """Image to logits of (training data, web).

    Args:
        preprocessing: what becomes of the image before the network sees it.
        encoder: (B, 3, H, W) in [0, 1] to a feature map, for ``features="encoder"``; it is not trained.
        channels: channels that the network sees: 3, or the encoder's.

    Raises:
        UserError: timm has no classifier of this name, or an encoder is missing.
    """

    def __init__(self, preprocessing: Preprocessing, encoder: nn.Module | None = None, channels: int = 3) -> None:
        super().__init__()
        if not timm.is_model(preprocessing.network):
            raise UserError(f"--network {preprocessing.network}: timm knows no model of this name")
        if (preprocessing.features == "encoder") != (encoder is not None):
            raise UserError("--features encoder works on the features of a segmenter: give its checkpoint")
        self.preprocessing = preprocessing
        # Kept out of the module tree: its weights are the segmenter's, not the discriminator's.
        self._encoder = (encoder,)
        self.network = timm.create_model(preprocessing.network, num_classes=2, in_chans=channels)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self._mask: Tensor | None = None

    def on(self, device: torch.device) -> Discriminator:
        """This network on ``device``, its encoder too, which ``to`` leaves where it is."""
        (encoder,) = self._encoder
        if encoder is not None:
            encoder.to(device)
        return self.to(device)

    def prepare(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] to what is standardised: amplitudes or pixels, (B, C, h, w) float32."""
        (encoder,) = self._encoder
        values = images if encoder is None else encoder(images)
        if self.preprocessing.source == "pixels":
            return values.float()
        return amplitude_spectrum(values, self.preprocessing.amplitude)

    def mask(self, values: Tensor) -> Tensor:
        """The band's mask (h, w) for ``values``."""
        if self._mask is None or self._mask.shape != values.shape[-2:] or self._mask.device != values.device:
            band = self.preprocessing.band if self.preprocessing.source == "amplitude" else "all"
            self._mask = band_mask(values.shape[-2], values.shape[-1], band).to(values.device)
        return self._mask

    def standardise(self, values: Tensor) -> Tensor:
        """Zero mean and unit deviation per channel over the training set's band; zero outside the band."""
        return (values - self.mean) / self.std * self.mask(values)

    @torch.no_grad()
    def fit_statistics(self, moments: tuple[Tensor, Tensor, float]) -> None:
        """Set mean and deviation from sums over the training set: (sum (C,), sum of squares (C,), number of values)."""
        total, squares, count = moments
        mean = total / count
        self.mean.copy_(mean[:, None, None])
        self.std.copy_((squares / count - mean**2).clamp(min=MIN_DEVIATION**2).sqrt()[:, None, None])

    def classify(self, values: Tensor) -> Tensor:
        """Prepared values (B, C, h, w) to logits (B, 2); the part that ``prepare`` keeps off."""
        logits: Tensor = self.network(self.standardise(values))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] to logits (B, 2)."""
        return self.classify(self.prepare(images))
