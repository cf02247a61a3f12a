"""Augmentation: torchvision's transforms are the oracle of what is drawn, cut out and sampled."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from dataset.transform import CROP_SCALE, Cut, Transform, random_box, train_transform, val_transform
from utils.images import load_reduced

CROP = {"scale": CROP_SCALE, "interpolation": InterpolationMode.BILINEAR, "antialias": True}
SIZES = [(500, 375), (375, 500), (256, 256), (1, 1), (1, 700), (700, 1), (3, 5), (90, 41), (2000, 300), (37, 36)]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft shapes with some noise, as in photographs."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(soft).astype(int) + rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def chain(steps: list[v2.Transform], image: Image.Image, mask: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
    """What torchvision makes of an image and its mask."""
    torch.manual_seed(seed)
    pixels, labels = v2.Compose(steps)(image, tv_tensors.Mask(torch.from_numpy(mask)))
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1), labels.as_subclass(Tensor)


@pytest.mark.parametrize("size", SIZES)
def test_crops_are_torchvisions(size: tuple[int, int]) -> None:
    """The same part of the image from the same draws, and the generator is left where torchvision leaves it."""
    oracle, image = v2.RandomResizedCrop(8, **CROP), torch.zeros(1).expand(3, *size[::-1])
    middles = set()
    for seed in range(400):
        generator = torch.Generator().manual_seed(seed)
        left, top, right, bottom = random_box(size, generator)
        torch.manual_seed(seed)
        wanted = oracle.make_params([image])
        assert (top, left, bottom - top, right - left) == tuple(
            wanted[key] for key in ("top", "left", "height", "width")
        )
        assert torch.equal(generator.get_state(), torch.get_rng_state())
        middles.add(left == (size[0] - (right - left)) // 2 and top == (size[1] - (bottom - top)) // 2)
    assert size != (500, 375) or len(middles) == 2, "crops anywhere, and middles where nothing fits"


@pytest.mark.parametrize("size", [(500, 375), (90, 41), (3, 5), (1, 700)])
@pytest.mark.parametrize("side", [16, 160, 257])
def test_pixels_are_torchvisions(size: tuple[int, int], side: int) -> None:
    """Masks are the same; images differ by one level of 256 at most, in less than a third of their values."""
    image, rng = picture(*size), np.random.default_rng(1)
    mask = rng.integers(0, 256, size[::-1], np.uint8)
    resize = v2.Resize(side, interpolation=InterpolationMode.BILINEAR, antialias=True)
    jobs: list[tuple[Transform, list[v2.Transform], range]] = [
        (train_transform(side), [v2.RandomResizedCrop(side, **CROP), v2.RandomHorizontalFlip()], range(8)),
        (val_transform(side), [resize, v2.CenterCrop(side)], range(1)),
    ]
    for transform, steps, seeds in jobs:
        for seed in seeds:
            pixels, labels = transform(image, mask, seed)
            wanted, true = chain(steps, image, mask, seed)
            assert torch.equal(labels, true)
            away = (pixels.int() - wanted.int()).abs()
            assert away.max() <= 1 and away.float().mean() < 0.3


@pytest.mark.parametrize("size", [(500, 375), (61, 80)])
def test_colours_are_torchvisions(size: tuple[int, int]) -> None:
    jitter, image, mask = 0.4, picture(*size), np.zeros(size[::-1], np.uint8)
    steps = [v2.RandomResizedCrop(48, **CROP), v2.RandomHorizontalFlip()]
    steps += [v2.ColorJitter(jitter, jitter, jitter, jitter / 4), v2.RandomGrayscale(jitter / 3)]
    before = torch.get_rng_state()
    found = [train_transform(48, jitter)(image, mask, seed)[0] for seed in range(12)]
    assert torch.equal(torch.get_rng_state(), before)
    for seed, pixels in enumerate(found):
        wanted, _ = chain(steps, image, mask, seed)
        # One level before them may be some after.
        assert (pixels.int() - wanted.int()).abs().float().mean() < 0.6


def test_an_image_of_the_wanted_size_stays_as_it_is() -> None:
    image, mask = picture(40, 40), np.arange(1600, dtype=np.uint8).reshape(40, 40)
    for transform in (val_transform(None), val_transform(40)):
        pixels, labels = transform(image, mask)
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(image))
        assert np.array_equal(labels.numpy(), mask)


def test_transforms_travel_to_other_processes() -> None:
    image, mask = picture(50, 40), np.zeros((40, 50), np.uint8)
    for transform in (train_transform(32, 0.3), val_transform(32), val_transform(None)):
        again = pickle.loads(pickle.dumps(transform))
        assert torch.equal(again(image, mask, 3)[0], transform(image, mask, 3)[0])


def test_the_largest_reduction_that_leaves_enough() -> None:
    for side, length in ((32, 31), (32, 63), (32, 64), (32, 127), (32, 128), (32, 300), (1, 9)):
        by = Cut((5, 5, 5 + length, 5 + 2 * length), (side, side)).reduction
        assert by == 1 or length / by >= side
        assert by == 8 or length / (2 * by) < side
    assert Cut((0, 0, 400, 30), (32, 32)).reduction == 1


def tilted(width: int, height: int) -> Image.Image:
    """Colours that rise from left to right (red) and from top to bottom (green): a value says where it is."""
    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    return Image.fromarray(np.stack([x, y, 0 * x + 128], axis=-1).round().astype(np.uint8))


@pytest.mark.parametrize("size", [(1001, 777), (640, 512)])
@pytest.mark.parametrize("orientation", [1, 2, 6])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_reduced_image_is_cut_at_the_same_place(
    tmp_path: Path, size: tuple[int, int], orientation: int, progressive: bool
) -> None:
    """To a tenth of a pixel of the result, also where the part begins between two pixels of the reduced image."""
    file, exif, side = tmp_path / "a.jpg", Image.Exif(), 64
    exif[0x0112] = orientation
    tilted(*size).save(file, quality=95, subsampling=0, progressive=progressive, exif=exif)
    full, _ = load_reduced(file, lambda size: 1)
    for seed in range(6):
        drawn = train_transform(side).drawn(seed)
        image, known = load_reduced(file, drawn.reduction)
        assert known == full.size
        if orientation == 1 or size == (640, 512):
            assert image.size < full.size
        else:
            assert image.size == full.size, "its sides cannot be halved"
        plain = Transform(train_transform(side).cut)
        found, wanted = drawn.image(image).float(), plain.drawn(seed)
        wanted.reduction(full.size)
        away = found - wanted.image(full).float()
        slope = 250 / side
        # Borders see the pixels behind them, or not.
        inside = away[:2, 2:-2, 2:-2]
        assert inside.mean(dim=(1, 2)).abs().max() < 0.1 * slope and inside.abs().max() < 4
