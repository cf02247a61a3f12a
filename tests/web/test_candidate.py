"""Names of classes, texts of the web, and what an image file has to be to be taken."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.web.server import encoded, photo, picture
from utils.errors import UserError
from web.candidate import Limits, Query, Refused, clean, examine, plain_name, slugs

LIMITS = Limits(max_pixels=20_000, min_side=32)


def write(folder: Path, content: bytes, name: str = "image.jpg") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def reason(path: Path, limits: Limits = LIMITS) -> str:
    with pytest.raises(Refused) as caught:
        examine(path, limits)
    return caught.value.reason


def png_that_says(width: int, height: int) -> bytes:
    """A small file whose header promises a huge image."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_folders_of_classes() -> None:
    assert slugs(["cow", "Potted Plant", "tv/monitor", "Vélo"]) == {
        "cow": "cow", "Potted Plant": "potted_plant", "tv/monitor": "tv_monitor", "Vélo": "velo"
    }  # fmt: skip
    assert plain_name("../../etc/passwd") == "etc_passwd"
    assert list(slugs(["HER2+", "HER2-", "HER2", "C", "C++", "C#", "α-cell", "β-cell", "cell", "grade -1"]).values()) == [
        "her2_plus", "her2_minus", "her2", "c", "c_plus_plus", "c_sharp", "alpha_cell", "beta_cell", "cell", "grade_minus_1"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "said"),
    [(["cow", "Cow!"], "share the folder cow"), (["牛"], "letter"), (["x" * 101], "at most 100"), ([".."], "letter")],
)
def test_classes_without_a_folder_of_their_own(classes: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        slugs(classes)


def test_spellings_of_a_class() -> None:
    query = Query("potted_plant")
    assert query.text == "potted plant"
    assert query.names("Potted Plant") and query.names("potted-plant")
    assert not query.names("plant") and not query.names("") and not Query("牛").names("")


@pytest.mark.parametrize(
    "names",
    [
        ("C", "C++", "C#"),
        ("HER2+", "HER2-", "HER2"),
        ("CD4+ cell", "CD4- cell", "CD4 cell"),
        ("alpha-cell", "beta-cell"),
        ("α-cell", "β-cell", "cell"),
        ("café", "cafe"),
    ],
)
def test_names_that_differ_in_signs_alone_are_different_classes(names: tuple[str, ...]) -> None:
    for name in names:
        assert [other for other in names if Query(name).names(other)] == [name]
        assert Query(name).names(f" {name.upper().replace(' ', '_')} ")


def test_a_spelling_is_that_of_the_class_that_it_fits_best() -> None:
    classes = ("type_1", "type1")
    first, second = (Query(name, classes=classes) for name in classes)
    assert first.names("type_1") and first.names("Type-1") and not first.names("type1")
    assert second.names("TYPE1") and not second.names("type 1")
    assert not first.names("t_ype1") and not second.names("t_ype1")
    assert first.troubles == ["t_ype1 may be type_1 or type1, and is left out; write it as one of them"]


def test_text_of_the_web_is_one_harmless_line() -> None:
    assert clean(None) == ""
    assert clean(" a\n b\0c\x1b[31m\u2028d ") == "a b c [31m d"
    assert clean("\ud800x") == "?x"
    assert len(clean("word " * 10_000)) <= 2000


@pytest.mark.parametrize("option", ["max_bytes", "max_pixels", "min_side"])
def test_limits_below_one_are_named(option: str) -> None:
    with pytest.raises(UserError, match=f"--{option} 0"):
        Limits(**{option: 0})


def test_more_pixels_than_are_ever_decoded() -> None:
    with pytest.raises(UserError, match="--max_pixels"):
        Limits(max_pixels=10**9)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif"), ("BMP", ".bmp"), ("TIFF", ".tif")],
)
def test_the_suffix_is_that_of_the_real_format(tmp_path: Path, kind: str, suffix: str) -> None:
    found = examine(write(tmp_path, encoded(picture(1), kind), "image.txt"), LIMITS)
    assert found.suffix == suffix
    assert found.image.mode == "RGB" and found.image.size == (96, 80)


def test_turned_by_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert examine(write(tmp_path, encoded(picture(1), exif=exif)), LIMITS).image.size == (80, 96)


@pytest.mark.parametrize("content", [b"<html><body>Not found", b"\xef\xbb\xbf \r\n<!DOCTYPE html>", b"<svg xmlns=''/>"])
def test_web_pages_are_no_images(tmp_path: Path, content: bytes) -> None:
    assert reason(write(tmp_path, content)) == "web page"


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"P6 64 64 255\n" + bytes(64 * 64 * 3), b"\xff\xd8\xff"],
)
def test_formats_that_are_not_taken(tmp_path: Path, content: bytes) -> None:
    assert reason(write(tmp_path, content)) == "no image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_truncated_files(tmp_path: Path, kind: str) -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)), kind)
    assert reason(write(tmp_path, whole[: len(whole) * 2 // 3])).partition(":")[0] in ("damaged", "no image")


@pytest.mark.parametrize("side", [201, 5_000, 60_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    assert reason(write(tmp_path, png_that_says(side, side))).startswith(("too many pixels", "no image"))


def test_too_small(tmp_path: Path) -> None:
    assert reason(write(tmp_path, encoded(picture(1, (400, 31))))) == "too small: 400 x 31"
    assert examine(write(tmp_path, encoded(picture(1, (400, 32)))), LIMITS).image.size == (400, 32)


def test_no_damage_ends_in_another_error(tmp_path: Path) -> None:
    """Files with random bytes in random places: an image, or refused."""
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = encoded(picture(2), kind)
        for _ in range(30):
            content = bytearray(whole)
            for at in rng.integers(0, len(content), 8):
                content[at] = rng.integers(0, 256)
            try:
                examine(write(tmp_path, bytes(content)), LIMITS)
            except Refused as refused:
                assert refused.reason
    assert examine(write(tmp_path, photo(3)), LIMITS).suffix == ".jpg"
