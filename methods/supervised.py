"""Learning from pixel labels: fine-tuning, LwF, ILT, MiB, iCaRL, joint training - one loss each, chosen by options.

- base step, fine-tuning, joint: cross entropy or, with ``--bce``, binary cross entropy
  (docs/method.md, "The base step");
- LwF (arXiv 1606.09282): plus distillation of the old outputs (``--loss_kd``);
- ILT (arXiv 1907.13372): plus distillation of the body's features (``--loss_de``);
- MiB (arXiv 2002.00718): unbiased cross entropy and distillation (``--unce --unkd``);
- iCaRL (arXiv 1611.07725): binary cross entropy plus the old classes' sigmoids (``--icarl [--icarl_disjoint]``).
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


@dataclass(frozen=True)
class Supervised:
    """Losses on masks; each field but the first is the option of its name.

    Attributes:
        old: number of channels that the teacher knows, background included; 0 at step 0.
    """

    old: int
    bce: bool = False
    unce: bool = False
    loss_kd: float = 0.0
    unkd: bool = False
    alpha: float = 1.0
    loss_de: float = 0.0
    icarl: bool = False
    icarl_importance: float = 1.0
    icarl_disjoint: bool = False
    icarl_bkg: float = -1.0
    needs_localizer: bool = False

    @classmethod
    def from_options(cls, options: Options, old: int, total: int, names: Sequence[str] = ()) -> Supervised:
        """The losses that the options switch on."""
        return cls(
            old=old,
            bce=options.bce,
            unce=options.unce,
            loss_kd=options.loss_kd,
            unkd=options.unkd,
            alpha=options.alpha,
            loss_de=options.loss_de,
            icarl=options.icarl,
            icarl_importance=options.icarl_importance,
            icarl_disjoint=options.icarl_disjoint,
            icarl_bkg=options.icarl_bkg,
        )

    @property
    def needs_teacher(self) -> bool:
        """Whether a loss looks at the previous step's model."""
        return self.loss_kd > 0 or self.loss_de > 0 or self.icarl

    def losses(
        self, batch: Batch, student: Prediction, teacher: Prediction | None, iteration: Iteration
    ) -> dict[str, Tensor]:
        """``seg`` and, as the options ask, ``icarl``, ``de`` and ``kd``."""
        logits = to_size(student.logits, batch.masks)
        old_logits = None
        if teacher is not None and (self.loss_kd > 0 or self.icarl):
            old_logits = to_size(teacher.logits, batch.masks)

        terms = {"seg": self._segmentation(logits, batch.masks, old_logits)}
        if self.icarl and not self.icarl_disjoint and old_logits is not None:
            old = old_logits.shape[1]
            # The sum over the old classes, as the segmentation loss sums over all of them.
            agreement = F.binary_cross_entropy_with_logits(logits[:, :old], torch.sigmoid(old_logits))
            terms["icarl"] = self.icarl_importance * old * agreement
        if self.loss_de > 0 and teacher is not None:
            terms["de"] = self.loss_de * F.mse_loss(student.body, teacher.body)
        if self.loss_kd > 0 and old_logits is not None:
            distil = losses.unbiased_distillation if self.unkd else losses.distillation
            terms["kd"] = self.loss_kd * distil(logits, old_logits, alpha=self.alpha, reduction="mean")
        return terms

    def _segmentation(self, logits: Tensor, masks: Tensor, old_logits: Tensor | None) -> Tensor:
        """Loss of the masks: the mean over all pixels, where ignored ones count as zero (as published)."""
        if self.icarl and self.icarl_disjoint and old_logits is not None:
            return losses.icarl_bce(
                logits, masks, torch.sigmoid(old_logits), bkg=self.icarl_bkg, reduction="none"
            ).mean()
        if self.bce or self.icarl:
            return losses.bce_ignore(logits, masks, reduction="none").mean()
        if self.unce and self.old > 0:
            return losses.unbiased_ce(logits, masks, old_classes=self.old, reduction="none").mean()
        return F.cross_entropy(logits, masks, ignore_index=255, reduction="none").mean()
