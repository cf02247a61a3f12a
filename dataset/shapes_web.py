"""How the drawn classes look "on the web": one big object a picture, in other styles, with a caption.

Three domains: ``photo`` (textured surroundings, as in the data set, but one big object and sometimes a watermark),
``studio`` (plain or graduated ground, strong shadow, watermark) and ``clipart`` (flat fill or outline on one colour).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dataset.shapes_drawing import (
    SHAPES,
    TILT,
    Array,
    Paint,
    Thing,
    backdrop,
    develop,
    draw_coverage,
    put,
    random_colour,
    random_paint,
)

DOMAINS = ("photo", "studio", "clipart")

# Words a caption may use for each class, the class name first.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "disk"),
    "square": ("square", "box", "tile"),
    "triangle": ("triangle", "wedge"),
    "star": ("star", "asterisk"),
    "ring": ("ring", "hoop", "doughnut"),
    "cross": ("cross", "plus"),
    "crescent": ("crescent", "moon"),
    "heart": ("heart", "valentine"),
}
_COLOURS = {
    "red": (215, 45, 45), "green": (50, 165, 60), "blue": (50, 80, 215), "yellow": (230, 215, 60),
    "orange": (240, 140, 40), "purple": (140, 60, 180), "pink": (240, 140, 190), "brown": (130, 85, 45),
    "turquoise": (60, 200, 195), "black": (25, 25, 25), "white": (240, 240, 240), "grey": (128, 128, 128),
}  # fmt: skip
_WATERMARKS = ("STOCK", "PREVIEW", "SAMPLE", "(c) IMAGES", "www.pictures.example")
_CAPTIONS = {
    "photo": ("a {thing} on a {ground} surface", "photo of a {thing}", "there is a {thing} before a {ground} wall"),
    "studio": ("a {thing} on a {ground} background", "stock photo of a {thing}", "{thing} isolated on {ground}"),
    "clipart": ("a drawing of a {thing} on {ground} paper", "clip art of a {thing}", "a {thing} icon on {ground}"),
}


def colour_name(colour: Array) -> str:
    """The everyday word nearest to an RGB colour (3,) in 0..255."""
    return min(_COLOURS, key=lambda name: float(np.sum((np.array(_COLOURS[name]) - colour) ** 2)))


def _caption(rng: np.random.Generator, class_name: str, domain: str, paint: Paint, ground: Array) -> str:
    words = SYNONYMS[class_name]
    word = words[0] if rng.random() < 0.5 else words[int(rng.integers(len(words)))]
    pattern = "" if paint.pattern in ("plain", "shaded") else paint.pattern + " "
    template = _CAPTIONS[domain][int(rng.integers(len(_CAPTIONS[domain])))]
    text = template.format(thing=f"{pattern}{colour_name(paint.first)} {word}", ground=colour_name(ground))
    return text.replace("a orange", "an orange")


def _studio(rng: np.random.Generator, height: int, width: int) -> Array:
    """A ground of one light colour, darker towards the floor."""
    light = np.full(3, 250, np.float32) if rng.random() < 0.5 else rng.uniform(150, 250, 3).astype(np.float32)
    fall = np.linspace(1, rng.uniform(0.75, 1), height, dtype=np.float32)[:, None, None]
    return light * fall * np.ones((height, width, 1), np.float32)


def _watermark(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half-transparent text, sometimes with the crossing lines of picture agencies."""
    height, width = picture.shape[:2]
    layer = Image.new("L", (width, height))
    draw = ImageDraw.Draw(layer)
    text = _WATERMARKS[int(rng.integers(len(_WATERMARKS)))]
    for _ in range(int(rng.integers(1, 4))):
        place = (float(rng.uniform(0, 0.6)) * width, float(rng.uniform(0.05, 0.9)) * height)
        draw.text(place, text, fill=int(rng.integers(90, 200)), font=ImageFont.load_default())
    if rng.random() < 0.4:
        draw.line((0, 0, width, height), fill=110)
        draw.line((0, height, width, 0), fill=110)
    ink = 255.0 if picture.mean() < 128 else 60.0
    share = np.asarray(layer, np.float32)[..., None] / 255
    return np.clip(picture + share * (ink - picture), 0, 255).astype(np.uint8)


def _clipart(
    rng: np.random.Generator, class_name: str, height: int, width: int
) -> tuple[NDArray[np.uint8], Paint, Array]:
    """A flat drawing, filled, outlined or both; returns the picture, its paint and its ground."""
    ground = np.full(3, 255, np.float32) if rng.random() < 0.7 else rng.uniform(120, 255, 3).astype(np.float32)
    colour = random_colour(rng, unlike=ground, distance=120)
    side, radius = max(height, width), min(height, width) * rng.uniform(0.3, 0.42)
    angle, aspect = float(rng.normal(0, TILT)), float(np.exp(rng.uniform(-0.1, 0.1)))
    rows = slice((side - height) // 2, (side - height) // 2 + height)
    columns = slice((side - width) // 2, (side - width) // 2 + width)

    cover = draw_coverage(class_name, side, radius, angle, aspect, 0, 0)
    inside = cover.filter(ImageFilter.MinFilter(2 * int(rng.integers(1, 4)) + 1))
    whole, middle = (np.asarray(image, np.float32)[rows, columns, None] / 255 for image in (cover, inside))
    picture = np.broadcast_to(ground, (height, width, 3)).copy()
    style = ("flat", "outlined", "outline only")[int(rng.integers(3))]
    black = np.full(3, 20, np.float32)
    picture += whole * ((black if style == "outlined" else colour) - picture)
    if style != "flat":
        picture += middle * ((colour if style == "outlined" else ground) - picture)
    return picture.astype(np.uint8), Paint(colour, colour, "plain"), ground


def web_picture(rng: np.random.Generator, class_name: str, domain: str, size: int) -> tuple[NDArray[np.uint8], str]:
    """One web image of a class.

    Args:
        rng: source of all that is random in it.
        class_name: one of SHAPES.
        domain: one of DOMAINS.
        size: typical side, pixels; height and width vary by a fifth around it.

    Returns:
        Image (H, W, 3) and a caption that names what it shows.
    """
    height, width = (int(s) for s in size * rng.uniform(0.85, 1.2, 2))
    if domain == "clipart":
        picture, paint, ground = _clipart(rng, class_name, height, width)
    else:
        drawing = _studio(rng, height, width) if domain == "studio" else backdrop(rng, height, width)
        ground = drawing.mean((0, 1))
        paint = random_paint(rng, unlike=ground)
        x, y = width * rng.uniform(0.42, 0.58), height * rng.uniform(0.42, 0.58)
        radius = float(min(height, width) * rng.uniform(0.27, 0.42))
        angle, aspect = float(rng.normal(0, TILT)), float(np.exp(rng.uniform(-0.15, 0.15)))
        thing = Thing(SHAPES.index(class_name) + 1, float(x), float(y), radius, angle, aspect, paint)
        put(drawing, thing, rng, shadow=0.55 if domain == "studio" else 0.35)
        picture = np.clip(drawing, 0, 255).astype(np.uint8) if domain == "studio" else develop(rng, drawing)
    if rng.random() < {"photo": 0.2, "studio": 0.5, "clipart": 0.15}[domain]:
        picture = _watermark(rng, picture)
    return picture, _caption(rng, class_name, domain, paint, ground)
