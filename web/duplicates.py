"""The same picture under another name: by its bytes, and by how it looks, also resized, re-encoded or mirrored.

Looks are compared in two steps. The perceptual hash of 64 bits finds what may be the same; a small colour picture decides, because
the hash sees neither colour nor, in a flat picture, anything but noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from web.near_hashes import FIRST_SPACE, NearHashes

HASH_SIDE = 32
THUMB_SIDE = 8
THUMB_BYTES = THUMB_SIDE * THUMB_SIDE * 3
# Grey levels of 255 that saving as JPEG may shift a flat picture by.
SAME_LEVELS = 3.0
# Two small pictures are one where, brought to one mean and one contrast, they differ by at most this part of it. Measured on VOC's
# photographs: half of size, a quarter of size, JPEG quality 20 and mirroring stay below 0.14, brightening by a fifth does in 95 of
# 100; different photographs whose hashes are near begin at 0.36.
SAME_PART = 0.25
# How far apart means (levels of 255) and contrasts (ratio) may lie for that.
MOST_SHIFT = 64.0
MOST_STRETCH = 2.0


@dataclass(frozen=True)
class Fingerprint:
    """What an image is recognised by.

    Attributes:
        sha256: of the file's bytes, in hex.
        phash: perceptual hash, 64 bits.
        mirrored: the same of the mirrored image; None where it was not kept.
        thumb: 8 x 8 colour picture, (8, 8, 3).
    """

    sha256: str
    phash: int
    thumb: NDArray[np.uint8]
    mirrored: int | None = None

    def row(self) -> dict[str, str]:
        """As columns of a CSV file: ``sha256``, ``phash``, ``thumb``, in hex."""
        return {"sha256": self.sha256, "phash": f"{self.phash:016x}", "thumb": self.thumb.tobytes().hex()}


def from_row(row: Mapping[str, str]) -> Fingerprint | None:
    """The fingerprint of a row, without the mirrored hash; None where the row is damaged."""
    try:
        phash, thumb = int(row["phash"], 16), bytes.fromhex(row["thumb"])
    except (KeyError, ValueError):
        return None
    if not 0 <= phash < 1 << 64 or len(thumb) != THUMB_BYTES or len(row["sha256"]) != 64:
        return None
    return Fingerprint(row["sha256"], phash, np.frombuffer(thumb, np.uint8).reshape(THUMB_SIDE, THUMB_SIDE, 3))


def fingerprint(content: bytes, image: Image.Image) -> Fingerprint:
    """The fingerprint of a file's bytes and the RGB image they hold."""
    grey = image.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.LANCZOS)
    thumb = np.asarray(image.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX), dtype=np.uint8)
    return Fingerprint(
        hashlib.sha256(content).hexdigest(),
        int(str(imagehash.phash(grey)), 16),
        thumb,
        int(str(imagehash.phash(ImageOps.mirror(grey))), 16),
    )


def looks_same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two small pictures (8, 8, 3) differ by no more than copies do, which may be brighter or of less contrast."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    if np.abs(a - b).mean() <= SAME_LEVELS:
        return True
    means = a.mean(axis=(0, 1)), b.mean(axis=(0, 1))
    a, b = a - means[0], b - means[1]
    contrasts = np.abs(a).mean(), np.abs(b).mean()
    if max(contrasts) >= MOST_STRETCH * min(contrasts) or np.abs(means[0] - means[1]).mean() > MOST_SHIFT:
        return False
    return bool(np.abs(a / contrasts[0] - b / contrasts[1]).mean() <= SAME_PART)


class Index:
    """All images known so far.

    Args:
        near: hashes that differ in at most so many of 64 bits may be of one picture.
    """

    def __init__(self, near: int) -> None:
        self.labels: list[str] = []
        self._hashes = NearHashes(near)
        self._thumbs = np.zeros((FIRST_SPACE, THUMB_SIDE, THUMB_SIDE, 3), np.uint8)
        self._by_sha256: dict[str, int] = {}

    def add(self, print_: Fingerprint, label: str) -> None:
        """Remember an image under a name."""
        position = len(self.labels)
        if position == len(self._thumbs):
            self._thumbs = np.concatenate([self._thumbs, np.zeros_like(self._thumbs)])
        self._hashes.add(print_.phash)
        self._thumbs[position] = print_.thumb
        self._by_sha256.setdefault(print_.sha256, position)
        self.labels.append(label)

    def same_file(self, print_: Fingerprint) -> str | None:
        """Name of the image with the same bytes."""
        position = self._by_sha256.get(print_.sha256)
        return None if position is None else self.labels[position]

    def near_duplicate(self, print_: Fingerprint) -> str | None:
        """Name of the first image that shows the same picture, perhaps mirrored."""
        views = [(print_.phash, print_.thumb)]
        if print_.mirrored is not None:
            views.append((print_.mirrored, print_.thumb[:, ::-1]))
        for phash, thumb in views:
            for position in self._hashes.find(phash):
                if looks_same(self._thumbs[position], thumb):
                    return self.labels[position]
        return None
