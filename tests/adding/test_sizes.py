"""Sizes follow the machine and the images, and what the user gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from adding.sizes import Machine, choose, typical_side, within
from tests.adding.test_inputs import picture
from utils.errors import UserError

LAPTOP, GPU, SMALL_GPU = Machine("cpu", 8192, 2), Machine("cuda", 80_000, 16), Machine("cuda", 6000, 8)


def test_a_laptop_gets_small_crops_and_a_gpu_large_ones() -> None:
    laptop, gpu, small = (choose(machine, 300, 375) for machine in (LAPTOP, GPU, SMALL_GPU))
    assert (laptop.crop, laptop.batch, laptop.workers) == (256, 16, 0)
    assert (gpu.crop, gpu.batch, gpu.workers) == (352, 24, 8)
    assert small.crop == 352 and 4 <= small.batch < 24
    assert choose(LAPTOP, 300, 190).crop == 160


def test_an_epoch_is_a_pass_over_what_captions_are_likely_to_keep() -> None:
    assert choose(LAPTOP, 300, 190).iterations == 29
    assert choose(LAPTOP, 10, 190).iterations == 15 and choose(LAPTOP, 10**6, 190).iterations == 250


def test_what_the_user_gives_counts() -> None:
    sizes = choose(GPU, 300, 375, crop=64, batch=6, steps=30, workers=3)
    assert (sizes.crop, sizes.batch, sizes.epochs, sizes.iterations, sizes.workers) == (64, 6, 8, 4, 3)
    few = choose(GPU, 300, 375, steps=3)
    assert (few.epochs, few.iterations, few.localizer_epochs) == (3, 1, 1)
    assert choose(GPU, 300, 375, largest=224).crop == 224
    for wrong in ({"crop": 8}, {"batch": 1}, {"steps": 0}):
        with pytest.raises(UserError, match="at least"):
            choose(GPU, 300, 375, **wrong)


def test_minutes_bound_the_iterations() -> None:
    sizes = choose(LAPTOP, 300, 190)
    bounded = within(1, 0.5, sizes)
    assert bounded.steps == 120 and bounded.epochs == 8
    assert within(1000, 0.5, sizes) == sizes
    assert within(0.1, 100, sizes).steps == 1


def test_the_typical_side_is_the_median_of_the_shorter_ones(tmp_path: Path) -> None:
    files = [picture(tmp_path / f"{number}.png") for number in range(3)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    assert typical_side([*files, broken]) == 12
    with pytest.raises(UserError, match="none of its images can be read"):
        typical_side([broken])
