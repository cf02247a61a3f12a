"""Images, their EXIF blocks, masks, and the cache of image labels."""

from __future__ import annotations

import io
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from dataset.source import Source, cache_folder
from tests.fuzz import strategies as draw
from tests.fuzz.harness import emptied, fuzz, outcome
from utils.errors import UserError
from utils.images import DecodeError, load_image, load_mask
from web.candidate import Limits, Refused, examine

SUFFIXES = st.sampled_from([".jpg", ".png", ".tif", ".gif", ".webp"])
# How many times an upright image is turned, by its orientation; and whether it is mirrored first.
ORIENTED = {
    1: np.array, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: np.rot90(np.fliplr(a), 1),
    6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(np.fliplr(a), -1), 8: lambda a: np.rot90(a, 1),
}  # fmt: skip


def write(place: Path, suffix: str, content: bytes) -> Path:
    path = place / f"x{suffix}"
    path.write_bytes(content)
    return path


@fuzz(SUFFIXES, draw.odd_images, times=500)
def test_images(place: Path, suffix: str, content: bytes) -> None:
    path = write(place, suffix, content)
    image = outcome(lambda: load_image(path), path)
    if isinstance(image, UserError):
        assert isinstance(image, DecodeError)
    else:
        assert image.mode == "RGB" and min(image.size) > 0
        image.load()


def upright(kind: int, count: int, value: bytes) -> bytes:
    """A JPEG to be turned by a quarter, with one more entry of its EXIF block: the maker's name in another type."""
    entries = struct.pack("<HHI", 0x010F, kind, count) + value + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    jpeg = draw.written(0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


# An orientation beside numbers where Pillow expects text, and none at all.
ODD_EXIF = [(upright(kind, 1, b"\xff" * 4),) for kind in range(14)] + [(upright(4, 0, bytes(4)),)]


@fuzz(draw.turned(), examples=ODD_EXIF, times=250)
def test_a_damaged_exif_block_costs_no_image(place: Path, content: bytes) -> None:
    """The picture itself is whole: it is read, upright or as it lies."""
    path = write(place, ".jpg", content)
    image = load_image(path)
    assert image.mode == "RGB" and sorted(image.size) == [draw.HEIGHT, draw.WIDTH]


@fuzz(draw.odd_images, times=250)
def test_masks(place: Path, content: bytes) -> None:
    path = write(place, ".png", content)
    mask = outcome(lambda: load_mask(path), path)
    if isinstance(mask, UserError):
        assert isinstance(mask, DecodeError)
    else:
        assert mask.dtype == np.uint8 and mask.ndim == 2 and mask.size


@fuzz(SUFFIXES, draw.odd_images, times=150)
def test_downloads(place: Path, suffix: str, content: bytes) -> None:
    """The collector takes an image or refuses it in a few words."""
    path = write(place, suffix, content)
    try:
        examined = examine(path, Limits(min_side=1))
    except Refused as refused:
        assert refused.reason.splitlines() == [refused.reason] and refused.reason.isprintable()
    else:
        assert examined.image.mode == "RGB"


@fuzz(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5), st.integers(0, 255), times=60)
def test_right_images(place: Path, orientation: int, width: int, height: int, shift: int) -> None:
    """What a PNG says of its pixels and of its orientation is what is read."""
    pixels = (np.arange(height * width * 3).reshape(height, width, 3) * 7 + shift).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = place / "x.png"
    Image.fromarray(pixels).save(path, exif=exif)
    assert np.array_equal(np.asarray(load_image(path)), ORIENTED[orientation](pixels))


@fuzz(st.binary(min_size=12, max_size=12), st.sampled_from(["P", "L"]), st.sampled_from(["png", "tiff", "gif", "bmp"]))
def test_right_masks(place: Path, values: bytes, mode: str, kind: str) -> None:
    """Class numbers of every format without loss."""
    mask = np.frombuffer(values, np.uint8).reshape(3, 4)
    picture = Image.fromarray(mask)
    if mode == "P":
        picture = picture.convert("P")
        picture.putpalette([value * 37 % 256 for value in range(768)])
    if kind == "gif":
        # Pillow sorts the colours of a GIF anew where it may.
        picture = picture.convert("L") if mode == "L" else picture
    file = io.BytesIO()
    picture.save(file, kind, **({"optimize": False} if kind == "gif" else {}))
    path = write(place, f".{kind}", file.getvalue())
    written = np.asarray(Image.open(path))
    assert np.array_equal(load_mask(path), written)
    if kind in ("png", "tiff"):
        assert np.array_equal(written, mask)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBWILSS_CACHE", str(tmp_path / "cache"))


def source(place: Path) -> Source:
    mask = place / "mask.png"
    if not mask.is_file():
        Image.fromarray(np.array([[0, 1]], np.uint8)).save(mask)
    return Source("folder train", {0: "background", 1: "cow", 2: "dog"}, [(mask, mask)], ["mask"])


@cache
def whole_cache() -> bytes:
    """What the cache of ``source`` holds."""
    with TemporaryDirectory() as place:
        source(Path(place)).image_labels()
    (written,) = cache_folder().iterdir()
    return written.read_bytes()


@fuzz(draw.mutated(st.builds(whole_cache), head=6000), times=60)
def test_the_cache_of_image_labels(place: Path, content: bytes) -> None:
    """A cache that is damaged is made anew; one that is whole is believed."""
    emptied(cache_folder())
    source(place).image_labels()
    (written,) = cache_folder().iterdir()
    written.write_bytes(content)
    labels = outcome(source(place).image_labels, place)
    assert not isinstance(labels, UserError) and labels.tolist() == [[True, False]]
