"""The losses of iterations that nobody has looked at yet: they stay on the device, and hold the weights where one is not finite.

To read a number of a GPU is to wait until it has done all that was asked of it before. So the host reads a whole window of
losses at once, and the device itself sees to it that nothing learns from a loss that is not finite meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from utils.distributed import Runtime
from utils.errors import UserError


@dataclass(frozen=True)
class _Unseen:
    """An iteration's values on the device, (terms + 1,) with ``Watch.failed`` behind them, and what the host knows of it."""

    terms: tuple[str, ...]
    values: Tensor
    epoch: int
    iteration: int
    images: Sequence[str]


class Watch:
    """Keeps losses until they are looked at.

    Args:
        runtime: device and ranks.
        every: iterations between two looks, at most; ``due`` says when.

    Attributes:
        failed: () on the device, float32: 1 from the first iteration on in which a loss of any rank was not finite, else
            0. All ranks have the same, and none waits for it.
    """

    def __init__(self, runtime: Runtime, every: int) -> None:
        self.runtime, self.every = runtime, every
        self.failed = torch.zeros((), device=runtime.device)
        self._unseen: list[_Unseen] = []

    @property
    def due(self) -> bool:
        """Whether there are as many losses as are kept."""
        return len(self._unseen) >= self.every

    def keep(self, losses: Mapping[str, Tensor], epoch: int, iteration: int, images: Sequence[str]) -> None:
        """Keep an iteration's losses, before anything learns from them.

        Args:
            losses: name -> scalar of this rank.
            epoch: epoch, from 0.
            iteration: iteration of the epoch, from 0.
            images: names of this rank's images.
        """
        values = torch.stack(list(losses.values())).detach()
        wrong = (~values.isfinite()).any().to(self.failed.dtype)
        self.failed = torch.maximum(self.failed, self.runtime.sum(wrong).clamp(max=1))
        values = torch.cat([values, self.failed.to(values.dtype).view(1)])
        self._unseen.append(_Unseen(tuple(losses), values, epoch, iteration, images))

    def look(self) -> list[dict[str, float]]:
        """Each iteration's losses since the last look, in order; waits for the device.

        Raises:
            UserError: one is not finite; names the first iteration in which that was so, the terms and the images, or,
                on a rank whose own losses are finite, that iteration alone.
        """
        unseen, self._unseen = self._unseen, []
        if not unseen:
            return []
        numbers = iter(torch.cat([one.values for one in unseen]).tolist())
        seen = []
        for one in unseen:
            seen.append({term: next(numbers) for term in one.terms})
            if next(numbers):
                _refuse(one, seen[-1])
        return seen


def _refuse(one: _Unseen, losses: Mapping[str, float]) -> NoReturn:
    where = f"at epoch {one.epoch}, iteration {one.iteration}"
    wrong = [term for term, value in losses.items() if not np.isfinite(value)]
    if not wrong:
        raise UserError(f"loss of another process is not finite {where}, its own line says which: training stopped")
    # The total is named where nothing else is: finite terms whose sum is not.
    named = ", ".join(f"{term} = {losses[term]}" for term in wrong if term != "total" or len(wrong) == 1)
    raise UserError(
        f"loss {named} {where}, images {', '.join(one.images)}: training stopped; lower --lr or look at these images"
    )
