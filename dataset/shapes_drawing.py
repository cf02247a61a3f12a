"""How the procedural data set looks: outlines, textures, objects and whole scenes, drawn with PIL and numpy.

Colours are float32 RGB in 0..255, positions are pixels, angles are radians. Edges are smooth because every outline
is drawn four times too large and averaged down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from tasks import BACKGROUND, IGNORE

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "crescent", "heart")
CLASS_NAMES = {BACKGROUND: "background", **dict(enumerate(SHAPES, 1))}
PATTERNS = ("plain", "striped", "chequered", "dotted", "shaded", "mottled")
SUPERSAMPLING = 4
# Things stand more or less upright, as in photographs: standard deviation of the turn, radians.
TILT = 0.35

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Paint:
    """How one object is coloured: two colours and the pattern that they make."""

    first: Array
    second: Array
    pattern: str


@dataclass(frozen=True)
class Thing:
    """One object of a scene: class id, centre and radius in pixels, turn in radians, width over height, colouring."""

    class_id: int
    x: float
    y: float
    radius: float
    angle: float
    aspect: float
    paint: Paint


def _circle(radius: float = 1.0, x: float = 0.0) -> Array:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + radius * np.cos(turn), radius * np.sin(turn)], 1).astype(np.float32)


def _regular(corners: int, inner: float | None = None) -> Array:
    """A regular polygon, or a star where ``inner`` gives the radius of the corners between."""
    count = corners if inner is None else 2 * corners
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False) - np.pi / 2
    radius = np.ones(count) if inner is None else np.where(np.arange(count) % 2, inner, 1.0)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1).astype(np.float32)


def _cross() -> Array:
    a, b = 0.32, 0.95
    quarter = np.array([(-a, -b), (a, -b), (a, -a)], np.float32)
    turns = ([[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]])
    return np.concatenate([quarter @ np.array(turn, np.float32) for turn in turns])


def _heart() -> Array:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(turn) ** 3
    y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
    return (np.stack([x, y - 2.5], 1) / 15.5).astype(np.float32)


# Outline and, where there is one, what is cut out of it; in a unit circle around the object's centre.
OUTLINES: dict[str, tuple[Array, Array | None]] = {
    "circle": (0.9 * _circle(), None),
    "square": (0.84 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float32), None),
    "triangle": (1.12 * _regular(3) + np.array([0, 0.12], np.float32), None),
    "star": (1.1 * _regular(5, 0.42), None),
    "ring": (_circle(), _circle(0.52)),
    "cross": (_cross(), None),
    "crescent": (_circle(), _circle(0.82, 0.52)),
    "heart": (_heart(), None),
}


def draw_coverage(
    name: str, side: int, radius: float, angle: float, aspect: float, dx: float, dy: float
) -> Image.Image:
    """How much of each pixel an object covers.

    Args:
        name: one of SHAPES.
        side: width and height of the result, pixels.
        radius: radius of the object, pixels.
        angle: turn.
        aspect: width over height before turning.
        dx: centre's distance from the middle of the result, pixels.
        dy: the same downwards.

    Returns:
        Image of mode L, (side, side), 0 outside to 255 inside.
    """
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    scale = np.array([aspect**0.5, aspect**-0.5], np.float32) * radius
    middle = np.array([side / 2 + dx, side / 2 + dy], np.float32)
    canvas = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for outline, fill in zip(OUTLINES[name], (255, 0), strict=True):
        if outline is not None:
            points = ((outline * scale) @ turn + middle) * SUPERSAMPLING
            draw.polygon(points.ravel().tolist(), fill=fill)
    return canvas.reduce(SUPERSAMPLING)


def random_colour(rng: np.random.Generator, unlike: Array | None = None, distance: float = 90.0) -> Array:
    """An RGB colour, if possible at least ``distance`` away from the colour ``unlike``."""
    for _ in range(12):
        colour = rng.uniform(10, 245, 3).astype(np.float32)
        if unlike is None or np.linalg.norm(colour - unlike) > distance:
            break
    return colour


def random_paint(rng: np.random.Generator, unlike: Array | None = None) -> Paint:
    """Two colours that stand out from ``unlike`` and a pattern."""
    first = random_colour(rng, unlike)
    second = np.clip(first + rng.uniform(-60, 60, 3), 0, 255).astype(np.float32)
    return Paint(first, second, PATTERNS[int(rng.integers(len(PATTERNS)))])


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int, channels: int = 1) -> Array:
    """Soft noise (height, width, channels) in -1..1 with about ``cells`` blobs along each side."""
    grid = rng.integers(0, 256, (cells, cells, channels), dtype=np.uint8)
    picture = Image.fromarray(grid[..., 0] if channels == 1 else grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32).reshape(height, width, channels) / 127.5 - 1


def texture(rng: np.random.Generator, paint: Paint, side: int, radius: float, angle: float) -> Array:
    """The colours (side, side, 3) of an object's surface, its pattern turned with it."""
    axis = (np.arange(side, dtype=np.float32) - side / 2) / radius
    u = axis[None, :] * np.cos(angle) + axis[:, None] * np.sin(angle)
    v = axis[:, None] * np.cos(angle) - axis[None, :] * np.sin(angle)
    waves = rng.uniform(5, 11)
    if paint.pattern == "striped":
        share = 0.5 + 0.5 * np.tanh(3 * np.sin(waves * u))
    elif paint.pattern == "chequered":
        share = 0.5 + 0.5 * np.tanh(4 * np.sin(waves * u) * np.sin(waves * v))
    elif paint.pattern == "dotted":
        share = 1 / (1 + np.exp(8 * (0.9 - np.cos(waves * u) - np.cos(waves * v))))
    elif paint.pattern == "shaded":
        share = np.clip(0.5 + 0.6 * u, 0, 1)
    elif paint.pattern == "mottled":
        share = 0.5 + 0.5 * smooth_noise(rng, side, side, 9)[..., 0]
    else:
        share = np.zeros((side, side), np.float32)
    return paint.first + (paint.second - paint.first) * share[..., None].astype(np.float32)


def backdrop(rng: np.random.Generator, height: int, width: int) -> Array:
    """A textured ground that belongs to no class: soft colour changes, stripes or grain, and thin stray lines."""
    base = rng.uniform(30, 225, 3).astype(np.float32)
    ground = base + rng.uniform(15, 60) * smooth_noise(rng, height, width, int(rng.integers(2, 5)), 3)
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    kind = rng.random()
    if kind < 0.4:
        angle, period = rng.uniform(0, np.pi), rng.uniform(5, 22)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period) + rng.uniform(0, 6))
        ground += wave[..., None] * rng.uniform(-28, 28, 3).astype(np.float32)
    elif kind < 0.8:
        ground += rng.uniform(8, 26) * smooth_noise(rng, height, width, int(rng.integers(12, 40)))
    for _ in range(int(rng.integers(0, 3))):
        lines = Image.new("L", (2 * width, 2 * height))
        draw = ImageDraw.Draw(lines)
        for _ in range(int(rng.integers(1, 4))):
            ends = (rng.uniform(-0.1, 1.1, 4) * np.array([2 * width, 2 * height] * 2)).tolist()
            draw.line(ends, fill=int(rng.integers(90, 256)), width=int(rng.integers(1, 5)))
        share = np.asarray(lines.reduce(2), np.float32)[..., None] / 255
        ground += share * (random_colour(rng) - ground)
    return ground


def put(picture: Array, thing: Thing, rng: np.random.Generator, shadow: float = 0.35) -> tuple[slice, slice, Array]:
    """Draw one object and its shadow into ``picture`` (H, W, 3), in place.

    Returns:
        The rows and columns that may have changed, and the object's share of each of their pixels, 0..1.
    """
    height, width = picture.shape[:2]
    # Room for the longest corner, stretched by the aspect, and for the shadow.
    reach = int(thing.radius * 1.6) + 4
    side = 2 * reach
    left, top = int(thing.x) - reach, int(thing.y) - reach
    dx, dy = thing.x - int(thing.x), thing.y - int(thing.y)
    alpha = draw_coverage(CLASS_NAMES[thing.class_id], side, thing.radius, thing.angle, thing.aspect, dx, dy)
    rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
    seen = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))

    fall = max(1, round(thing.radius * 0.12))
    dark = np.asarray(alpha.filter(ImageFilter.BoxBlur(fall)), np.float32) * (shadow / 255)
    dark = np.roll(dark, (fall, fall), (0, 1))
    colours = texture(rng, thing.paint, side, thing.radius, thing.angle)
    # Light from the upper left, as on a slightly bent surface.
    slope = (np.arange(side, dtype=np.float32) - side / 2) / (thing.radius * 2)
    colours *= (1 - 0.22 * (slope[None, :] + slope[:, None]))[..., None]

    share = np.asarray(alpha, np.float32)[seen] / np.float32(255)
    part = picture[rows, columns]
    part *= 1 - dark[seen][..., None]
    part += share[..., None] * (colours[seen] - part)
    return rows, columns, share


def mark(mask: NDArray[np.uint8], rows: slice, columns: slice, share: Array, class_id: int) -> None:
    """Write an object into ``mask`` (H, W), in place: its class inside, 255 on the one-pixel ring around it."""
    inside = share >= 0.5
    around = np.pad(inside, 1)
    near = around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:]
    part = mask[rows, columns]
    part[near & ~inside] = IGNORE
    part[inside] = class_id


def _arrange(rng: np.random.Generator, size: int, classes: list[int]) -> list[tuple[int, float, float, float]]:
    """Class, x, y and radius of each object: objects may cover one another, but none hides another wholly."""
    placed: list[tuple[int, float, float, float]] = []
    largest = {1: 0.42, 2: 0.35, 3: 0.29, 4: 0.25}[len(classes)]
    for class_id in classes:
        for _ in range(20):
            radius = size * rng.uniform(0.17, largest)
            x, y = rng.uniform(radius * 0.8, size - radius * 0.8, 2)
            apart = (
                np.hypot(x - px, y - py) > 0.75 * max(radius, pr) + 0.6 * min(radius, pr) for _, px, py, pr in placed
            )
            if all(apart):
                placed.append((class_id, float(x), float(y), float(radius)))
                break
    return placed


def scene_classes(rng: np.random.Generator, index: int) -> list[int]:
    """Class ids of the objects of picture ``index``: one to three classes, one to four objects.

    The first class follows from the index, so that all classes are equally frequent.
    """
    first = 1 + index % len(SHAPES)
    others = [int(i) for i in rng.permutation(np.arange(1, len(SHAPES) + 1)) if i != first]
    chosen = [first, *others[: int(rng.choice(3, p=(0.35, 0.4, 0.25)))]]
    repeats = int(rng.integers(0, 5 - len(chosen))) if rng.random() < 0.4 else 0
    return chosen + [chosen[int(rng.integers(len(chosen)))] for _ in range(repeats)]


def scene(rng: np.random.Generator, size: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Picture ``index``: image (size, size, 3) and mask (size, size) with class ids, 255 on the objects' outlines."""
    picture = backdrop(rng, size, size)
    mask = np.full((size, size), BACKGROUND, np.uint8)
    things = _arrange(rng, size, scene_classes(rng, index))
    # The nearest object is drawn last; any may be the nearest.
    for i in rng.permutation(len(things)):
        class_id, x, y, radius = things[i]
        here = picture[int(y), int(x)].copy()
        paint = random_paint(rng, unlike=here)
        angle, aspect = rng.normal(0, TILT), np.exp(rng.uniform(-0.18, 0.18))
        rows, columns, share = put(picture, Thing(class_id, x, y, radius, float(angle), float(aspect), paint), rng)
        mark(mask, rows, columns, share, class_id)
    return develop(rng, picture), mask


def develop(rng: np.random.Generator, picture: Array, grain: float = 7.0) -> NDArray[np.uint8]:
    """The photograph of a drawing: uneven light over the whole picture and sensor noise; uint8."""
    height, width = picture.shape[:2]
    light = 1 + 0.25 * smooth_noise(rng, height, width, 2)
    noise = rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(1, grain))
    return np.clip(picture * light + noise, 0, 255).astype(np.uint8)
