"""State dicts of other libraries' networks, as their users keep them: torch's files and safetensors, bare or wrapped."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from utils import checkpoint
from utils.errors import UserError, printable, reason

LOG = logging.getLogger("webwilss")
SAFETENSORS = ".safetensors"
WHAT = "file of weights"
# What is said of files that hold classes beside weights, as whole networks do.
CODE = "it asks for"
# Under which names training scripts keep a state dict beside their optimiser's: torchvision's, Lightning's, and others'.
WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state")


def read_weights(path: Path, anchor: str) -> dict[str, Tensor]:
    """The weights of a network in a file, under the network's own names; what was unwrapped or left out is told.

    Args:
        path: torch's file, or ``*.safetensors``.
        anchor: how names of the network begin (``backbone.``). What wrappers put before it is taken away, and what stands
            beside the network is left out.

    Raises:
        UserError: the file is missing, damaged or holds no state dict; a weight is not finite.
    """
    state = _read(path)
    wrapper = _wrapper(state)
    if wrapper is not None:
        LOG.info("%s: the weights are those under %s", path, wrapper)
        state = state[wrapper]
    weights = _inner(_state_dict(state, path), anchor, path)
    checkpoint.check_tensors(weights, path)
    return weights


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that is a network's state dict, or a part of it, under their own names.

    Raises:
        UserError: as for ``read_weights``.
    """
    weights = _state_dict(_read(path), path)
    checkpoint.check_tensors(weights, path)
    return weights


def misfit(missing: Sequence[str], unexpected: Sequence[str], reshaped: Sequence[str], said: str = "") -> str:
    """How weights differ from a network's, in words; "" where they do not.

    Args:
        missing: names of weights that the network has and the file has not.
        unexpected: names that the network does not know.
        reshaped: names of weights of another shape.
        said: what is said of the first of them in place of its name.
    """
    names = [*missing, *unexpected, *reshaped]
    if not names:
        return ""
    counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(reshaped)} of another shape"
    return f"{counts}: {said or printable(names[0])} ..."


def _read(path: Path) -> Any:
    return _read_safetensors(path) if path.suffix == SAFETENSORS else _read_torch(path)


def _state_dict(state: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no state dict; save model.state_dict()")
    return {str(key): value.detach() for key, value in state.items()}


def _wrapper(state: Any) -> str | None:
    """The name under which a file keeps its state dict; None where it is one itself."""
    names = WRAPPERS if isinstance(state, Mapping) else ()
    return next((name for name in names if isinstance(state.get(name), Mapping)), None)


def _inner(state: dict[str, Tensor], anchor: str, path: Path) -> dict[str, Tensor]:
    """The weights whose names have before them what stands before the anchor."""
    starts = [key.find("." + anchor) + 1 for key in state if not key.startswith(anchor) and "." + anchor in key]
    if any(key.startswith(anchor) for key in state) or not starts:
        return state
    shortest = min(starts)
    prefix = next(key for key in state if key[shortest:].startswith(anchor))[:shortest]
    beside = [key for key in state if not key.startswith(prefix)]
    if beside:
        LOG.info("%s: %d tensors beside the network are left out (%s ...)", path, len(beside), printable(beside[0]))
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _read_torch(path: Path) -> Any:
    try:
        return checkpoint.read(path, WHAT)
    except UserError as error:
        if CODE in str(error):
            raise UserError(f"{error}; save model.state_dict(), not the whole model") from error
        raise


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such {WHAT}")
    try:
        return load_file(path)
    except Exception as error:  # Bytes at random raise all that a parser can.
        raise UserError(f"{path}: damaged or not a safetensors file ({reason(error)}); give another") from error
