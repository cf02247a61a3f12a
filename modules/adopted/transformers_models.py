"""Segmenters of transformers: ``transformers:FOLDER``, a ``save_pretrained`` folder (docs/method.md, "Adopted segmenters").

Whatever ``AutoModelForSemanticSegmentation`` knows is tried: a family of ``FAMILIES`` says where its encoder ends, and a dry run finds the
convolution that its logits come from. Networks run on images of their own size, as training crops and whole test images are, not on the
one size that a ``preprocessor_config.json`` resizes to; only those that learned an embedding for each position are given that size.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.adopted.parts import Found, Parts, adopted
from modules.adopted.settings import NO_BACKGROUND, AdoptSettings
from modules.adopted.weights import misfit, read_tensors
from modules.description import SIGMOID, Description
from utils.errors import UserError, printable, reason
from utils.normalisation import Normalisation

LOG = logging.getLogger("webwilss")
LIBRARY = "transformers"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
# Names and places that are said elsewhere, or are of one machine.
DROPPED = ("id2label", "label2id", "_name_or_path", "dtype", "torch_dtype", "transformers_version", "architectures")
# What would choose code of another package, or of the hub, for attention.
ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
# What sides of images may have to be multiples of, tried in this order.
MULTIPLES = (1, 2, 4, 8, 14, 16, 32)
# How the library calls classes without names.
UNNAMED = re.compile(r"LABEL_\d+")
# Largest difference of logits that is taken for rounding, as a share of the greatest.
ROUNDING = 1e-4


# ---- where encoders end ---------------------------------------------------------------------------------------------


def _stages(encoder: nn.Module, images: Tensor) -> list[Tensor]:
    """The maps of all stages."""
    return list(encoder(images, output_hidden_states=True, return_dict=True).hidden_states)


def _backbone(encoder: Any, images: Tensor) -> list[Tensor]:
    return list(encoder.forward_with_filtered_kwargs(images).feature_maps)


def _grid(encoder: Any, images: Tensor) -> tuple[int, int]:
    """Rows and columns of patches."""
    patch = encoder.config.patch_size
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return images.shape[-2] // height, images.shape[-1] // width


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (B, h * w, D) of the patches as (B, D, h, w)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)


def _layers(encoder: Any, images: Tensor) -> list[Tensor]:
    """The patches after the layers that the decoder looks at."""
    hidden = encoder(images, output_hidden_states=True, return_dict=True).hidden_states
    grid = _grid(encoder, images)
    return [_as_map(hidden[index - 1][:, 1:], grid) for index in encoder.config.out_indices]


def _dense(encoder: Any, images: Tensor) -> list[Tensor]:
    """DPT's maps: the class tokens as maps of one pixel, then those of a convolutional stem, if any, then the patches."""
    config = encoder.config
    output = encoder(images, output_hidden_states=True, return_dict=True)
    stem = list(output.intermediate_activations or ()) if config.is_hybrid else []
    chosen = config.backbone_out_indices[len(stem) :]
    tokens = [hidden for index, hidden in enumerate(output.hidden_states[1:]) if index in chosen]
    grid = _grid(encoder, images)
    return [t[:, 0, :, None, None] for t in tokens] + stem + [_as_map(t[:, 1:], grid) for t in tokens]


def _decode_dense(parts: nn.ModuleDict, maps: list[Tensor]) -> Tensor:
    neck: Any = parts["neck"]
    head: Any = parts["head"]
    count = len(maps) - len(neck.convs)
    grid = maps[-1].shape[-2:]
    tokens = [
        torch.cat([token.flatten(2), patches.flatten(2)], dim=2).transpose(1, 2)
        for token, patches in zip(maps[:count], maps[-count:], strict=True)
    ]
    fused = neck(maps[count : len(maps) - count] + tokens, *grid)[head.config.head_in_index]
    # Without the last upsampling, which comes after the classifier.
    features: Tensor = head.head[:-1](fused)
    return features


def _patches(encoder: Any, images: Tensor) -> list[Tensor]:
    tokens = encoder(images).last_hidden_state[:, 1 + encoder.config.num_register_tokens :]
    return [_as_map(tokens, _grid(encoder, images))]


def _decode_pyramid(parts: nn.ModuleDict, maps: list[Tensor]) -> Tensor:
    scaled = [parts[f"fpn{index}"](features) for index, features in enumerate(maps, start=1)]
    features: Tensor = parts["decode_head"](scaled)
    return features


@dataclass(frozen=True)
class Family:
    """How a family of networks is taken apart.

    Attributes:
        encoder: attribute of the model.
        encode: encoder and images to maps.
        decode: what is left of the model, its classifier being an identity, and the maps to what the classifier sees.
        fixed: whether the network learned a value for each position of images of one size.
    """

    encoder: str
    encode: Callable[[Any, Tensor], list[Tensor]]
    decode: Callable[[nn.ModuleDict, list[Tensor]], Tensor]
    fixed: bool = False


# By the ``model_type`` of a configuration.
FAMILIES = {
    "segformer": Family("segformer", _stages, lambda parts, maps: parts["decode_head"](maps)),
    "mobilenet_v2": Family("mobilenet_v2", _stages, lambda parts, maps: parts["segmentation_head"](maps[-1])),
    "mobilevit": Family("mobilevit", _stages, lambda parts, maps: parts["segmentation_head"](maps)),
    "mobilevitv2": Family("mobilevitv2", _stages, lambda parts, maps: parts["segmentation_head"](maps)),
    "upernet": Family("backbone", _backbone, lambda parts, maps: parts["decode_head"](maps)),
    "beit": Family("beit", _layers, lambda parts, maps: parts["decode_head"](parts["fpn"](maps)), fixed=True),
    "data2vec-vision": Family("data2vec_vision", _layers, _decode_pyramid, fixed=True),
    "dpt": Family("dpt", _dense, _decode_dense, fixed=True),
    "sapiens2": Family("model", _patches, lambda parts, maps: parts["decode_head"](maps[-1]), fixed=True),
}


class Body(nn.Module):
    """The encoder."""

    def __init__(self, encoder: nn.Module, encode: Callable[[Any, Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.encoder, self.encode = encoder, encode

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to maps, the deepest last."""
        return self.encode(self.encoder, images)


class Head(nn.Module):
    """The decoder without its last convolution."""

    def __init__(self, parts: nn.ModuleDict, decode: Callable[[nn.ModuleDict, list[Tensor]], Tensor]) -> None:
        super().__init__()
        self.parts, self.decode = parts, decode

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The maps to (B, D, h, w)."""
        return self.decode(self.parts, maps)


# ---- configurations -------------------------------------------------------------------------------------------------


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"{LIBRARY}: is not installed; pip install -e .[transformers]") from error
    return transformers


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars, and its tables of what we say in one line."""
    from transformers.utils import logging as messages

    verbosity, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(verbosity)
        if bars:
            messages.enable_progress_bar()


def _checked(values: Any, where: str) -> Any:
    """A configuration without what would choose other code; UserError where it asks for code, or for files that are not there."""
    if isinstance(values, list | tuple):
        return [_checked(value, where) for value in values]
    if not isinstance(values, Mapping):
        return values
    if "auto_map" in values:
        raise UserError(f"{where}: asks for code of its own (auto_map), which is never run; it cannot be adopted")
    if values.get("quantization_config") is not None:
        raise UserError(f"{where}: is quantised, and cannot be trained; give the folder of its float weights")
    backbone = values.get("backbone")
    if values.get("model_type") == "timm_backbone":
        if not isinstance(backbone, str) or not re.fullmatch(r"[\w.]+", backbone):
            raise UserError(f"{where}: {printable(str(backbone))} is no name of a network of timm")
    elif backbone is not None:
        raise UserError(
            f"{where}: its backbone {printable(str(backbone))} would have to be fetched; save it with a backbone_config"
        )
    return {key: _checked(value, where) for key, value in values.items() if key not in ATTENTION}


def _without_names(values: Any) -> Any:
    """A configuration without labels, paths and versions, nor those of its backbone."""
    if isinstance(values, list):
        return [_without_names(value) for value in values]
    if not isinstance(values, dict):
        return values
    return {key: _without_names(value) for key, value in values.items() if key not in DROPPED}


def _configuration(values: Any, where: str) -> Any:
    """The library's configuration of plain values, without an auxiliary head.

    Raises:
        UserError: it is of no network that the library segments with, or its values are refused.
    """
    transformers = _library()
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES as segmenters

    values = _checked(values, where)
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind not in segmenters:
        raise UserError(
            f"{where}: a {printable(str(kind))}, which is no network of AutoModelForSemanticSegmentation; one of "
            f"{', '.join(FAMILIES)} is needed"
        )
    if "use_auxiliary_head" in values or hasattr(transformers.CONFIG_MAPPING[kind], "use_auxiliary_head"):
        values["use_auxiliary_head"] = False
    try:
        with _quiet():
            return transformers.CONFIG_MAPPING[kind].from_dict(values)
    except Exception as error:
        # What the library raises for values depends on the network.
        raise UserError(f"{where}: {LIBRARY} refuses its configuration ({reason(error)})") from error


def _class_of(config: Any) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING

    return MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING[type(config)]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON ({reason(error)})") from error


# ---- a folder -------------------------------------------------------------------------------------------------------


def adopt(source: str, settings: AdoptSettings) -> tuple[Description, dict[str, Tensor]]:
    """Description and weights of the segmenter that ``save_pretrained`` wrote into the folder ``source``.

    Raises:
        UserError: transformers is missing; a file is missing, damaged, or asks for code; the network is no segmenter, or its logits
            do not come from one convolution.
    """
    where, folder = f"{LIBRARY}:{source}", Path(source)
    if not (folder / CONFIG).is_file():
        raise UserError(f"{where}: no {CONFIG} there; give the folder that save_pretrained wrote")
    config = _configuration(_json(folder / CONFIG), str(folder / CONFIG))
    model = _model(config, folder)
    processor = _processor(folder)
    size, multiple = _sizes(model, processor, where)
    images = _images(size or _free_size(multiple))
    name, align_corners = _classifier(model, images, where)
    family = _family(config.model_type, where)
    with torch.no_grad():
        logits = _at_size(model(images).logits, images)
        deepest = family.encode(getattr(model, family.encoder), images)[-1]
    if deepest.ndim != 4:
        raise UserError(f"{where}: the last features of its encoder are no map (B, C, h, w); it cannot be adopted")
    architecture = {
        "config": json.loads(json.dumps(_without_names(config.to_dict()))),
        "classifier": name,
        "align_corners": align_corners,
        "channels": deepest.shape[1],
    }
    parts = _parts(model, architecture, where)
    _check_parts(parts, images, logits, where)
    found = Found(
        library=LIBRARY,
        architecture=architecture,
        parts=parts,
        names=_names(config),
        normalisation=None if processor is None else _normalisation(processor, str(folder / PROCESSOR)),
        bgr=bool(getattr(processor, "do_flip_channel_order", False)),
        multiple=multiple,
        size=size,
        outputs=SIGMOID if parts.classifier.out_channels == 1 else None,
        # The library's names of weights are those of its version.
        history={"version": f"{LIBRARY} {_library().__version__}"},
    )
    return adopted(found, _with_background(settings, config, processor, where), where)


def make(architecture: Mapping[str, Any], classes: int) -> Parts:
    """The network of ``architecture`` with random weights.

    Raises:
        UserError: transformers is missing, or does not know such a network.
    """
    kinds = {"config": dict, "classifier": str, "align_corners": bool, "channels": int}
    wrong = [key for key, kind in kinds.items() if type(architecture.get(key)) is not kind]
    if wrong:
        raise UserError(f"{LIBRARY}: {wrong[0]} of its network is missing or wrong")
    config = _configuration({**architecture["config"], "num_labels": classes}, LIBRARY)
    try:
        with _quiet():
            model = _class_of(config)(config)
    except Exception as error:
        raise UserError(f"{LIBRARY}: cannot make its {config.model_type} ({reason(error)})") from error
    return _parts(model, architecture, LIBRARY)


def _weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The weights of a folder, in one file or several; and a path of theirs, for messages."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        path, index = folder / name, folder / f"{name}.index.json"
        if path.is_file():
            return path, read_tensors(path)
        if index.is_file():
            values = _json(index)
            files = values.get("weight_map") if isinstance(values, dict) else None
            if not isinstance(files, dict) or not all(
                isinstance(file, str) and Path(file).name == file for file in files.values()
            ):
                raise UserError(f"{index}: has no weight_map of files beside it")
            weights: dict[str, Tensor] = {}
            for file in sorted(set(files.values())):
                weights |= read_tensors(folder / file)
            return index, weights
    raise UserError(
        f"{folder}: no model.safetensors or pytorch_model.bin there; give the folder that save_pretrained wrote"
    )


def _model(config: Any, folder: Path) -> Any:
    """The library's model with the folder's weights; the library brings names of its older versions up to date."""
    path, weights = _weights(folder)
    try:
        with _quiet():
            model, report = _class_of(config).from_pretrained(
                None,
                config=config,
                state_dict=weights,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:
        raise UserError(
            f"{path}: {LIBRARY} cannot give its weights to a {config.model_type} ({reason(error)})"
        ) from error
    other = sorted(str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"])
    missing, unused = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if missing or other:
        wrong = misfit(missing, unused, other)
        raise UserError(f"{path}: its weights are of another network than {folder / CONFIG} ({wrong})")
    unused = [key for key in unused if not key.startswith("auxiliary_head.")]
    if unused:
        LOG.info(
            "%s: %d tensors are not the segmenter's (%s ...), and not taken", path, len(unused), printable(unused[0])
        )
    return model.eval()


def _processor(folder: Path) -> Any:
    """What the library prepares images with; None where the folder does not say."""
    path = folder / PROCESSOR
    if not path.is_file():
        return None
    _checked(_json(path), str(path))
    try:
        with _quiet():
            return _library().AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise UserError(f"{path}: {LIBRARY} cannot read it ({reason(error)})") from error


def _normalisation(processor: Any, where: str) -> Normalisation:
    """The processor's normalisation, of RGB images in [0, 1]."""
    try:
        scale = 255 * float(processor.rescale_factor if getattr(processor, "do_rescale", True) else 1)
        mean, std = [0.0] * 3, [1.0] * 3
        if getattr(processor, "do_normalize", False):
            mean, std = (
                [float(value)] * 3 if isinstance(value, int | float) else [float(number) for number in value]
                for value in (processor.image_mean, processor.image_std)
            )
    except (TypeError, ValueError):
        scale, mean, std = 0.0, [], []
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, [scale, *mean, *std])) or min(scale, *std) <= 0:
        raise UserError(f"{where}: image_mean and image_std are not three numbers, deviations and scale above 0")
    if getattr(processor, "do_flip_channel_order", False):
        mean, std = mean[::-1], std[::-1]
    red, green, blue = zip((m / scale for m in mean), (s / scale for s in std), strict=True)
    return Normalisation((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))


def _names(config: Any) -> list[str] | None:
    """Names in the order of the channels; None where they are the library's "LABEL_0" and so on."""
    names = [str(config.id2label[key]) for key in sorted(config.id2label)]
    return None if all(UNNAMED.fullmatch(name) for name in names) else names


def _with_background(settings: AdoptSettings, config: Any, processor: Any, where: str) -> AdoptSettings:
    """What the folder says of background, unless the user says it: label sets without, and labels that no loss saw."""
    if settings.background is not None:
        return settings
    ignored = getattr(config, "semantic_loss_ignore_index", getattr(config, "loss_ignore_index", 255))
    if getattr(processor, "do_reduce_labels", False):
        LOG.info("%s: its labels had no background (do_reduce_labels); taken as --background %s", where, NO_BACKGROUND)
        return replace(settings, background=NO_BACKGROUND)
    if type(ignored) is int and 0 <= ignored < config.num_labels:
        name = printable(str(config.id2label.get(ignored)))
        LOG.info("%s: no loss saw its channel %d (%s), taken as background", where, ignored, name)
        return replace(settings, background=str(ignored))
    return settings


# ---- sizes, and the last convolution --------------------------------------------------------------------------------


def _images(size: tuple[int, int]) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


def _free_size(multiple: int) -> tuple[int, int]:
    """Odd multiples that are large enough for a dry run."""
    return multiple * (64 // multiple | 1), multiple * (96 // multiple | 1)


def _runs(model: Any, size: tuple[int, int]) -> bool:
    try:
        with torch.no_grad():
            model(_images(size))
    except Exception:
        # What a network raises for a size depends on its layers.
        return False
    return True


def _sizes(model: Any, processor: Any, where: str) -> tuple[tuple[int, int] | None, int]:
    """The only size (H, W) that the network takes, or None; and what sides must be multiples of."""
    family = FAMILIES.get(model.config.model_type)
    fixed = family is not None and family.fixed
    fixed |= any(name.endswith("position_embeddings") for name, _ in model.named_parameters())
    asked = _resized(processor)
    if fixed:
        sizes = [size for size in (asked, _pair(getattr(model.config, "image_size", None))) if size is not None]
        size = next((size for size in sizes if _runs(model, size)), None)
        if size is None:
            raise UserError(
                f"{where}: the network does not run on images of {sizes or 'a size that its files do not name'}"
            )
        LOG.info("%s: it learned a value for each position; images are resized to %d x %d, as there", where, *size)
        return size, 1
    multiple = next((multiple for multiple in MULTIPLES if _runs(model, _free_size(multiple))), None)
    if multiple is None:
        raise UserError(f"{where}: the network runs on none of the sizes that were tried, 64 to 112 pixels a side")
    if asked is not None:
        LOG.info("%s: its images were resized to %d x %d; here they keep their size", where, *asked)
    return None, multiple


def _pair(value: Any) -> tuple[int, int] | None:
    sides = [value, value] if isinstance(value, int) else value
    fits = isinstance(sides, list | tuple) and len(sides) == 2 and all(type(side) is int and side > 0 for side in sides)
    return (sides[0], sides[1]) if fits else None


def _resized(processor: Any) -> tuple[int, int] | None:
    """The size (H, W) that images have after the library's processor; None where they keep theirs."""
    size = None
    if getattr(processor, "do_resize", False):
        size = processor.size
    if getattr(processor, "do_center_crop", False):
        size = processor.crop_size
    if size is None:
        return None
    height = getattr(size, "height", None) or getattr(size, "shortest_edge", None)
    width = getattr(size, "width", None) or getattr(size, "shortest_edge", None)
    return _pair([height, width])


def _at_size(logits: Tensor, images: Tensor, align_corners: bool = False) -> Tensor:
    return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=align_corners)


def _close(first: Tensor, second: Tensor) -> bool:
    """Whether they are equal but for rounding."""
    return bool((first - second).abs().max() <= ROUNDING * max(float(second.abs().max()), 1e-30))


def _classifier(model: Any, images: Tensor, where: str) -> tuple[str, bool]:
    """Name of the convolution whose outputs are the logits, and how the library upsamples them to the images' size.

    Raises:
        UserError: the logits come from something else.
    """
    seen: list[tuple[str, nn.Module, Tensor]] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.append((name, module, output))

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    hooks = [module.register_forward_hook(note(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            logits = model(images).logits
    finally:
        for hook in hooks:
            hook.remove()
    for name, module, output in reversed(seen):
        if not isinstance(module, nn.Conv2d) or output.shape[:2] != logits.shape[:2] or not _plain(module):
            continue
        if output.shape == logits.shape and torch.equal(output, logits):
            return name, False
        for align_corners in (False, True):
            if logits.shape[-2:] == images.shape[-2:] and _close(_at_size(output, images, align_corners), logits):
                return name, align_corners
    last, module, _ = seen[-1]
    raise UserError(
        f"{where}: the logits of {type(model).__name__} do not come from one convolution, its last layer is "
        f"{last} ({type(module).__name__}); it cannot be adopted"
    )


def _plain(convolution: nn.Conv2d) -> bool:
    """Whether it is one that another step's can stand beside."""
    return (convolution.stride, convolution.dilation, convolution.groups) == ((1, 1), (1, 1), 1)


def _family(kind: str, where: str) -> Family:
    if kind not in FAMILIES:
        raise UserError(
            f"{where}: where the encoder of a {kind} ends is not known; one of {', '.join(FAMILIES)} is needed"
        )
    return FAMILIES[kind]


def _parts(model: Any, architecture: Mapping[str, Any], where: str) -> Parts:
    """Take a model apart: its classifier becomes an identity, what is left beside the encoder the head."""
    family, name = _family(model.config.model_type, where), architecture["classifier"]
    try:
        classifier = model.get_submodule(name)
    except AttributeError:
        classifier = None
    if not isinstance(classifier, nn.Conv2d) or name.startswith(f"{family.encoder}."):
        raise UserError(f"{where}: {printable(name)} is no last convolution of a {model.config.model_type}")
    model.set_submodule(_alone(model, name), nn.Identity())
    left = nn.ModuleDict({key: child for key, child in model.named_children() if key != family.encoder})
    body = Body(getattr(model, family.encoder), family.encode)
    return Parts(body, Head(left, family.decode), classifier, architecture["channels"], architecture["align_corners"])


def _alone(model: Any, name: str) -> str:
    """The module that holds nothing but the module ``name``: a wrapper may look at the convolution that it calls."""
    parent = name.rpartition(".")[0]
    return _alone(model, parent) if parent and len(list(model.get_submodule(parent).children())) == 1 else name


@torch.no_grad()
def _check_parts(parts: Parts, images: Tensor, logits: Tensor, where: str) -> None:
    """UserError where the parts do not give the logits that the library gives, at the images' size."""
    own = _at_size(parts.classifier(parts.head(parts.body(images))), images, parts.align_corners)
    if not _close(own, logits):
        raise UserError(f"{where}: taken apart it gives other logits than {LIBRARY}; it cannot be adopted")
