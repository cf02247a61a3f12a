"""Objects of web images pasted into replay scenes, so that new and old classes stand side by side.

Source: docs/method.md, "More than the recipe".
The idea is that of copy-paste in weakly supervised incremental segmentation (FMWISS, CVPR 2023); the formulas are this project's
own. The step's own image before a replay image in a batch gives it what the localizer is sure of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.losses import folded
from modules.affinity import PAMR
from utils.checks import replay_places
from utils.normalisation import unit

# An object is cut out along the pixels whose class is more probable than all else, at a quarter of the image's size.
SURE, REDUCTION = 0.5, 4
# Objects that cover less of their image are specks, those that cover more are no objects but scenes.
SMALLEST, LARGEST = 0.01, 0.6
# Sides of a pasted object, of what they were; its middle lies so far from that of the scene, of half a side.
SCALES, REACH = (0.5, 1.0), 0.7
# Keeps the random numbers apart from those of other purposes.
STREAM = 15
# Uniform random numbers of a place: whether, mirrored, size, right and down.
DRAWN = 5


class Cut(NamedTuple):
    """Objects on the device, of K images.

    Attributes:
        images: (K, 3, H, W), unit scale.
        masks: (K, N, H, W) of 0 and 1: the new classes' objects, at most one class a pixel.
    """

    images: Tensor
    masks: Tensor


class Pairs(NamedTuple):
    """Who gives and who gets, as places of this rank's batch, with the random numbers of each pair, on the CPU.

    Attributes:
        donors: K places of the step's own images.
        scenes: K places of the replay images behind them.
        drawn: (K, DRAWN) uniform random numbers.
    """

    donors: list[int]
    scenes: list[int]
    drawn: Tensor


def cut(images: Tensor, probabilities: Tensor, labels: Tensor, affinity: PAMR | None) -> Cut:
    """What the localizer is sure of.

    Args:
        images: (K, 3, H, W), uint8 or in [0, 1].
        probabilities: (K, C, h, w) of the localizer.
        labels: (K, N) image labels of the new classes, the last N channels.
        affinity: makes the masks follow edges; None: they are as coarse as the localizer's.

    Returns:
        the objects; an image without one, or whose are too small or too large, has an empty mask.
    """
    pixels = unit(images)
    own = probabilities[:, -labels.shape[1] :] * labels[:, :, None, None]
    size = [max(1, side // REDUCTION) for side in pixels.shape[-2:]]
    own = F.interpolate(own, size, mode="bilinear", align_corners=False)
    if affinity is not None:
        own = affinity(F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True), own)
    masks = F.interpolate((own > SURE).to(pixels.dtype), pixels.shape[-2:], mode="bilinear", align_corners=False)
    masks = (masks > SURE).to(pixels.dtype)
    covered = masks.sum(dim=1).mean(dim=(1, 2))
    fits = (covered >= SMALLEST) & (covered <= LARGEST)
    return Cut(pixels, masks * fits[:, None, None, None])


def moved(objects: Cut, drawn: Tensor) -> Cut:
    """The objects mirrored, made smaller and moved: their middle comes to a random place.

    Args:
        objects: of K images.
        drawn: (K, 4) uniform random numbers: mirrored, size, right, down.
    """
    masks = objects.masks.sum(dim=1)
    drawn = drawn.to(masks)
    total = masks.sum(dim=(1, 2)).clamp(min=1)
    height, width = masks.shape[-2:]
    # Coordinates from -1 to 1, of pixels' middles.
    across, down = ((torch.arange(n, device=masks.device) * 2 + 1) / n - 1 for n in (width, height))
    middle_x = (masks.sum(dim=1) * across).sum(dim=1) / total
    middle_y = (masks.sum(dim=2) * down).sum(dim=1) / total
    mirror = 1 - 2 * (drawn[:, 0] < 0.5).to(drawn.dtype)
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * drawn[:, 1]
    to_x, to_y = (REACH * (2 * drawn[:, i] - 1) for i in (2, 3))
    zero = torch.zeros_like(scale)
    # From a pixel of the scene to the pixel of the object that comes there.
    theta = torch.stack(
        [
            torch.stack([mirror / scale, zero, middle_x - mirror * to_x / scale], dim=1),
            torch.stack([zero, 1 / scale, middle_y - to_y / scale], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, list(objects.images.shape), align_corners=False)
    # Outside there is no object.
    masks = F.grid_sample(objects.masks, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    images = F.grid_sample(objects.images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return Cut(images, masks)


def pasted(scenes: Tensor, objects: Cut) -> Tensor:
    """``scenes`` (K, 3, H, W), uint8 or in [0, 1], with the objects in front, of the same kind."""
    front = objects.masks.sum(dim=1, keepdim=True)
    mixed = unit(scenes) * (1 - front) + objects.images * front
    return mixed if scenes.is_floating_point() else (mixed * 255).round().to(scenes.dtype)


def composed(target: Tensor, claims: Tensor) -> Tensor:
    """A scene's target with what was pasted: there it is the object's class, and no other.

    Args:
        target: (B, C, h, w) of the scenes.
        claims: (B, N, h, w) share of a pixel that objects of the new classes, the last N channels, cover.
    """
    behind = target * (1 - claims.sum(dim=1, keepdim=True))
    new = claims.shape[1]
    return torch.cat([behind[:, :-new], behind[:, -new:] + claims], dim=1)


@dataclass(frozen=True)
class Pasting:
    """Which images of a batch are pasted, and how.

    Attributes:
        share: of the replay images, that get an object (``--paste``).
        seed: of the run.
        batch_size: over all ranks.
        replay_share: of replay images in it.
        start: epoch from which the localizer is sure of something (``--pseudo_ep``).
        new: number of new classes N.
        affinity: as of ``cut``.
        fold: what the localizer sees of absent classes goes to the present ones before objects are cut out (``--fold_absent``).
    """

    share: float
    seed: int
    batch_size: int
    replay_share: float
    start: int
    new: int
    affinity: PAMR | None
    fold: bool = False

    def pairs(self, epoch: int, number: int, rank: int, world: int) -> Pairs:
        """The pairs of a rank's batch; which there are in the whole batch depends on seed, epoch and iteration alone.

        Args:
            epoch: epoch, from 0.
            number: iteration of the epoch.
            rank: number of the rank.
            world: number of ranks.
        """
        generator = torch.Generator().manual_seed(hash((self.seed, STREAM, epoch, number)) % 2**63)
        drawn = torch.rand(self.batch_size, DRAWN, generator=generator)
        each = self.batch_size // world
        places = replay_places(self.batch_size, self.replay_share)
        scenes = [
            place
            for place in range(rank * each, (rank + 1) * each)
            if epoch >= self.start and places[place] and drawn[place, 0] < self.share
        ]
        donors = [max(before for before in range(place) if not places[before]) for place in scenes]
        first = rank * each
        return Pairs([p - first for p in donors], [p - first for p in scenes], drawn[scenes])

    def __call__(
        self, images: Tensor, probabilities: Tensor, image_labels: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor]:
        """The scenes of a batch with objects in them.

        Args:
            images: (B, 3, H, W) of the batch.
            probabilities: (K, C, h, w) of the localizer, for the donors.
            image_labels: (B, C - 1) of the batch.
            pairs: of the batch, K.

        Returns:
            (K, 3, H, W) images, and (K, N, h, w) what of them is an object of a new class.
        """
        every = image_labels[pairs.donors]
        if self.fold:
            probabilities = folded(probabilities, F.pad(every, (1, 0), value=1.0)[:, :, None, None])
        labels = every[:, -self.new :]
        drawn = pairs.drawn[:, 1:].to(images.device, non_blocking=True)
        objects = moved(cut(images[pairs.donors], probabilities, labels, self.affinity), drawn)
        claims = F.interpolate(objects.masks, probabilities.shape[-2:], mode="area")
        return pasted(images[pairs.scenes], objects), claims
