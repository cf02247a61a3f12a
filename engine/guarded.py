"""SGD that a number on the device can hold back, so that nobody has to wait for that number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class GuardedSGD(torch.optim.SGD):
    """SGD with one fused kernel for all weights, which changes nothing where ``blocked`` is 1.

    It is how torch's loss scaling leaves out a step (``found_inf``), and goes together with it. A state says nothing of
    how steps are computed: it is that of torch's plain SGD, and goes on from one.

    Attributes:
        blocked: () float32 on the weights' device, 0 or 1; None blocks nothing.
    """

    blocked: Tensor | None = None
    found_inf: Tensor

    def __init__(self, groups: list[dict[str, Any]], **settings: Any) -> None:
        """See ``torch.optim.SGD``."""
        super().__init__(groups, fused=True, **settings)

    def step(self, closure: Any = None) -> Any:
        """One step by the gradients, or none."""
        self._lay_out()
        scaled = getattr(self, "found_inf", None)
        if self.blocked is not None:
            self.found_inf = self.blocked if scaled is None else torch.maximum(scaled, self.blocked)
        loss = super().step(closure)
        # What the loss scaling gave it takes back itself.
        if self.blocked is not None and scaled is None:
            del self.found_inf
        return loss

    def _lay_out(self) -> None:
        """Give gradients and momenta the weights' order in memory, which is all that the fused kernel of the CPU sees of them."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight.grad.stride() != weight.stride():
                    weight.grad = torch.empty_like(weight).copy_(weight.grad)
                # Torch leaves the momentum of a blocked first step uninitialised; from 0, the first one is the gradient, too.
                if group["momentum"] and self.state[weight].get("momentum_buffer") is None:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)

    def state_dict(self) -> dict[str, Any]:
        """That of plain SGD."""
        state = super().state_dict()
        for group in state["param_groups"]:
            group["fused"] = None
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a ``state_dict``, also one of plain SGD."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["fused"] = True
            for weight in group["params"]:
                momentum = self.state[weight].get("momentum_buffer") if weight in self.state else None
                if momentum is not None and momentum.stride() != weight.stride():
                    self.state[weight]["momentum_buffer"] = torch.empty_like(weight).copy_(momentum)
