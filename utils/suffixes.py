"""How the names of image files end: the one list of what is read as an image, and names without that end."""

from __future__ import annotations

from pathlib import Path, PurePath

from PIL import features

# Suffix -> what Pillow calls the format. A file may hold another one of these; a suffix only says that it is an image.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".bmp": "BMP",
    ".dib": "DIB",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
} | ({".avif": "AVIF"} if features.check("avif") else {})
IMAGE_SUFFIXES = frozenset(FORMATS)


def is_image(path: PurePath | str) -> bool:
    """Whether a file's name ends as an image's does, in letters of any case, and is not hidden."""
    name = PurePath(path).name
    return split_suffix(name)[1] in IMAGE_SUFFIXES and not name.startswith(".")


def split_suffix(name: str) -> tuple[str, str]:
    """A file's name without its last suffix, and the suffix in small letters: ``000.v2.JPG`` gives ``000.v2`` and ``.jpg``."""
    suffix = Path(name).suffix
    return (name.removesuffix(suffix), suffix.lower()) if suffix else (name, "")


def image_stem(name: str) -> str:
    """A name without the suffix of an image, and whole where it has none: ``000.v2.jpg`` and ``000.v2`` both give ``000.v2``."""
    stem, suffix = split_suffix(name)
    return stem if suffix in IMAGE_SUFFIXES else name
