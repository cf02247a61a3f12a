"""A decoded image whose pixels wait on the disk, so that memory holds but the part that is looked at."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# Rows that are moved at once.
ROWS = 64


class ImageOnDisk:
    """An RGB image in a file without a name, which ends with the block.

    Args:
        image: the image; the caller lets go of it.
        folder: where the file lies.
    """

    def __init__(self, image: Image.Image, folder: Path) -> None:
        self.size = image.size
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        for top in range(0, image.height, ROWS):
            strip = image.crop((0, top, image.width, min(image.height, top + ROWS)))
            self._file.write(np.asarray(strip).tobytes())

    def window(self, left: int, top: int, right: int, bottom: int) -> Tensor:
        """Its pixels from (left, top) to before (right, bottom), (3, h, w) uint8."""
        return torch.from_numpy(self._read(left, top, right, bottom)).permute(2, 0, 1)

    def _read(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        rows = np.empty((bottom - top, right - left, 3), np.uint8)
        for number, row in enumerate(rows, top):
            self._file.seek(3 * (number * self.size[0] + left))
            row[:] = np.frombuffer(self._file.read(row.nbytes), np.uint8).reshape(row.shape)
        return rows

    def reduced(self, side: int) -> Image.Image:
        """The image with its longer side at most ``side``: means over squares of pixels."""
        width, height = self.size
        factor = -(-max(self.size) // side)
        small = Image.new("RGB", (-(-width // factor), -(-height // factor)))
        rows = factor * max(1, ROWS // factor)
        for top in range(0, height, rows):
            strip = Image.fromarray(self._read(0, top, width, min(height, top + rows)))
            small.paste(strip.reduce(factor), (0, top // factor))
        return small

    def __enter__(self) -> ImageOnDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
