"""Checkpoints: plain Python and tensors, written whole or not at all; read without running code and checked once, here."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError, printable
from utils.whole import replacing

FORMAT = 1
# Names that a message shows of many.
SHOWN = 3


# ---- writing --------------------------------------------------------------------------------------------------------


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
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


class _Noting:
    """A file that remembers why a write failed: torch's writer says "unexpected pos" in place of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.error = file, None  # type: BinaryIO, OSError | None

    def write(self, content: Any) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def save(path: Path, state: Mapping[str, Any], *, keep: Path | None = None) -> None:
    """Write ``state`` to ``path``: first to a temporary file beside it, then renamed, so that a kill leaves the old one.

    Args:
        path: the file; its folder is made.
        state: plain values and tensors.
        keep: where the file that lies at ``path`` stays; it moves when the new one is written.

    Raises:
        UserError: the file cannot be written; the old one is left as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            with temporary.open("xb") as file:
                noting = _Noting(file)
                try:
                    torch.save(plain_values(state), noting)  # type: ignore[arg-type]
                except RuntimeError as error:
                    raise noting.error or error from error
                file.flush()
                os.fsync(file.fileno())
            if keep is not None and path.is_file():
                _keep(path, keep)
    except OSError as error:
        old = "; the old one is left as it was" if path.is_file() else ""
        raise UserError(f"{path}: cannot be written ({error.strerror or error}{_free(path.parent)}){old}") from error


def _keep(path: Path, keep: Path) -> None:
    """Give a file a second name, under which it stays when another one takes its first."""
    with replacing(keep) as second:
        try:
            os.link(path, second)
        except OSError:  # A file system without links.
            path.replace(second)


def _free(folder: Path) -> str:
    """Free space of a disk, as the end of a sentence."""
    try:
        return f", {shutil.disk_usage(folder).free / 2**20:.0f} MiB are free"
    except OSError:
        return ""


# ---- reading --------------------------------------------------------------------------------------------------------


def _numpy_scalars() -> list[Any]:
    """What published checkpoints pickle besides tensors: their best score is a NumPy scalar; numbers and texts of all sizes."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    names = "bool float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 str"
    kinds = [type(np.dtype(kind)) for kind in names.split()]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]


# How files begin that are no checkpoints.
_OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself",
    b"<": "a web page: download the file itself",
    b"\x1f\x8b": "a gzip file: unpack it",
    b"\x89HDF": "an HDF5 file",
    b"\x89PNG": "an image",
    b"\xff\xd8": "an image",
}


def _is_like(path: Path) -> str:
    """What a file that is no checkpoint is, as the end of a sentence, where its first bytes tell."""
    with path.open("rb") as file:
        start = file.read(64)
        stated = int.from_bytes(start[:8], "little")
    if not start:
        return " (it is empty)"
    if start[8:9] == b"{" and stated < path.stat().st_size:
        return " (it is a safetensors file)"
    found = next((what for magic, what in _OTHERS.items() if start.lstrip().startswith(magic)), None)
    return "" if found is None else f" (it is {found})"


def _check_sums(path: Path) -> None:
    """UserError where a byte is not as it was written; torch itself does not look at the sums of its zip files."""
    if not zipfile.is_zipfile(path):  # Of torch before 1.6, or damaged: torch.load says which.
        return
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise UserError(f"{path}: not a checkpoint: a zip file with compressed files")
        # torch can be told to write none.
        damaged = archive.testzip() if any(record.CRC for record in records) else None
    if damaged is not None:
        raise UserError(
            f"{path}: damaged: {printable(damaged)} is not as it was written; copy the file again or give another"
        )


class _Bounded(io.BufferedReader):
    """A file of which no more is read than there is: Python sets aside what is asked for, and a length in the file may be damaged."""

    def read(self, size: int | None = -1, /) -> bytes:
        """The next ``size`` bytes, or as many as there are."""
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _unsafe(error: pickle.UnpicklingError) -> str:
    """Why a file cannot be read safely, without torch's advice to read it otherwise."""
    text = str(error)
    named = re.search(r"(?:GLOBAL|global:?|class|type)\s+[`'\"]?([\w.]+\.[\w.]+)", text)
    return f"it asks for {printable(named[1])}" if named else "it is not what torch writes"


def read(path: Path, what: str = "checkpoint") -> Any:
    """What torch wrote into a file; runs no code and sees that every byte is as it was written.

    Args:
        path: the file.
        what: what it should be, for messages.

    Raises:
        UserError: the file is missing, damaged, none of torch's, or holds more than plain values and tensors.
    """
    if not path.is_file():
        # The folder of a run says its data set, which older command lines did not know.
        near = [] if path.parent.is_dir() else sorted(path.parent.parent.glob(f"*/{glob.escape(path.name)}"))
        raise UserError(f"{path}: no such {what}" + (f"; is {near[0]} meant?" if near else ""))
    try:
        _check_sums(path)
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's on what it finds odd; what matters is raised.
            if zipfile.is_zipfile(path):
                return torch.load(path, map_location="cpu", weights_only=True)
            with io.FileIO(path) as raw:
                return torch.load(_Bounded(raw), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        reason = _is_like(path).strip(" ()") or _unsafe(error)
        raise UserError(f"{path}: not a {what} that can be read safely ({reason})") from error
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:
        # Bytes at random raise all that a parser can.
        raise UserError(f"{path}: damaged or not a {what}{_is_like(path)}; delete it or give another") from error


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this project or a published one, never running code from it, and check all that will be asked of it.

    Returns:
        the checkpoint's dictionary; ``model_state`` without the ``module.`` that published files put before each key.

    Raises:
        UserError: the file is missing, damaged, no checkpoint, or holds more than plain values and tensors; a field is of
            another kind than its name says; a weight is not finite.
    """
    path = Path(path)
    state = read(path)
    if not isinstance(state, dict) or "model_state" not in state:
        raise UserError(f"{path}: not a segmentation checkpoint (it has no model_state): {_held(state)}")
    state = {key: value.item() if isinstance(value, np.generic) else value for key, value in state.items()}
    _check_fields(state, path)
    for name in WEIGHTS:
        if state.get(name) is not None:
            state[name] = {key: value.detach() for key, value in state[name].items()}
            _check_finite(state[name], path, name)
    state["model_state"] = bare_keys(state["model_state"])
    return state


def _held(state: Any) -> str:
    """What a file holds that is no checkpoint."""
    if not isinstance(state, Mapping):
        return f"it holds a {type(state).__name__}"
    names = [printable(str(key)) for key in state]
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    if not names:
        return "it is empty"
    if all(isinstance(value, Tensor) for value in state.values()):
        return f"it holds the tensors {shown}, the weights of a network alone"
    return f"it holds {shown}"


# ---- the structure --------------------------------------------------------------------------------------------------

WEIGHTS = ("model_state", "localizer", "pseudolabeler", "unknown")
_DTYPES = {
    getattr(torch, name) for name in "float16 bfloat16 float32 float64 bool uint8 int8 int16 int32 int64".split()
}


def _tensor(value: Any) -> bool:
    """Whether it is a plain tensor in memory, as large as its bytes: an expanded one may state any size."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_nested
        and value.dtype in _DTYPES
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list_of(inner: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(map(inner, value))


def _dict_of(inner: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(_text, value)) and all(map(inner, value.values()))


def _optional(inner: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or inner(value)


def _any(value: Any) -> bool:
    return True


def _identity(value: Any) -> bool:
    """Data set, task and protocol by name, and class ids of each step, each once; files may know less than all of it."""
    if not _dict_of(_any)(value):
        return False
    named = all(_text(item) for key, item in value.items() if key != "classes")
    if not named or not _list_of(_list_of(_count))(value.get("classes")):
        return False
    ids = [number for classes in value["classes"] for number in classes]
    return bool(value["classes"]) and len(set(ids)) == len(ids) and max(ids, default=255) < 255


# Fields of checkpoints, discriminators and half-trained discriminators: what each is, in code and in words.
FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format": (lambda value: type(value) is int and value == FORMAT, f"{FORMAT}; a later version may have written it"),
    "kind": (_text, "a text"),
    "identity": (_identity, "data set, task, protocol and classes"),
    "class_names": (_list_of(_text), "a list of texts"),
    "options": (_dict_of(_any), "options by name"),
    "epoch": (_count, "a whole number from 0 on"),
    "iteration": (_count, "a whole number from 0 on"),
    "iters_per_epoch": (_count, "a whole number from 0 on"),
    "finished": (lambda value: type(value) is bool, "true or false"),
    "best_score": (_number, "a number"),
    "seconds": (_number, "a number"),
    "memory_mib": (_number, "a number"),
    "model_state": (_dict_of(_tensor), "tensors by name"),
    "localizer": (_optional(_dict_of(_tensor)), "tensors by name"),
    "pseudolabeler": (_optional(_dict_of(_tensor)), "tensors by name"),
    "unknown": (_optional(_dict_of(_tensor)), "tensors by name"),
    "memory": (_optional(_dict_of(_tensor)), "tensors by name"),
    "optimizer_state": (_dict_of(_any), "a state by name"),
    "scheduler_state": (_dict_of(_any), "a state by name"),
    "scaler": (_dict_of(_any), "a state by name"),
    "random_states": (_dict_of(_tensor), "tensors by name"),
    "preprocessing": (_dict_of(lambda value: isinstance(value, str | int)), "values by name"),
    "recipe": (_dict_of(_any), "values by name"),
    "scores": (_dict_of(_number), "numbers by name"),
    "by_class": (_dict_of(_number), "numbers by name"),
    "classes": (_list_of(_text), "a list of texts"),
    "encoder": (_optional(_text), "a text"),
    "optimizer": (_dict_of(_any), "a state by name"),
    "scheduler": (_dict_of(_any), "a state by name"),
    "key": (_text, "a text"),
    "network": (_dict_of(_any), "values by name"),
    "history": (_list_of(_dict_of(_any)), "a list of steps"),
}


def _check_fields(state: Mapping[str, Any], path: Path) -> None:
    """UserError where a field is of another kind than its name says; of published files only the weights are asked."""
    names = FIELDS if state.keys() & {"format", "identity", "key"} else WEIGHTS
    for name in names:
        fits, words = FIELDS[name]
        if name in state and not fits(state[name]):
            raise UserError(f"{path}: damaged or not a checkpoint: its {name} is not {words}; give another")
    if "identity" in state and "class_names" in state:
        classes = sum(map(len, state["identity"]["classes"]))
        if len(state["class_names"]) != classes:
            raise UserError(f"{path}: damaged: it has {classes} classes and {len(state['class_names'])} names")


def need(state: Mapping[str, Any], path: Path, *names: str) -> None:
    """UserError where a checkpoint lacks one of the fields ``names``."""
    missing = [name for name in names if name not in state]
    if missing:
        raise UserError(f"{path}: damaged or not a checkpoint: it has no {missing[0]}; give another")


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of weights that hold NaN or infinity."""
    return [key for key, value in weights.items() if value.is_floating_point() and not torch.isfinite(value).all()]


def check_tensors(weights: Mapping[str, Tensor], path: Path, name: str = "weights") -> None:
    """UserError where one of the tensors is no plain one, or holds NaN or infinity."""
    odd = [key for key, value in weights.items() if not _tensor(value)]
    if odd:
        raise UserError(f"{path}: {printable(odd[0])} of its {name} is no plain tensor; give another")
    _check_finite(weights, path, name)


def _check_finite(weights: Mapping[str, Tensor], path: Path, name: str) -> None:
    wrong = not_finite(weights)
    if wrong:
        raise UserError(
            f"{path}: {len(wrong)} of {len(weights)} tensors of its {name} hold NaN or infinity "
            f"({printable(wrong[0])} ...): its training went wrong, or the file is damaged; give another"
        )


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
    """Put back what ``random_states`` gave; KeyError, RuntimeError or TypeError where it is something else."""
    torch.set_rng_state(states["torch"])
