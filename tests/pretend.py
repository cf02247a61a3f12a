"""A GPU for machines without one: tensors that say they are on ``cuda`` and are computed on the CPU.

Whatever a CUDA tensor refuses is refused here, too: arithmetic of tensors on two devices, ``numpy()``, generators of the other
device. What a card's arithmetic would give is not seen here; ``tests/devices`` runs on a card for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # What is loaded by the first mode, which would look at what is replaced here.
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
CPU, META = torch.device("cpu"), torch.device("meta")
# Their arguments may lie on two devices.
_COPIES = {"copy_", "_to_copy", "set_"}
# Numbers on the CPU go with tensors on a GPU, but not into these.
_STRICT = {"cat", "stack", "_foreach_norm"}


class PretendTensor(Tensor):
    """A tensor on ``cuda`` whose numbers, ``held``, lie on the CPU."""

    held: Tensor
    device = property(lambda _: CUDA)
    is_cuda = property(lambda _: True)
    is_meta = property(lambda _: False)

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendTensor:
        # To torch's core it lies nowhere, so that nobody there asks a driver; autocast takes it for one of CUDA.
        like = torch.empty_strided(held.size(), held.stride(), dtype=held.dtype, device=META)
        tensor: PretendTensor = Tensor._make_subclass(cls, like, False, device_for_backend_keys=CUDA)
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _call(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    def new_tensor(self, data: Any, **how: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, **({"dtype": self.dtype, "device": CUDA} | how))

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)


class _Mode(TorchDispatchMode):
    """Sees what makes tensors, too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation: refused where its tensors lie on two devices, else done on the CPU."""
    # Under inference_mode operations come that are made of others, and may or may not give what they were given.
    if func._can_decompose():
        with _Mode():
            return func.decompose(*args, **kwargs)
    name = func.overloadpacket.__name__
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    device = _device(name, args, tensors, kwargs)
    if name in ("_pin_memory", "pin_memory", "is_pinned"):
        if device.type == "cuda":
            raise RuntimeError("cannot pin what is not on the CPU")
        return False if name == "is_pinned" else args[0].clone()
    inner_args, inner = tree_map(_held, (args, kwargs))
    if inner.get("device") is not None:
        inner["device"] = CPU
    inner.pop("pin_memory", None)
    result = func(*inner_args, **inner)
    if device.type == "cpu":
        return result
    result = tree_map(lambda value: PretendTensor(value) if isinstance(value, Tensor) else value, result)
    return return_and_correct_aliasing(func, args, kwargs, result)


def _device(name: str, args: Any, tensors: list[Tensor], kwargs: dict[str, Any]) -> torch.device:
    """Where the result lies.

    Raises:
        RuntimeError: the arguments lie on two devices.
    """
    asked = kwargs.get("device")
    if asked is not None and torch.device(asked).type == "meta":
        asked = CUDA
    generator = kwargs.get("generator")
    if generator is not None and asked is not None and generator.device.type != torch.device(asked).type:
        raise RuntimeError(f"{name}: a generator of {generator.device.type} for tensors on {asked}")
    if asked is not None:
        return torch.device(asked)
    if not tensors:
        return CPU
    if name in _COPIES:
        return tensors[0].device
    if name.startswith("index") and tensors[0].device.type == "cuda":
        # Indices may stay on the CPU.
        tensors = [value for value in tensors if not (value.device.type == "cpu" and _is_index(value))]
    strict = name in _STRICT
    kinds = {value.device.type for value in tensors if strict or value.dim() or value.device.type == "cuda"}
    if kinds == {"cpu", "cuda"}:
        shapes = ", ".join(f"{tuple(value.shape)} on {value.device.type}" for value in tensors)
        raise RuntimeError(f"{name}: expected all tensors to be on the same device: {shapes}")
    return CUDA if "cuda" in kinds else CPU


def _is_index(value: Tensor) -> bool:
    return value.dtype in (torch.int64, torch.bool, torch.uint8, torch.int32)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, PretendTensor) else value


def _nothing(*_: Any, **__: Any) -> None:
    return None


@contextmanager
def pretend_cuda() -> Iterator[torch.device]:
    """Have this process believe that it has one GPU; gives its device."""
    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_current_stream_capturing": lambda: False,
        "is_bf16_supported": lambda *_, **__: True,
        "max_memory_allocated": lambda *_: 2**20,
        "get_device_properties": lambda *_: SimpleNamespace(total_memory=2**34, major=9, minor=0, name="pretended"),
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "pretended",
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": _nothing,
    }
    quiet = "_lazy_init", "set_device", "synchronize", "manual_seed_all", "reset_peak_memory_stats", "empty_cache"
    with ExitStack() as stack:
        for name, answer in (answers | dict.fromkeys(quiet, _nothing)).items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stream = SimpleNamespace(is_capturing=lambda: False)
        stack.enter_context(patch.object(torch.accelerator, "current_stream", lambda *_: stream))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        # A parameter that is kept would keep its type, too.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        # torch.tensor makes its tensor on the CPU, where the mode sees it, and moves it then.
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        stack.enter_context(_Mode())
        yield CUDA
