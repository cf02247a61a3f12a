"""Segmenters of segmentation_models.pytorch: ``smp:FOLDER`` (``save_pretrained``) and ``smp:ARCHITECTURE:ENCODER=FILE``.

A folder says all of its architecture. Of a file of weights what they show is read, and the rest is the library's default, which is told.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from modules.adopted.parts import Found, Parts, adopted
from modules.adopted.settings import AdoptSettings
from modules.adopted.weights import misfit, read_weights
from modules.description import SIGMOID, SOFTMAX, Description
from utils.errors import UserError, printable, reason
from utils.normalisation import NORMALISATIONS, Normalisation

LOG = logging.getLogger("webwilss")
LIBRARY = "smp"
CONFIG, WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
HEAD = "segmentation_head."
# A second head, which classifies images.
EXTRA_HEAD = "classification_head."
# Those whose last layer before the logits is one convolution, and its name.
LAST = dict.fromkeys(
    (
        "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet", "Segformer",
    ),
    f"{HEAD}0.weight",
) | {"DPT": f"{HEAD}head.4.weight"}  # fmt: skip

# ---- what weights show of the arguments that made their network -------------------------------------------------------

# Argument -> the weight whose first axis it is.
CHANNELS = {
    "MAnet": {"decoder_pab_channels": "decoder.center.top_conv.weight"},
    "FPN": {
        "decoder_pyramid_channels": "decoder.p5.weight",
        "decoder_segmentation_channels": "decoder.seg_blocks.0.block.0.block.0.weight",
    },
    "PSPNet": {"psp_out_channels": "decoder.conv.0.weight"},
    "DeepLabV3": {"decoder_channels": "decoder.conv.weight"},
    "DeepLabV3Plus": {"decoder_channels": "decoder.aspp.0.project.0.weight"},
    "PAN": {"decoder_channels": "decoder.fpa.mid.0.conv.weight"},
    "UPerNet": {"decoder_channels": "decoder.fusion_block.0.weight"},
    "Segformer": {"decoder_segmentation_channels": "decoder.fuse_stage.0.weight"},
    "DPT": {"decoder_fusion_channels": f"{HEAD}head.0.weight"},
}
_UNET = r"decoder\.blocks\.(\d+)\.conv1\.0\.weight"
_UNETPP = r"decoder\.blocks\.x_0_(\d+)\.conv1\.0\.weight"
_DPT = r"decoder\.reassemble_blocks\.(\d+)\.project_to_out_channel\.weight"
# A list of channels -> the weights of the blocks whose first axes they are.
BLOCKS = {
    "Unet": {"decoder_channels": _UNET},
    "UnetPlusPlus": {"decoder_channels": _UNETPP},
    "MAnet": {"decoder_channels": _UNET},
    "DPT": {"decoder_intermediate_channels": _DPT},
}
# A weight of each block of the decoder, and how many stages more the encoder has; of the others the shapes say it.
STAGES = {
    "Unet": (_UNET, 0),
    "UnetPlusPlus": (_UNETPP, 0),
    "MAnet": (_UNET, 0),
    "Linknet": (r"decoder\.blocks\.(\d+)\.block\.0\.0\.weight", 0),
    "PAN": (r"decoder\.gau(\d+)\.conv2\.conv\.weight", 2),
    "UPerNet": (r"decoder\.feature_norms\.(\d+)\.weight", 1),
    "DPT": (_DPT, 0),
}
# The convolution and norm that show which norm the decoder has.
NORMS = {
    "Unet": "decoder.blocks.0.conv1",
    "UnetPlusPlus": "decoder.blocks.x_0_0.conv1",
    "MAnet": "decoder.blocks.0.conv1",
    "Linknet": "decoder.blocks.0.block.0",
    "PSPNet": "decoder.conv",
    "UPerNet": "decoder.fusion_block",
}
DEPTHS = (5, 4, 3, 2, 1)

# ---- arguments ----------------------------------------------------------------------------------------------------------

# What is no part of the architecture here: what images and logits are is said by other means.
APART = {"encoder_weights", "in_channels", "classes", "activation", "upsampling", "aux_params"}
# Names of earlier versions.
RENAMED = {
    "decoder_use_batchnorm": "decoder_use_norm",
    "psp_use_batchnorm": "decoder_use_norm",
    "upscale_mode": "decoder_interpolation",
}
# How arguments begin that timm would take as files to read or to fetch.
REACHING = ("pretrained", "checkpoint", "cache_dir")
# Names of encoders; an address has other characters.
ENCODER = re.compile(r"[\w.+-]+")
# Encoders that the library hands to timm, beside those called ``tu-``.
OF_TIMM = re.compile(r"timm-(?:regnet|res2|resnest|mobilenetv3|gernet)")
# Larger numbers and longer lists are no arguments of a network.
LARGEST, LONGEST = 2**16, 64
OUTPUTS = {
    "sigmoid": SIGMOID,
    "softmax": SOFTMAX,
    "softmax2d": SOFTMAX,
    "logsoftmax": SOFTMAX,
    None: None,
    "identity": None,
}
# The normalisations of the library's own encoders, by how their names begin; the library itself fetches them.
STATS = {
    "dpn": Normalisation((124 / 255, 117 / 255, 104 / 255), (1 / 4.2585, 1 / 4.2585, 1 / 4.2585)),
    "inception": NORMALISATIONS["half"],
    "xception": NORMALISATIONS["half"],
    "timm-tf_efficientnet_lite": NORMALISATIONS["half"],
}
# Weights of EfficientNets that saw images otherwise than the others.
ADVPROP = "advprop"


def adopt(source: str, settings: AdoptSettings) -> tuple[Description, dict[str, Tensor]]:
    """Description and weights of ``FOLDER`` or ``ARCHITECTURE:ENCODER=FILE``.

    Raises:
        UserError: the package is missing; no such architecture or encoder; the files are missing, damaged or of another network.
    """
    where = f"{LIBRARY}:{source}"
    _library()
    named = re.fullmatch(r"(\w+):([^=:]+)=(.+)", source)
    if Path(source).is_dir():
        name, config, file = _read_folder(Path(source), where)
    elif named:
        name, config, file = _architecture(named[1], where), {"encoder_name": named[2]}, Path(named[3])
    else:
        raise UserError(
            f"{where}: no such folder; write {LIBRARY}:FOLDER of save_pretrained, or {LIBRARY}:Unet:resnet18=weights.pth"
        )
    _check_config(config, where)
    weights = _network_weights(name, file, where)
    classes = len(weights[LAST[name]])
    shown = _shown(name, weights, where)
    _compare({"classes": classes, **shown}, config, where)
    said = {key: value for key, value in config.items() if key not in APART}
    if name == "DPT" and not (shown | said).get("decoder_readout"):
        raise UserError(
            f"{where}: its weights do not show decoder_readout, add or ignore; give a folder of save_pretrained"
        )
    architecture, network = _fitting(
        {"name": name, **_defaults(name), **shown, **said}, {**shown, **said}, weights, where
    )
    if named:
        _tell_guesses(architecture, {*shown, "name", "encoder_name", "encoder_depth"}, where)
    found = Found(
        library=LIBRARY,
        architecture=architecture,
        parts=_parts(network),
        normalisation=_normalisation(config, settings, where),
        multiple=_multiple(network),
        # PAN halves its deepest map three times.
        least=8 * network.encoder.output_stride if name == "PAN" else 1,
        size=_size(network),
        outputs=_outputs(config.get("activation"), classes, where),
    )
    return adopted(found, settings, where)


def make(architecture: Mapping[str, Any], classes: int) -> Parts:
    """The network of ``architecture`` with random weights; nothing is fetched.

    Raises:
        UserError: the package is missing, or it cannot make this network.
    """
    _check_config(architecture, LIBRARY)
    return _parts(_network(architecture, classes, LIBRARY))


# ---- networks -------------------------------------------------------------------------------------------------------


class TokenBody(nn.Module):
    """A vision transformer with what DPT makes of its maps and their class token."""

    def __init__(self, encoder: nn.Module, readouts: nn.Module) -> None:
        super().__init__()
        self.encoder, self.readouts = encoder, readouts

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the maps, all of one size."""
        maps, tokens = self.encoder(images)
        return [readout(*both) for readout, *both in zip(self.readouts, maps, tokens, strict=True)]  # type: ignore[call-overload]


class FusionHead(nn.Module):
    """DPT's decoder behind its readouts, and its head without the last convolution."""

    def __init__(self, reassemble: nn.ModuleList, fusion: nn.ModuleList, layers: nn.Module) -> None:
        super().__init__()
        self.reassemble, self.fusion, self.layers = reassemble, fusion, layers

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The maps to (B, D, h, w)."""
        fused: Tensor | None = None
        placed = [block(features) for block, features in zip(self.reassemble, maps, strict=True)]
        for block, features in zip(self.fusion, reversed(placed), strict=True):
            fused = block(features, fused)
        seen: Tensor = self.layers(fused)
        return seen


def _parts(network: Any) -> Parts:
    encoder, decoder, channels = network.encoder, network.decoder, network.encoder.out_channels[-1]
    if isinstance(network, _library().DPT):
        *layers, classifier = network.segmentation_head.head
        body = TokenBody(encoder, decoder.projection_blocks)
        head = FusionHead(decoder.reassemble_blocks, decoder.fusion_blocks, nn.Sequential(*layers))
        return Parts(body, head, classifier, channels, align_corners=True)
    return Parts(encoder, decoder, network.segmentation_head[0], channels, align_corners=True)


def _library() -> Any:
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise UserError(
            f"{LIBRARY}: needs segmentation-models-pytorch: pip install -e .[smp] ({reason(error)})"
        ) from error
    return segmentation_models_pytorch


def _network(architecture: Mapping[str, Any], classes: int, where: str) -> Any:
    """A network of the library, with random weights."""
    name = _architecture(architecture.get("name"), where)
    arguments = {key: value for key, value in architecture.items() if key != "name"}
    made = getattr(_library(), name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The library's on names of encoders that will change.
            return made(**arguments, encoder_weights=None, in_channels=3, classes=classes)
    except Exception as error:  # Arguments of any kind raise all that their use can.
        raise UserError(f"{where}: the library cannot make this {name} ({reason(error)})") from error


def _fitting(
    architecture: dict[str, Any], known: Mapping[str, Any], weights: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], Any]:
    """The architecture and its network with the weights; which stages of the encoder it has is tried where that is not known."""
    depth = architecture["encoder_depth"]
    others = [] if "encoder_depth" in known else [other for other in DEPTHS if other != depth]
    classes = len(weights[LAST[architecture["name"]]])
    network = _network(architecture, classes, where)
    wrong = _load(network, weights)
    for other in others if wrong else []:
        changed = {**architecture, "encoder_depth": other}
        try:
            network = _network(changed, classes, where)
        except UserError:  # Not every depth can be had.
            continue
        if not _load(network, weights):
            return changed, network
    if wrong:
        encoder = printable(str(architecture["encoder_name"]))
        raise UserError(f"{where}: its weights are not of {architecture['name']} with encoder {encoder} ({wrong})")
    return architecture, network


def _load(network: Any, weights: Mapping[str, Tensor]) -> str:
    """Give a network its weights, whose earlier names the library knows; what does not fit, or ""."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The library's on other shapes, which are told below.
        missing, unexpected = network.load_state_dict(dict(weights), strict=False)
    shapes, said = [key for key in missing if key in weights], ""
    if shapes:
        shape, own = weights[shapes[0]].shape, network.state_dict()[shapes[0]].shape
        said = f"{printable(shapes[0])} is {tuple(shape)}, not {tuple(own)}"
    return misfit([key for key in missing if key not in weights], unexpected, shapes, said)


def _multiple(network: Any) -> int:
    """What sides of images are multiples of; 1 for any."""
    if not network.requires_divisible_input_shape:
        return 1
    stride: int = network.encoder.output_stride
    # DPT makes of its transformer's maps those of strides 4, 8, 16 ..., each twice the one before it.
    blocks = len(network.decoder.reassemble_blocks) if isinstance(network, _library().DPT) else 0
    return math.lcm(stride, 2 ** (blocks + 1)) if blocks else stride


def _size(network: Any) -> tuple[int, int] | None:
    """The one size of images that a transformer takes; None for any."""
    for module in network.encoder.modules():
        if getattr(module, "strict_img_size", False) and module.img_size is not None:
            return int(module.img_size[0]), int(module.img_size[1])
    return None


# ---- files ----------------------------------------------------------------------------------------------------------


def _read_folder(folder: Path, where: str) -> tuple[str, dict[str, Any], Path]:
    """Architecture, arguments and file of weights of a folder of ``save_pretrained``."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); a folder of save_pretrained is needed") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: no JSON ({reason(error)})") from error
    if not isinstance(values, dict) or "_model_class" not in values:
        raise UserError(f"{path}: does not name its architecture (_model_class); a folder of save_pretrained is needed")
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"{folder}: holds no {' or '.join(WEIGHTS)}; a folder of save_pretrained is needed")
    config: dict[str, Any] = {
        RENAMED.get(str(key), str(key)): value for key, value in values.items() if not key.startswith("_")
    }
    return _architecture(values["_model_class"], where), config, file


def _architecture(name: Any, where: str) -> str:
    """The architecture of this name, in whatever case."""
    known = {each.lower(): each for each in LAST if hasattr(_library(), each)}
    if not isinstance(name, str) or name.lower() not in known:
        raise UserError(
            f"{where}: a {printable(str(name))} cannot be adopted, only {', '.join(known.values())}, "
            "whose last layer is one convolution"
        )
    return known[name.lower()]


def _timm_name(encoder: str) -> str | None:
    """timm's name of an encoder that the library takes from there."""
    if encoder.startswith("tu-"):
        return encoder.removeprefix("tu-")
    if not OF_TIMM.match(encoder):
        return None
    return encoder.replace("timm-", "tf_" if "mobilenetv3" in encoder else "")


def _check_config(config: Mapping[str, Any], where: str) -> None:
    """UserError where arguments would fetch or read files, or are none of a network of RGB images."""
    import timm

    encoder = config.get("encoder_name")
    if not isinstance(encoder, str) or not ENCODER.fullmatch(encoder):
        raise UserError(f"{where}: {printable(str(encoder))} is no name of an encoder")
    of_timm = _timm_name(encoder)
    if not (encoder in _library().encoders.encoders if of_timm is None else timm.is_model(of_timm)):
        raise UserError(f"{where}: there is no encoder {encoder}; smp.encoders.get_encoder_names() and tu-NAME of timm")
    for key, value in config.items():
        if key.startswith(REACHING):
            raise UserError(f"{where}: its {printable(key)} would read other files; leave it out")
        if not _plain(value):
            raise UserError(f"{where}: its {printable(key)} is no argument of a network")
    if config.get("in_channels", 3) != 3:
        raise UserError(f"{where}: takes images of {config['in_channels']} channels; only RGB ones can be adopted")


def _plain(value: Any, depth: int = 2) -> bool:
    """Whether a value is a text, a moderate number, or a short collection of such."""
    if isinstance(value, Mapping | list | tuple):
        inside = list(value.values()) if isinstance(value, Mapping) else list(value)
        return depth > 0 and len(inside) <= LONGEST and all(_plain(item, depth - 1) for item in inside)
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= LARGEST)


def _network_weights(name: str, file: Path, where: str) -> dict[str, Tensor]:
    """The weights of a file under today's names, without the head that classifies images."""
    weights = read_weights(file, HEAD)
    if name == "DeepLabV3":  # Until 0.3 its decoder was a list.
        for old, new in (
            ("decoder.0.", "decoder.aspp."),
            ("decoder.1.", "decoder.conv."),
            ("decoder.2.", "decoder.bn."),
        ):
            weights = {key.replace(old, new) if key.startswith(old) else key: value for key, value in weights.items()}
    if any(key.startswith(EXTRA_HEAD) for key in weights):
        LOG.info("%s: its head that classifies whole images is left out", where)
        weights = {key: value for key, value in weights.items() if not key.startswith(EXTRA_HEAD)}
    if _need(weights, LAST[name], name, where).ndim != 4:
        raise UserError(f"{where}: its {LAST[name]} is no convolution's")
    return weights


# ---- what weights show ------------------------------------------------------------------------------------------------


def _shown(name: str, weights: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Arguments that the weights of an architecture show."""
    shown: dict[str, Any] = {}
    for argument, key in CHANNELS.get(name, {}).items():
        shown[argument] = len(_need(weights, key, name, where))
    for argument, pattern in BLOCKS.get(name, {}).items():
        shown[argument] = [len(weights[key]) for key in _numbered(weights, pattern)]
    if name in STAGES:
        pattern, more = STAGES[name]
        shown["encoder_depth"] = len(_numbered(weights, pattern)) + more
    if name in NORMS:
        shown["decoder_use_norm"] = _norm(weights, NORMS[name])
    if name in ("Unet", "UnetPlusPlus"):
        shown["decoder_attention_type"] = (
            "scse" if any(".attention1.attention.cSE." in key for key in weights) else None
        )
    if name == "FPN":
        merged = _need(weights, LAST[name], name, where).shape[1] == shown["decoder_segmentation_channels"]
        shown["decoder_merge_policy"] = "add" if merged else "cat"
    if name.startswith("DeepLabV3"):
        shown["decoder_aspp_separable"] = any(key.endswith("convs.1.0.0.weight") for key in weights)
    if name == "DPT" and any(key.startswith("decoder.projection_blocks.") for key in weights):
        shown["decoder_readout"] = "cat"
    return shown


def _need(weights: Mapping[str, Tensor], key: str, name: str, where: str) -> Tensor:
    """The weight of this name."""
    weight = weights.get(key)
    if weight is None or weight.ndim == 0:
        raise UserError(f"{where}: its weights hold no {key}; are they a {name}'s state dict?")
    return weight


def _numbered(weights: Mapping[str, Tensor], pattern: str) -> list[str]:
    """Names of weights by their number."""
    found = {int(match[1]): key for key in weights if (match := re.fullmatch(pattern, key)) and weights[key].ndim}
    return [found[number] for number in sorted(found)]


def _norm(weights: Mapping[str, Tensor], start: str) -> Any:
    """The norm of a convolution with norm and ReLU."""
    if f"{start}.1.running_mean" in weights:
        return "batchnorm" if f"{start}.1.num_batches_tracked" in weights else "inplace"
    if f"{start}.0.bias" in weights:
        return "identity"
    return {"type": "instancenorm", "affine": True} if f"{start}.1.weight" in weights else "instancenorm"


def _defaults(name: str) -> dict[str, Any]:
    """The library's default arguments, noted because a later version may have others."""
    parameters = inspect.signature(getattr(_library(), name).__init__).parameters.values()
    values = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty and p.name not in APART}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _compare(shown: Mapping[str, Any], config: Mapping[str, Any], where: str) -> None:
    """UserError where the weights show another architecture than the folder says."""
    for key, value in shown.items():
        # A norm has more than one name.
        if key in config and key != "decoder_use_norm" and config[key] != value:
            raise UserError(
                f"{where}: {CONFIG} says {key} {config[key]}, its weights show {value}; are both of one model?"
            )


def _tell_guesses(architecture: Mapping[str, Any], shown: set[str], where: str) -> None:
    guessed = [f"{key} {value}" for key, value in architecture.items() if key not in shown]
    if guessed:
        LOG.warning(
            "%s: its weights do not show %s: the library's defaults; where they were others, give a folder of save_pretrained",
            where, ", ".join(guessed),
        )  # fmt: skip


# ---- images and logits ------------------------------------------------------------------------------------------------


def _outputs(activation: Any, classes: int, where: str) -> str | None:
    """What turns logits into probabilities; one channel is a sigmoid's."""
    if not (activation is None or isinstance(activation, str)) or activation not in OUTPUTS:
        raise UserError(f"{where}: its activation {printable(str(activation))} is neither softmax nor sigmoid")
    return OUTPUTS[activation] or (SIGMOID if classes == 1 else None)


def _normalisation(config: Mapping[str, Any], settings: AdoptSettings, where: str) -> Normalisation | None:
    """What the library says of images for the encoder's published weights; None where it says nothing."""
    if settings.image_stats is not None:
        return None
    import timm

    encoder = config["encoder_name"]
    of_timm = _timm_name(encoder)
    if of_timm is not None:
        published = timm.get_pretrained_cfg(of_timm)
        if published is None or len(published.mean) != 3:
            return None
        normalisation = Normalisation(tuple(published.mean), tuple(published.std))  # type: ignore[arg-type]
    elif config.get("encoder_weights") == ADVPROP and encoder.startswith("timm-"):
        normalisation = NORMALISATIONS["half"]
    else:
        own = (stats for start, stats in STATS.items() if encoder.startswith(start))
        normalisation = next(own, NORMALISATIONS["imagenet"])
    mean, std = ([round(value, 3) for value in values] for values in (normalisation.mean, normalisation.std))
    LOG.info(
        "%s: images are normalised as published for its encoder, mean %s, deviation %s; --image_stats gives others",
        where, mean, std,
    )  # fmt: skip
    return normalisation
