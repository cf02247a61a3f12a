"""Activation checkpointing: a body keeps the inputs of its blocks alone, and runs each block again when backward comes to it.

Memory for time (arXiv 1604.06174): about a third more of it for a body's forward pass, done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from utils.errors import UserError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
WEIGHED = (nn.Conv2d, nn.Linear)
# A block has so many layers; to run fewer again spares nothing.
LAYERS = 3


def recompute(body: nn.Module, name: str) -> None:
    """Have every block of ``body`` forget in the forward pass what it keeps, and run again in the backward pass.

    Weights, running statistics and random draws are what they would be without; keys of the state dict stay.

    Args:
        body: a body of ``modules.bodies``.
        name: of the body, for messages.

    Raises:
        UserError: the body is timm's and cannot be run in pieces, or has no blocks.
    """
    model = getattr(body, "model", body)
    found = list(blocks(model)) if model is body or hasattr(model, "set_grad_checkpointing") else []
    if not found:
        raise UserError(
            f"--recompute: {name} cannot be run again block by block; remove it, or choose another --backbone"
        )
    for block in found:
        block.forward = _twice(block, name)


def blocks(module: nn.Module, *, listed: bool = False) -> Iterator[nn.Module]:
    """The outermost modules that stand in a list and have several layers, convolutions or linear ones among them.

    Args:
        module: in which to look.
        listed: whether it is such a list itself.
    """
    for child in module.children():
        weighed = any(isinstance(one, WEIGHED) for one in child.modules())
        layers = sum(not list(one.children()) for one in child.modules())
        if isinstance(child, CONTAINERS):
            yield from blocks(child, listed=True)
        elif listed and weighed and layers >= LAYERS:
            yield child
        else:
            yield from blocks(child)


def _twice(block: nn.Module, name: str) -> Callable[..., Any]:
    forward = block.forward

    def run(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args)
        versions = [one._version for one in args if isinstance(one, Tensor)]
        given = checkpoint(
            forward, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), copied_statistics(block))
        )
        if versions != [one._version for one in args if isinstance(one, Tensor)]:
            raise UserError(
                f"--recompute: {name} writes over the inputs of its blocks; remove it, or choose another --backbone"
            )
        return given

    return run


@contextmanager
def copied_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, ``module`` reads and moves copies of its buffers: a second forward pass leaves the running statistics alone."""
    owners: Sequence[tuple[nn.Module, dict[str, Tensor | None]]] = [
        (one, dict(one._buffers)) for one in module.modules() if one._buffers
    ]
    for one, buffers in owners:
        one._buffers.update({key: None if value is None else value.clone() for key, value in buffers.items()})
    try:
        yield
    finally:
        for one, buffers in owners:
            one._buffers.update(buffers)
