"""Learning-rate policies: one factor per iteration, applied to every parameter group's own rate."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from utils.errors import UserError

POLICIES = ("poly", "step", "none", "warmup", "one_cycle")


class PolicyLR(LambdaLR):
    """A policy as a factor of each group's initial rate; its state holds plain numbers only, so it loads everywhere."""

    def __init__(
        self,
        optimizer: Optimizer,
        policy: str,
        max_iters: int,
        *,
        power: float = 0.9,
        start_decay: int = 0,
        step_size: int = 5000,
        gamma: float = 0.1,
    ) -> None:
        """See ``make_scheduler``; ``policy`` is any but ``one_cycle``."""
        self.policy, self.max_iters, self.power = policy, max_iters, power
        self.start_decay, self.step_size, self.gamma = start_decay, step_size, gamma
        super().__init__(optimizer, self.factor)

    def factor(self, iteration: int) -> float:
        """Share of the initial rate at ``iteration``, counted from 0."""
        if self.policy == "step":
            return self.gamma ** (iteration // self.step_size)
        if self.policy == "none" or (self.policy == "warmup" and iteration < self.start_decay):
            return 1.0
        # A run that is asked for more iterations than planned stays at zero instead of turning complex.
        return max(0.0, 1 - iteration / self.max_iters) ** self.power

    def state_dict(self) -> dict[str, object]:
        """Where the schedule stands, in plain numbers; what it follows is given again when it is made."""
        return {
            "last_epoch": int(self.last_epoch),
            "_step_count": int(self._step_count),
            "_last_lr": [float(lr) for lr in self._last_lr],
        }

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Go on from a ``state_dict``; the optimiser's state may be loaded before or after."""
        self.__dict__.update(state_dict)
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


def make_scheduler(
    optimizer: Optimizer,
    policy: str,
    max_iters: int,
    *,
    power: float = 0.9,
    start_decay: int = 0,
    step_size: int = 5000,
    gamma: float = 0.1,
) -> LRScheduler:
    """The scheduler of ``--lr_policy``; call its ``step()`` once after every iteration.

    Args:
        optimizer: its groups' rates are the initial (``one_cycle``: the highest) ones.
        policy: ``poly``: (1 - i / max_iters)^power; ``warmup``: constant until ``start_decay``, then the poly curve at
            that iteration; ``step``: times gamma every ``step_size`` iterations; ``none``: constant; ``one_cycle``: up,
            then down (``torch.optim.lr_scheduler.OneCycleLR``), momentum untouched.
        max_iters: iterations of the whole run, at least 1.
        power: exponent of the poly curve.
        start_decay: first iteration of ``warmup`` that leaves the initial rate.
        step_size: iterations between two drops of ``step``.
        gamma: factor of a drop.

    Raises:
        UserError: unknown policy, or numbers it cannot work with.
    """
    if max_iters < 1:
        raise UserError(f"--lr_policy {policy}: the run has {max_iters} iterations; it needs at least 1")
    if policy == "step" and step_size < 1:
        raise UserError(f"--lr_decay_step {step_size}: must be at least 1")
    if policy == "one_cycle":
        # The momentum stays what --momentum says.
        highest = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=highest, total_steps=max_iters, cycle_momentum=False)
    if policy not in POLICIES:
        raise UserError(f"--lr_policy {policy}: unknown; choose one of {', '.join(POLICIES)}")
    return PolicyLR(
        optimizer, policy, max_iters, power=power, start_decay=start_decay, step_size=step_size, gamma=gamma
    )
