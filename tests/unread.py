"""Code that must not wait for its device: what reads a number of it is refused, on the CPU, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Shapes of their results are known when the device has computed them; the first is what ``item`` and ``bool`` ask.
READING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "bincount",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
}
METHODS = {Tensor.tolist, Tensor.numpy, Tensor.cpu}


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        picked = name.startswith("index") and any(
            isinstance(one, Tensor) and one.dtype == torch.bool
            for part in args
            if isinstance(part, list | tuple)
            for one in part
        )
        assert name not in READING and not picked, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in METHODS, f"{func.__name__} waits for the device"
        return func(*args, **(kwargs or {}))


@contextmanager
def unread() -> Iterator[None]:
    """AssertionError where the block reads a number of a tensor."""
    with _Methods(), _Operations():
        yield
