"""The classes that a frozen segmenter sees, as the words of a caption: what a model of an earlier step knows of its old classes.

An ImageNet classifier has no word for a person; a segmenter that has learned persons has (docs/method.md, "Words of a classifier").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captions.captioners.base import NOTHING_SEEN, CaptionerSettings, caption_readable
from segmentation_module import Segmenter, read_segmenter
from tasks import BACKGROUND, IGNORE
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError

# A pixel counts where its class is at least so probable; a class is named where it has so many of the pixels that are looked at.
CONFIDENT, LEAST_SHARE = 0.7, 0.02
# Larger images are looked at with their longer side of so many pixels.
MAX_SIDE = 512


class SegmenterCaptioner:
    """Writes "horse, person" for an image in which the segmenter sees a horse and, smaller, a person.

    Args:
        runtime: device and precision.
        model: a MODEL: a checkpoint, a released folder, ``hub:OWNER/NAME``, or ``LIBRARY:...``.

    Raises:
        UserError: the model cannot be read, or does not say what it knows.
    """

    def __init__(self, runtime: Runtime, model: str) -> None:
        description, weights = read_segmenter(model)
        # The weights say whose words these are; a file of the same weights may lie anywhere.
        self.origin = {
            "captioner": "segmenter", "weights": checkpoint.weights_digest(weights), "classes": list(description.names.values()),
            "confident": CONFIDENT, "least_share": LEAST_SHARE, "max_side": MAX_SIDE,
        }  # fmt: skip
        self.segmenter = Segmenter(description, weights, runtime, model)
        self.names = {number: name for number, name in description.names.items() if number != BACKGROUND}

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """One line for each RGB image, the class of most pixels first."""
        return [self._line(_pixels(image)) for image in images]

    def _line(self, pixels: Tensor) -> str:
        # One by one: images of the web have any size, and a frame around them would be something to see.
        labels = self.segmenter.labels(self.segmenter.logits(pixels[None]), CONFIDENT)
        counts = np.bincount(labels.cpu().numpy().ravel(), minlength=IGNORE + 1)
        seen = [number for number in self.names if counts[number] >= LEAST_SHARE * labels.numel()]
        seen.sort(key=lambda number: -counts[number])
        return ", ".join(self.names[number] for number in seen) or NOTHING_SEEN

    def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
        """One line for each file, or the fault of one that cannot be read."""
        return caption_readable(paths, self.caption)


def _pixels(image: Image.Image) -> Tensor:
    """(3, H, W) uint8 of an image whose longer side is at most ``MAX_SIDE``."""
    if max(image.size) > MAX_SIDE:
        image = image.copy()
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def make(settings: CaptionerSettings, runtime: Runtime) -> SegmenterCaptioner:
    """The captioner of ``--captioner segmenter``."""
    if settings.model is None:
        raise UserError(
            "--captioner segmenter needs --model: a checkpoint, or another segmenter that add_class.py takes"
        )
    return SegmenterCaptioner(runtime, settings.model)
