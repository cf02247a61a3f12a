"""PLOP (arXiv 2011.11390): distillation of what several layers say along lines and columns, and sure labels of the teacher.

docs/method.md, "Baselines" has the formulas and says which of the constants the paper has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from argparser import Options
from dataset.batch import Batch
from methods.base import Iteration, Prediction
from methods.losses import to_size
from tasks import BACKGROUND, IGNORE

# Regions along each side at the scales 1, 1/2 and 1/4.
SCALES = (1, 2, 4)
# Weights of the distillation: of the features, and of the logits.
FEATURES, LOGITS = 0.01, 0.0005
# Medians are read from counts of entropies in so many equal steps of 0..1, which ranks can sum.
BINS = 1000


def local_pod(maps: Tensor) -> Tensor:
    """Local POD: means along the lines and the columns of every region at every scale.

    A region's lines are those of its strip of columns: at one scale all regions together are means of the map over strips.

    Args:
        maps: (B, D, h, w).

    Returns:
        (B, E) of length 1 each, zero for maps of zeros.
    """
    height, width = maps.shape[-2:]
    parts = [F.adaptive_avg_pool2d(maps, (height, count)).flatten(1) for count in SCALES]
    parts += [F.adaptive_avg_pool2d(maps, (count, width)).flatten(1) for count in SCALES]
    return F.normalize(torch.cat(parts, dim=1), dim=1)


def pod_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the local POD of two maps (B, D, h, w), mean over the images: a scalar from 0 to 4."""
    return (local_pod(student) - local_pod(teacher)).square().sum(dim=1).mean()


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax over the channels of (B, O, H, W), as a share of the greatest possible: (B, H, W) in [0, 1]."""
    logs = logits.log_softmax(dim=1)
    return (-(logs.exp() * logs).sum(dim=1) / math.log(max(logits.shape[1], 2))).clamp(0, 1)


def count_entropies(logits: Tensor, shown: Tensor) -> Tensor:
    """How often each class is predicted with which entropy.

    Args:
        logits: (B, O, H, W) of the teacher.
        shown: (B, H, W) true where a pixel counts.

    Returns:
        (O, BINS) counts, int64.
    """
    classes = logits.shape[1]
    step = (entropy(logits) * BINS).long().clamp(max=BINS - 1)
    place = (logits.argmax(dim=1) * BINS + step)[shown]
    return torch.bincount(place, minlength=classes * BINS).reshape(classes, BINS)


def medians(counts: Tensor) -> Tensor:
    """Median entropy of each class: (O, BINS) counts to (O,), the upper edge of its step; 0 where a class was never predicted."""
    total = counts.sum(dim=1, keepdim=True)
    first = (counts.cumsum(dim=1) * 2 >= total).to(torch.uint8).argmax(dim=1)
    return torch.where(total[:, 0] > 0, (first + 1) / BINS, 0.0)


def pseudo_labels(masks: Tensor, old_logits: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Labels of the step, background filled by the teacher where it is sure, and how much was filled.

    Args:
        masks: (B, H, W) channels of the step's classes, else background; 255 where a pixel does not count.
        old_logits: (B, O, H, W) of the teacher.
        thresholds: (O,) entropy below which the teacher is believed, for the class that it predicts.

    Returns:
        (B, H, W) labels, 255 where the teacher is not believed; (B,) the share of each image's background that was filled, 1 where
        it has none: all of its pixels are labelled.
    """
    predicted = old_logits.argmax(dim=1)
    background = masks == BACKGROUND
    accepted = background & (entropy(old_logits) < thresholds.to(old_logits)[predicted])
    labels = torch.where(accepted, predicted, torch.where(background, IGNORE, masks))
    pixels, filled = background.flatten(1).sum(dim=1), accepted.flatten(1).sum(dim=1)
    return labels, torch.where(pixels > 0, filled / pixels.clamp(min=1), 1.0)


@dataclass
class Plop:
    """PLOP's losses.

    Attributes:
        old: channels that the teacher knows, background included.
        features: weight of the distillation of the features (``--loss_de``).
        logits: weight of the distillation of the logits (``--loss_kd``).
        thresholds: (O,) median entropy of each old class; known after ``survey``.
    """

    old: int
    features: float = FEATURES
    logits: float = LOGITS
    thresholds: Tensor | None = field(default=None, compare=False)
    needs_teacher: bool = True
    needs_localizer: bool = False
    needs_layers: bool = True

    @classmethod
    def from_options(cls, options: Options, old: int, total: int, names: Sequence[str] = ()) -> Plop:
        """With the paper's weights where the options give none."""
        return cls(old, options.loss_de or FEATURES, options.loss_kd or LOGITS)

    def survey(self, looks: Iterable[tuple[Batch, Prediction]], total: Callable[[Tensor], Tensor]) -> None:
        """Median entropy of each old class over the pixels that have no label of the step."""
        counts = [
            count_entropies(to_size(teacher.logits, batch.masks), batch.masks == BACKGROUND) for batch, teacher in looks
        ]
        self.thresholds = medians(total(torch.stack(counts).sum(dim=0)))

    def losses(
        self, batch: Batch, student: Prediction, teacher: Prediction | None, iteration: Iteration
    ) -> dict[str, Tensor]:
        """``seg``, ``pod`` of the layers and ``pod_logits``."""
        assert teacher is not None and self.thresholds is not None, "survey comes first"
        labels, filled = pseudo_labels(batch.masks, to_size(teacher.logits, batch.masks), self.thresholds)
        per_pixel = F.cross_entropy(to_size(student.logits, labels), labels, ignore_index=IGNORE, reduction="none")
        pairs = zip(student.layers, teacher.layers, strict=True)
        distances = torch.stack([pod_distance(own, old) for own, old in pairs])
        return {
            "seg": (filled * per_pixel.flatten(1).mean(dim=1)).mean(),
            "pod": self.features * distances.mean(),
            "pod_logits": self.logits * pod_distance(student.logits[:, : self.old], teacher.logits),
        }
