"""One pass over the pairs of a split: the classes that each mask holds, and what looks as if a file were not what it seems.

Masks are decoded, of images the head is read; only images of more than 8 bits are decoded too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tasks import BACKGROUND, IGNORE
from utils.images import FEW_LEVELS, SIDEWAYS, DecodeError, levels, load_image, read_head, read_mask

# Of a class's pixels in an image: from this share on they lie between others.
MOSTLY = 0.5


@dataclass(frozen=True)
class Survey:
    """What the pass saw; N images, K the highest class id.

    Attributes:
        labels: (N, K) whether image n holds a pixel of class k + 1.
        edges: (N, K) whether it holds them as edges alone: none is surrounded by its like, and most lie between a lower and a higher
            mask value, as interpolation and lossy compression leave them.
        ignored: (N,) share of the mask's pixels that are ignore.
        unfit: (N,) whether image and mask differ in size.
        turned: (N,) whether the image has an EXIF tag that turns it and the mask has none.
        unsure: (N,) whether such a mask fits the image turned and unturned alike.
        dim: (N,) whether an image of more than 8 bits has hardly any grey levels once it has 8.
        unread: (N,) whether the image cannot be read.
        meanings: (C, 3) colour (24 bits), palette index and image that first used it so.
        colours: (I, 3) palette index, colour and image, the same seen from the index.
        clashes: (M, 3) image, colour and index: masks in which a colour has another index than it had before.
        recoloured: (N,) whether an index has another colour than it had before.
    """

    labels: NDArray[np.bool_]
    edges: NDArray[np.bool_]
    ignored: NDArray[np.float32]
    unfit: NDArray[np.bool_]
    turned: NDArray[np.bool_]
    unsure: NDArray[np.bool_]
    dim: NDArray[np.bool_]
    unread: NDArray[np.bool_]
    meanings: NDArray[np.int64]
    colours: NDArray[np.int64]
    clashes: NDArray[np.int64]
    recoloured: NDArray[np.bool_]

    @classmethod
    def of(cls, arrays: Mapping[str, Any], images: int, columns: int) -> Survey:
        """From arrays by their names; ValueError or KeyError where they are not those of a survey of this size."""
        found = cls(**{entry.name: arrays[entry.name] for entry in fields(cls)})
        for entry in fields(cls):
            shape = getattr(found, entry.name).shape
            wide = (images, columns) if entry.name in ("labels", "edges") else (images,)
            if shape != wide and not (entry.name in ("meanings", "colours", "clashes") and shape[1:] == (3,)):
                raise ValueError(f"{entry.name} is of shape {shape}")
        return found


@dataclass(frozen=True)
class Pair:
    """What was seen of one pair.

    Attributes:
        values: (256,) the class ids of the mask, background and ignore among them.
        edges: (256,) those that are there as edges alone.
        ignored: share of the pixels that are ignore.
        flags: fields of ``Survey`` that are true or false of an image.
        painted: (colour, index) of the palette indices that the mask uses.
    """

    values: NDArray[np.bool_]
    edges: NDArray[np.bool_]
    ignored: float
    flags: dict[str, bool]
    painted: list[tuple[int, int]]


@dataclass
class _Palettes:
    """What colours and indices meant so far."""

    meanings: dict[int, tuple[int, int]] = field(default_factory=dict)
    colours: dict[int, tuple[int, int]] = field(default_factory=dict)
    clashes: list[tuple[int, int, int]] = field(default_factory=list)
    recoloured: set[int] = field(default_factory=set)

    def add(self, image: int, painted: Iterable[tuple[int, int]]) -> None:
        """The (colour, index) pairs that a mask uses."""
        for colour, index in painted:
            if self.meanings.setdefault(colour, (index, image))[0] != index:
                self.clashes.append((image, colour, index))
            if self.colours.setdefault(index, (colour, image))[0] != colour:
                self.recoloured.add(image)


def _table(rows: Iterable[tuple[int, int, int]]) -> NDArray[np.int64]:
    return np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)


def only_edges(values: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(256,) which foreground values of a mask (H, W) live as edges between others alone."""
    present = np.bincount(values.ravel(), minlength=256)
    inner = values[1:-1, 1:-1]
    same = (inner == values[:-2, 1:-1]) & (inner == values[2:, 1:-1])
    same &= (inner == values[1:-1, :-2]) & (inner == values[1:-1, 2:])
    thin = (present > 0) & (np.bincount(inner[same], minlength=256) == 0)
    thin[[BACKGROUND, IGNORE]] = False
    if not thin.any():
        return thin
    rows, columns = np.nonzero(thin[values])
    own = values[rows, columns]
    padded = np.pad(values, 1, mode="edge")
    around = np.stack([padded[rows + y, columns + x] for y in range(3) for x in range(3) if (y, x) != (1, 1)])
    # Ignore is no class that an object could be taken for; between it and a class there are no numbers of classes.
    around = np.where(around == IGNORE, own, around)
    between = (around.min(axis=0) < own) & (around.max(axis=0) > own)
    found = np.bincount(own[between], minlength=256)
    return np.asarray(thin & (found >= MOSTLY * present))


def _painted(palette: bytes, present: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(colour, index) of the indices that a mask uses, where its palette has the colour once."""
    entries = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3).astype(np.int64)
    codes = entries[:, 0] << 16 | entries[:, 1] << 8 | entries[:, 2]
    known, counts = np.unique(codes, return_counts=True)
    single = set(known[counts == 1].tolist())
    used = np.flatnonzero(present[: len(codes)])
    return [(int(codes[i]), int(i)) for i in used if int(codes[i]) in single]


def look(image: Path, mask: Path, value_map: NDArray[np.uint8] | None) -> Pair:
    """See one pair; DecodeError where the mask cannot be read."""
    read = read_mask(mask)
    raw = read.values
    present = np.bincount(raw.ravel(), minlength=256) > 0
    edges = only_edges(raw)
    ids = np.arange(256, dtype=np.uint8) if value_map is None else value_map
    values, thin, thick = (np.zeros(256, dtype=bool) for _ in range(3))
    values[ids[present]] = True
    thin[ids[edges]] = True
    thick[ids[present & ~edges]] = True
    flags = _flags(image, raw, read.orientation)
    ignored = float((ids[raw] == IGNORE).mean()) if raw.size else 0.0
    return Pair(values, thin & ~thick, ignored, flags, _painted(read.palette, present) if read.palette else [])


def _flags(image: Path, mask: NDArray[np.uint8], orientation: int) -> dict[str, bool]:
    try:
        head = read_head(image)
        dim = head.wide and levels(load_image(image)) < FEW_LEVELS
    except DecodeError:
        return {"unread": True}
    height, width = mask.shape
    fits = head.size == (width, height)
    turned = head.orientation > 1 and orientation == 1
    both = head.orientation < SIDEWAYS or width == height
    return {"unfit": not fits, "turned": turned, "unsure": turned and fits and both, "dim": dim}


def survey(
    look_at: Callable[[int], Pair], count: int, columns: int, title: str, faults: list[tuple[int, str]] | None = None
) -> Survey:
    """Look at all pairs.

    Args:
        look_at: sees the pair of a number, as ``look`` does.
        count: N.
        columns: K.
        title: of the bar that shows how far it is.
        faults: takes (image, fault) of masks that cannot be read; without it the first of them ends the pass.

    Raises:
        DecodeError: a mask cannot be read, and there is no list to take the fault.
    """
    labels, edges = (np.zeros((count, columns), dtype=bool) for _ in range(2))
    ignored = np.zeros(count, dtype=np.float32)
    flags = {name: np.zeros(count, dtype=bool) for name in ("unfit", "turned", "unsure", "dim", "unread", "recoloured")}
    palettes = _Palettes()

    def seen(index: int) -> Pair | str:
        try:
            return look_at(index)
        except DecodeError as error:
            if faults is None:
                raise
            return str(error)

    # Decoding leaves the interpreter lock, so threads are enough.
    with ThreadPoolExecutor() as pool:
        for i, pair in enumerate(tqdm(pool.map(seen, range(count)), total=count, desc=title, disable=None)):
            if isinstance(pair, str):
                if faults is not None:
                    faults.append((i, pair))
                continue
            labels[i], edges[i] = pair.values[1 : columns + 1], pair.edges[1 : columns + 1]
            ignored[i] = pair.ignored
            for name, value in pair.flags.items():
                flags[name][i] = value
            palettes.add(i, pair.painted)
    flags["recoloured"][list(palettes.recoloured)] = True
    meanings, colours = (
        _table((key, *value) for key, value in known.items()) for known in (palettes.meanings, palettes.colours)
    )
    return Survey(labels, edges, ignored, meanings=meanings, colours=colours, clashes=_table(palettes.clashes), **flags)
