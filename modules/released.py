"""Released folders: a segmenter that leaves the project, as files that other tools can read, and back.

    FOLDER/config.json          what it is (``modules.description.Description``), colours, versions of packages
    FOLDER/model.safetensors    its weights

Reading runs no code. The weights' digest stands in ``config.json``, which gets its name last: a write that is stopped leaves the old
folder, or one that says that it is half written.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from modules.description import OWN, Description
from utils import checkpoint
from utils.errors import UserError, printable
from utils.json_files import read_json
from utils.visualise import palette
from utils.whole import clear_leftovers, whole_file

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Bytes of a safetensors file's table of contents; more are no network's.
LONGEST_TABLE = 1 << 24
# Options that name places of the machine that trained; of their values the last part is released.
PLACES = frozenset(
    (
        "data_root dataset_dir train_list val_list pseudo replay_path web_path web_masks logdir checkpoints ckpt step_ckpt pl_ckpt "
        "pretrained task"
    ).split()
)
PACKAGES = ("web-wilss", "torch", "torchvision", "timm", "segmentation-models-pytorch", "transformers", "safetensors")
# The folders of a path, blanks in their names too, behind a blank or what stands before a file in a MODEL.
_PLACE = re.compile(r"(^|[\s:=])(?:[A-Za-z]:)?[^\s:=]*[/\\](?:.*[/\\])?")
# What configurations of other libraries hold, and how their folders are named to this project.
OTHERS = {"model_type": "transformers", "architectures": "transformers", "encoder_name": "smp", "_target_": "smp"}


def is_released(folder: Path) -> bool:
    """Whether a folder looks like a released one: by its names alone."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


# ---- writing --------------------------------------------------------------------------------------------------------


def write_released(
    folder: Path,
    description: Description,
    weights: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
    texts: Mapping[str, str | None] | None = None,
) -> None:
    """Write a segmenter to ``folder``: every file under a temporary name first, so that a full disk leaves the folder as it was.

    Args:
        folder: made where it is missing; files of other names in it stay.
        description: what the segmenter is; of its options that name places the last part is written.
        weights: its state dict.
        extra: further plain values for ``config.json``, under names that it does not have.
        texts: further files by name, as ``README.md``; None removes one that an earlier write left.

    Raises:
        UserError: a file cannot be written, or a weight is not finite; what lies there is left as it was.
    """
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
    wrong = checkpoint.not_finite(tensors)
    if wrong:
        raise UserError(
            f"{folder}: not written: {len(wrong)} of {len(tensors)} weights are not finite ({wrong[0]} ...)"
        )
    digest = checkpoint.weights_digest(tensors)
    config = _config(description, tensors, digest) | dict(extra or {})
    content = safetensors.torch.save(tensors, {"format": "pt", "sha256": digest})
    texts = dict(texts or {})
    for name in (CONFIG, WEIGHTS, *texts):
        clear_leftovers(folder / name)
    with ExitStack() as stack:
        # Names are given in the opposite order: the weights' first, that of the configuration last.
        _write(
            stack, folder / CONFIG, lambda: json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False).encode()
        )
        for name, text in texts.items():
            if text is None:
                stack.enter_context(_removed(folder / name))
            else:
                _write(stack, folder / name, text.encode)
        _write(stack, folder / WEIGHTS, lambda: content)


def _write(stack: ExitStack, path: Path, content: Callable[[], bytes]) -> None:
    """Write a file that gets its name when ``stack`` ends."""
    temporary = stack.enter_context(whole_file(path))
    try:
        written = content()
    except ValueError as error:  # Half of a pair of surrogates, NaN, a circle.
        raise UserError(f"{path}: cannot be written: a name or value is no text or number ({error})") from error
    with temporary.open("xb") as file:
        file.write(written)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    """Remove a file of an earlier write, where the block ends well."""
    yield
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: is of an earlier write and cannot be removed ({error.strerror})") from error


def _config(description: Description, weights: Mapping[str, Tensor], digest: str) -> dict[str, Any]:
    colours = palette()
    return {
        "format": FORMAT,
        "library_name": OWN,
        **public(description).plain(),
        "id2label": _labels(description),
        "palette": {str(i): "#{:02x}{:02x}{:02x}".format(*colours[i].tolist()) for i in description.ids},
        "weights": {"sha256": digest, "tensors": len(weights), "numbers": sum(w.numel() for w in weights.values())},
        "versions": versions(),
    }


def _labels(description: Description) -> dict[str, str]:
    """Class id -> name, as the hub's tools read it."""
    return {str(number): name for number, name in description.names.items()}


def public(description: Description) -> Description:
    """A description without the folders of the machine that trained: of each place in options and history the last part stays."""
    options = {
        key: PurePath(value).name or value if key in PLACES and isinstance(value, str) else value
        for key, value in description.options.items()
    }
    history = tuple(
        {**entry, "from": _without_places(entry["from"])} if isinstance(entry.get("from"), str) else entry
        for entry in description.history
    )
    return replace(description, options=options, history=history)


def _without_places(text: str) -> str:
    """A sentence in which the last part stands for each path; names of the hub stay."""
    return text if text.startswith("hub:") else _PLACE.sub(r"\1", text)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that networks come from; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# ---- reading --------------------------------------------------------------------------------------------------------


def read_released(folder: Path) -> tuple[Description, dict[str, Tensor]]:
    """The segmenter of a released folder.

    Returns:
        what it is, and its state dict on the CPU: plain tensors, finite, one classifier a step with a channel a class. Whether the
        network has these weights shows when it gets them.

    Raises:
        UserError: the folder is none, is half written or damaged, or a later version wrote it; names the file.
    """
    config = read_config(folder)
    path = folder / CONFIG
    own = {field.name for field in fields(Description)}
    description = Description.from_plain({key: value for key, value in config.items() if key in own}, str(path))
    if config["id2label"] != _labels(description):
        raise UserError(f"{path}: its id2label does not agree with its steps and class_names; correct one of them")
    weights = _read_weights(folder, config)
    _check_classifiers(folder / WEIGHTS, description, weights)
    return description, weights


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a released folder, of this version: ``id2label`` and ``weights`` are what ``write_released`` wrote by kind.

    Raises:
        UserError: it is missing, no JSON, of another library, or of a later version.
    """
    path = _file(folder, CONFIG)
    config = read_json(path)
    if not isinstance(config, dict):
        raise UserError(f"{path}: is no configuration of a released folder")
    if config.get("library_name") != OWN:
        library = next((library for key, library in OTHERS.items() if key in config), None)
        cure = f"; give {library}:{folder}" if library else "; make one with export.py"
        raise UserError(f"{path}: is no configuration of a released folder of this project{cure}")
    number = config.get("format")
    if type(number) is int and number > FORMAT:
        raise UserError(
            f"{path}: has format {printable(str(number))}, this version reads {FORMAT}; update this program"
        )
    if type(number) is not int or number != FORMAT:
        raise UserError(f"{path}: its format is not {FORMAT}; give another folder")
    labels, weights = config.get("id2label"), config.get("weights")
    if not isinstance(labels, dict) or not isinstance(weights, dict) or not isinstance(weights.get("sha256"), str):
        raise UserError(f"{path}: damaged: its id2label or weights are missing or wrong; give another folder")
    return config


def _file(folder: Path, name: str) -> Path:
    """A file of a released folder, which does not lead out of it, but to where the hub's cache keeps files."""
    path = folder / name
    if not folder.is_dir():
        raise UserError(f"{folder}: no such released folder")
    if not path.is_file():
        there = any((folder / other).exists() for other in (CONFIG, WEIGHTS))
        raise UserError(
            f"{folder}: "
            + ("half written, or no released folder" if there else "no released folder")
            + f": it has no {name}; "
            "write it again with export.py"
        )
    inside = folder.resolve(), folder.resolve().parent.parent / "blobs"
    if not any(path.resolve().is_relative_to(place) for place in inside):
        raise UserError(f"{path}: is a link that leads out of the folder; put the file itself there")
    return path


def _read_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    path = _file(folder, WEIGHTS)
    try:
        with path.open("rb") as file:
            size, table = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if table > min(size, LONGEST_TABLE):
            raise UserError(f"{path}: damaged or no safetensors file; give another")
        with safe_open(path, framework="pt") as file:
            noted = (file.metadata() or {}).get("sha256")
            # Out of the file's pages: it may be written again while they are used.
            weights = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise UserError(f"{path}: damaged or no safetensors file ({printable(str(error))}); give another") from error
    checkpoint.check_tensors(weights, path)
    digest = checkpoint.weights_digest(weights)
    if digest != config["weights"]["sha256"]:
        if digest == noted:
            raise UserError(
                f"{folder}: half written: {WEIGHTS} and {CONFIG} are not of one write; write it again with export.py"
            )
        raise UserError(
            f"{path}: damaged: its weights are not as they were written; copy the file again or give another"
        )
    return weights


def _check_classifiers(path: Path, description: Description, weights: Mapping[str, Tensor]) -> None:
    """UserError where there is not one classifier a step, with a channel a class."""
    for step, classes in enumerate(description.steps):
        classifier = weights.get(f"cls.{step}.weight")
        if classifier is None or classifier.shape[:1] != (len(classes),):
            count = "none" if classifier is None or not classifier.ndim else classifier.shape[0]
            raise UserError(
                f"{path}: classifier {step} should have {len(classes)} channels, it has {count}; give another"
            )
    if f"cls.{len(description.steps)}.weight" in weights:
        raise UserError(f"{path}: has more classifiers than {CONFIG} has steps, {len(description.steps)}; give another")
