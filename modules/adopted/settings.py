"""What the files of an adopted segmenter do not say, and its user has to."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from modules.description import OUTPUTS
from utils.errors import UserError
from utils.normalisation import NORMALISATIONS, Normalisation

NO_BACKGROUND = "none"
MODEL_HELP = (
    "a checkpoint, a released folder, torchvision:NAME=FILE, smp:FOLDER, smp:ARCHITECTURE:ENCODER=FILE, "
    "transformers:FOLDER, or hub:OWNER/NAME, which alone is fetched"
)
# Scales of colours besides those of published weights.
SCALES = {
    "0-1": Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "0-255": Normalisation((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}


@dataclass(frozen=True)
class AdoptSettings:
    """What is asked for where it cannot be read.

    Attributes:
        class_names: file of names, one a line, in the order of the channels.
        background: name or number of the channel that is background; ``none`` where no channel is; None: the one of this name.
        image_stats: normalisation of the images: a name, or six numbers ``R,G,B/R,G,B``; None: the library's.
        bgr: whether the network wants blue first.
        outputs: ``softmax`` over the channels, or a ``sigmoid`` of each; None: what the library says, else softmax.
    """

    class_names: Path | None = None
    background: str | None = None
    image_stats: str | None = None
    bgr: bool | None = None
    outputs: str | None = None

    @property
    def given(self) -> list[str]:
        """The options that the user gave."""
        return [f"--{name}" for name, value in vars(self).items() if value is not None]


def add_model_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--model``, and what may have to be said of an adopted one."""
    parser.add_argument("--model", required=required, metavar="MODEL", help=MODEL_HELP)
    group = parser.add_argument_group("adopted models: what their files do not say")
    group.add_argument("--class_names", type=Path, metavar="FILE", help="names of the channels, one a line")
    group.add_argument(
        "--background",
        metavar="CLASS",
        help=f"name or number of the background's channel; {NO_BACKGROUND}: there is none",
    )
    group.add_argument(
        "--image_stats",
        metavar="STATS",
        help=f"{', '.join([*NORMALISATIONS, *SCALES])}, or mean/deviation of images in [0, 1]: R,G,B/R,G,B",
    )
    group.add_argument("--bgr", action="store_true", default=None, help="the network wants blue first")
    group.add_argument("--outputs", choices=OUTPUTS, help="what turns logits into probabilities")


def settings_of(given: argparse.Namespace) -> AdoptSettings:
    """The settings that a command line with ``add_model_options`` gave."""
    return AdoptSettings(given.class_names, given.background, given.image_stats, given.bgr, given.outputs)


def read_class_names(path: Path) -> list[str]:
    """Names, one a line; UserError where there are none, or one stands twice."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"--class_names {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--class_names {path}: is no text in UTF-8") from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not names or twice is not None:
        what = "names no class" if twice is None else f"names {twice} twice"
        raise UserError(f"--class_names {path}: {what}; one name a line is needed")
    return names


def normalisation_of(text: str) -> Normalisation:
    """The normalisation that ``--image_stats`` names; UserError where it names none."""
    known = NORMALISATIONS | SCALES
    if text in known:
        return known[text]
    number = r"\d+(?:\.\d+)?"
    if not re.fullmatch(rf"{number},{number},{number}/{number},{number},{number}", text):
        raise UserError(f"--image_stats {text}: one of {', '.join(known)}, or R,G,B/R,G,B")
    mean, std = (tuple(float(value) for value in part.split(",")) for part in text.split("/"))
    if not all(std):
        raise UserError(f"--image_stats {text}: deviations above 0 are needed")
    return Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
