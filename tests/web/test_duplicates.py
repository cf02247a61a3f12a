"""Copies are found, different pictures are not."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.web.server import encoded, picture
from utils.images import load_image
from web.duplicates import FIRST_SPACE, Fingerprint, Index, fingerprint, from_row, looks_same

COPIES = {
    "half of size": lambda image: encoded(image.resize((image.width // 2, image.height // 2))),
    "twice the size": lambda image: encoded(image.resize((image.width * 2, image.height * 2))),
    "JPEG of quality 20": lambda image: encoded(image, quality=20),
    "PNG": lambda image: encoded(image, "PNG"),
    "mirrored, smaller": lambda image: encoded(
        ImageOps.mirror(image).resize((image.width // 2, image.height // 2)), quality=40
    ),
    "brighter": lambda image: encoded(image.point(lambda value: min(255, value * 1.15))),
    "less contrast": lambda image: encoded(image.point(lambda value: 40 + value * 0.7)),
}


def of(content: bytes) -> Fingerprint:
    return fingerprint(content, Image.open(io.BytesIO(content)).convert("RGB"))


def of_picture(seed: int) -> Fingerprint:
    return of(encoded(picture(seed)))


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_found(change: str) -> None:
    index = Index(near=10)
    for seed in range(20):
        index.add(of_picture(seed), str(seed))
    for seed in range(20):
        copy = of(COPIES[change](picture(seed)))
        assert index.same_file(copy) is None
        assert index.near_duplicate(copy) == str(seed)


def test_different_pictures_are_not() -> None:
    index = Index(near=10)
    for seed in range(300):
        print_ = of_picture(seed)
        assert index.near_duplicate(print_) is None, seed
        index.add(print_, str(seed))


def test_the_same_bytes() -> None:
    index = Index(near=0)
    content = encoded(picture(1))
    index.add(of(content), "one")
    assert of(content).sha256 == hashlib.sha256(content).hexdigest()
    assert index.same_file(of(content)) == "one" and index.same_file(of_picture(2)) is None


def test_flat_pictures_are_told_apart_by_colour() -> None:
    index = Index(near=64)
    for number, colour in enumerate(["white", "black", "red", "#00f"]):
        print_ = of(encoded(Image.new("RGB", (80, 80), colour)))
        assert index.near_duplicate(print_) is None
        index.add(print_, str(number))
    assert index.near_duplicate(of(encoded(Image.new("RGB", (90, 90), "#fefefe"), quality=30))) == "0"


def test_one_layout_in_other_colours() -> None:
    first, second = (np.zeros((8, 8, 3), np.uint8) for _ in range(2))
    first[2:6, 2:6], second[2:6, 2:6] = (255, 0, 0), (0, 0, 255)
    assert not looks_same(first, second)
    assert looks_same(first, (first * 0.7 + 40).astype(np.uint8))
    assert not looks_same(first, (first * 0.4 + 40).astype(np.uint8)), "too much contrast is lost"
    assert not looks_same((first * 0.6).astype(np.uint8), (first * 0.6 + 70).astype(np.uint8)), (
        "too much light is gained"
    )


def test_hashes_have_to_be_near() -> None:
    thumb = of_picture(1).thumb
    one, other = (Fingerprint(str(phash) * 64, phash, thumb) for phash in (0b0, 0b111))
    for near, found in ((2, None), (3, "one")):
        index = Index(near)
        index.add(one, "one")
        assert index.near_duplicate(other) == found


def test_the_index_grows() -> None:
    index = Index(near=0)
    thumb = of_picture(1).thumb
    for number in range(FIRST_SPACE + 1):
        index.add(Fingerprint(f"{number}", number, thumb), str(number))
    assert index.near_duplicate(Fingerprint("new", FIRST_SPACE, thumb)) == str(FIRST_SPACE)
    assert index.near_duplicate(Fingerprint("new", 0, thumb)) == "0"


def test_as_a_row_of_a_file() -> None:
    print_ = of_picture(1)
    again = from_row(print_.row())
    assert again is not None and again.mirrored is None
    assert (again.sha256, again.phash) == (print_.sha256, print_.phash)
    np.testing.assert_array_equal(again.thumb, print_.thumb)


@pytest.mark.parametrize(
    "damage", [{"phash": "xyz"}, {"phash": "f" * 17}, {"thumb": "00"}, {"thumb": "q"}, {"sha256": "1"}]
)
def test_a_damaged_row(damage: dict[str, str]) -> None:
    assert from_row(of_picture(1).row() | damage) is None
    assert from_row({}) is None


def test_photographs(shared_data: Path) -> None:
    """Real ones: each copy is found, and none is taken for another."""
    index = Index(near=10)
    files = sorted((shared_data / "voc-animals/JPEGImages").glob("*.jpg"))[::24]
    for path in files:
        print_ = fingerprint(path.read_bytes(), load_image(path))
        assert index.near_duplicate(print_) is None
        index.add(print_, path.name)
    for path in files:
        image = load_image(path)
        for change, make in COPIES.items():
            assert index.near_duplicate(of(make(image))) == path.name, change
