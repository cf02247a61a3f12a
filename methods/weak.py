"""Learning new classes from image labels: WILSON (arXiv 2112.01882, section 3.2).

A localizer on the student's features learns the new classes from image labels and the old ones
from the teacher; from epoch ``pseudo_ep`` on, its masks (refined by pixel affinity for its own
training) teach the segmenter: docs/method.md, "One weak iteration".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from argparser import Options
from captions.likeness import likeness
from dataset.batch import Batch
from methods import losses
from methods.base import Iteration, Prediction, weighted_mean
from methods.confusion import Confusion
from methods.likeness import hints, likeness_loss
from methods.paste import Pasting, composed
from methods.sure import sure_shares, with_sure
from modules.affinity import PAMR
from tasks import IGNORE
from utils.normalisation import unit

# Thresholds of the localizer's pseudo mask: share of a channel's maximum, the same for background, and the least value.
MASK_TOP, MASK_BACKGROUND, MASK_LOW = 0.6, 0.7, 0.2
# Keeps L_seg finite where no image of the batch counts.
NO_IMAGE_EPS = 1e-5


class WeakTargets(NamedTuple):
    """What the localizer's masks teach from ``pseudo_ep`` on.

    Attributes:
        refined: (B, C, h, w) probabilities R, absent classes zero.
        pseudo_mask: (B, C, h, w) 0 or 1, what the localizer is refined towards.
        soft: (B, C, h, w) q, between the hard and the soft mask.
        segmenter: (B, C, h, w) target of the segmenter: the teacher for old channels, q for new ones.
        image_weight: (B,) 1 where all new labels of the image appear in q.
    """

    refined: Tensor
    pseudo_mask: Tensor
    soft: Tensor
    segmenter: Tensor
    image_weight: Tensor


def weak_targets(
    masks: Tensor,
    refined: Tensor,
    image_labels: Tensor,
    old_probabilities: Tensor,
    *,
    alpha: float,
    background: float,
    old_yields: bool = False,
    fold_absent: bool = False,
    confused: Callable[[Tensor, Tensor], Tensor] | None = None,
    sure: Tensor | None = None,
) -> WeakTargets:
    """Targets of the weak step from ``pseudo_ep`` on (docs/method.md, "One weak iteration").

    Args:
        masks: (B, C, h, w) P, softmax of the localizer in evaluation mode.
        refined: (B, C, h, w) R, the same after pixel affinity (or P itself).
        image_labels: (B, C - 1) labels of the foreground classes.
        old_probabilities: (B, O, h, w) sigmoids of the teacher.
        alpha: hardness of the soft target, 0 to 1.
        background: mix of the background target; -1 for the minimum of teacher and q.
        old_yields: the old targets, background's too, are the teacher's times the share that q leaves to them. What is new is
            then not taught as the old class that the teacher takes it for, and elsewhere the teacher alone is followed.
            Not in the papers.
        fold_absent: what the masks give to absent foreground classes goes to the present ones (``losses.folded``) and is not lost to
            background. Not in the papers.
        confused: with ``old_yields``, how far each old class yields to each new one, (N, O) in [0, 1], by what new classes claim,
            (B, N, h, w), and ``old_probabilities``; None: wholly. Not in the papers.
        sure: (B, C, h, w) shares that are labelled (``sure_shares``), where q has the labels in the masks' place; None: nowhere.
            Not in the papers.
    """
    old = old_probabilities.shape[1]
    present = F.pad(image_labels, (1, 0), value=1.0)[:, :, None, None]
    if fold_absent:
        masks, refined = losses.folded(masks, present), losses.folded(refined, present)
    masks, refined = masks * present, refined * present
    pseudo = losses.pseudo_mask(refined, top=MASK_TOP, bkg=MASK_BACKGROUND, low=MASK_LOW, drop_ambiguous=True)
    soft = losses.soft_target(masks, alpha)
    if sure is not None:
        soft = with_sure(soft, sure)
    appears = soft[:, old:].flatten(2).sum(dim=-1) > 0
    weight = (appears == image_labels[:, old - 1 :].bool()).all(dim=1).to(soft.dtype)
    if old_yields:
        claims = soft[:, old:]
        if confused is None:
            claimed = claims.sum(dim=1, keepdim=True)
        else:
            claimed = torch.einsum("no,bnhw->bohw", confused(claims, old_probabilities), claims)
        unclaimed = (1 - claimed).clamp(min=0)
        segmenter = torch.cat([old_probabilities * unclaimed, soft[:, old:]], dim=1)
    else:
        segmenter = losses.mix_background(old_probabilities, soft, background)
    return WeakTargets(refined, pseudo, soft, segmenter, weight)


@dataclass(frozen=True)
class Weak:
    """The weak step's losses; each field but the first two is the option of its name.

    Attributes:
        old: number of channels that the teacher knows, background included.
        total: number of the student's channels.
        affinity: the refinement of ``--affinity``; None without.
        memory: what ``--confusion`` counts; None without.
        pasting: what ``--paste`` asks for; None without.
        kin: (N, O) likeness of new and old classes, for ``likeness`` above 0.
        web_masks: whether the masks of web images are labels of ``--web_masks``.
    """

    old: int
    total: int
    alpha: float = 0.5
    affinity: PAMR | None = None
    pseudo_ep: int = 5
    cam: str = "ngwp"
    pos_w: float = 1.0
    loss_de: float = 0.0
    l_seg: float = 1.0
    icarl_bkg: float = -1.0
    old_yields: bool = False
    fold_absent: bool = False
    replay_weight: float = 1.0
    no_mask: bool = False
    memory: Confusion | None = None
    pasting: Pasting | None = None
    likeness: float = 0.0
    kin: Tensor | None = None
    web_masks: bool = False
    needs_teacher: bool = True
    needs_localizer: bool = True

    @classmethod
    def from_options(cls, options: Options, old: int, total: int, names: Sequence[str] = ()) -> Weak:
        """WILSON as the options tune it."""
        affinity = PAMR() if options.affinity else None
        pasting = None
        if options.paste:
            batch = options.batch_size, options.replay_share
            pasting = Pasting(
                options.paste,
                options.random_seed,
                *batch,
                options.pseudo_ep,
                total - old,
                affinity,
                options.fold_absent,
            )
        return cls(
            old=old,
            total=total,
            alpha=options.alpha,
            affinity=affinity,
            pseudo_ep=options.pseudo_ep,
            cam=options.cam,
            pos_w=options.pos_w,
            loss_de=options.loss_de,
            l_seg=options.l_seg,
            icarl_bkg=options.icarl_bkg,
            old_yields=options.old_yields,
            fold_absent=options.fold_absent,
            replay_weight=options.replay_weight,
            no_mask=options.no_mask,
            pasting=pasting,
            likeness=options.likeness,
            kin=torch.from_numpy(likeness(names[old:], names[:old])).float() if options.likeness else None,
            memory=Confusion(total - old, old, options.confusion) if options.confusion else None,
            web_masks=options.web_masks is not None,
        )

    def losses(
        self, batch: Batch, student: Prediction, teacher: Prediction | None, iteration: Iteration
    ) -> dict[str, Tensor]:
        """``cls``, ``loc``, ``like``, ``de`` and, from ``pseudo_ep`` on, ``ref`` and ``seg``."""
        assert teacher is not None and student.localizer is not None and student.localizer_eval is not None
        old_probabilities = torch.sigmoid(teacher.logits)
        # With --no_mask the image labels hold the old classes too, and the localizer learns them from there as well.
        labels = batch.image_labels if self.no_mask else batch.image_labels[:, self.old - 1 :]

        terms = {
            "cls": losses.image_level_bce(
                student.localizer, labels, mode=self.cam, reduction="mean", pos_weight=self.pos_w
            ),
            "loc": F.binary_cross_entropy_with_logits(student.localizer[:, : self.old], old_probabilities),
        }
        if self.kin is not None:
            kin = self.kin.to(labels.device, non_blocking=True)
            hinted = hints(kin, old_probabilities, batch.image_labels)
            terms["like"] = self.likeness * likeness_loss(student.localizer, hinted)
        if self.loss_de > 0:
            terms["de"] = self.loss_de * F.mse_loss(student.body, teacher.body)
        if iteration.epoch < self.pseudo_ep:
            return terms

        masks = student.localizer_eval.softmax(dim=1)
        targets = weak_targets(
            masks,
            self._refine(batch.images, masks),
            batch.image_labels,
            old_probabilities,
            alpha=self.alpha,
            background=self.icarl_bkg,
            old_yields=self.old_yields,
            fold_absent=self.fold_absent,
            confused=None if self.memory is None else partial(self.memory, average=iteration.average),
            sure=self._sure(batch, (masks.shape[-2], masks.shape[-1])),
        )
        terms["ref"] = losses.balanced_ce(student.localizer, targets.pseudo_mask, batch.image_labels)
        wanted = targets.segmenter if student.pasted is None else composed(targets.segmenter, student.pasted)
        per_pixel = F.binary_cross_entropy_with_logits(student.logits, wanted, reduction="none").sum(dim=1)
        per_image = per_pixel.flatten(1).mean(dim=1)
        weight = torch.where(batch.is_replay, self.replay_weight * targets.image_weight, targets.image_weight)
        terms["seg"] = self.l_seg * weighted_mean(per_image, weight, iteration, NO_IMAGE_EPS)
        return terms

    def _sure(self, batch: Batch, size: tuple[int, int]) -> Tensor | None:
        """What ``--web_masks`` are sure of, at feature size; a replay image's mask is the teacher's business."""
        if not self.web_masks:
            return None
        return sure_shares(batch.masks.masked_fill(batch.is_replay[:, None, None], IGNORE), self.total, size)

    def _refine(self, images: Tensor, masks: Tensor) -> Tensor:
        """R: the masks after pixel affinity on the image at their size, or as they are without ``--affinity``."""
        if self.affinity is None:
            return masks
        small = F.interpolate(unit(images), masks.shape[-2:], mode="bilinear", align_corners=True)
        return self.affinity(small, masks)
