"""Scores: of segmentations from a confusion matrix, PASCAL VOC's intersection over union above all, and of a two-way classifier.

Which classes each mean covers: docs/method.md, "The task".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Added to every count of pixels that divides, as in the published scores: they agree to the last digit, and a class
# of n pixels moves by less than 1e-6 / n.
EPSILON = 1e-6
CALIBRATION_BINS = 15


class ConfusionMatrix:
    """Counts pixels by true class (row) and predicted class (column)."""

    def __init__(self, classes: int) -> None:
        """An empty matrix of ``classes`` channels, background included."""
        self.classes = classes
        # Behind the matrix: pixels whose predicted value is no channel, and pixels that are left out.
        self._counts = torch.zeros(classes**2 + 2, dtype=torch.int64)

    @property
    def matrix(self) -> Tensor:
        """(C, C) int64, on the device of the pixels counted last.

        Raises:
            ValueError: a predicted value is no channel.
        """
        self._check(self._counts)
        return self._counts[:-2].view(self.classes, self.classes)

    def update(self, target: Tensor, prediction: Tensor) -> None:
        """Add pixels; the counting happens on the tensors' device, and nobody waits for a GPU's.

        Args:
            target: integers of any shape; a value that is no channel (255) is left out.
            prediction: channels, same shape.

        Raises:
            ValueError: shapes differ, or a predicted value is no channel (of a GPU's pixels ``matrix`` says so).
        """
        if target.shape != prediction.shape:
            raise ValueError(f"target {tuple(target.shape)} and prediction {tuple(prediction.shape)} differ in shape")
        target, prediction = target.flatten().long(), prediction.flatten().long()
        cells, channels = self.classes**2, self.classes
        place = target * channels + prediction
        place = torch.where((prediction >= 0) & (prediction < channels), place, cells)
        place = torch.where((target >= 0) & (target < channels), place, cells + 1)
        counts = self._counts.to(place.device).scatter_add(0, place, torch.ones_like(place))
        if place.device.type == "cpu":
            self._check(counts)
        self._counts = counts

    def _check(self, counts: Tensor) -> None:
        if counts[-2]:
            raise ValueError(f"a predicted channel lies outside 0..{self.classes - 1}")

    def all_reduce(self, sum_over_ranks: Callable[[Tensor], Tensor]) -> None:
        """Replace the matrix by its sum over ranks; ``sum_over_ranks`` takes an int64 tensor and returns the sum."""
        self._counts = sum_over_ranks(self._counts)

    def reset(self) -> None:
        self._counts = torch.zeros_like(self._counts)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says; all in [0, 1], NaN where nothing can be said."""

    overall_acc: float
    """Share of the pixels that are right."""
    mean_acc: float
    """Mean of ``class_acc`` over the classes with ground truth."""
    mean_precision: float
    """Mean of ``class_precision`` over all classes; without ground truth the precision is 0."""
    mean_iou: float
    """Mean of ``class_iou`` over the classes with ground truth."""
    class_iou: list[float]
    """Intersection over union by channel; NaN without ground truth, as are the next two."""
    class_acc: list[float]
    """Recall by channel."""
    class_precision: list[float]
    """Precision by channel."""
    old_iou: float
    """Mean over the old foreground classes, without background (docs/method.md, "The task"). At step 0: the base classes."""
    new_iou: float
    """Mean over the new classes; NaN at step 0."""
    all_iou: float
    """Mean over all classes, background included; NaN where no foreground class has ground truth: background alone
    would score 1."""
    harmonic: float
    """Harmonic mean of ``old_iou`` and ``new_iou``."""
    names: tuple[str, ...]
    """Class names by channel."""

    def by_name(self) -> dict[str, float]:
        """``class_iou`` under the class names, in channel order."""
        return dict(zip(self.names, self.class_iou, strict=True))

    def summary(self) -> dict[str, float]:
        """The scores that are single numbers, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, float)}


def _mean(values: list[float]) -> float:
    """Mean without the NaN; NaN where nothing is left."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b): 0 where both are 0, NaN where one is."""
    return 0.0 if a == b == 0 else 2 * a * b / (a + b)


def scores(matrix: Tensor, first_new: int | None = None, names: list[str] | None = None) -> Scores:
    """All scores of a confusion matrix.

    Args:
        matrix: (C, C) pixel counts, rows are the true classes.
        first_new: number of old channels, background included, which is the first new channel; 0 or None at step 0,
            where ``old_iou`` covers the base classes and ``new_iou`` and ``harmonic`` are NaN.
        names: C class names; channel numbers where left out.
    """
    counts = matrix.detach().to("cpu", torch.float64)
    classes = len(counts)
    truth, predicted, right = counts.sum(1), counts.sum(0), counts.diagonal()
    absent = truth == 0
    precision = right / (predicted + EPSILON)

    def by_class(values: Tensor) -> list[float]:
        return values.masked_fill(absent, math.nan).tolist()

    class_acc = by_class(right / (truth + EPSILON))
    class_iou = by_class(right / (truth + predicted - right + EPSILON))
    all_iou = _mean(class_iou)
    split = first_new or classes
    old_iou, new_iou = _mean(class_iou[1:split]), _mean(class_iou[split:])
    return Scores(
        overall_acc=float(right.sum() / truth.sum()),
        mean_acc=_mean(class_acc),
        mean_precision=_mean(precision.tolist()),
        mean_iou=all_iou,
        class_iou=class_iou,
        class_acc=class_acc,
        class_precision=by_class(precision),
        old_iou=old_iou,
        new_iou=new_iou,
        all_iou=math.nan if bool(absent[1:].all()) else all_iou,
        harmonic=harmonic_mean(old_iou, new_iou),
        names=tuple(names) if names is not None else tuple(str(i) for i in range(classes)),
    )


@dataclass(frozen=True)
class BinaryScores:
    """How well a two-way classifier separates.

    Attributes:
        accuracy: mean of the two classes' accuracies (at probability 0.5), so that chance is 0.5 however many there are of each.
        auc: area under the ROC curve: chance that a positive scores above a negative.
        calibration_error: expected calibration error over ``CALIBRATION_BINS`` bins of the confidence.
        positives: number of positives.
        negatives: number of negatives.
    """

    accuracy: float
    auc: float
    calibration_error: float
    positives: int
    negatives: int


def binary_scores(probability: NDArray[np.floating], positive: NDArray[np.bool_]) -> BinaryScores:
    """Scores of probabilities (N,) of being positive against the truth (N,); nan where one class has no example."""
    up, down = probability[positive], probability[~positive]
    if not len(up) or not len(down):
        return BinaryScores(math.nan, math.nan, math.nan, len(up), len(down))
    # Mann and Whitney: each positive beats the negatives below it, and half of those level with it.
    ordered = np.sort(down)
    below, level = np.searchsorted(ordered, up, "left"), np.searchsorted(ordered, up, "right")
    auc = float((below + level).mean() / 2 / len(down))
    accuracy = float(((up > 0.5).mean() + (down <= 0.5).mean()) / 2)
    confidence = np.maximum(probability, 1 - probability)
    right = (probability > 0.5) == positive
    bins = np.minimum(((confidence - 0.5) * 2 * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return BinaryScores(accuracy, auc, float(sum(gaps)), len(up), len(down))
