"""Sizes of a training, chosen from the machine and the images; each is an option of add_class.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from utils.errors import UserError
from utils.images import DecodeError, read_head

# Epochs of a step, and those in which the localizer alone learns, as in the experiments of this repository.
EPOCHS, LOCALIZER = 8, 2
# Iterations of an epoch, at least and at most.
SHORTEST, LONGEST = 15, 250
# Captions keep about this share of the candidates, and replay takes half of a batch.
KEPT, NEW = 0.75, 0.5
# Side of the training crops, pixels, at least and at most; a CPU takes seconds for what is larger.
LEAST_CROP, MOST_CROP = 64, {"cuda": 512, "mps": 320, "cpu": 256}
# Sides of crops fit every stride and every window of the bodies.
MULTIPLE = 32
# Images of a batch, at least and at most, and the memory that one of 512 x 512 pixels takes in training, MiB.
LEAST_BATCH, MOST_BATCH = 4, {"cuda": 24, "mps": 16, "cpu": 16}
IMAGE_MEMORY, IMAGE_SIDE = 900, 512
# Images whose size is looked at.
LOOKED_AT = 200
# Iterations of the trial that measures seconds an iteration.
TRIAL = {"cuda": 30, "mps": 12, "cpu": 8}


@dataclass(frozen=True)
class Machine:
    """Where the training runs.

    Attributes:
        device: cuda, mps or cpu.
        memory: of the GPU, or of the machine, MiB.
        cores: that this process may use.
    """

    device: str
    memory: float
    cores: int


@dataclass(frozen=True)
class Sizes:
    """Of a training.

    Attributes:
        crop: side of the training crops, pixels.
        batch: images of a batch, half of them rehearsed.
        epochs: number of epochs.
        iterations: of an epoch.
        workers: processes that load images.
        trial: iterations of the trial.
    """

    crop: int
    batch: int
    epochs: int
    iterations: int
    workers: int
    trial: int

    @property
    def steps(self) -> int:
        """Iterations in all."""
        return self.epochs * self.iterations

    @property
    def localizer_epochs(self) -> int:
        """Epochs in which the localizer alone learns."""
        return min(LOCALIZER, self.epochs // 2)


def typical_side(files: Sequence[Path]) -> int:
    """Median of the shorter sides of images, pixels; those that cannot be read do not count.

    Raises:
        UserError: none can be read.
    """
    some = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).round().astype(int))] if files else []
    sides = []
    for path in some:
        try:
            sides.append(min(read_head(path).size))
        except DecodeError:
            continue
    if not sides:
        raise UserError(f"{files[0].parent if files else 'no file'}: none of its images can be read")
    return round(median(sides))


def choose(
    machine: Machine,
    candidates: int,
    side: int,
    *,
    crop: int | None = None,
    batch: int | None = None,
    steps: int | None = None,
    workers: int | None = None,
    largest: int | None = None,
) -> Sizes:
    """Sizes for a machine and a number of images.

    The crop is the shorter side of half of the images, as far as the device goes; the batch what its memory holds; an epoch one
    pass over the images that captions are likely to keep.

    Args:
        machine: where the training runs.
        candidates: images of new classes.
        side: median of the images' shorter sides, pixels.
        crop: side of the crops that the user wants, like the next three.
        batch: images of a batch.
        steps: iterations in all.
        workers: processes that load images.
        largest: side of the one size that a network takes; None for any.

    Raises:
        UserError: a size that the user wants is none.
    """
    for name, value, least in (("crop_size", crop, 32), ("batch_size", batch, 2), ("steps", steps, 1)):
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: at least {least} is needed")
    most = MOST_CROP[machine.device] if largest is None else min(largest, MOST_CROP[machine.device])
    side = crop or max(LEAST_CROP, min(side, most) // MULTIPLE * MULTIPLE)
    room = 0.5 * machine.memory / (IMAGE_MEMORY * (side / IMAGE_SIDE) ** 2)
    images = batch or max(LEAST_BATCH, min(MOST_BATCH[machine.device], int(room) // 2 * 2))
    epochs = EPOCHS if steps is None else min(EPOCHS, steps)
    if steps is None:
        iterations = min(LONGEST, max(SHORTEST, math.ceil(KEPT * candidates / (NEW * images))))
    else:
        iterations = math.ceil(steps / epochs)
    loading = min(8, machine.cores - 1) if machine.device == "cuda" else min(2, machine.cores // 4)
    return Sizes(
        side, images, epochs, iterations, max(0, loading) if workers is None else workers, TRIAL[machine.device]
    )


def within(minutes: float, seconds: float, sizes: Sizes) -> Sizes:
    """The sizes with as many iterations as ``minutes`` hold, never more than they had.

    Args:
        minutes: of training.
        seconds: of one iteration, as the trial measured them.
        sizes: chosen without a bound.
    """
    steps = max(1, min(sizes.steps, int(60 * minutes / seconds)))
    epochs = min(sizes.epochs, steps)
    return Sizes(sizes.crop, sizes.batch, epochs, steps // epochs, sizes.workers, sizes.trial)
