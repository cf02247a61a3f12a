"""Checkpoints as plain JSON, and back: values as they are, tensors by type and shape, filled by their names alone."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.pins.conftest import RECORDS

TENSOR = "tensor "
OLD = "0.1.0"


def described(value: Any, here: Path) -> Any:
    """A checkpoint's content as JSON; what lies in ``here`` gets a name."""
    if isinstance(value, Tensor):
        return f"{TENSOR}{str(value.dtype).removeprefix('torch.')} {'x'.join(map(str, value.shape))}"
    if isinstance(value, dict):
        return {str(key): described(item, here) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item, here) for item in value]
    return value.replace(str(here), "<here>") if isinstance(value, str) else value


def kinds(value: Any) -> Any:
    """The same with the name of the type in place of each value that is no tensor."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value]
    return value if isinstance(value, str) and value.startswith(TENSOR) else type(value).__name__


def _filled(name: str, kind: str, shape: list[int]) -> Tensor:
    """Multiples of a power of two, so that every machine has the same; of a size that keeps a network alive."""
    dtype = getattr(torch, kind)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if dtype == torch.uint8:  # The state of a random generator.
        return generator.get_state()
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    values = torch.randint(-128, 129, shape, generator=generator).to(dtype) / 128
    last = name.rpartition(".")[2]
    if "var" in last or "std" in last or (last == "weight" and len(shape) == 1):
        return 1 + values / 8
    if "momentum_buffer" in last or len(shape) < 2:
        return values / 64
    return values * 2.0 ** -round(math.log2(math.prod(shape[1:])) / 2)


def _built(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        whole = bool(value) and all(key.isdigit() for key in value)
        return {int(key) if whole else key: _built(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_built(item, f"{name}.{i}") for i, item in enumerate(value)]
    if isinstance(value, str) and value.startswith(TENSOR):
        _, kind, *sizes = value.split(" ")
        return _filled(name, kind, [int(size) for size in "".join(sizes).split("x") if size])
    return value


def write(kind: str, path: Path, here: Path, **changes: Any) -> Path:
    """The file that version 0.1.0 left of a kind of checkpoint: all that its record says, and ``changes``."""
    text = (RECORDS / f"{OLD}/{kind}.json").read_text(encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(_built(json.loads(text.replace("<here>", str(here))) | changes, ""), path)
    return path


def read(path: Path) -> dict[str, Any]:
    """A file's content."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a file's content."""
    torch.save(state, path)
