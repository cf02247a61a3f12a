"""What the teacher's old classes tell the localizer of a new class that is like them: docs/method.md, "More than the recipe".

The idea, that a new class is found where something like it was known, is RaSP's (arXiv 2305.19879); the formula is this project's own.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Classes that are less alike say nothing of each other: all animals look somewhat like persons to WordNet.
LEAST = 0.5


def hints(likeness: Tensor, old_probabilities: Tensor, image_labels: Tensor) -> Tensor:
    """Where the teacher sees something that is like a new class of the image, and is none of its old ones.

    Args:
        likeness: (N, O) of new and old classes, from 0 to 1, background's column 0.
        old_probabilities: (B, O, h, w) sigmoids of the teacher.
        image_labels: (B, O + N - 1) of the foreground classes, old ones where they are known.

    Returns:
        (B, N, h, w) in [0, 1]: the greatest product of likeness and the teacher's probability over the old classes that the image
        does not hold; 0 for new classes that it does not hold.
    """
    old = likeness.shape[1]
    alike = torch.where(likeness >= LEAST, likeness, 0)
    absent = 1 - image_labels[:, : old - 1]
    allowed = image_labels[:, old - 1 :, None] * absent[:, None] * alike[None, :, 1:]
    # (B, N, 1, 1) of one old class at a time: of all at once the maps would be O times as large.
    found = old_probabilities.new_zeros(len(image_labels), len(likeness), *old_probabilities.shape[-2:])
    for column in range(old - 1):
        found = torch.maximum(found, allowed[:, :, column, None, None] * old_probabilities[:, column + 1, None])
    return found


def likeness_loss(logits: Tensor, hinted: Tensor) -> Tensor:
    """Cross entropy of the localizer where there are hints, mean over the images: a scalar.

    Args:
        logits: (B, C, h, w) of the localizer, its last N channels those of the new classes.
        hinted: (B, N, h, w) of ``hints``; a pixel weighs as much as its hint, an image with few of them less than one.
    """
    surprise = -logits.log_softmax(dim=1)[:, -hinted.shape[1] :]
    return ((hinted * surprise).sum(dim=(1, 2, 3)) / (1 + hinted.sum(dim=(1, 2, 3)))).mean()
