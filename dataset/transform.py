"""Augmentation and normalisation, image and mask together."""

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

# Mean and deviation of each colour channel in [0, 1]; the only place where they stand.
STATS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
# Area of a random crop relative to the image's (METHOD section 3); areas above 1 mean the largest crop that fits.
CROP_SCALE = (0.5, 2.0)


class PairTransform:
    """Applies a chain of torchvision transforms to an image and its mask.

    Args:
        steps: geometric transforms; the image is resized bilinearly, the mask takes the nearest value.
        stats: name of the normalisation constants.
    """

    def __init__(self, steps: list[v2.Transform], stats: str) -> None:
        mean, std = STATS[stats]
        self.geometry = v2.Compose(steps) if steps else None
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, image: Image.Image, mask: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """RGB image and mask (H, W) to (3, h, w) normalised float32 and (h, w) uint8."""
        pair = image, tv_tensors.Mask(torch.from_numpy(mask))
        if self.geometry is not None:
            pair = self.geometry(*pair)
        pixels = torch.from_numpy(np.array(pair[0])).permute(2, 0, 1).contiguous()
        return pixels.float().div_(255).sub_(self.mean).div_(self.std), pair[1].as_subclass(Tensor)


def train_transform(crop_size: int, stats: str) -> PairTransform:
    """Random resized crop of side ``crop_size`` and a flip, drawn from torch's generator."""
    crop = v2.RandomResizedCrop(crop_size, scale=CROP_SCALE, interpolation=InterpolationMode.BILINEAR, antialias=True)
    return PairTransform([crop, v2.RandomHorizontalFlip()], stats)


def val_transform(crop_size: int | None, stats: str) -> PairTransform:
    """The shorter side scaled to ``crop_size`` and the centre cut out; None leaves images whole."""
    if crop_size is None:
        return PairTransform([], stats)
    resize = v2.Resize(crop_size, interpolation=InterpolationMode.BILINEAR, antialias=True)
    return PairTransform([resize, v2.CenterCrop(crop_size)], stats)
