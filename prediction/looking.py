"""What a segmenter sees in images: masks, how sure it is, and probabilities; large images in tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dataset.groups import pixels
from prediction.probabilities import ProbabilityFile
from prediction.tiles import blended, least_tile
from segmentation_module import Segmenter
from tasks import IGNORE
from utils.errors import UserError

TILE = 1024
# Images of at most so many tiles' pixels are looked at whole.
WHOLE = 2
# Rows of a tile whose probabilities are computed at once.
ROWS = 128


@dataclass(frozen=True)
class LookSettings:
    """What masks depend on besides the model.

    Attributes:
        scales: sizes at which to look, as factors; the logits of all looks are averaged.
        flip: also look at the mirrored image.
        threshold: pixels whose class is less probable than this become 255.
        max_side: larger images are looked at with their longer side of so many pixels; 0 looks at all as they are.
        tile: side of the tiles that images of more than ``WHOLE`` times their pixels are looked at in; 0 looks at all whole.
        overlap: pixels over which neighbouring tiles fade into each other.
        precision: arithmetic of the network.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    threshold: float = 0.0
    max_side: int = 0
    tile: int = TILE
    overlap: int = TILE // 4
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.tile and not 1 <= self.overlap <= (self.tile - least_tile(0)) // 3:
            least = least_tile(max(1, self.overlap))
            raise UserError(
                f"--tile {self.tile}: tiles that fade over {self.overlap} pixels are at least {least} wide; give a larger "
                "--tile or another --tile_overlap"
            )

    @property
    def most_pixels(self) -> int | None:
        """Pixels of the largest image that is looked at whole; None where all are."""
        return WHOLE * self.tile**2 if self.tile else None

    def in_tiles(self, size: tuple[int, int]) -> bool:
        """Whether an image of this (width, height) is looked at in tiles."""
        return self.most_pixels is not None and size[0] * size[1] > self.most_pixels

    def plain(self) -> dict[str, Any]:
        """As JSON gives them back."""
        return asdict(self) | {"scales": list(self.scales)}


@dataclass(frozen=True)
class Seen:
    """What was seen in an image.

    Attributes:
        mask: (h, w) class ids, 255 where unsure.
        confidence: mean probability of the most probable class, in [0, 1].
        probabilities: (h, w, C) float16 in the order of channels; None where not asked for, or written already.
    """

    mask: NDArray[np.uint8]
    confidence: float
    probabilities: NDArray[np.float16] | None = None


class Looker:
    """A segmenter and how it looks.

    Args:
        segmenter: the model.
        settings: how to look.
        probabilities: whether they are wanted.
    """

    def __init__(self, segmenter: Segmenter, settings: LookSettings, probabilities: bool = False) -> None:
        self.segmenter, self.settings, self.wanted = segmenter, settings, probabilities

    @torch.inference_mode()
    def look(self, images: Tensor) -> list[Seen]:
        """What is seen in ``images`` (B, 3, h, w) uint8 RGB, each whole.

        Raises:
            UserError: the network gives no numbers.
        """
        masks, confidence, probabilities = self._read(self._logits(images))
        means = confidence.mean(dim=(1, 2)).tolist()
        own = [None] * len(means) if probabilities is None else list(probabilities)
        return [Seen(*fields) for fields in zip(masks, means, own, strict=True)]

    @torch.inference_mode()
    def look_in_tiles(self, image: Image.Image, scratch: Path, probabilities: Path | None) -> Seen:
        """What is seen in a large RGB image; memory grows by its mask alone.

        Args:
            image: the image, of which tiles are copied.
            scratch: folder for what waits on the disk meanwhile.
            probabilities: where they are written; None where they are not wanted.
        """
        width, height = image.size
        mask = np.empty((height, width), np.uint8)
        total = 0.0

        def look(left: int, top: int, right: int, bottom: int) -> Tensor:
            return self._logits(pixels(image.crop((left, top, right, bottom)))[None])

        pieces = blended(image.size, look, tile=self.settings.tile, overlap=self.settings.overlap, folder=scratch)
        description = self.segmenter.description
        with ProbabilityFile(probabilities, (height, width, len(description.class_names)), scratch) as file:
            for top, left, logits in _slices(pieces):
                own, confidence, own_probabilities = self._read(logits)
                rows, columns = own.shape[1:]
                mask[top : top + rows, left : left + columns] = own[0]
                total += float(confidence.double().sum())
                if own_probabilities is not None:
                    file.put(top, left, own_probabilities[0])
            file.close(description.ids, description.class_names)
        return Seen(mask, total / (width * height))

    def _logits(self, images: Tensor) -> Tensor:
        return self.segmenter.logits(images, scales=self.settings.scales, flip=self.settings.flip)

    def _read(self, logits: Tensor) -> tuple[NDArray[np.uint8], Tensor, NDArray[np.float16] | None]:
        """Masks (B, h, w), confidence (B, h, w) and probabilities (B, h, w, C) of logits (B, C, h, w)."""
        segmenter, threshold = self.segmenter, self.settings.threshold
        confidence = segmenter.confidence(logits)
        masks = segmenter.ids[logits.argmax(dim=1)]
        if threshold > 0:
            masks = masks.masked_fill(confidence < threshold, IGNORE)
        probabilities = None
        if self.wanted:
            shares = logits.sigmoid() if segmenter.description.binary else logits.softmax(dim=1)
            probabilities = shares.permute(0, 2, 3, 1).half().cpu().numpy()
        return masks.cpu().numpy(), confidence, probabilities


def _slices(pieces: Iterator[Any]) -> Iterator[tuple[int, int, Tensor]]:
    """Pieces in slices of a few rows, since all that is computed of logits is as large as they are."""
    for piece in pieces:
        for row in range(0, piece.logits.shape[-2], ROWS):
            yield piece.top + row, piece.left, piece.logits[..., row : row + ROWS, :]
