"""Which old classes the teacher takes new ones for, counted while a weak step goes on: docs/method.md, "More than the recipe".

The idea, a score of how much classes are confused, is that of prototypes that evolve in few-shot segmentation; the formula is
this project's own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# What is left of a count after an iteration: masks of long ago were poorer ones.
KEPT = 0.99


def taken(claims: Tensor, old_probabilities: Tensor) -> Tensor:
    """What the teacher takes the pixels of new classes for, in pixels.

    Args:
        claims: (B, N, h, w) how much of a pixel is a new class.
        old_probabilities: (B, O, h, w) sigmoids of the teacher, background first; a pixel's are shares of their sum.

    Returns:
        (N, O), whose rows sum to the pixels that a class claims.
    """
    total = old_probabilities.sum(dim=1, keepdim=True).clamp(min=torch.finfo(old_probabilities.dtype).tiny)
    return torch.einsum("bnhw,bohw->no", claims, old_probabilities / total)


def yielding(counts: Tensor, share: float) -> Tensor:
    """How far an old class gives way to a new one: wholly where the teacher takes at least ``share`` of its pixels for it.

    Args:
        counts: (N, O) pixels of new classes by what the teacher takes them for.
        share: in (0, 1]; below it the old class yields in proportion.

    Returns:
        (N, O) in [0, 1]; 1 for background, in which new classes were hidden, and for a new class of which nothing is known.
    """
    pixels = counts.sum(dim=1, keepdim=True)
    found = counts / pixels.clamp(min=torch.finfo(counts.dtype).tiny)
    yields = torch.where(pixels > 0, (found / share).clamp(max=1), 1.0)
    return torch.cat([torch.ones_like(yields[:, :1]), yields[:, 1:]], dim=1)


class Confusion(nn.Module):
    """Running counts of ``taken``, older ones fading: a part of a run's state, the same on all ranks.

    Args:
        new: number of new classes N.
        old: number of channels O that the teacher knows, background included.
        share: of ``yielding``.
    """

    def __init__(self, new: int, old: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.counts: Tensor
        self.register_buffer("counts", torch.zeros(new, old))

    @torch.no_grad()
    def forward(self, claims: Tensor, old_probabilities: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
        """Count a batch and say how far old classes yield now: (N, O) of ``yielding``.

        Args:
            claims: as of ``taken``.
            old_probabilities: likewise.
            average: mean of a tensor over the ranks; all of them call.
        """
        self.counts.mul_(KEPT).add_(average(taken(claims, old_probabilities)))
        return yielding(self.counts, self.share)
