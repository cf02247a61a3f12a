"""Augmentation, image and mask together; pixels stay bytes.

What is cut out is drawn from an image's size alone, before it is decoded: of a large JPEG no more is then decoded than is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

# Width and height.
Size = tuple[int, int]

# Area of a random crop relative to the image's (docs/method.md, "The base step"); areas above 1 mean the largest crop that fits.
CROP_SCALE = (0.5, 2.0)
# Width by height of a random crop, drawn evenly on a logarithmic scale; how often one is drawn before the middle is taken.
CROP_RATIO, TRIES = (3 / 4, 4 / 3), 10
LOG_RATIO: tuple[float, float] = tuple(torch.tensor(CROP_RATIO).log().tolist())
FLIP = 0.5
# By how much a JPEG can be reduced while it is decoded.
REDUCTIONS = (8, 4, 2)


@dataclass(frozen=True)
class Cut:
    """A part of an image, and what becomes of it.

    Attributes:
        box: left, top, right and bottom of the part, pixels of the upright image.
        size: that the part is scaled to.
        window: left, top, right and bottom of what is kept of that; None keeps all.
        mirrored: left and right are exchanged at last.
    """

    box: tuple[int, int, int, int]
    size: Size
    window: tuple[int, int, int, int] | None = None
    mirrored: bool = False

    @property
    def reduction(self) -> int:
        """By how much the image may be reduced before: the part stays as large as what it is scaled to, or larger."""
        left, top, right, bottom = self.box
        spare = min((right - left) // self.size[0], (bottom - top) // self.size[1])
        return next((by for by in REDUCTIONS if by <= spare), 1)

    def image(self, image: Image.Image, by: int = 1) -> Tensor:
        """(3, h, w) uint8 of an RGB image that was reduced ``by`` so much; the values of a pixel lie side by side in memory."""
        box = self.box
        if by > 1:
            # Borders may lie within a pixel; only Pillow cuts there.
            left, top, right, bottom = (side / by for side in box)
            part = np.array(image.resize(self.size, Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
        else:
            part = np.array(np.asarray(image)[box[1] : box[3], box[0] : box[2]])
        pixels = torch.from_numpy(part)[None].permute(0, 3, 1, 2)
        if pixels.shape[-2:] != self.size[::-1]:
            # Pillow's filter but for one level of rounding, and several times as fast (benchmarks/results/data.md).
            pixels = F.interpolate(pixels, self.size[::-1], mode="bilinear", align_corners=False, antialias=True)
        if self.window is not None:
            first, upper, last, lower = self.window
            pixels = pixels[..., upper:lower, first:last]
        return (pixels.flip(-1) if self.mirrored else pixels)[0]

    def mask(self, mask: NDArray[np.uint8]) -> Tensor:
        """(h, w) uint8 of a mask (H, W): each value is that of the nearest pixel to the left and above, as torch takes it."""
        left, top, right, bottom = self.box
        columns, rows = left + _nearest(right - left, self.size[0]), top + _nearest(bottom - top, self.size[1])
        if self.window is not None:
            columns, rows = columns[self.window[0] : self.window[2]], rows[self.window[1] : self.window[3]]
        if self.mirrored:
            columns = columns[::-1]
        return torch.from_numpy(mask.take(columns, axis=1).take(rows, axis=0))


def _nearest(length: int, wanted: int) -> NDArray[np.int64]:
    """Which of ``length`` pixels stands at each of ``wanted`` places."""
    # In single precision, which decides where a place falls between two pixels.
    places = np.arange(wanted, dtype=np.float32) * np.float32(length / wanted)
    return np.minimum(places.astype(np.int64), length - 1)


class Drawn:
    """The augmentation of one image: drawn once its size is known, applied once it is decoded.

    Args:
        transform: what is drawn from.
        generator: the draws'.
    """

    def __init__(self, transform: Transform, generator: torch.Generator) -> None:
        self.transform, self.generator = transform, generator

    def reduction(self, size: Size) -> int:
        """Draw for an upright image of ``size``; by how much it may be reduced while it is decoded, 1, 2, 4 or 8."""
        self.size = size
        self.cut = self.transform.cut(size, self.generator)
        return self.cut.reduction if self.transform.reduces else 1

    def image(self, image: Image.Image) -> Tensor:
        """(3, h, w) uint8 of the RGB image, which may have been reduced."""
        by = 1 if image.size == self.size else self.cut.reduction
        pixels, colours = self.cut.image(image, by), self.transform.colours
        if colours is None:
            return pixels
        # Torchvision draws from torch's own generator, which goes on from where ours is.
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.generator.get_state())
            picture = colours(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    def mask(self, mask: NDArray[np.uint8]) -> Tensor:
        """(h, w) uint8 of the mask (H, W), which is never reduced."""
        return self.cut.mask(mask)


@dataclass(frozen=True)
class Transform:
    """What images and masks go through; torch's own generator stays as it was.

    Attributes:
        cut: draws what is cut out of an image of a size.
        colours: changes the colours of what was cut out; None leaves them.
        reduces: a large image may be reduced while it is decoded, which moves its pixels' values by more than rounding.
    """

    cut: Callable[[Size, torch.Generator], Cut]
    colours: v2.Transform | None = None
    reduces: bool = False

    def drawn(self, seed: int) -> Drawn:
        """What ``seed`` draws for one image."""
        return Drawn(self, torch.Generator().manual_seed(seed))

    def __call__(self, image: Image.Image, mask: NDArray[np.uint8], seed: int = 0) -> tuple[Tensor, Tensor]:
        """An RGB image and its mask (H, W) to (3, h, w) and (h, w), both uint8."""
        drawn = self.drawn(seed)
        drawn.reduction(image.size)
        return drawn.image(image), drawn.mask(mask)


def random_box(size: Size, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random part: the same draws in the same order as ``v2.RandomResizedCrop``.

    Area and shape are drawn until they fit, then the place. Where nothing fits, the middle is taken: all of the image but what
    makes it wider or higher than a crop may be.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(1).uniform_(low, high, generator=generator)

    def below(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    width, height = size
    for _ in range(TRIES):
        area = width * height * uniform(*CROP_SCALE).item()
        # In single precision, as the draw.
        ratio = uniform(*LOG_RATIO).exp().item()
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = below(height - h + 1)
            left = below(width - w + 1)
            break
    else:
        w, h = width, height
        if width / height < CROP_RATIO[0]:
            h = round(width / CROP_RATIO[0])
        elif width / height > CROP_RATIO[1]:
            w = round(height * CROP_RATIO[1])
        left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _random_cut(side: int, size: Size, generator: torch.Generator) -> Cut:
    box = random_box(size, generator)
    return Cut(box, (side, side), mirrored=torch.rand(1, generator=generator).item() < FLIP)


def train_transform(crop_size: int, jitter: float = 0.0) -> Transform:
    """Random resized crop of side ``crop_size`` and a flip, and other colours.

    Args:
        crop_size: side of the crop, pixels.
        jitter: in [0, 1]; brightness, contrast and saturation are multiplied by 1 - jitter to 1 + jitter, hue turns by up to
            jitter / 4 of the circle, and with the probability jitter / 3 the image is grey. 0 leaves colours, and the numbers drawn for
            crop and flip, as they are.
    """
    colours = None
    if jitter > 0:
        colours = v2.Compose([v2.ColorJitter(jitter, jitter, jitter, jitter / 4), v2.RandomGrayscale(jitter / 3)])
    return Transform(partial(_random_cut, crop_size), colours, reduces=True)


def _whole(size: Size, generator: torch.Generator) -> Cut:
    return Cut((0, 0, *size), size)


def _centre(side: int, size: Size, generator: torch.Generator) -> Cut:
    shorter = min(size)
    width, height = (side * length // shorter for length in size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return Cut((0, 0, *size), (width, height), window=(left, top, left + side, top + side))


def val_transform(crop_size: int | None) -> Transform:
    """The shorter side scaled to ``crop_size`` and the centre cut out; None leaves images whole."""
    return Transform(_whole if crop_size is None else partial(_centre, crop_size))
