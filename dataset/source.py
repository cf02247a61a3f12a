"""What every data set offers: images, masks in its own class ids, and image labels computed from the masks."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from tasks import IGNORE
from utils.images import DecodeError, check_pair, load_image, load_mask
from utils.whole import replacing

LOG = logging.getLogger("webwilss")


def cache_folder() -> Path:
    """Where computed image labels are kept: ``WEBWILSS_CACHE``, or web-wilss under the user's cache folder."""
    given = os.environ.get("WEBWILSS_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "web-wilss"


class Source:
    """Pairs of image and mask files of one split.

    Args:
        name: data set and split, for messages.
        class_names: class id -> name; 0 is background.
        pairs: (image file, mask file) of each image.
        ids: name of each image.
        value_map: 256 entries, mask value in the file -> class id (255: ignore); None where the files hold ids.
    """

    def __init__(
        self,
        name: str,
        class_names: Mapping[int, str],
        pairs: Sequence[tuple[Path, Path]],
        ids: Sequence[str],
        value_map: NDArray[np.uint8] | None = None,
    ) -> None:
        self.name = name
        self.class_names = dict(class_names)
        self.pairs = list(pairs)
        self.ids = list(ids)
        self.value_map = value_map
        self._known = np.zeros(256, dtype=bool)
        self._known[[0, IGNORE, *self.class_names]] = True
        self._labels: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def image_path(self, index: int) -> Path:
        """File of image ``index``."""
        return self.pairs[index][0]

    def image(self, index: int) -> Image.Image:
        """Image ``index``, RGB; DecodeError names a file that cannot be read."""
        return load_image(self.pairs[index][0])

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Mask (H, W) of image ``index`` in class ids, 255 is ignore.

        Raises:
            DecodeError: the file cannot be read, or holds values that are no class.
        """
        path = self.pairs[index][1]
        mask = load_mask(path)
        if self.value_map is not None:
            mask = self.value_map[mask]
        present = np.bincount(mask.ravel(), minlength=256) > 0
        wrong = np.flatnonzero(present & ~self._known)
        if len(wrong):
            raise DecodeError(f"{path}: values {wrong.tolist()} are no classes of {self.name}")
        return mask

    def pair(self, index: int) -> tuple[Image.Image, NDArray[np.uint8]]:
        """Image and mask ``index``; DecodeError also where their sizes differ."""
        image, mask = self.image(index), self.mask(index)
        check_pair(image.size, mask, *self.pairs[index])
        return image, mask

    def image_labels(self) -> NDArray[np.bool_]:
        """(N, K) whether image n holds a pixel of class k + 1, K the highest class id; computed once and cached.

        The cache's key changes with the classes and with path, size and time of every mask.
        """
        if self._labels is None:
            path = cache_folder() / f"labels-{self._key()}.npy"
            columns = max(self.class_names, default=0)
            labels = _read_cache(path, (len(self), columns))
            if labels is None:
                labels = self._compute_labels(columns)
                _write_cache(path, labels)
            self._labels = labels
        return self._labels

    def _key(self) -> str:
        files = []
        for _, path in self.pairs:
            try:
                stat = path.stat()
            except OSError as error:
                raise DecodeError(f"{path}: no such mask ({error.strerror})") from error
            files.append([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
        values = None if self.value_map is None else self.value_map.tolist()
        content = json.dumps([sorted(self.class_names), values, files])
        return hashlib.sha256(content.encode()).hexdigest()[:24]

    def _compute_labels(self, columns: int) -> NDArray[np.bool_]:
        labels = np.zeros((len(self), columns), dtype=bool)

        def present(index: int) -> NDArray[np.bool_]:
            return np.bincount(self.mask(index).ravel(), minlength=256)[1 : columns + 1] > 0

        # Decoding leaves the interpreter lock, so threads are enough.
        with ThreadPoolExecutor() as pool:
            rows = pool.map(present, range(len(self)))
            for index, row in enumerate(tqdm(rows, total=len(self), desc=f"Image labels of {self.name}", disable=None)):
                labels[index] = row
        return labels


def _read_cache(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    try:
        labels = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError):
        LOG.warning("%s cannot be read and is computed again", path)
        return None
    return labels if labels.shape == shape and labels.dtype == bool else None


def _write_cache(path: Path, labels: NDArray[np.bool_]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("xb") as file:
            np.save(file, labels)
    except OSError as error:
        LOG.warning("image labels are not cached, %s cannot be written (%s)", path, error.strerror)
