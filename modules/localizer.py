"""The localizer: class masks from the body's features, learned from image labels (WILSON, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

HIDDEN = 256


def make_localizer(in_channels: int, classes: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """(B, in_channels, h, w) to logits (B, classes, h, w); keys as published."""
    return nn.Sequential(
        nn.Conv2d(in_channels, HIDDEN, 3, padding=1, bias=False),
        norm(HIDDEN),
        nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1, bias=False),
        norm(HIDDEN),
        nn.Conv2d(HIDDEN, classes, 1),
    )
