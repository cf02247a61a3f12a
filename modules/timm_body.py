"""Any feature extractor of timm as a body: ``--backbone timm:<name>``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
from torch import Tensor, nn

from modules.bodies import Body
from utils.errors import UserError

OUTPUT_STRIDES = (8, 16)
# Stride of the features that are handed out beside the last ones.
MID_STRIDE = 8


def _extractor(name: str, output_stride: int) -> Any:
    """timm's feature extractor of the model if its last feature map has this stride, else None."""
    try:
        model: Any = timm.create_model(name, features_only=True, output_stride=output_stride, pretrained=False)
        stride = model.feature_info.reduction()[-1]
    except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError):
        # What timm's model files raise for an output stride, or for features, that they do not provide.
        return None
    return model if stride == output_stride else None


class TimmBody(Body):
    """A timm model's last feature map, and the first one of stride 8 (a ResNet's ``layer2``, our module 3).

    Args:
        name: timm's name of the model.
        output_stride: 8 or 16.

    Raises:
        UserError: timm has no such model, or it cannot be dilated to this stride.
    """

    def __init__(self, name: str, output_stride: int) -> None:
        super().__init__()
        self.name = name
        if not timm.is_model(name):
            raise UserError(f"--backbone timm:{name}: timm knows no model of this name")
        model = _extractor(name, output_stride)
        if model is None:
            others = [s for s in OUTPUT_STRIDES if s != output_stride and _extractor(name, s) is not None]
            advice = (
                f"it allows --output_stride {others[0]}" if others else "it allows neither 8 nor 16, choose another"
            )
            raise UserError(
                f"--backbone timm:{name}: this model has no feature maps of stride {output_stride}; {advice}"
            )
        self.model: nn.Module = model
        channels, strides = model.feature_info.channels(), model.feature_info.reduction()
        self.mid_index: int = strides.index(MID_STRIDE) if MID_STRIDE in strides else max(len(strides) - 2, 0)
        self.out_channels: int = channels[-1]
        self.mid_channels: int = channels[self.mid_index]
        self.image_stats = self._image_stats()

    def _image_stats(self) -> str:
        """The normalisation that the model's published weights saw, by its name in ``utils.normalisation``."""
        config = timm.get_pretrained_cfg(self.name)
        return "half" if config is not None and tuple(config.mean) == (0.5, 0.5, 0.5) else "imagenet"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to (B, C, h, w), and the features of stride 8."""
        features = self.model(x)
        return features[-1], features[self.mid_index]


def make(name: str, output_stride: int, norm: Callable[[int], nn.Module]) -> TimmBody:
    """The body called ``timm:<name>``; it keeps its own norms."""
    return TimmBody(name.removeprefix("timm:"), output_stride)
