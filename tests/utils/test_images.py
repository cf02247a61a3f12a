"""Files as the world has them: read rightly, or refused with their name and their fault."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.images import DecodeError, check_pair, load_image, load_mask, readable_images


def picture(width: int = 8, height: int = 4) -> Image.Image:
    """Left half red, right half blue."""
    array = np.zeros((height, width, 3), np.uint8)
    array[:, : width // 2, 0] = 255
    array[:, width // 2 :, 2] = 255
    return Image.fromarray(array)


def test_exif_rotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise: left becomes top
    path = tmp_path / "turned.jpg"
    picture(32, 16).save(path, exif=exif, quality=95)
    image = load_image(path)
    assert image.size == (16, 32)
    array = np.asarray(image).astype(int)
    assert array[4, 8, 0] > 200 > array[28, 8, 0] and array[28, 8, 2] > 200


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "YCbCr", "LAB", "HSV"])
def test_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr", "LAB", "HSV") else "x.png")
    if mode == "HSV":
        path = tmp_path / "x.png"
        picture().convert("HSV").convert("RGB").save(path)
    else:
        converted = picture().convert("L").convert(mode) if mode == "1" else None
        if mode == "LAB":
            from PIL import ImageCms

            profile = ImageCms.buildTransform(
                ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
            )
            converted = ImageCms.applyTransform(picture(), profile)
        (converted or picture().convert(mode)).save(path)
    image = load_image(path)
    assert image.mode == "RGB" and image.size == (8, 4)


def test_cmyk_colours(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    picture(32, 16).convert("CMYK").save(path, quality=95)
    array = np.asarray(load_image(path)).astype(int)
    assert array[8, 4, 0] > 200 and array[8, 4, 2] < 60


def test_alpha_lies_on_white(tmp_path: Path) -> None:
    layer = picture().convert("RGBA")
    layer.putalpha(Image.fromarray(np.tile(np.array([0, 255] * 4, np.uint8), (4, 1))))
    path = tmp_path / "x.png"
    layer.save(path)
    array = np.asarray(load_image(path))
    assert array[0, 0].tolist() == [255, 255, 255] and array[0, 1].tolist() == [255, 0, 0]


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    path = tmp_path / "x.png"
    image.save(path, transparency=0)
    assert np.asarray(load_image(path)).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(path)
    assert np.asarray(load_image(path))[0, :, 0].tolist() == [0, 128, 255]


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    path = tmp_path / "x.gif"
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    red.save(path, save_all=True, append_images=[blue])
    assert np.asarray(load_image(path))[0, 0].tolist() == [255, 0, 0]


def spoiled(kind: str, path: Path) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    content = {
        "zero": b"",
        "html": b"\n <!DOCTYPE html><html><body>404</body></html>",
        "truncated": buffer.getvalue()[:-1500],
        "text": b"not an image at all",
        "header": buffer.getvalue()[:20],
    }
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(content[kind])
    return path


FAULTS = {
    "zero": "is empty", "html": "is a web page", "truncated": "is damaged", "text": "is no image", "header": "is damaged|is no image",
    "missing": "no such file", "folder": "is a folder",
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_unreadable_files_are_named(kind: str, tmp_path: Path) -> None:
    path = spoiled(kind, tmp_path / "x.jpg")
    for read in (load_image, load_mask):
        with pytest.raises(DecodeError, match=FAULTS[kind]) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "it must survive a data loading process"


def test_absurdly_large_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.images.MAX_PIXELS", 10)
    path = tmp_path / "x.png"
    picture().save(path)
    with pytest.raises(DecodeError, match="8 x 4 pixels"):
        load_image(path)


def test_masks(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255], [20, 7, 3]], np.uint8)
    grey, palette, wide, colour, big = (tmp_path / f"{n}.png" for n in ("grey", "palette", "wide", "colour", "big"))
    Image.fromarray(values).save(grey)
    indexed = Image.fromarray(values).convert("P")
    indexed = Image.frombytes("P", (3, 2), values.tobytes())
    indexed.putpalette(list(range(256)) * 3)
    indexed.save(palette)
    Image.fromarray(values.astype(np.uint16)).save(wide)
    for path in (grey, palette, wide):
        assert np.array_equal(load_mask(path), values)
    picture().save(colour)
    with pytest.raises(DecodeError, match="is a colour picture"):
        load_mask(colour)
    Image.fromarray(np.array([[300]], np.uint16)).save(big)
    with pytest.raises(DecodeError, match="values up to 300"):
        load_mask(big)
    check_pair((3, 2), values, "a.jpg", grey)
    with pytest.raises(DecodeError, match=r"is 3 x 2 pixels, its image a.jpg is 2 x 3"):
        check_pair((2, 3), values, "a.jpg", grey)


def test_web_images_are_skipped_counted_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = tmp_path / "good.png"
    picture().save(good)
    paths = [good, spoiled("html", tmp_path / "page.jpg"), spoiled("zero", tmp_path / "zero.jpg")]
    with caplog.at_level("WARNING", logger="webwilss"):
        readable, skipped = readable_images(paths)
    assert readable == [good]
    assert [(p.name, fault) for p, fault in skipped] == [
        ("page.jpg", "is a web page, not an image"),
        ("zero.jpg", "is empty"),
    ]
    assert "2 of 3 images cannot be read" in caplog.text
