"""Masks in VOC's colours, and confusion matrices as pictures."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Cells of a confusion matrix are labelled with numbers up to this many classes; beyond, they would be unreadable.
MOST_CLASSES_WITH_NUMBERS = 25


@functools.cache
def _palette() -> np.ndarray:
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    colours.setflags(write=False)
    return colours


def palette() -> np.ndarray:
    """Colours of the 256 mask values, (256, 3) uint8, read-only.

    PASCAL VOC's formula: bits 0, 3, 6 of the value are the highest bits of red, bits 1, 4, 7 of green, 2, 5 of blue.
    Background is black, 255 (ignore) is cream.
    """
    return _palette()


def colourise(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W), values 0..255, in VOC's colours: (H, W, 3) uint8."""
    return palette()[mask.astype(np.uint8)]


def overlay(image: np.ndarray, mask: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """The mask's foreground over the image.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W); background 0 stays image.
        opacity: weight of the mask's colour in [0, 1].

    Returns:
        (H, W, 3) uint8.
    """
    blend = np.rint((1 - opacity) * image + opacity * colourise(mask)).astype(np.uint8)
    return np.where((mask != 0)[..., None], blend, image)


def confusion_figure(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """A confusion matrix as a figure: each row (true class) divided by its sum, a row without pixels left white.

    Args:
        matrix: (C, C) counts, rows are the true classes.
        names: C class names.

    Returns:
        A matplotlib figure that belongs to no window (Agg).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.asarray(matrix, dtype=np.float64)
    sums = counts.sum(1, keepdims=True)
    share = np.divide(counts, sums, out=np.full_like(counts, np.nan), where=sums > 0)
    classes = len(names)
    size = max(4.0, min(1.5 + 0.42 * classes, 18.0))
    fontsize = 8 if classes <= MOST_CLASSES_WITH_NUMBERS else 6
    figure = Figure(figsize=(size + 0.8, size), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(share, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    figure.colorbar(picture, ax=axes, fraction=0.04, label="share of the true class")
    # A name is drawn as it is, $ and \\ included.
    labels = [" ".join(name.split()) for name in names]
    axes.set_xticks(range(classes), labels, rotation=90, fontsize=fontsize, parse_math=False, usetex=False)
    axes.set_yticks(range(classes), labels, fontsize=fontsize, parse_math=False, usetex=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if classes <= MOST_CLASSES_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(share):
            # Zeros are the white cells; their numbers would only hide the others.
            if not math.isnan(value) and value >= 0.005:
                colour = "white" if value > 0.6 else "black"
                axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    return figure


def drawn(figure: Figure) -> np.ndarray:
    """A figure as a picture (H, W, 3) uint8, without any of pyplot's state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Signs that the font lacks are drawn as boxes; a line on stderr for each would tell no more.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def panel(columns: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """Images side by side: one column per list, first images in the first row; smaller ones are centred on white.

    Args:
        columns: lists of (h, w, 3) uint8, equally long.
        gap: white pixels between images.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: no images, or lists of different length.
    """
    rows = list(zip(*columns, strict=True))
    if not rows:
        raise ValueError("a panel needs at least one image")
    heights = [max(image.shape[0] for image in row) for row in rows]
    widths = [max(image.shape[1] for image in column) for column in columns]
    sheet = np.full((sum(heights) + gap * (len(rows) - 1), sum(widths) + gap * (len(widths) - 1), 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top = sum(heights[:i]) + gap * i + (heights[i] - image.shape[0]) // 2
            left = sum(widths[:j]) + gap * j + (widths[j] - image.shape[1]) // 2
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet
