"""Bodies by name: a new one is a file with ``make(name, output_stride, norm)`` and one line in ``BODIES`` of ``utils/names.py``.

A body has ``out_channels``, ``mid_channels`` and ``image_stats`` (of ``utils.normalisation``: a name, or the value), and turns
images (B, 3, H, W) into its last feature map and a finer one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from torch import nn

from utils.errors import UserError
from utils.names import body_module, body_names
from utils.normalisation import Normalisation


class Body(nn.Module):
    """What the segmenter asks of a body, besides ``forward(images) -> (features, finer features)``."""

    out_channels: int
    mid_channels: int
    image_stats: str | Normalisation


def make_body(name: str, output_stride: int, norm: Callable[[int], nn.Module]) -> Body:
    """The body called ``name`` with random weights.

    Raises:
        UserError: no such body, or it has not this stride.
    """
    module = body_module(name)
    if module is None:
        raise UserError(f"--backbone {name}: unknown; choose one of {', '.join(body_names())}")
    body: Body = import_module(module).make(name, output_stride, norm)
    return body
