"""Segmenters of torchvision: ``torchvision:NAME=FILE``, FILE a state dict with or without the auxiliary classifier.

NAME is torchvision's, or ``deeplabv3_timm:BODY``: its DeepLabV3 on a body of timm (``examples/train_torchvision.py``).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model, list_models, segmentation

from modules.adopted.parts import Found, Parts, adopted
from modules.adopted.settings import AdoptSettings
from modules.adopted.weights import misfit, read_weights
from modules.description import SIGMOID, Description
from modules.timm_body import TimmBody
from utils.errors import UserError, printable
from utils.normalisation import NORMALISATIONS, Normalisation

LOG = logging.getLogger("webwilss")
LIBRARY = "torchvision"
ANCHOR, AUXILIARY = "backbone.", "aux_classifier."
NAMES = tuple(list_models(module=segmentation))
# Its DeepLabV3 on the last features of a timm model, of the stride that torchvision's own small bodies have.
ON_TIMM, TIMM_STRIDE = "deeplabv3_timm:", 16
# The classes of torchvision's own weights: those of PASCAL VOC.
KNOWN = {21: segmentation.DeepLabV3_ResNet50_Weights.DEFAULT.meta["categories"]}


class Body(nn.Module):
    """The backbone: its maps, fine ones first."""

    def __init__(self, backbone: nn.Module, maps: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone, self.maps = backbone, maps

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the maps."""
        features = self.backbone(images)
        return [features[name] for name in self.maps]


class TimmFeatures(nn.Module):
    """The last features of a timm model (``timm.create_model(..., features_only=True)``), as torchvision asks for them."""

    def __init__(self, body: TimmBody) -> None:
        super().__init__()
        self.model = body.model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to the features."""
        return {"out": self.model(images)[-1]}


class Head(nn.Module):
    """The classifier without its last layer."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The maps to (B, D, h, w)."""
        features: Tensor = self.layers(maps[-1])
        return features


class LiteHead(nn.Module):
    """LRASPP's: the classifiers of its two maps are one convolution of the two side by side."""

    def __init__(self, cbr: nn.Module, scale: nn.Module) -> None:
        super().__init__()
        self.cbr, self.scale = cbr, scale

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps of stride 8 and 16 to (B, D, h, w)."""
        low, high = maps
        scaled = self.cbr(high) * self.scale(high)
        return torch.cat([low, F.interpolate(scaled, low.shape[-2:], mode="bilinear", align_corners=False)], dim=1)


def adopt(source: str, settings: AdoptSettings) -> tuple[Description, dict[str, Tensor]]:
    """Description and weights of ``NAME=FILE``.

    Raises:
        UserError: no such network, or the file is missing, damaged or of another one.
    """
    where = f"{LIBRARY}:{source}"
    name, equals, file = source.partition("=")
    if name not in NAMES and not name.startswith(ON_TIMM):
        raise UserError(
            f"{where}: torchvision has no segmenter {name}; choose one of {', '.join(NAMES)}, or {ON_TIMM}BODY"
        )
    if not equals or not file:
        raise UserError(f"{where}: a file of weights is missing; write {LIBRARY}:{name}=weights.pth")
    weights = _network_weights(Path(file), where)
    classes = _classes(weights, name, where)
    with torch.device("meta"):  # Its random weights would be drawn in vain.
        model = _model(name, classes)
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    other = [key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape]
    wrong = misfit(missing, unexpected, sorted(other))
    if wrong:
        raise UserError(f"{where}: its weights are of another network ({wrong})")
    model.load_state_dict(weights, assign=True)
    found = Found(
        library=LIBRARY,
        architecture={"name": name},
        parts=_parts(model),
        names=_names(classes, settings, where),
        outputs=SIGMOID if classes == 1 else None,
        normalisation=_normalisation(name),
    )
    return adopted(found, settings, where)


def make(architecture: Mapping[str, Any], classes: int) -> Parts:
    """The network of ``architecture`` with random weights.

    Raises:
        UserError: torchvision has no such segmenter.
    """
    name = architecture.get("name")
    if name not in NAMES and not str(name).startswith(ON_TIMM):
        raise UserError(f"torchvision has no segmenter {printable(str(name))}; choose one of {', '.join(NAMES)}")
    return _parts(_model(str(name), classes))


def _timm_body(name: str) -> TimmBody:
    try:
        return TimmBody(name.removeprefix(ON_TIMM), TIMM_STRIDE)
    except UserError as error:  # It speaks of run.py's option.
        raise UserError(f"{LIBRARY}:{name}: {str(error).partition(': ')[2]}") from error


def _normalisation(name: str) -> Normalisation:
    """Of the body's published weights."""
    return Normalisation.of(_timm_body(name)) if name.startswith(ON_TIMM) else NORMALISATIONS["imagenet"]


def _model(name: str, classes: int) -> Any:
    if name.startswith(ON_TIMM):
        body = _timm_body(name)
        head = segmentation.deeplabv3.DeepLabHead(body.out_channels, classes)
        return segmentation.DeepLabV3(TimmFeatures(body), head)
    return get_model(name, weights=None, weights_backbone=None, num_classes=classes)


def _parts(model: Any) -> Parts:
    head = model.classifier
    if isinstance(head, segmentation.lraspp.LRASPPHead):
        low, high = head.low_classifier, head.high_classifier
        classifier = nn.Conv2d(low.in_channels + high.in_channels, low.out_channels, 1)
        assert classifier.bias is not None
        with torch.no_grad():
            classifier.weight.copy_(torch.cat([low.weight, high.weight], dim=1))
            classifier.bias.copy_(low.bias + high.bias)
        channels = head.cbr[0].in_channels
        return Parts(Body(model.backbone, ("low", "high")), LiteHead(head.cbr, head.scale), classifier, channels)
    *layers, classifier = head.children()
    first = next(module for module in head.modules() if isinstance(module, nn.Conv2d))
    return Parts(Body(model.backbone, ("out",)), Head(nn.Sequential(*layers)), classifier, first.in_channels)


def _network_weights(file: Path, where: str) -> dict[str, Tensor]:
    """The weights of a file, without the auxiliary classifier."""
    weights = read_weights(file, ANCHOR)
    if any(key.startswith(AUXILIARY) for key in weights):
        LOG.info("%s: its auxiliary classifier is left out", where)
    return {key: value for key, value in weights.items() if not key.startswith(AUXILIARY)}


def _classes(weights: Mapping[str, Tensor], name: str, where: str) -> int:
    """Channels of the last convolution."""
    pattern = r"classifier\.low_classifier()\.weight" if name.startswith("lraspp") else r"classifier\.(\d+)\.weight"
    numbered = {int(match[1] or 0): key for key in weights if (match := re.fullmatch(pattern, key))}
    last = weights[numbered[max(numbered)]] if numbered else None
    if last is None or last.ndim != 4:
        raise UserError(f"{where}: its weights hold no last convolution; are they a {name}'s state dict?")
    return len(last)


def _names(classes: int, settings: AdoptSettings, where: str) -> list[str] | None:
    """The names of as many channels as the published weights have; None of others."""
    if classes not in KNOWN or settings.class_names is not None:
        return None
    LOG.info("%s: its %d channels are taken for PASCAL VOC's classes; --class_names gives others", where, classes)
    return KNOWN[classes]
