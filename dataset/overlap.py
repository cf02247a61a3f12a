"""Whether pictures that are trained on are validated on too, under whatever names and in whatever format."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dataset.files import shown, tell
from dataset.source import Source, cache_folder
from utils.errors import UserError
from utils.images import DecodeError, load_image
from utils.whole import replacing

LOG = logging.getLogger("webwilss")
# Published data sets have a photograph or two twice: up to one in so many validation images is told and not refused.
TOLERATED = 1000
# Changes where images are decoded to other pixels, so that older caches are not read.
VERSION = 1
BYTES = 16


def refuse_shared(train: Source, val: Source, indices: NDArray[np.int64] | None = None) -> None:
    """Refuse training images that are validation images too: the same file, or the same pixels in another one.

    Images of one colour are no evidence, unless they are one file. The pixels of every image are read once and remembered.

    Args:
        train: the training split.
        val: the validation split.
        indices: images of ``train`` that are trained on; None for all.

    Raises:
        UserError: the splits share files, or more pictures than published data sets do.
    """
    chosen = range(len(train)) if indices is None else sorted(set(indices.tolist()))
    same = _same(train, val, chosen, _identities)
    if same:
        raise UserError(_message(train, val, same, "file"))
    same = _same(train, val, chosen, _digests)
    if len(same) * TOLERATED > len(val):
        raise UserError(_message(train, val, same, "picture"))
    if same:
        tell(_message(train, val, same, "picture"))


def _message(train: Source, val: Source, same: list[tuple[Path, Path]], what: str) -> str:
    pairs = shown(f"{two} is {one}" for one, two in same)
    return f"{val.name} shares {len(same)} images with {train.name} (the same {what}): {pairs}; take them out of one"


def _same(
    train: Source, val: Source, chosen: Iterable[int], marks: Callable[[Source], list[bytes]]
) -> list[tuple[Path, Path]]:
    """(training image, validation image) of equal marks; an empty mark is like no other."""
    mine, theirs = marks(train), marks(val)
    known = {mine[index]: train.image_path(index) for index in chosen}
    return [(known[mark], val.image_path(index)) for index, mark in enumerate(theirs) if mark and mark in known]


def _identities(source: Source) -> list[bytes]:
    """Which file each image is, whatever links lead to it; empty where there is none."""
    marks = []
    for index in range(len(source)):
        try:
            state = os.stat(source.image_path(index))
            marks.append(f"{state.st_dev} {state.st_ino}".encode())
        except OSError:
            marks.append(b"")
    return marks


def _digests(source: Source) -> list[bytes]:
    """A digest of the pixels of each image; empty where it has one colour or cannot be read."""
    paths = [source.image_path(index) for index in range(len(source))]
    cache = cache_folder() / f"pixels-{_key(paths)}.npy"
    known = _read(cache, len(paths))
    if known is None:
        with ThreadPoolExecutor() as pool:
            made = tqdm(pool.map(_digest, paths), f"Pictures of {source.name}", len(paths), disable=None)
            known = np.frombuffer(b"".join(made), np.uint8).reshape(-1, BYTES)
        _write(cache, known)
    return [row.tobytes() if row.any() else b"" for row in known]


def _digest(path: Path) -> bytes:
    try:
        image = load_image(path)
    except DecodeError:
        return bytes(BYTES)
    content = image.tobytes()
    if content == content[:3] * (image.width * image.height):
        return bytes(BYTES)
    return hashlib.blake2b(f"{image.size}".encode() + content, digest_size=BYTES).digest()


def _key(paths: Iterable[Path]) -> str:
    files: list[object] = [VERSION]
    for path in paths:
        try:
            state = path.stat()
            files.append([str(path.resolve()), state.st_size, state.st_mtime_ns])
        except OSError:
            files.append(str(path))
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:24]


def _read(path: Path, length: int) -> NDArray[np.uint8] | None:
    try:
        known = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError):
        LOG.warning("%s cannot be read and is computed again", path)
        return None
    return known if known.shape == (length, BYTES) and known.dtype == np.uint8 else None


def _write(path: Path, digests: NDArray[np.uint8]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("xb") as file:
            np.save(file, digests)
    except OSError as error:
        LOG.warning("what images show is not remembered, %s cannot be written (%s)", path, error.strerror)
