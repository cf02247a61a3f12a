"""Bodies by name. A new one is a file with ``make(name, output_stride, norm)`` and one line in ``BODIES``.

A body has ``out_channels``, ``mid_channels`` and ``image_stats`` (a name of ``utils.normalisation``), and turns
images (B, 3, H, W) into its last feature map and a finer one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from torch import nn

from utils.errors import UserError

# Name, or the part of it before a colon -> module.
BODIES = {
    "resnet50": "modules.resnet",
    "resnet101": "modules.resnet",
    "wider_resnet38_a2": "modules.wide_resnet",
    "timm": "modules.timm_body",
}


class Body(nn.Module):
    """What the segmenter asks of a body, besides ``forward(images) -> (features, finer features)``."""

    out_channels: int
    mid_channels: int
    image_stats: str


def make_body(name: str, output_stride: int, norm: Callable[[int], nn.Module]) -> Body:
    """The body called ``name`` with random weights.

    Raises:
        UserError: no such body, or it has not this stride.
    """
    module = BODIES.get(name.partition(":")[0])
    if module is None:
        raise UserError(f"--backbone {name}: unknown; choose one of {', '.join(BODIES)}:<name>")
    body: Body = import_module(module).make(name, output_stride, norm)
    return body
