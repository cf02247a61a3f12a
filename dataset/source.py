"""What every data set offers: images, masks in its own class ids, and image labels computed from the masks."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataset.survey import Pair, Survey, look, survey
from tasks import IGNORE
from utils.images import DecodeError, check_pair, load_image, load_mask, load_reduced, mapped, strangers, unreduced
from utils.whole import replacing

LOG = logging.getLogger("webwilss")


def cache_folder() -> Path:
    """Where is kept what was seen of images: ``WEBWILSS_CACHE``, or web-wilss under the user's cache folder."""
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
        self._known = bytes({0, IGNORE, *self.class_names})
        self._survey: Survey | None = None
        self._faults: list[tuple[int, str]] = []

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
            mask = mapped(mask, self.value_map)
        self._refuse_unknown(strangers(mask, self._known), path)
        return mask

    def pair(
        self, index: int, reduction: Callable[[tuple[int, int]], int] = unreduced
    ) -> tuple[Image.Image, NDArray[np.uint8]]:
        """Image and mask ``index``; DecodeError also where their sizes differ.

        Args:
            index: which.
            reduction: by how much the image, never its mask, may be reduced (``utils.images.load_reduced``).
        """
        image, size = load_reduced(self.pairs[index][0], reduction)
        mask = self.mask(index)
        check_pair(size, mask, *self.pairs[index])
        return image, mask

    def image_labels(self) -> NDArray[np.bool_]:
        """(N, K) whether image n holds a pixel of class k + 1, K the highest class id; computed once and cached.

        Raises:
            DecodeError: a mask cannot be read, or the palettes of two masks contradict each other.
        """
        found = self.survey()
        refuse_clashes([self])
        return found.labels

    def survey(self, faults: list[tuple[int, str]] | None = None) -> Survey:
        """What one pass over all pairs sees; computed once and cached.

        The cache's key changes with the classes and with path, size and time of every file.

        Args:
            faults: takes (image, fault) of masks that cannot be read; without it the first of them ends the pass.

        Raises:
            DecodeError: a mask cannot be read, and there is no list to take the fault.
        """
        if self._survey is None:
            path = cache_folder() / f"labels-{self._key()}.npz"
            columns = max(self.class_names, default=0)
            self._survey = _read_cache(path, len(self), columns)
            if self._survey is None:
                strict = faults is None
                found = survey(
                    self._look, len(self), columns, f"Image labels of {self.name}", None if strict else self._faults
                )
                # What cannot be read today may be readable tomorrow, the file as it was.
                if not self._faults and not found.unread.any():
                    _write_cache(path, found)
                self._survey = found
        if self._faults:
            if faults is None:
                raise DecodeError(self._faults[0][1])
            faults += self._faults
        return self._survey

    def _look(self, index: int) -> Pair:
        pair = look(*self.pairs[index], self.value_map)
        present = np.flatnonzero(pair.values).tolist()
        self._refuse_unknown([value for value in present if value not in self._known], self.pairs[index][1])
        return pair

    def _refuse_unknown(self, wrong: Sequence[int], path: Path) -> None:
        if wrong:
            raise DecodeError(f"{path}: values {list(wrong)} are no classes of {self.name}")

    def _key(self) -> str:
        files: list[list[str | int]] = []
        for image, mask in self.pairs:
            try:
                stat = mask.stat()
            except OSError as error:
                raise DecodeError(f"{mask}: no such mask ({error.strerror})") from error
            files.append([str(mask.resolve()), stat.st_size, stat.st_mtime_ns])
            # An image that is missing is told by whoever reads it.
            with suppress(OSError):
                stat = image.stat()
                files.append([image.name, stat.st_size, stat.st_mtime_ns])
        values = None if self.value_map is None else self.value_map.tolist()
        content = json.dumps([sorted(self.class_names), values, files])
        return hashlib.sha256(content.encode()).hexdigest()[:24]


def refuse_clashes(sources: Sequence[Source]) -> None:
    """Refuse palette masks in which one colour has two indices: whatever the indices mean, they cannot be class numbers.

    Raises:
        DecodeError: there are such masks, in one source or between two of them.
    """
    meant: dict[int, tuple[int, Path]] = {}
    clashing: list[Path] = []
    first = ""
    for source in sources:
        found = source.survey([])
        for colour, index, image in found.meanings.tolist():
            before = meant.setdefault(colour, (index, source.pairs[image][1]))
            if before[0] != index:
                clashing.append(source.pairs[image][1])
                first = first or _clash(colour, before, (index, clashing[-1]))
        for image, colour, index in found.clashes.tolist():
            clashing.append(source.pairs[image][1])
            first = first or _clash(colour, meant[colour], (index, clashing[-1]))
    if clashing:
        raise DecodeError(
            f"{first}; at least {len(set(clashing))} palettes contradict others, so indices are no class numbers here: save all"
            " masks with one palette, or as grey PNGs of class numbers"
        )


def _clash(colour: int, first: tuple[int, Path], second: tuple[int, Path]) -> str:
    rgb = (colour >> 16, colour >> 8 & 255, colour & 255)
    return f"{second[1]}: the colour {rgb} is index {second[0]} here and {first[0]} in {first[1]}"


def _read_cache(path: Path, images: int, columns: int) -> Survey | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Survey.of(arrays, images, columns)
    except FileNotFoundError:
        return None
    # A damaged archive fails in as many ways as it has layers.
    except Exception:
        LOG.warning("%s cannot be read and is computed again", path)
        return None


def _write_cache(path: Path, found: Survey) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("xb") as file:
            np.savez_compressed(file, **vars(found))
    except OSError as error:
        LOG.warning("image labels are not cached, %s cannot be written (%s)", path, error.strerror)
