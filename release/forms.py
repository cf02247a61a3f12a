"""What a file that runs without this project takes and gives; named here, so that a command line knows it without torch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from utils.errors import UserError

# Format -> the file with ``export(segmenter, path, form)``.
FORMATS = {"onnx": "release.onnx", "pt2": "release.pt2"}
UINT8, FLOAT = "uint8", "float"
IDS, LOGITS = "ids", "logits"


@dataclass(frozen=True)
class Form:
    """Input and output of a file; it normalises the images itself.

    Attributes:
        input: ``uint8`` (B, H, W, 3), as decoders give images, or ``float`` (B, 3, H, W) in [0, 1]; RGB both.
        output: class ``ids`` (B, H, W) uint8, or ``logits`` (B, C, H, W) float32.
        size: the one height and width of a file that takes no other; None: every size.
    """

    input: str = UINT8
    output: str = IDS
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"--size {self.size[0]} {self.size[1]}: height and width of at least 1 are needed")


def add_form_options(parser: argparse.ArgumentParser) -> None:
    """``--input``, ``--output`` and ``--size`` of the formats that run without this project."""
    group = parser.add_argument_group(f"--format {' and '.join(FORMATS)}: files that run without this project")
    group.add_argument("--input", choices=(UINT8, FLOAT), default=UINT8,
        help="uint8: (B, H, W, 3); float: (B, 3, H, W) in [0, 1]; RGB, normalised inside")  # fmt: skip
    group.add_argument("--output", choices=(IDS, LOGITS), default=IDS,
        help="ids: (B, H, W) uint8, class ids; logits: (B, C, H, W)")  # fmt: skip
    group.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="images of this size alone [every size]")


def form_of(given: argparse.Namespace) -> Form:
    """The form that a command line with ``add_form_options`` asks for."""
    return Form(given.input, given.output, None if given.size is None else tuple(given.size))
