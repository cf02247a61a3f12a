"""The segmenter: a body, a head, and one classifier per step (docs/method.md, "The network")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.bodies import Body, make_body
from modules.deeplab import HEAD_CHANNELS, DeeplabV3
from modules.norm import make_norm


class Output(NamedTuple):
    """What the segmenter says of images (B, 3, H, W).

    Attributes:
        logits: (B, C, H, W), or (B, C, h, w) where they were not interpolated.
        features: ``body`` (B, D, h, w), ``mid`` (a finer map of the body) and ``head`` (B, 256, h, w).
    """

    logits: Tensor
    features: dict[str, Tensor]


class IncrementalSegmentationModule(nn.Module):
    """Body, head and classifiers; the channels of all classifiers are concatenated.

    Args:
        body: images to (features, finer features).
        head: features to (B, 256, h, w).
        classes: channels of each step's classifier, background in the first.
    """

    def __init__(self, body: Body, head: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.cls = nn.ModuleList(nn.Conv2d(HEAD_CHANNELS, count, 1) for count in classes)

    def forward(self, images: Tensor, interpolate: bool = True) -> Output:
        """Logits of ``images`` (B, 3, H, W), at their size or at the features'."""
        body, mid = self.body(images)
        head = self.head(body)
        logits = torch.cat([classifier(head) for classifier in self.cls], dim=1)
        if interpolate:
            logits = F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
        return Output(logits, {"body": body, "mid": mid, "head": head})

    @torch.no_grad()
    def init_new_classifier(self) -> None:
        """Start the last classifier from background, whose probability it shares out (MiB, section 3.3).

        With N new classes (``--init_balanced``) their weights are background's; their bias and background's own become
        b - log(N + 1).
        """
        first, new = self.cls[0], self.cls[-1]
        assert isinstance(first, nn.Conv2d) and isinstance(new, nn.Conv2d)
        assert first.bias is not None and new.bias is not None
        bias = first.bias[0] - math.log(new.weight.shape[0] + 1)
        new.weight.copy_(first.weight[:1].expand_as(new.weight))
        new.bias.fill_(float(bias))
        first.bias[0] = bias


def make_model(
    *, backbone: str, output_stride: int, norm_act: str, classes: Sequence[int], pooling: int
) -> IncrementalSegmentationModule:
    """A segmenter with random weights.

    Args:
        backbone: name of the body (``modules.bodies``).
        output_stride: 8 or 16.
        norm_act: name of the norm (``modules.norm``).
        classes: channels of each step's classifier.
        pooling: side of the head's sliding average in evaluation, feature pixels.

    Raises:
        UserError: an unknown body or norm, or a stride that the body does not have.
    """
    norm = make_norm(norm_act)
    body = make_body(backbone, output_stride, norm)
    head = DeeplabV3(body.out_channels, norm, output_stride, pooling)
    return IncrementalSegmentationModule(body, head, classes)
