"""Results of one image, written by threads while the network looks at the next."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prediction.inputs import Item
from prediction.looking import Seen
from prediction.pictures import OVERLAY_SIDE, coloured, fitted, thumb, with_legend
from prediction.polygons import features
from prediction.probabilities import write_probabilities
from prediction.results import MASKS, OVERLAYS, POLYGONS, PROBABILITIES, RLE, SHARE, THUMBS, UNSURE, Results
from prediction.rle import coco_annotations
from tasks import BACKGROUND, IGNORE
from utils.html import QUALITY
from utils.images import write_mask
from utils.whole import whole_file, write_whole

THREADS = 2
# Results that wait to be written, at most; then the network waits.
WAITING = 32
# Pixels that are counted at once.
PART = 1 << 20


@dataclass(frozen=True)
class Shown:
    """An image and what was seen in it.

    Attributes:
        item: what the user named.
        name: of its results; a frame's is not the item's.
        frame: number of the frame, empty for an image.
        state: of ``results.state_of``.
        size: the image's own width and height.
        picture: gives the image as the network saw it.
        seen: what was seen.
        kinds: folders that get a file.
    """

    item: Item
    name: str
    frame: str
    state: dict[str, str]
    size: tuple[int, int]
    picture: Callable[[], Image.Image]
    seen: Seen
    kinds: Sequence[str]


class Writer:
    """Writes results in threads; what fails there is raised at the next ``put`` or at the end of the block."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="writing")
        self.waiting: deque[Future[None]] = deque()

    def put(self, shown: Shown) -> None:
        """Have a result written; waits where too many wait already."""
        while self.waiting and (len(self.waiting) >= WAITING or self.waiting[0].done()):
            self.waiting.popleft().result()
        self.waiting.append(self.pool.submit(write, self.results, shown))

    def drain(self) -> None:
        """Wait until all is written."""
        while self.waiting:
            self.waiting.popleft().result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.drain()
        finally:
            self.pool.shutdown(cancel_futures=True)


def write(results: Results, shown: Shown) -> None:
    """Write the files of a result and then its row in the summary.

    Raises:
        UserError: a file cannot be written.
    """
    marker, name, kinds, seen = results.marker, shown.name, shown.kinds, shown.seen
    mask = seen.mask
    if mask.shape != (shown.size[1], shown.size[0]):
        mask = np.asarray(Image.fromarray(mask).resize(shown.size, Image.Resampling.NEAREST))
    pixels = class_pixels(mask)
    if PROBABILITIES in kinds and seen.probabilities is not None:
        ids, names = zip(*marker.classes, strict=True)
        write_probabilities(results.path(PROBABILITIES, name), seen.probabilities, ids, names)
    if RLE in kinds:
        write_whole(results.path(RLE, name), json.dumps(coco_annotations(mask, leave_out=BACKGROUND)) + "\n")
    if POLYGONS in kinds:
        write_whole(results.path(POLYGONS, name), json.dumps(features(mask, marker.names, leave_out=BACKGROUND)) + "\n")
    if OVERLAYS in kinds:
        picture = coloured(fitted(shown.picture(), OVERLAY_SIDE), mask)
        _save_jpeg(results, OVERLAYS, name, with_legend(picture, np.flatnonzero(pixels).tolist(), marker.names))
    if THUMBS in kinds:
        _save_jpeg(results, THUMBS, name, thumb(shown.picture(), mask))
    write_mask(results.path(MASKS, name), mask)
    results.add(_row(results, shown, pixels))


def _save_jpeg(results: Results, kind: str, name: str, picture: Image.Image) -> None:
    with whole_file(results.path(kind, name)) as temporary:
        picture.save(temporary, format="JPEG", quality=QUALITY)


def class_pixels(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of each of the 256 values of a mask (H, W)."""
    flat = mask.ravel()
    total = np.zeros(256, np.int64)
    for at in range(0, flat.size, PART):
        total += np.bincount(flat[at : at + PART], minlength=256)
    return total


def _row(results: Results, shown: Shown, pixels: NDArray[np.int64]) -> dict[str, Any]:
    width, height = shown.size
    total = max(1, width * height)
    return {
        "name": shown.name,
        "file": shown.item.source,
        "frame": shown.frame,
        **shown.state,
        "width": width,
        "height": height,
        "confidence": f"{shown.seen.confidence:.4f}",
        UNSURE: f"{pixels[IGNORE] / total:.6f}",
        **{f"{SHARE}{name}": f"{pixels[number] / total:.6f}" for number, name in results.marker.classes},
    }
