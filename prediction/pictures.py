"""Overlays with a legend, and the small pictures of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tasks import BACKGROUND
from utils.errors import printable
from utils.html import THUMB
from utils.visualise import overlay, palette

# The longer side of an overlay; larger images are shown smaller, which is told.
OVERLAY_SIDE = 2048
# The least width of an overlay, so that its legend can be read, and what the legend is made of, in pixels.
LEAST_WIDTH, FONT, PAD, SQUARE = 240, 14, 6, 12
# Rows that are coloured at once.
ROWS = 64
INK, PAPER = (27, 31, 36), (255, 255, 255)

Picture = NDArray[np.uint8]


def fitted(image: Image.Image, side: int) -> Image.Image:
    """The image, its longer side at most ``side``."""
    longer = max(image.size)
    if longer <= side:
        return image
    width, height = (max(1, round(length * side / longer)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def coloured(image: Image.Image, mask: NDArray[np.uint8]) -> Image.Image:
    """The mask in its colours over the image, of the image's size; background stays image."""
    if mask.shape != (image.height, image.width):
        mask = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
    result = image.copy()
    for top in range(0, image.height, ROWS):
        box = (0, top, image.width, min(image.height, top + ROWS))
        result.paste(Image.fromarray(overlay(np.asarray(image.crop(box)), mask[top : box[3]])), box)
    return result


def with_legend(image: Image.Image, present: Sequence[int], names: Mapping[int, str]) -> Image.Image:
    """The picture above a line for the classes that it shows, each a square of its colour and its name; background needs none."""
    font = ImageFont.load_default(FONT)
    width = max(LEAST_WIDTH, image.width)
    entries, x, y = [], PAD, PAD
    for number in present:
        if number == BACKGROUND:
            continue
        text = printable(names.get(number, str(number)), 60)
        length = SQUARE + PAD + round(font.getlength(text)) + 2 * PAD
        if x > PAD and x + length > width:
            x, y = PAD, y + FONT + PAD
        entries.append((x, y, number, text))
        x += length
    if not entries:
        return image
    sheet = Image.new("RGB", (width, image.height + y + FONT + PAD), PAPER)
    sheet.paste(image, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for left, top, number, text in entries:
        place = image.height + top
        colour = tuple(palette()[number].tolist())
        draw.rectangle((left, place + 1, left + SQUARE, place + 1 + SQUARE), fill=colour, outline=(128, 128, 128))
        draw.text((left + SQUARE + PAD, place), text, fill=INK, font=font)
    return sheet


def thumb(image: Image.Image, mask: NDArray[np.uint8]) -> Image.Image:
    """A small overlay for the page."""
    return coloured(fitted(image, 2 * THUMB), mask)
