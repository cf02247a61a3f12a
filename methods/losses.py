"""What is optimised, as pure functions on tensors: no state, no options, no loops over images or classes.

Symbols: B images, C channels (channel 0 is background), O old channels including background, H, W pixels. Logits may be
half precision; every function computes in float32 at least. Functions that end in ``_per_image`` hand out one number an
image, so that a mean over ranks can be exact; ``reduction="none"`` hands out one number a pixel for the same reason.

Sources: single-stage segmentation (Araslanov & Roth, CVPR 2020) for the image scores and the self-supervised
refinement, MiB (arXiv 2002.00718) for the unbiased losses, WILSON (arXiv 2112.01882) for the soft targets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks import IGNORE

REDUCTIONS = ("none", "mean", "sum")
# Pixels that no class claims still pull the attention score, by this weight each (golden data: image_level, score_att).
ATTENTION_FLOOR = 0.01
# Focal penalty (1 - size)^FOCAL_POWER * log(FOCAL_FLOOR + size) (Araslanov & Roth).
FOCAL_POWER = 3
FOCAL_FLOOR = 0.01


def to_size(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits (B, C, h, w) at the size of masks (B, H, W), bilinear: (B, C, H, W)."""
    return F.interpolate(logits, size=masks.shape[-2:], mode="bilinear", align_corners=False)


def _precise(logits: Tensor) -> Tensor:
    """``logits`` in float32, or as they are where they are that precise already."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _reduce(values: Tensor, reduction: str, count: Tensor | None = None) -> Tensor:
    """Reduce per-pixel ``values``; the mean is over ``count`` pixels (at least one) where given, else over all."""
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "mean":
        return values.mean() if count is None else values.sum() / count.clamp(min=1)
    raise ValueError(f"reduction {reduction!r}: choose one of {', '.join(REDUCTIONS)}")


# --- image level -----------------------------------------------------------------------------------------------------


def image_scores(logits: Tensor, mode: str = "ngwp", focal: bool = True) -> Tensor:
    """One score per image and class from a map of class scores (Araslanov & Roth).

    With p the softmax over the channels:

    - ``ngwp``: sum(x p) / (1 + sum p), plus with ``focal`` the size penalty (1 - mean p)^3 log(0.01 + mean p);
    - ``att``: mean of x weighted by p + 0.01;
    - ``mean``: plain mean of x.

    Args:
        logits: (B, C, h, w).
        mode: ``ngwp``, ``att`` or ``mean``.
        focal: whether ``ngwp`` gets the size penalty; the other modes have none.

    Returns:
        (B, C) scores on the scale of logits.

    Raises:
        ValueError: unknown mode.
    """
    x = _precise(logits).flatten(2)
    if mode == "mean":
        return x.mean(-1)
    if mode not in ("ngwp", "att"):
        raise ValueError(f"mode {mode!r}: choose one of ngwp, att, mean")
    p = x.softmax(1)
    if mode == "att":
        weight = p + ATTENTION_FLOOR
        return (x * weight).sum(-1) / weight.sum(-1)
    score = (x * p).sum(-1) / (1 + p.sum(-1))
    if focal:
        size = p.mean(-1)
        score = score + (1 - size) ** FOCAL_POWER * torch.log(FOCAL_FLOOR + size)
    return score


def image_level_bce_per_image(
    logits: Tensor, labels: Tensor, mode: str = "ngwp", reduction: str = "mean", pos_weight: float = 1.0
) -> Tensor:
    """Binary cross entropy of the image scores of the last n channels, one number an image.

    L_cls of docs/method.md, "One weak iteration".

    Args:
        logits: (B, C, h, w).
        labels: (B, n) image labels in [0, 1] of the last n channels.
        mode: how a score is pooled, see ``image_scores``.
        reduction: ``mean`` or ``sum`` over the n classes.
        pos_weight: weight of the classes that are present.

    Returns:
        (B,) losses.
    """
    scores = image_scores(logits, mode)[:, -labels.shape[1] :]
    labels = labels.to(scores)
    loss = F.binary_cross_entropy_with_logits(
        scores, labels, reduction="none", pos_weight=scores.new_full((1,), pos_weight)
    )
    if reduction == "mean":
        return loss.mean(1)
    if reduction == "sum":
        return loss.sum(1)
    raise ValueError(f"reduction {reduction!r}: choose mean or sum")


def image_level_bce(
    logits: Tensor, labels: Tensor, mode: str = "ngwp", reduction: str = "mean", pos_weight: float = 1.0
) -> Tensor:
    """Mean over the images of ``image_level_bce_per_image``: a scalar."""
    return image_level_bce_per_image(logits, labels, mode, reduction, pos_weight).mean()


# --- pseudo-labels and soft targets ----------------------------------------------------------------------------------


def binarize(mask: Tensor) -> Tensor:
    """One at every channel maximum of ``mask`` (B, C, H, W), zero elsewhere; channels that tie are all one."""
    return (mask == mask.amax(1, keepdim=True)).to(mask.dtype)


def folded(masks: Tensor, present: Tensor) -> Tensor:
    """Masks whose absent foreground is shared by the present classes in the ratio of their own: a cow taken for a horse is cow.

    Args:
        masks: (B, C, h, w) probabilities, channel 0 background.
        present: (B, C, 1, 1) 1 for the classes of an image and for background.

    Returns:
        (B, C, h, w): the present foreground channels have grown by what the absent ones hold; all others are as they were.
    """
    foreground = present.clone()
    foreground[:, 0] = 0
    own = masks * foreground
    absent = (masks * (1 - present)).sum(dim=1, keepdim=True)
    return masks + absent * own / own.sum(dim=1, keepdim=True).clamp(min=torch.finfo(masks.dtype).tiny)


def pseudo_mask(
    mask: Tensor, top: float = 0.6, bkg: float = 0.7, low: float = 0.2, drop_ambiguous: bool = True
) -> Tensor:
    """Pixels that a class claims with confidence: M in L_ref of docs/method.md, "One weak iteration".

    A class claims the pixels above ``max(top * highest value of its channel, low)``; ``bkg`` is background's ``top``.

    Args:
        mask: (B, C, H, W) probabilities; channels of absent classes are zero.
        top: fraction of a foreground channel's maximum.
        bkg: fraction of the background channel's maximum.
        low: lowest threshold.
        drop_ambiguous: whether pixels claimed by more than one class are claimed by none.

    Returns:
        (B, C, H, W) of 0 and 1, in the dtype of ``mask``.
    """
    fraction = mask.new_full((mask.shape[1], 1, 1), top)
    fraction[0] = bkg
    claimed = mask > (mask.amax((2, 3), keepdim=True) * fraction).clamp(min=low)
    if drop_ambiguous:
        claimed = claimed & (claimed.sum(1, keepdim=True) <= 1)
    return claimed.to(mask.dtype)


def soft_target(probabilities: Tensor, alpha: float) -> Tensor:
    """``alpha * onehot(argmax P) + (1 - alpha) * P``: between a hard and a soft pseudo-label (WILSON).

    Args:
        probabilities: (B, C, h, w) class probabilities P of the localizer; channels of absent classes are zero.
        alpha: 1 for the hard label, 0 for the probabilities.

    Returns:
        (B, C, h, w) targets in [0, 1].
    """
    return alpha * binarize(probabilities) + (1 - alpha) * probabilities


def _mixed_background(teacher: Tensor, own: Tensor, bkg: float) -> Tensor:
    """Background target from the teacher's and the label's: the smaller where ``bkg`` is -1, else a weighted mean."""
    return torch.minimum(own, teacher) if bkg == -1 else bkg * own + (1 - bkg) * teacher


def mix_background(teacher_probabilities: Tensor, own: Tensor, bkg: float = -1) -> Tensor:
    """Target of the segmenter: old channels by the teacher, new ones by ``own``, background by both.

    t in L_seg of docs/method.md, "One weak iteration".

    Args:
        teacher_probabilities: (B, O, h, w) sigmoid of the teacher's logits.
        own: (B, C, h, w) soft target or one-hot label, C >= O.
        bkg: -1 for the smaller of both backgrounds; else the share of ``own`` in [0, 1] (``--icarl_bkg``).

    Returns:
        (B, C, h, w) targets in [0, 1].
    """
    old = teacher_probabilities.shape[1]
    background = _mixed_background(teacher_probabilities[:, :1], own[:, :1], bkg)
    return torch.cat([background, teacher_probabilities[:, 1:], own[:, old:]], dim=1)


# --- class-balanced cross entropy ------------------------------------------------------------------------------------


def _balanced(log_probabilities: Tensor, pseudo: Tensor, image_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Class-balanced cross entropy per image, and which images count; shapes as in ``balanced_ce_per_image``."""
    pixels = pseudo.sum((2, 3))
    total = pixels.sum(1, keepdim=True)
    # Each pixel weighs the share of the labelled pixels that are not of its class, so that rare classes keep a say.
    weight = (total - pixels) / (1 + total)
    values = -((log_probabilities * pseudo).mean((2, 3)) * weight).sum(1)
    # An image counts when as many classes have pixels as it has labels, background included.
    counted = ((pixels > 0).sum(1) == image_labels.sum(1) + 1).to(values.dtype)
    return values, counted


def balanced_ce_per_image(logits: Tensor, pseudo: Tensor, image_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Class-balanced cross entropy against a pseudo mask, one number an image.

    L_ref of docs/method.md, "One weak iteration".

    A pixel of a class weighs (all - own) / (1 + all), in counts of the image's labelled pixels.

    Args:
        logits: (B, C, H, W).
        pseudo: (B, C, H, W) of 0 and 1, at most one class per pixel; pixels without a class weigh nothing.
        image_labels: (B, C - 1) one-hot of the foreground classes.

    Returns:
        (B,) losses (mean over all pixels) and (B,) 1 for the images in which every labelled class, and background, has
        a pixel, else 0.
    """
    logits = _precise(logits)
    return _balanced(logits.log_softmax(1), pseudo.to(logits), image_labels)


def balanced_ce(logits: Tensor, pseudo: Tensor, image_labels: Tensor) -> Tensor:
    """Sum of ``balanced_ce_per_image`` over the images that count, divided by the number of all images: a scalar."""
    values, counted = balanced_ce_per_image(logits, pseudo, image_labels)
    return (values * counted).mean()


def balanced_unbiased_ce_per_image(
    logits: Tensor, pseudo: Tensor, image_labels: Tensor, old_classes: int
) -> tuple[Tensor, Tensor]:
    """``balanced_ce_per_image`` with the first ``old_classes`` channels folded into background (MiB).

    Args:
        logits: (B, C, H, W).
        pseudo: (B, C, H, W); old channels count as background.
        image_labels: (B, C - 1); labels of old classes are left out.
        old_classes: O, background included; 1 gives ``balanced_ce_per_image``.
    """
    logits, old = _precise(logits), old_classes
    pseudo = pseudo.to(logits)
    folded = torch.cat([logits[:, :old].logsumexp(1, keepdim=True), logits[:, old:]], dim=1)
    folded_pseudo = torch.cat([pseudo[:, :old].sum(1, keepdim=True), pseudo[:, old:]], dim=1)
    return _balanced(folded.log_softmax(1), folded_pseudo, image_labels[:, old - 1 :])


def balanced_unbiased_ce(logits: Tensor, pseudo: Tensor, image_labels: Tensor, old_classes: int) -> Tensor:
    """Sum of ``balanced_unbiased_ce_per_image`` over the images that count, divided by the number of all images."""
    values, counted = balanced_unbiased_ce_per_image(logits, pseudo, image_labels, old_classes)
    return (values * counted).mean()


# --- pixel level -----------------------------------------------------------------------------------------------------


def _softplus(logits: Tensor) -> Tensor:
    """log(1 + exp(x)), the binary cross entropy of x against 0."""
    # Above the threshold x itself is handed out; at 40 that is exact in float64, at torch's 20 it is not.
    return F.softplus(logits, threshold=40)


def _at_target(logits: Tensor, target: Tensor, kept: Tensor) -> Tensor:
    """The logit of each pixel's class where ``kept``, else 0: (B, C, H, W), (B, H, W), (B, H, W) -> (B, H, W)."""
    index = torch.where(kept, target, 0).long()
    chosen = logits.gather(1, index.unsqueeze(1)).squeeze(1)
    return torch.where(kept, chosen, torch.zeros_like(chosen))


def bce_ignore(logits: Tensor, target: Tensor, ignore: int = IGNORE, reduction: str = "none") -> Tensor:
    """Binary cross entropy of every channel against the one-hot label, summed over the channels (``--bce``).

    The loss of docs/method.md, "The base step".

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) channel numbers, or ``ignore``.
        ignore: label of pixels that weigh nothing.
        reduction: ``none`` (B, H, W), zero at ignored pixels; ``sum``; ``mean`` over the others (0 if none is).
    """
    logits = _precise(logits)
    valid = target != ignore
    # -log(sigmoid(x)) = softplus(x) - x: the one-hot label is never made.
    loss = _softplus(logits).sum(1) - _at_target(logits, target, valid)
    return _reduce(torch.where(valid, loss, torch.zeros_like(loss)), reduction, valid.sum())


def soft_bce(logits: Tensor, target: Tensor, reduction: str = "none") -> Tensor:
    """Binary cross entropy against soft targets, summed over the channels.

    L_seg of docs/method.md, "One weak iteration" before its weights.

    Args:
        logits: (B, C, H, W).
        target: (B, C, H, W) in [0, 1].
        reduction: ``none`` (B, H, W), ``sum``, or ``mean`` over all pixels.
    """
    logits = _precise(logits)
    loss = F.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none")
    return _reduce(loss.sum(1), reduction)


def icarl_bce(
    logits: Tensor, target: Tensor, teacher_probabilities: Tensor, bkg: float = -1, reduction: str = "none"
) -> Tensor:
    """Binary cross entropy with the teacher's probabilities as labels of the old classes (iCaRL; ``--icarl``).

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) channel numbers; 255 is no class, and its pixels count all the same.
        teacher_probabilities: (B, O, H, W) sigmoid of the teacher's logits.
        bkg: background target, see ``mix_background``.
        reduction: ``none`` (B, H, W), ``sum``, or ``mean`` over all pixels.
    """
    logits, old = _precise(logits), teacher_probabilities.shape[1]
    teacher = teacher_probabilities.to(logits)
    background = _mixed_background(teacher[:, 0], (target == 0).to(logits), bkg)
    by_teacher = logits[:, 0] * background + (logits[:, 1:old] * teacher[:, 1:]).sum(1)
    by_label = _at_target(logits, target, (target >= old) & (target != IGNORE))
    return _reduce(_softplus(logits).sum(1) - by_teacher - by_label, reduction)


def unbiased_ce(
    logits: Tensor, target: Tensor, old_classes: int, ignore: int = IGNORE, reduction: str = "mean"
) -> Tensor:
    """Cross entropy in which background means "background or any old class" (MiB; ``--unce``).

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) channel numbers or ``ignore``; old channels count as background.
        old_classes: O, background included; 1 gives plain cross entropy.
        ignore: label of pixels that weigh nothing.
        reduction: ``none`` (B, H, W), zero at ignored pixels; ``sum``; ``mean`` over the others (0 if none is).
    """
    logits = _precise(logits)
    valid = target != ignore
    new = valid & (target >= old_classes)
    chosen = torch.where(new, _at_target(logits, target, new), logits[:, :old_classes].logsumexp(1))
    loss = logits.logsumexp(1) - chosen
    return _reduce(torch.where(valid, loss, torch.zeros_like(loss)), reduction, valid.sum())


def distillation(logits: Tensor, teacher_logits: Tensor, alpha: float = 1.0, reduction: str = "mean") -> Tensor:
    """Cross entropy of the old channels against the teacher's softmax, divided by O (LwF; ``--loss_kd``).

    Args:
        logits: (B, C, H, W), of which the first O are compared.
        teacher_logits: (B, O, H, W).
        alpha: factor on the teacher's logits; below 1 its probabilities are softer.
        reduction: ``none`` (B, H, W), ``sum``, or ``mean`` over all pixels.
    """
    logits, teacher = _precise(logits), _precise(teacher_logits)
    old = teacher.shape[1]
    loss = -(logits[:, :old].log_softmax(1) * (teacher * alpha).softmax(1)).mean(1)
    return _reduce(loss, reduction)


def unbiased_distillation(
    logits: Tensor, teacher_logits: Tensor, alpha: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Distillation in which the teacher's background means "background or any new class" (MiB; ``--unkd``).

    Arguments and reductions as in ``distillation``; without new channels both are the same.
    """
    logits, teacher = _precise(logits), _precise(teacher_logits)
    old = teacher.shape[1]
    label = (teacher * alpha).softmax(1)
    total = logits.logsumexp(1)
    background = torch.cat([logits[:, :1], logits[:, old:]], dim=1).logsumexp(1)
    # The labels sum to one, so the normaliser is subtracted once.
    chosen = label[:, 0] * background + (label[:, 1:] * logits[:, 1:old]).sum(1)
    return _reduce((total - chosen) / old, reduction)
