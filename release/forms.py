"""What a file that runs without this project takes and gives; named here, so that a command line knows it without torch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from utils.errors import UserError

# Format -> the file with ``export(segmenter, path, form)``.
FORMATS = {"onnx": "release.onnx", "pt2": "release.pt2"}
RELEASED = "released"
UINT8, FLOAT = "uint8", "float"
IDS, LOGITS = "ids", "logits"


@dataclass(frozen=True)
class Form:
    """Input and output of a file; it normalises the images itself.

    Attributes:
        pixels: ``uint8`` (B, H, W, 3), as decoders give images, or ``float`` (B, 3, H, W) in [0, 1]; RGB both.
        answer: class ``ids`` (B, H, W) uint8, or ``logits`` (B, C, H, W) float32.
        size: the one height and width of a file that takes no other; None: every size.
    """

    pixels: str = UINT8
    answer: str = IDS
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"--size {self.size[0]} {self.size[1]}: height and width of at least 1 are needed")


# What is of use for one kind of format only.
FILE_OPTIONS = ("pixels", "answer", "size")
FOLDER_OPTIONS = ("web", "licence", "logs", "no_scores", "push", "private")


def add_form_options(parser: argparse.ArgumentParser) -> None:
    """``--pixels``, ``--answer`` and ``--size`` of the formats that run without this project."""
    group = parser.add_argument_group(f"--format {' and '.join(FORMATS)}: files that run without this project")
    group.add_argument("--pixels", choices=(UINT8, FLOAT),
        help=f"uint8: (B, H, W, 3); float: (B, 3, H, W) in [0, 1]; RGB, normalised inside [{Form.pixels}]")  # fmt: skip
    group.add_argument("--answer", choices=(IDS, LOGITS),
        help=f"ids: (B, H, W) uint8, class ids; logits: (B, C, H, W) [{Form.answer}]")  # fmt: skip
    group.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="images of this size alone [every size]")


def check_options(given: argparse.Namespace) -> None:
    """UserError where a command line gives what its format has no use for."""
    other = FILE_OPTIONS if given.format == RELEASED else FOLDER_OPTIONS
    useless = [f"--{name}" for name in other if getattr(given, name)]
    if useless:
        raise UserError(
            f"{', '.join(useless)}: of no use with --format {given.format}; leave it out, or choose another format"
        )


def form_of(given: argparse.Namespace) -> Form:
    """The form that a command line with ``add_form_options`` asks for."""
    size = None if given.size is None else tuple(given.size)
    return Form(given.pixels or Form.pixels, given.answer or Form.answer, size)
