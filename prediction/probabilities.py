"""Probabilities of classes as ``.npz``, written piece by piece where an image's have no room in memory."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from utils.whole import whole_file

# Bytes that are copied at once.
PART = 1 << 20


def write_probabilities(path: Path, values: NDArray[np.float16], ids: Sequence[int], names: Sequence[str]) -> None:
    """Write probabilities (H, W, C) with the ids and names of the C classes, as ``numpy.load`` reads them.

    Raises:
        UserError: the file cannot be written.
    """
    with ProbabilityFile(path, values.shape, None) as file:
        file.put(0, 0, values)
        file.close(ids, names)


class ProbabilityFile:
    """Probabilities of one image, put together on the disk; without a path it takes nothing and does nothing.

    The file holds ``probabilities`` (H, W, C) float16, ``class_ids`` (C,) and ``class_names`` (C,).

    Args:
        path: the file.
        shape: H, W and C.
        scratch: folder for the raw values; None takes the system's.
    """

    def __init__(self, path: Path | None, shape: Sequence[int], scratch: Path | None) -> None:
        self.path, self.shape, self.scratch = path, tuple(shape), scratch
        self._stack = ExitStack()
        self._raw: IO[bytes] | None = None

    def __enter__(self) -> ProbabilityFile:
        if self.path is not None:
            self._raw = self._stack.enter_context(tempfile.TemporaryFile(dir=self.scratch))
        return self

    def put(self, top: int, left: int, values: NDArray[np.float16]) -> None:
        """Take the probabilities (h, w, C) of a part of the image, whose upper left pixel is (top, left)."""
        if self._raw is None:
            return
        _, width, channels = self.shape
        for row, line in enumerate(np.ascontiguousarray(values)):
            self._raw.seek(2 * channels * ((top + row) * width + left))
            self._raw.write(line.tobytes())

    def close(self, ids: Sequence[int], names: Sequence[str]) -> None:
        """Write the file; all parts have been taken."""
        if self._raw is None or self.path is None:
            return
        head = {"descr": "<f2", "fortran_order": False, "shape": self.shape}
        with (
            whole_file(self.path) as temporary,
            zipfile.ZipFile(temporary, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        ):
            self._raw.seek(0)
            with archive.open("probabilities.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, head)
                shutil.copyfileobj(self._raw, file, PART)
            for name, values in (("class_ids", np.array(ids, np.uint8)), ("class_names", np.array(list(names), str))):
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, values, allow_pickle=False)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
