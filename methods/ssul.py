"""A method like SSUL (arXiv 2106.11562): what was learned is frozen, and a classifier of the unknown begins the new ones.

docs/method.md, "Baselines" has the formulas, and says what stands for the paper's saliency maps, which are not at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from argparser import Options
from dataset.batch import Batch
from methods import losses
from methods.base import Iteration, Prediction
from methods.losses import to_size
from tasks import BACKGROUND, IGNORE

# Probability from which on the teacher's old classes are labels of the background.
SURE = 0.7


def salient(body: Tensor, size: torch.Size) -> Tensor:
    """Where a body's features are stronger than on the image's average: what draws its attention, whatever its class.

    Args:
        body: (B, D, h, w) features.
        size: (H, W) of the answer.

    Returns:
        (B, H, W) true where the mean of |features| over the channels is above its mean over the image.
    """
    strength = body.detach().abs().mean(dim=1, keepdim=True)
    strength = F.interpolate(strength, size=size, mode="bilinear", align_corners=False)[:, 0]
    return strength > strength.mean(dim=(1, 2), keepdim=True)


def augmented_labels(masks: Tensor, salience: Tensor, old_logits: Tensor | None) -> tuple[Tensor, Tensor]:
    """Labels whose background names old classes where the teacher is sure, and the unknown where something stands out.

    Args:
        masks: (B, H, W) channels of the step's classes, else background; 255 where a pixel does not count.
        salience: (B, H, W) true where something stands out.
        old_logits: (B, O, H, W) of the teacher; None at step 0.

    Returns:
        (B, H, W) channels, background where the unknown is; (B, H, W) true where it is.
    """
    labels = masks
    if old_logits is not None:
        probability, predicted = old_logits.sigmoid().max(dim=1)
        sure = (masks == BACKGROUND) & (predicted != BACKGROUND) & (probability >= SURE)
        labels = torch.where(sure, predicted, masks)
    return labels, (labels == BACKGROUND) & salience


@dataclass(frozen=True)
class Ssul:
    """Binary cross entropy of what still learns: background, new classes, and the unknown beside them.

    Attributes:
        old: channels that the teacher knows, background included; 0 at step 0.
        total: channels of the student.
    """

    old: int
    total: int
    needs_localizer: bool = False
    needs_unknown: bool = True

    @classmethod
    def from_options(cls, options: Options, old: int, total: int, names: Sequence[str] = ()) -> Ssul:
        """The method has no options of its own."""
        return cls(old, total)

    @property
    def needs_teacher(self) -> bool:
        """Later steps ask it for labels of the background."""
        return self.old > 0

    @property
    def freezes_head(self) -> bool:
        """The features are those of the base step."""
        return self.old > 0

    def losses(
        self, batch: Batch, student: Prediction, teacher: Prediction | None, iteration: Iteration
    ) -> dict[str, Tensor]:
        """``seg`` and ``unknown``, means over all pixels, where ignored ones count as zero."""
        assert student.unknown is not None
        masks = batch.masks
        old_logits = None if teacher is None else to_size(teacher.logits, masks)
        labels, unknown = augmented_labels(masks, salient(student.body, masks.shape[-2:]), old_logits)
        valid = (masks != IGNORE).float()
        # The channels of old classes are as they were: nothing teaches them.
        learning = [BACKGROUND, *range(max(self.old, 1), self.total)]
        target = torch.stack([labels == channel for channel in learning], dim=1)
        per_pixel = losses.soft_bce(to_size(student.logits[:, learning], masks), target)
        beside = losses.soft_bce(to_size(student.unknown, masks), unknown.unsqueeze(1))
        return {"seg": (per_pixel * valid).mean(), "unknown": (beside * valid).mean()}
