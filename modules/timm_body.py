"""Any feature extractor of timm as a body: ``--backbone timm:<name>``."""

from __future__ import annotations

from collections.abc import Callable

import timm
from torch import Tensor, nn

from utils.errors import UserError

# Stride of the features that are handed out beside the last ones.
MID_STRIDE = 8


class TimmBody(nn.Module):
    """A timm model's last feature map, and the one of stride 8.

    Args:
        name: timm's name of the model.
        output_stride: 8 or 16; models that cannot dilate to it are refused.
    """

    def __init__(self, name: str, output_stride: int) -> None:
        super().__init__()
        self.name = name
        if not timm.is_model(name):
            raise UserError(f"--backbone timm:{name}: timm knows no model of this name")
        try:
            self.model = timm.create_model(name, features_only=True, output_stride=output_stride, pretrained=False)
        except (RuntimeError, TypeError, AssertionError, NotImplementedError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"--backbone timm:{name}: no feature maps of stride {output_stride} ({reason}); choose another model") from error
        strides = self.model.feature_info.reduction()
        if strides[-1] != output_stride:
            raise UserError(f"--backbone timm:{name}: its stride is {strides[-1]}, not --output_stride {output_stride}; choose another model")
        channels = self.model.feature_info.channels()
        mids = [i for i, stride in enumerate(strides) if stride == MID_STRIDE]
        self.mid_index = mids[-1] if mids and mids[-1] != len(strides) - 1 else max(len(strides) - 2, 0)
        self.out_channels: int = channels[-1]
        self.mid_channels: int = channels[self.mid_index]
        self.image_stats = self._image_stats()

    def _image_stats(self) -> str:
        """The normalisation that the model's published weights saw, as a key of ``dataset.transform.STATS``."""
        config = timm.get_pretrained_cfg(self.name)
        return "half" if config is not None and tuple(config.mean) == (0.5, 0.5, 0.5) else "imagenet"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to (B, C, h, w), and the features of stride 8."""
        features = self.model(x)
        return features[-1], features[self.mid_index]


def make(name: str, output_stride: int, norm: Callable[[int], nn.Module]) -> TimmBody:
    """The body called ``timm:<name>``; it keeps its own norms."""
    return TimmBody(name.removeprefix("timm:"), output_stride)
