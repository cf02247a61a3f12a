"""Files as the world has them: read rightly, or refused with their name and their fault."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils import images as module
from utils import suffixes
from utils.images import (
    DecodeError,
    check_pair,
    load_image,
    load_mask,
    load_reduced,
    mapped,
    read_head,
    read_mask,
    readable_images,
    strangers,
)


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
    for read, fault in ((load_image, FAULTS[kind]), (load_mask, f"{FAULTS[kind]}|is a JPEG")):
        with pytest.raises(DecodeError, match=fault) as caught:
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


def tiff_block(*entries: tuple[int, int, int, int]) -> bytes:
    """EXIF of (tag, type, count, value) entries, right or not."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 0) + bytes(range(64))


# Orientation 6 beside an entry whose type, count or offset is wrong; each ended the reader with another error.
ODD = {
    "resolution without a value": (0x011A, 5, 0, 0),
    "text as numbers": (0x010E, 4, 3, 60),
    "undefined type": (0x0131, 77, 1, 8),
    "camera block nowhere": (0x8769, 4, 1, 2**32 - 1),
    "position as a float": (0x8825, 11, 1, 0x7FC00000),
    "numbers of the wrong sign": (0x0100, 9, 1, 2**32 - 5),
}


@pytest.mark.parametrize("odd", ODD)
def test_damaged_exif_is_ignored(odd: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    picture(32, 16).save(path, exif=tiff_block((0x0112, 3, 1, 6), ODD[odd]))
    assert load_image(path).size == read_head(path).size == (16, 32)
    picture(32, 16).save(path, exif=tiff_block((0x0112, 3, 1, 6))[:15])
    assert load_image(path).size == (32, 16)


def test_a_resolution_of_nothing_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    entries = [(0x0112, 3, 1, 6), (0x0128, 3, 1, 2), (0x011A, 5, 0, 8)]
    picture(32, 16).save(path, exif=tiff_block(*entries))
    content = path.read_bytes()
    # Without the JFIF block, which states a resolution of its own.
    assert content[2:4] == b"\xff\xe0"
    path.write_bytes(content[:2] + content[4 + int.from_bytes(content[4:6], "big") :])
    assert load_image(path).size == (16, 32)


@pytest.mark.parametrize(
    "error",
    [
        struct.error("unpack"), AttributeError("no"), OverflowError("big"), KeyError(3), RuntimeError("core"),
        RecursionError(), MemoryError(), AssertionError(), UserWarning("odd"), SyntaxError("broken\nfile"), ValueError("\x1b[2J"),
    ],
)  # fmt: skip
def test_whatever_pillow_raises_is_one_fault(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    picture().convert("L").save(path)

    def fails(*_: object, **__: object) -> None:
        raise error

    for place, reads in (("open", (load_image, load_mask, read_head)), ("Image.convert", (load_image,))):
        with monkeypatch.context() as patch:
            patch.setattr(f"PIL.Image.{place}", fails)
            for read in reads:
                with pytest.raises(DecodeError) as caught:
                    read(path)
                assert str(caught.value).startswith(f"{path}: is damaged (") and str(caught.value).isprintable()


def test_odd_transparency_and_palette_are_faults(tmp_path: Path) -> None:
    chunk = b"\0\0\0\1tRNS\x07" + b"\0\0\0\0"
    path = tmp_path / "x.png"
    picture().save(path)
    content = path.read_bytes()
    at = content.index(b"IDAT") - 4
    path.write_bytes(content[:at] + chunk[:-4] + _crc(chunk[4:-4]) + content[at:])
    with pytest.raises(DecodeError, match=r"x\.png: is (damaged|no image)"):
        load_image(path)
    tiff = tmp_path / "x.tif"
    picture().convert("P").save(tiff)
    content = tiff.read_bytes()
    at = content.index(struct.pack("<HH", 320, 3))
    # The palette as text.
    tiff.write_bytes(content[: at + 2] + struct.pack("<H", 2) + content[at + 4 :])
    with pytest.raises(DecodeError, match=r"x\.tif: is (damaged|no image)"):
        load_image(tiff)


def _crc(content: bytes) -> bytes:
    import zlib

    return struct.pack(">I", zlib.crc32(content))


def test_only_formats_of_pictures_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    for read in (load_image, load_mask, read_head):
        with pytest.raises(DecodeError, match="is no image that can be read"):
            read(path)
    assert not {"EPS", "WMF", "PDF", "FITS", "MPEG"} & set(module.FORMATS)
    assert set(suffixes.FORMATS.values()) <= set(module.FORMATS)


def test_pipes_are_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    for path in (tmp_path / "x.png", Path("/dev/zero")):
        for read in (load_image, load_mask, read_head):
            with pytest.raises(DecodeError, match="is a pipe, a socket or a device"):
                read(path)


def test_names_reach_no_terminal_raw(tmp_path: Path) -> None:
    for name in ("a\x1b[31m.png", "a\nb.png", "a\0b.png", "n" * 300, os.fsdecode(b"\xff.png")):
        with pytest.raises(DecodeError) as caught:
            load_image(tmp_path / name)
        assert str(caught.value).isprintable()


def test_wide_images_take_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(np.full((2000, 2500), 30000, np.uint16)).save(path)
    tracemalloc.start()
    try:
        load_image(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 5 megapixels: 8 bytes a pixel, with copies, once took 130 MB of arrays.
    assert peak < 45e6


def test_strips_are_seamless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.png" for n in ("alpha", "wide", "clear")]
    Image.fromarray(rng.integers(0, 256, (37, 11, 4), dtype=np.uint8), "RGBA").save(paths[0])
    Image.fromarray(rng.integers(0, 65536, (37, 11), dtype=np.uint16)).save(paths[1])
    indexed = Image.fromarray(rng.integers(0, 9, (37, 11), dtype=np.uint8)).convert("P")
    indexed.save(paths[2], transparency=bytes([0, 50, 100, 255]))
    whole = [np.asarray(load_image(path)) for path in paths]
    monkeypatch.setattr(module, "STRIP", 50)
    for path, expected in zip(paths, whole, strict=True):
        assert np.array_equal(np.asarray(load_image(path)), expected)


def saved(path: Path, values: np.ndarray, **how: object) -> Path:
    Image.fromarray(values).save(path, **how)
    return path


def test_one_rule_a_format_for_floats(tmp_path: Path) -> None:
    """The same grey is the same grey, whatever else the image holds."""
    for i, other in enumerate((0.2, 1.0, 1.04, np.nan)):
        grey = load_image(saved(tmp_path / f"{i}.tif", np.array([[0.5, 0.25, other, 0.0]], np.float32)))
        assert np.asarray(grey)[0, :2, 0].tolist() == [127, 63]
    with pytest.raises(DecodeError, match=r"float values up to 255, most of them above 1; floats go from 0 to 1"):
        load_image(saved(tmp_path / "x.tif", np.array([[0.0, 128, 255, 7]], np.float32)))


def test_one_rule_a_format_for_whole_numbers(tmp_path: Path) -> None:
    for dtype in (np.uint16, np.int32):
        grey = load_image(saved(tmp_path / "x.tif", np.array([[0, 257, 4095, 65535]], dtype)))
        assert np.asarray(grey)[0, :, 0].tolist() == [0, 1, 16, 255]
    for values in ([0, 70000], [-5, 3]):
        with pytest.raises(
            DecodeError, match=f"values from {min(values)} to {max(values)}; more than 8 bits go from 0"
        ):
            load_image(saved(tmp_path / "x.tif", np.array([values], np.int32)))
    (tmp_path / "x.pgm").write_text("P2 3 1 4095\n0 2048 4095\n")
    assert np.asarray(load_image(tmp_path / "x.pgm"))[0, :, 0].tolist() == [0, 128, 255]


def test_packed_twelve_bits_are_white_at_4095(tmp_path: Path) -> None:
    tags = [
        (256, 4, 1, 2),
        (257, 4, 1, 1),
        (258, 3, 1, 12),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (279, 4, 1, 3),
    ]
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\0" + body)
    assert np.asarray(load_image(tmp_path / "x.tif"))[0, :, 0].tolist() == [255, 128]
    assert read_head(tmp_path / "x.tif").wide


def test_grey_masks_of_few_bits_hold_their_numbers(tmp_path: Path) -> None:
    for bits in (1, 2, 4):
        values = np.arange(2**bits, dtype=np.uint8).reshape(1, -1)
        packed = bytes(np.packbits(np.unpackbits(values.T, axis=1)[:, 8 - bits :].ravel()))
        path = grey_png(tmp_path / f"{bits}.png", values.shape[1], bits, packed)
        assert load_mask(path).tolist() == values.tolist()
    (tmp_path / "x.pgm").write_bytes(b"P5 4 1 3\n\0\1\2\3")
    assert load_mask(tmp_path / "x.pgm").tolist() == [[0, 1, 2, 3]]
    (tmp_path / "plain.pgm").write_text("P2 4 1 20\n0 1 19 20\n")
    assert load_mask(tmp_path / "plain.pgm").tolist() == [[0, 1, 19, 20]]
    (tmp_path / "wide.pgm").write_text("P2 4 1 300\n0 1 19 20\n")
    assert load_mask(tmp_path / "wide.pgm").tolist() == [[0, 1, 19, 20]]


def grey_png(path: Path, width: int, bits: int, row: bytes) -> Path:
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + _crc(kind + content)

    head = struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        (".jpg", {"format": "JPEG", "quality": 100}),
        (".png", {"format": "JPEG"}),
        (".webp", {"format": "WEBP"}),
        (".tif", {"format": "TIFF", "compression": "jpeg"}),
        (".jp2", {"format": "JPEG2000"}),
    ],
)
def test_lossy_masks_are_refused(suffix: str, how: dict[str, object], tmp_path: Path) -> None:
    path = saved(tmp_path / f"x{suffix}", np.tile(np.arange(16, dtype=np.uint8), (16, 1)), **how)
    with pytest.raises(DecodeError, match=r"changes class numbers along edges; save masks as palette or grey PNGs"):
        load_mask(path)


def test_masks_of_other_kinds(tmp_path: Path) -> None:
    values = np.array([[0, 1], [2, 255]], np.uint8)
    clear = Image.fromarray(values).convert("P")
    clear.putpalette([7, 8, 9] * 256)
    clear.save(tmp_path / "clear.png", transparency=bytes([0, 255, 128]))
    assert np.array_equal(load_mask(tmp_path / "clear.png"), values)
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate"):
        path = saved(tmp_path / "x.tif", values, **({"compression": compression} if compression else {}))
        assert np.array_equal(load_mask(path), values)
    with pytest.raises(DecodeError, match="holds float values"):
        load_mask(saved(tmp_path / "f.tif", values.astype(np.float32)))
    with pytest.raises(DecodeError, match="values up to -3"):
        load_mask(saved(tmp_path / "i.tif", np.array([[-3, 2]], np.int32)))


def test_a_mask_follows_its_own_tag(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    for suffix in (".png", ".tif"):
        mask = read_mask(saved(tmp_path / f"x{suffix}", values, exif=exif))
        assert mask.orientation == 6 and mask.values.tolist() == [[4, 1], [5, 2], [6, 3]]
    indexed = Image.fromarray(values)
    indexed.putpalette(list(range(21)))
    indexed.save(tmp_path / "p.png", exif=exif)
    mask = read_mask(tmp_path / "p.png")
    assert mask.values.tolist() == [[4, 1], [5, 2], [6, 3]] and mask.palette[:21] == bytes(range(21))


def test_a_pair_that_fits_unturned_only_names_the_tag(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    for suffix in (".jpg", ".tif"):
        path = tmp_path / f"x{suffix}"
        picture(8, 4).save(path, exif=exif)
        assert load_image(path).size == read_head(path).size == (4, 8)
        with pytest.raises(
            DecodeError, match=r"4 x 8 once its EXIF orientation 8 has turned it; turn the mask as well"
        ):
            check_pair((4, 8), np.zeros((4, 8), np.uint8), path, tmp_path / "m.png")
        with pytest.raises(DecodeError, match=r"is 5 x 5 pixels, its image .* is 4 x 8$"):
            check_pair((4, 8), np.zeros((5, 5), np.uint8), path, tmp_path / "m.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_reduced_jpegs(tmp_path: Path, mode: str) -> None:
    """Smaller by what was asked, the colours where they were, and the full size with it."""
    soft = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)).resize((203, 150))
    file = tmp_path / "a.jpg"
    soft.convert(mode).save(file, quality=95)
    whole = load_image(file)
    for by in (1, 2, 4, 8):
        asked: list[tuple[int, int]] = []
        image, size = load_reduced(file, lambda size, by=by, asked=asked: asked.append(size) or by)
        assert size == (203, 150) and asked == [size] and image.mode == "RGB"
        assert image.size == (-(-203 // by), -(-150 // by))
        rows, columns = 150 // by, 203 // by
        blocks = np.asarray(whole)[: rows * by, : columns * by].reshape(rows, by, columns, by, 3).mean(axis=(1, 3))
        assert np.abs(np.asarray(image)[:rows, :columns] - blocks).mean() < 3
    soft.save(tmp_path / "a.png")
    assert load_reduced(tmp_path / "a.png", lambda size: 8)[0].size == (203, 150), "only a JPEG's decoder leaves out"


def test_damaged_jpegs_are_found_when_they_are_reduced(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:-2000])
    faults = set()
    for by in (1, 8):
        with pytest.raises(DecodeError) as caught:
            load_reduced(file, lambda size, by=by: by)
        faults.add(str(caught.value).split("(")[0])
    assert len(faults) == 1 and "is damaged" in faults.pop()


def test_values_of_a_mask() -> None:
    rng = np.random.default_rng(0)
    mask, table = rng.integers(0, 256, (31, 17), np.uint8), rng.integers(0, 256, 256, np.uint8)
    assert np.array_equal(mapped(mask, table), table[mask])
    assert np.array_equal(mapped(mask[::2, ::-1], table), table[mask[::2, ::-1]]), (
        "a view that lies otherwise in memory"
    )
    assert mapped(mask, table).flags.writeable
    few = np.array([[3, 255, 0], [7, 3, 9]], np.uint8)
    assert strangers(few, bytes([0, 3, 255])) == [7, 9] and strangers(few, bytes(range(256))) == []
