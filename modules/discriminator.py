"""The domain discriminator: does an image look like the training data or like the web?

Source: docs/method.md, "New classes from web images".

The published one looks at the amplitude of the image's spectrum; the other inputs are ours. Network and rule are the paper's
(arXiv 2407.13363).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modules.inputs import EARLIER, INPUTS, input_name, make_input
from utils.errors import UserError

# Channels of the output: probability of the training data's domain, and of the web's.
DATASET, WEB = 0, 1
MIN_DEVIATION = 1e-6
# What files call the input; they keep its earlier name, so that version 0.1.0 reads the spectrum's.
FILE_FIELD = "source"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input; kept with the weights.

    Attributes:
        network: timm's name of the classifier.
        input: what it looks at, a name of ``INPUTS``.
        features: ``image``, or ``encoder`` for the feature map of the segmenter's body.
        amplitude: ``log`` for log(1 + |F|), ``raw`` for |F|.
        band: ``all`` frequencies, the ``low`` ones or the ``high`` ones.
        size: side of the square input image, pixels.
    """

    network: str = "efficientnet_b0"
    input: str = "spectrum"
    features: str = "image"
    amplitude: str = "log"
    band: str = "all"
    size: int = 224

    def __post_init__(self) -> None:
        choices = {
            "input": tuple(INPUTS),
            "features": ("image", "encoder"),
            "amplitude": ("log", "raw"),
            "band": ("all", "low", "high"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"--{name} {getattr(self, name)}: choose one of {', '.join(allowed)}")
        if self.input == "encoder" and self.features != "encoder":
            raise UserError("--input encoder: looks at the segmenter's features; leave --features out")
        if self.size < 32:
            raise UserError(f"--size {self.size}: the network needs at least 32 pixels a side")

    def plain(self) -> dict[str, Any]:
        """As files hold it."""
        earlier = {name: word for word, name in EARLIER.items()}
        values = asdict(self) | {"input": earlier.get(self.input, self.input)}
        return {FILE_FIELD if name == "input" else name: value for name, value in values.items()}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Preprocessing:
        """Out of a file.

        Raises:
            TypeError: it has other fields, or of other types.
            UserError: a value is not known.
        """
        values = {"input" if name == FILE_FIELD else name: value for name, value in plain.items()}
        for name, value in values.items():
            if type(value) is not type(getattr(cls(), name, None)):
                raise TypeError(f"its preprocessing has a field {name} of another type")
        if "input" in values:
            values["input"] = input_name(values["input"])
        return cls(**values)


class Discriminator(nn.Module):
    """Image to logits of (training data, web).

    Args:
        preprocessing: what becomes of the image before the network sees it.
        encoder: (B, 3, H, W) in [0, 1] to a feature map, for ``features="encoder"``; it is not trained.
        channels: 3, or the encoder's.

    Raises:
        UserError: timm has no classifier of this name, or an encoder is missing.
    """

    def __init__(self, preprocessing: Preprocessing, encoder: nn.Module | None = None, channels: int = 3) -> None:
        super().__init__()
        if (preprocessing.features == "encoder") != (encoder is not None):
            raise UserError("--features encoder works on the features of a segmenter: give its checkpoint")
        self.preprocessing = preprocessing
        self.input = make_input(preprocessing)
        # Kept out of the module tree: its weights are the segmenter's, not the discriminator's.
        self._encoder = (encoder,)
        channels = self.input.channels(channels)
        self.network = self.input.network(channels)
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
        """Images (B, 3, S, S) in [0, 1] to what is standardised, (B, C, h, w) float32."""
        (encoder,) = self._encoder
        return self.input.prepare(images if encoder is None else encoder(images))

    def mask(self, values: Tensor) -> Tensor:
        """The mask (h, w) of the prepared ``values`` that count."""
        if self._mask is None or self._mask.shape != values.shape[-2:] or self._mask.device != values.device:
            self._mask = self.input.mask(values.shape[-2], values.shape[-1]).to(values.device)
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
