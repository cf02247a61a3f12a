"""What a source offers, what it is asked for, and what an image has to be to be taken."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from utils.errors import TURNING, UserError
from utils.images import MAX_PIXELS, DecodeError, load_image
from utils.spelling import fits, separated
from utils.suffixes import IMAGE_SUFFIXES

# Pillow's names of the formats that are taken, and the suffix each is stored under.
SUFFIXES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
} | ({"AVIF": ".avif"} if ".avif" in IMAGE_SUFFIXES else {})
LONGEST_SLUG = 100
LONGEST_TEXT = 2000
# Names that are told one by one.
TOLD = 3
# Signs of names that the name of a folder writes out; a hyphen is one where it does not join words.
SIGNS = {"+": "plus", "-": "minus", "#": "sharp"}
TOO_MANY_PIXELS = "too many pixels"
# Control characters, and those that turn the direction of writing, would reach the terminal of whoever reads a message.
CONTROL = dict.fromkeys([*range(32), *range(127, 160), *map(ord, TURNING)], " ")


class Refused(Exception):
    """An image, or an answer of a search, that is not taken.

    Attributes:
        reason: a few fixed words, then perhaps ``: `` and what is particular to this one, in one line that any file and terminal takes;
            counted by the fixed words.
        status: the HTTP status, where that is the reason.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        self.reason, self.status = clean(reason), status
        super().__init__(self.reason)


@dataclass(frozen=True)
class Limits:
    """What is taken, and how long is waited for it.

    Attributes:
        max_bytes: size of a file, in bytes.
        max_pixels: width times height.
        min_side: shorter side, in pixels.
        connect: seconds until a connection stands.
        read: seconds between two pieces of an answer.
        deadline: seconds for a whole answer, however steadily it trickles.
        tries: how often a thing is asked for in all, while the fault may pass.
        backoff: seconds before the second try; doubled before each further one.
        longest_wait: seconds; a server that asks for a longer pause is not asked again.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    min_side: int = 64
    connect: float = 10
    read: float = 15
    deadline: float = 60
    tries: int = 4
    backoff: float = 1
    longest_wait: float = 120

    def __post_init__(self) -> None:
        for option in ("max_bytes", "max_pixels", "min_side"):
            if getattr(self, option) < 1:
                raise UserError(f"--{option} {getattr(self, option)}: a number above 0 is needed")
        if self.max_pixels > MAX_PIXELS:
            raise UserError(f"--max_pixels {self.max_pixels}: more than {MAX_PIXELS} are never decoded")


@dataclass(frozen=True)
class Query:
    """What a source is asked for.

    Attributes:
        name: the class.
        troubles: sentences that the source adds to, one for each thing that went wrong though the rest goes on.
        notes: sentences likewise, for what was left out and is no fault.
        classes: all that are collected, this one among them; a spelling may be that of another.
    """

    name: str
    troubles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The words to search for."""
        return self.name.replace("_", " ")

    def names(self, other: str) -> bool:
        """Whether ``other`` is a spelling of this class and of no other (``utils.spelling.fits``)."""
        found = fits(other, self.classes or (self.name,))
        if len(found) > 1 and self.name in found:
            said = f"{clean(other)} may be {' or '.join(map(clean, found))}, and is left out; write it as one of them"
            if said not in self.troubles:
                self.troubles.append(said)
        return found == (self.name,)


@dataclass(frozen=True)
class Candidate:
    """An image that a source offers.

    Attributes:
        url: where it lies; also what it is known by.
        source: name of the source, a key of ``web.sources.SOURCES``.
        content: the file's bytes or its path, for images that are here; None for those to be downloaded.
        caption: what was written beside it.
        licence: name of the licence, and its address where known.
        author: who made it.
        page: address of the page it stands on.
    """

    url: str
    source: str
    content: bytes | Path | None = None
    caption: str = ""
    licence: str = ""
    author: str = ""
    page: str = ""


def clean(text: object) -> str:
    """Text of the web as one line of at most 2000 characters that any file takes; empty for None."""
    if text is None:
        return ""
    written = str(text).encode("utf-8", "replace").decode("utf-8").translate(CONTROL)
    return " ".join(written[: 2 * LONGEST_TEXT].split())[:LONGEST_TEXT]


def shown(names: Sequence[object]) -> str:
    """The first few names, and the number of the others."""
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(clean(name) for name in names[:TOLD]) + more


def plain_name(name: str) -> str:
    """A name in [a-z0-9_] alone: accents are dropped, anything else becomes ``_``."""
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", ascii_only.lower()).strip("_")


def folder_name(name: str) -> str:
    """A class name in [a-z0-9_] alone: signs and letters of other scripts that would be lost are written out, accents are dropped.

    ``HER2+`` gives ``her2_plus``, ``α-cell`` ``alpha_cell``.
    """
    return plain_name("".join(map(_written, unicodedata.normalize("NFKD", separated(name)))))


def _written(letter: str) -> str:
    if letter in SIGNS:
        return f"_{SIGNS[letter]}_"
    # The last word of GREEK SMALL LETTER ALPHA.
    foreign = not letter.isascii() and letter.isalnum()
    return f"_{unicodedata.name(letter, f'{ord(letter):x}').rpartition(' ')[2]}_" if foreign else letter


def slugs(classes: list[str]) -> dict[str, str]:
    """class -> name of its folder, in [a-z0-9_].

    Raises:
        UserError: a class without a letter or digit, a very long one, or two that would share a folder.
    """
    folders: dict[str, str] = {}
    for name in classes:
        slug = folder_name(name)
        if not plain_name(name) or len(slug) > LONGEST_SLUG:
            raise UserError(
                f"--classes {name[:40]!r}: needs a letter a-z or a digit, and at most {LONGEST_SLUG} characters"
            )
        if slug in folders:
            raise UserError(f"--classes: {folders[slug]!r} and {name!r} would share the folder {slug}")
        folders[slug] = name
    return {name: slug for slug, name in folders.items()}


@dataclass(frozen=True)
class ExaminedImage:
    """An image file that was looked at in full.

    Attributes:
        image: RGB, upright.
        suffix: by the real format, with the dot.
    """

    image: Image.Image
    suffix: str


# What files are opened as; MPO is read as JPEG.
FORMATS = [name for name in SUFFIXES if name != "MPO"]


def holds_image(path: Path) -> bool:
    """Whether a file begins as an image that is taken, whatever its name; a pipe or a device is never opened."""
    try:
        return os.path.isfile(path) and bool(_header(path))
    except Refused as refused:
        return refused.reason == TOO_MANY_PIXELS
    except OSError:
        return False


def _header(path: Path) -> tuple[int, int, str]:
    """Width, height and format of an image file, of which only the beginning is read; Refused where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as header:
                return *header.size, header.format or ""
    except Image.DecompressionBombError as error:
        raise Refused(TOO_MANY_PIXELS) from error
    except Exception as error:  # Pillow meets hostile headers with errors of many kinds.
        raise Refused("no image") from error


def examine(path: Path, limits: Limits) -> ExaminedImage:
    """Read an image that came from anywhere; its size is checked before it is decoded.

    Raises:
        Refused: it is no image, damaged, of a format that is not taken, too small or too large.
    """
    with path.open("rb") as file:
        if file.read(512).lstrip(b"\xef\xbb\xbf\t\r\n ").startswith(b"<"):
            raise Refused("web page")
    width, height, kind = _header(path)
    if width * height > limits.max_pixels:
        raise Refused(f"{TOO_MANY_PIXELS}: {width} x {height}")
    if min(width, height) < limits.min_side:
        raise Refused(f"too small: {width} x {height}")
    try:
        return ExaminedImage(load_image(path), SUFFIXES[kind])
    except DecodeError as error:
        raise Refused(f"damaged: {str(error).removeprefix(f'{path}: ')}") from error
    except (
        Exception
    ) as error:  # Whatever a decoder raises is the fault of this image, which no further run should meet again.
        raise Refused(f"damaged: {type(error).__name__} {error}") from error
