"""Checkpoints: plain Python and tensors, written whole or not at all, read without running code."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.whole import replacing

FORMAT = 1


def plain_values(value: Any) -> Any:
    """``value`` with NumPy scalars, arrays and paths turned into plain Python, so that it can be read back safely."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key if isinstance(key, int) else str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(plain_values(item) for item in value)
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path``: first to a temporary file beside it, then renamed, so that a kill leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("xb") as file:
        torch.save(plain_values(state), file)
        file.flush()
        os.fsync(file.fileno())


def _numpy_scalars() -> list[Any]:
    """What the published checkpoints pickle besides tensors: their best score is a NumPy scalar."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64")]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this project or a published one, never running code from it.

    Returns:
        the checkpoint's dictionary; ``model_state`` without the ``module.`` that published files put before each key.

    Raises:
        UserError: the file is missing, damaged, no checkpoint, or holds more than plain values and tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a checkpoint that can be read safely ({reason})") from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged or not a checkpoint; delete it or give another") from error
    if not isinstance(state, dict) or "model_state" not in state:
        raise UserError(f"{path}: not a segmentation checkpoint (it has no model_state)")
    state["model_state"] = bare_keys(state["model_state"])
    return state


def bare_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State-dict keys without the prefixes that wrappers put before them."""
    return {key.removeprefix("module.").removeprefix("_orig_mod."): value for key, value in state.items()}


def weights_digest(weights: Mapping[str, Tensor], *, names: bool = True) -> str:
    """SHA-256 of weights on the CPU, in hex: the same however often their file is written.

    Args:
        weights: by their names.
        names: whether the names count, and the bytes as they are; without them the values count, as float32. Labels of replay
            images note the one, discriminators the other.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if names:
            digest.update(name.encode())
            digest.update(weights[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(weights[name].float().numpy().tobytes())
    return digest.hexdigest()


def random_states() -> dict[str, Any]:
    """The state of torch's generator on the CPU, as a tensor."""
    return {"torch": torch.get_rng_state()}


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put back what ``random_states`` gave."""
    if "torch" in states:
        torch.set_rng_state(states["torch"])
