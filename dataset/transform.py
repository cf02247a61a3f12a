"""Augmentation, image and mask together; pixels stay bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

Transform = Callable[[Image.Image, NDArray[np.uint8]], tuple[Tensor, Tensor]]

# Area of a random crop relative to the image's (docs/method.md, "The base step"); areas above 1 mean the largest crop that fits.
CROP_SCALE = (0.5, 2.0)


def transformed(transform: Transform, image: Image.Image, mask: NDArray[np.uint8], seed: int) -> tuple[Tensor, Tensor]:
    """What ``transform`` makes of an image and its mask with ``seed``; torch's own generator stays as it was.

    Returns:
        (3, h, w) and (h, w), both uint8.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(image, mask)


class PairTransform:
    """Applies a chain of torchvision transforms to an image and its mask.

    Args:
        steps: of geometry, where the image is resized bilinearly and the mask takes the nearest value, and of colour, which leave the
            mask as it is.
    """

    def __init__(self, steps: list[v2.Transform]) -> None:
        self.steps = v2.Compose(steps) if steps else None

    def __call__(self, image: Image.Image, mask: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """RGB image and mask (H, W) to (3, h, w) and (h, w), both uint8."""
        pair = image, tv_tensors.Mask(torch.from_numpy(mask))
        if self.steps is not None:
            pair = self.steps(*pair)
        pixels = torch.from_numpy(np.array(pair[0])).permute(2, 0, 1).contiguous()
        return pixels, pair[1].as_subclass(Tensor)


def train_transform(crop_size: int, jitter: float = 0.0) -> PairTransform:
    """Random resized crop of side ``crop_size`` and a flip, drawn from torch's generator, and other colours.

    Args:
        crop_size: side of the crop, pixels.
        jitter: in [0, 1]; brightness, contrast and saturation are multiplied by 1 - jitter to 1 + jitter, hue turns by up to
            jitter / 4 of the circle, and with the probability jitter / 3 the image is grey. 0 leaves colours, and the numbers drawn for
            crop and flip, as they are.
    """
    crop = v2.RandomResizedCrop(crop_size, scale=CROP_SCALE, interpolation=InterpolationMode.BILINEAR, antialias=True)
    steps: list[v2.Transform] = [crop, v2.RandomHorizontalFlip()]
    if jitter > 0:
        steps += [v2.ColorJitter(jitter, jitter, jitter, jitter / 4), v2.RandomGrayscale(jitter / 3)]
    return PairTransform(steps)


def val_transform(crop_size: int | None) -> PairTransform:
    """The shorter side scaled to ``crop_size`` and the centre cut out; None leaves images whole."""
    if crop_size is None:
        return PairTransform([])
    resize = v2.Resize(crop_size, interpolation=InterpolationMode.BILINEAR, antialias=True)
    return PairTransform([resize, v2.CenterCrop(crop_size)])
