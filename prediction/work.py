"""All images and videos, one after the other: decoded ahead, looked at, written behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dataset.groups import Decoded, Groups, groups_of, pixels, shrunk, stated_sizes
from engine.loading import loads
from prediction.inputs import Item
from prediction.looking import Looker, Seen
from prediction.pictures import OVERLAY_SIDE, coloured, fitted, with_legend
from prediction.results import MASKS, OVERLAYS, PROBABILITIES, SHARE, THUMBS, Results, frame_name, item_name, state_of
from prediction.scratch import ImageOnDisk
from prediction.video import Frame, frames_of, overlay_suffix, overlay_writer
from prediction.writing import Shown, Writer
from utils import cores
from utils.images import DecodeError, load_image, load_mask

Value = TypeVar("Value")

LOG = logging.getLogger("webwilss")


@dataclass
class Done:
    """What was done.

    Attributes:
        images: images, and frames of videos, that were looked at now.
        before: those that an earlier run had done.
        faults: files that could not be read, or videos not to their end, and why.
    """

    images: int = 0
    before: int = 0
    faults: list[tuple[Path, str]] = field(default_factory=list)

    def add_fault(self, path: Path, fault: str) -> None:
        """Note that a file cannot be read; ``fault`` may begin with its name."""
        self.faults.append((path, fault.removeprefix(f"{path}: ")))


def predict_all(
    items: Sequence[Item], results: Results, looker: Looker, *, batch_size: int, workers: int | None = None
) -> Done:
    """Look at all items that are not done yet, and write what is seen.

    Args:
        items: images and videos.
        results: the opened folder.
        looker: the model.
        batch_size: images of equal size, or frames, that are looked at at once.
        workers: processes that decode; None chooses by device and cores.

    Raises:
        UserError: a result cannot be written, or the network gives no numbers.
    """
    done = Done()
    states = {item.name: state_of(item.image) for item in items}
    images = [item for item in items if not item.frames]
    todo = [item for item in images if not results.is_done(item, item.name, states[item.name], results.kinds)]
    done.before = len(images) - len(todo)
    videos = [item for item in items if item.frames]
    sizes = stated_sizes(todo)
    tiled = [looker.settings.in_tiles(_looked_at(size, looker.settings.max_side)) for size in sizes]
    work = _Work(results, looker, states, done)
    small = [(item, size) for item, size, large in zip(todo, sizes, tiled, strict=True) if not large]
    split = cores.split(looker.segmenter.runtime.device.type, workers)
    LOG.info("%s", split)
    # Streams share the memory.
    most_pixels = looker.settings.most_pixels
    groups = groups_of(
        [item for item, _ in small],
        batch_size,
        [size for _, size in small],
        None if most_pixels is None else most_pixels // split.streams,
    )
    with (
        Writer(results) as work.writer,
        tqdm(total=len(todo) or None, desc="Looking", unit="image", disable=None) as work.bar,
    ):
        work.look_at_groups(groups, split)
        for item in (item for item, large in zip(todo, tiled, strict=True) if large):
            work.look_at_large(item)
        for item in videos:
            work.look_at_video(item, batch_size)
    return done


def _looked_at(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """The size at which an image of ``size`` is looked at."""
    factor = min(1.0, max_side / max(1, *size)) if max_side else 1.0
    return round(size[0] * factor), round(size[1] * factor)


class _Work:
    """What the loops over images and frames share."""

    writer: Writer
    bar: tqdm

    def __init__(self, results: Results, looker: Looker, states: dict[str, dict[str, str]], done: Done) -> None:
        self.results, self.looker, self.states, self.done = results, looker, states, done

    def look_at_groups(self, groups: Sequence[Sequence[Item]], split: cores.Split) -> None:
        """Images that are looked at whole."""
        decoding = Groups(groups, self.looker.settings.max_side)

        def look(load: Callable[[], Decoded[Item]]) -> tuple[Decoded[Item], list[list[Seen]]]:
            decoded = load()
            return decoded, [self.looker.look(group.images) for group in decoded.groups]

        ready = loads(decoding.__getitem__, range(len(decoding)), split.workers)
        for decoded, found in cores.in_streams(look, ready, split):
            for group, seen_in in zip(decoded.groups, found, strict=True):
                for item, image, seen in zip(group.members, group.images, seen_in, strict=True):
                    self._put(item, group.size, partial(_picture, image), seen)
            for item, fault in decoded.faults:
                self.done.add_fault(item.image, fault)
                self.bar.update()

    def look_at_large(self, item: Item) -> None:
        """An image that is looked at in tiles; it is decoded here, and nothing beside it, for it alone fills the memory."""
        try:
            image = load_image(item.image)
        except DecodeError as error:
            self.done.add_fault(item.image, str(error))
            self.bar.update()
            return
        size = image.size
        with ImageOnDisk(shrunk(image, self.looker.settings.max_side), self.results.root) as on_disk:
            del image
            self._put(item, size, partial(on_disk.reduced, OVERLAY_SIDE), self._in_tiles(on_disk, item.name))
            self.writer.drain()

    def _in_tiles(self, image: ImageOnDisk, name: str) -> Seen:
        wanted = self.results.path(PROBABILITIES, name) if PROBABILITIES in self.results.kinds else None
        return self.looker.look_in_tiles(image, self.results.root, wanted)

    def _put(
        self,
        item: Item,
        size: tuple[int, int],
        picture: Callable[[], Image.Image],
        seen: Seen,
        frame: int | None = None,
    ) -> None:
        name = item.name if frame is None else frame_name(item, frame)
        kinds = self.results.kinds if frame is None else self._frame_kinds(frame)
        number = "" if frame is None else str(frame)
        self.writer.put(Shown(item, name, number, self.states[item.name], size, picture, seen, kinds))
        self.done.images += 1
        self.bar.update()

    def _frame_kinds(self, frame: int) -> list[str]:
        """Overlays of frames are a video; the page shows the first."""
        return [kind for kind in self.results.kinds if kind != OVERLAYS and (kind != THUMBS or frame == 0)]

    def look_at_video(self, item: Item, batch_size: int) -> None:
        """The frames of a video, and then the video of their overlays."""
        before = self.done.images
        try:
            for batch in _ahead(self._batches(item, batch_size)):
                self._look_at_frames(item, batch)
        except DecodeError as error:
            self.done.add_fault(item.image, str(error))
        self.writer.drain()
        if OVERLAYS in self.results.kinds:
            path = self.results.overlay_video(item.name, overlay_suffix(item.image))
            if self.done.images > before or not path.is_file():
                self._write_overlay(item, path)

    def _batches(self, item: Item, batch_size: int) -> Iterator[list[tuple[int, Frame]]]:
        """The frames that are not done yet, with their numbers; those of a batch have one size."""
        batch: list[tuple[int, Frame]] = []
        state = self.states[item.name]
        for number, (frame, _) in enumerate(frames_of(item.image)):
            if self.results.is_done(item, frame_name(item, number), state, self._frame_kinds(number)):
                self.done.before += 1
                continue
            if batch and (len(batch) >= batch_size or batch[0][1].shape != frame.shape):
                yield batch
                batch = []
            batch.append((number, frame))
        if batch:
            yield batch

    def _look_at_frames(self, item: Item, batch: Sequence[tuple[int, Frame]]) -> None:
        pictures = [shrunk(Image.fromarray(frame), self.looker.settings.max_side) for _, frame in batch]
        height, width = batch[0][1].shape[:2]
        if self.looker.settings.in_tiles(pictures[0].size):
            found = []
            for (number, _), picture in zip(batch, pictures, strict=True):
                with ImageOnDisk(picture, self.results.root) as on_disk:
                    found.append(self._in_tiles(on_disk, frame_name(item, number)))
        else:
            found = self.looker.look(torch.stack([pixels(picture) for picture in pictures]))
        for (number, _), picture, seen in zip(batch, pictures, found, strict=True):
            self._put(item, (width, height), partial(_same, picture), seen, number)

    def _write_overlay(self, item: Item, path: Path) -> None:
        """The video of overlays, made of the masks that lie there; all its classes are in the legend of each frame."""
        results = self.results
        rows = [row for name, row in results.rows.items() if row["frame"] and item_name(name, row) == item.name]
        present = [
            number for number, name in results.marker.classes if any(float(row[f"{SHARE}{name}"]) for row in rows)
        ]
        names = results.marker.names
        frames = frames_of(item.image)
        try:
            first, seconds = next(frames)
        except (StopIteration, DecodeError):
            return
        with overlay_writer(path, seconds) as put:
            frame: Frame | None = first
            number = 0
            while frame is not None:
                mask_path = results.path(MASKS, frame_name(item, number))
                if not mask_path.is_file():
                    break
                picture = coloured(fitted(Image.fromarray(frame), OVERLAY_SIDE), load_mask(mask_path))
                put(np.asarray(with_legend(picture, present, names)))
                number += 1
                try:
                    frame = next(frames, (None, 0.0))[0]
                except DecodeError:
                    # Its fault is noted; what came before is shown.
                    break


def _picture(image: Tensor) -> Image.Image:
    """An image (3, h, w) uint8 as a picture."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def _same(picture: Image.Image) -> Image.Image:
    return picture


def _ahead(values: Iterator[Value]) -> Iterator[Value]:
    """The same values, the next of which a thread is at work on while one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, values, None)
        while (value := waiting.result()) is not None:
            waiting = pool.submit(next, values, None)
            yield value
