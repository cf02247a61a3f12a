"""What readers are given: valid files with faults, and files made by a grammar whose words are odd.

Bytes are mutated (``mutated``), trees of JSON get other branches (``swapped``), tables odd cells (``tables``), images get odd heads
whose checksums are right (``pngs``, ``tiffs``, ``exif_blocks``).
"""

from __future__ import annotations

import copy
import csv
import io
import json
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from PIL import Image

# ---- bytes ------------------------------------------------------------------------------------------------------------

# What breaks readers of text and of numbers.
TOKENS = [
    b"", b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\n", b"\r", b"\r\n", b'"', b",", b"\t",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1b[2J", b"\xed\xa0\x80", b"..", b"/", b"{", b"}", b"[", b"]",
    b":", b"null", b"NaN", b"1e999", b"-1", b"0", b"9" * 30, b"%PDF", b"<html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"II*\x00", b"MM\x00*",
]  # fmt: skip


@st.composite
def mutated(draw: DrawFn, valid: SearchStrategy[bytes], most: int = 5, head: int = 1 << 16) -> bytes:
    """A valid file, or one with a few faults, more of them near its beginning.

    Args:
        draw: of hypothesis.
        valid: strategy of files.
        most: number of faults.
        head: faults are in the first so many bytes.
    """
    content = bytearray(draw(valid))
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.one_of(st.integers(0, 64), st.integers(0, head))) % (min(len(content), head) + 1)
        length = draw(st.integers(0, 64))
        fault = draw(st.sampled_from(["byte", "bit", "token", "insert", "delete", "repeat", "cut", "zero"]))
        if fault == "byte" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        elif fault == "bit" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif fault == "token":
            token = draw(st.sampled_from(TOKENS))
            content[at : at + len(token)] = token
        elif fault == "insert":
            content[at:at] = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=16)))
        elif fault == "delete":
            del content[at : at + length]
        elif fault == "repeat":
            content[at:at] = content[at : at + length]
        elif fault == "cut":
            del content[at:]
        elif fault == "zero":
            content[at : at + length] = bytes(min(length, len(content) - at))
    return bytes(content)


# ---- text -------------------------------------------------------------------------------------------------------------

ODD_LETTERS = (
    "\x00\x07\x1b\r\n\t\x0b\x0c\x1c\x1d\x1e\x85\u00a0\u200b\u2028\u2029\u202e\u2066\ufeff\ufffe\u0301\u00e9\u0660\u00b2\u4e2d\U0001f404"
    "\"',;:/\\.%#*{}[]()$~| _-+=eE09"
)
ODD_WORDS = [
    "", " ", ".", "..", "/", "-", "#", "~", "$HOME", "C:\\x", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "x" * 300, "null", "nan",
    "NaN", "inf", "-inf", "1e999", "1.0", "TRUE", "yes", "0", "1", "-1", "255", "256", "1_000", "\u0661", "\u00b2", "9" * 5000, "0x10",
    "=1+1", "\x1b[31mred\x1b[0m", "a\u2028b", "a\x85b", "a\x00b", "\ufeffa", "e\u0301", "\u00e9", "\u202egnp.exe", "CON",
    "a.jpg ", " a.jpg", "a b.jpg", ".jpg", "a..jpg", "a.jpg.png", "bg", "background", "path", "class", "url",
]  # fmt: skip
texts = st.one_of(st.sampled_from(ODD_WORDS), st.text(st.sampled_from(ODD_LETTERS), max_size=12), st.text(max_size=12))
words = st.one_of(
    st.sampled_from(["cow", "dog", "red car", "Ampel", "00001.jpg", "00002.png", "a photo of a dog", "1", "12", "0.5"]),
    texts,
)
# File systems take no NUL and no slash; these are names that they take.
file_names = texts.map(
    lambda name: name.replace("/", "_").replace("\0", "_").encode("utf-8", "replace").decode()[:60] or "x"
).filter(lambda name: name not in (".", ".."))
ENCODINGS = ["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"]


@st.composite
def encoded(draw: DrawFn, text: SearchStrategy[str]) -> bytes:
    """A text in UTF-8, or as other tools save it, perhaps with faults."""
    encoding = draw(st.sampled_from(ENCODINGS))
    content = draw(text)
    # Halves of pairs are written as some tools do, which is no UTF-8.
    raw = content.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
    return draw(mutated(st.just(raw), most=2)) if draw(st.booleans()) else raw


def lines(cell: SearchStrategy[str], most: int = 6) -> SearchStrategy[str]:
    """Lines of some cells each, with the line ends of several systems."""
    line = st.tuples(st.lists(cell, max_size=4), st.sampled_from([" ", "  ", "\t", ": ", ", "])).map(
        lambda part: part[1].join(part[0])
    )
    return st.tuples(st.lists(line, max_size=most), st.sampled_from(["\n", "\r\n", "\r", "\n\n"])).map(
        lambda part: part[1].join(part[0])
    )


@st.composite
def tables(draw: DrawFn, columns: list[str], cells: SearchStrategy[str] = words, delimiters: str = ",,,;\t|") -> str:
    """A CSV file: a heading of ``columns``, perhaps not all or some twice, and rows of about as many cells."""
    header = draw(
        st.one_of(st.just(columns), st.lists(st.sampled_from([*columns, *ODD_WORDS[:8]]), max_size=len(columns) + 2))
    )
    rows = draw(st.lists(st.lists(cells, min_size=max(0, len(header) - 1), max_size=len(header) + 1), max_size=4))
    # Rows of the right length are what most readers go on with.
    if draw(st.booleans()):
        rows = [(row + [""] * len(header))[: len(header)] for row in rows]
    text = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    csv.writer(text, delimiter=draw(st.sampled_from(delimiters)), lineterminator=end, quoting=quoting).writerows(
        [header, *rows]
    )
    return text.getvalue()


# ---- JSON -------------------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf"), 1e308, 2**31, 2**63, 2**64, 10**30, -1]),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
# Files that a parser's own limits are met by.
HUGE_JSON = [
    b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"0": [' + b"9" * 5000 + b"]}", b'{"0": [0], "0": [0, 1]}',
    b'"\\ud800"', b"", b"\x00" * 20, b'{"0": [0, 1' + b"0" * 400 + b"]}", b"1e999", b"\xff\xfe{\x00}\x00",
]  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every branch of a tree."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs):
        yield value, key
        yield from _places(item)


@st.composite
def swapped(draw: DrawFn, valid: SearchStrategy[Any], odd: SearchStrategy[Any] = json_values, most: int = 3) -> Any:
    """A tree of dictionaries and lists in which a few branches are replaced, removed or doubled."""
    tree = {"": copy.deepcopy(draw(valid))}
    for _ in range(draw(st.integers(0, most))):
        places = list(_places(tree))
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        fault = draw(st.sampled_from(["replace", "replace", "remove", "double", "rename"]))
        if fault == "replace" or holder is tree:
            holder[key] = draw(odd)
        elif fault == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif fault == "rename":
            holder[draw(texts)] = holder.pop(key)
        else:
            holder[draw(texts)] = copy.deepcopy(holder[key])
    return tree.get("")


@st.composite
def json_files(draw: DrawFn, valid: SearchStrategy[Any]) -> bytes:
    """A JSON file: of a valid tree with faults, of any tree, or one that no parser likes."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.sampled_from(HUGE_JSON))
    tree = draw(json_values) if kind == 1 else draw(swapped(valid))
    # Halves of pairs become \udXXX where ASCII is asked for.
    text = json.dumps(tree, ensure_ascii=draw(st.booleans()))
    return draw(encoded(st.just(text))) if kind < 5 else text.encode("utf-8", "surrogatepass")


# ---- images -----------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 9, 6
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}), ("JPEG", "L", {}), ("JPEG", "CMYK", {}), ("JPEG", "RGB", {"progressive": True}),
    ("PNG", "1", {}), ("PNG", "L", {}), ("PNG", "LA", {}), ("PNG", "P", {}), ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "I;16", {}),
    ("GIF", "P", {}), ("GIF", "L", {}), ("BMP", "RGB", {}), ("BMP", "P", {}), ("BMP", "1", {}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {}),
    ("TIFF", "1", {}), ("TIFF", "L", {}), ("TIFF", "P", {}), ("TIFF", "RGB", {}), ("TIFF", "RGBA", {}), ("TIFF", "CMYK", {}),
    ("TIFF", "I;16", {}), ("TIFF", "I", {}), ("TIFF", "F", {}), ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "L", {"compression": "tiff_adobe_deflate"}), ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    # What a file may be, whatever its name says.
    ("PPM", "RGB", {}), ("ICO", "RGBA", {}), ("TGA", "RGB", {}), ("PCX", "P", {}), ("JPEG2000", "RGB", {}), ("AVIF", "RGB", {}),
    ("EPS", "RGB", {}), ("QOI", "RGB", {}), ("DDS", "RGBA", {}), ("SGI", "RGB", {}), ("ICNS", "RGBA", {}), ("MSP", "1", {}),
    ("XBM", "1", {}), ("IM", "RGB", {}), ("SPIDER", "F", {}),
]  # fmt: skip


@cache
def picture(mode: str) -> Image.Image:
    """A small picture of a mode, of all values that it has room for."""
    values = np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    if mode == "F":
        return Image.fromarray((values / 60).astype(np.float32))
    if mode in ("I", "I;16"):
        return Image.fromarray((values * 1000).astype(np.int32 if mode == "I" else np.uint16))
    grey = Image.fromarray((values * 4).astype(np.uint8))
    if mode == "P":
        image = Image.fromarray((values % 21).astype(np.uint8)).convert("P")
        image.putpalette([value * 12 % 256 for value in range(63)])
        return image
    if mode in ("RGBA", "LA"):
        layer = grey.convert(mode)
        layer.putalpha(grey)
        return layer
    return grey.convert(mode)


@cache
def written(number: int) -> bytes:
    """The small picture as a file of one of ``KINDS``."""
    kind, mode, options = KINDS[number]
    file = io.BytesIO()
    size = {"ICO": (16, 16), "ICNS": (32, 32)}.get(kind)
    image = picture(mode)
    (image.resize(size) if size else image).save(file, kind, **options)
    return file.getvalue()


image_files = st.integers(0, len(KINDS) - 1).map(written)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with the right checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


CHUNKS = [
    b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"eXIf",
    b"acTL", b"fcTL", b"fdAT", b"tIME", b"sBIT", b"bKGD", b"IEND", b"JUNK",
]  # fmt: skip
_PNGS = [number for number, (kind, _, _) in enumerate(KINDS) if kind == "PNG"]


@st.composite
def pngs(draw: DrawFn) -> bytes:
    """A PNG of odd chunks, whose checksums are right, so that the reader of each chunk is met."""
    parts = list(_chunks(written(draw(st.sampled_from(_PNGS)))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(parts) - 1))
        fault = draw(st.sampled_from(["mutate", "mutate", "insert", "insert", "remove", "repeat"]))
        if fault == "mutate":
            parts[at] = (parts[at][0], draw(mutated(st.just(parts[at][1]), most=2)))
        elif fault == "insert":
            content = st.one_of(
                st.binary(max_size=32), st.just(zlib.compress(bytes(100))), exif_blocks().map(lambda block: block)
            )
            parts.insert(at + 1, (draw(st.sampled_from(CHUNKS)), draw(content)))
        elif fault == "repeat":
            parts.insert(at, parts[at])
        elif len(parts) > 1:
            del parts[at]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)


TAGS = [
    0x0112, 0x0112, 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010F, 0x0111, 0x0115, 0x0116, 0x0117, 0x011A,
    0x011C, 0x0128, 0x0140, 0x0142, 0x0143, 0x0144, 0x0145, 0x0152, 0x0153, 0x8769, 0x8825, 0x9000, 0x927C,
    0xA005, 0x02BC, 0x8649, 0x83BB, 0x014A,
]  # fmt: skip
TYPE_SIZES = [1, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4]
small_counts = st.one_of(st.integers(0, 4), st.sampled_from([255, 65535, 1 << 31, (1 << 32) - 1]))


@st.composite
def exif_blocks(draw: DrawFn) -> bytes:
    """An EXIF block (a TIFF head and directories) of odd entries; the orientation is among them more often than not."""
    order = draw(st.sampled_from("<>"))
    entries = draw(
        st.lists(
            st.tuples(st.sampled_from(TAGS), st.integers(0, 14), small_counts, st.binary(min_size=4, max_size=4)),
            max_size=5,
        )
    )
    if draw(st.booleans()):
        turn = struct.pack(f"{order}HH", draw(st.integers(0, 10)), 0)
        entries.append((0x0112, draw(st.sampled_from([3, 3, 1, 4, 9])), 1, turn))
    if draw(st.booleans()):
        entries.sort()
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, number, value in entries:
        body += struct.pack(f"{order}HHI", tag, kind, number) + value
    end = draw(st.sampled_from([0, 8, 26, 1 << 31]))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + body + struct.pack(f"{order}I", end) + draw(st.binary(max_size=24))


@st.composite
def turned(draw: DrawFn) -> bytes:
    """An image whose EXIF block is odd, as a JPEG, PNG or WebP."""
    block = draw(st.one_of(exif_blocks(), mutated(exif_blocks(), most=2), st.binary(max_size=40)))
    prefix = draw(st.sampled_from([b"Exif\0\0", b"Exif\0\0", b"", b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"]))
    kind = draw(st.sampled_from(["JPEG", "JPEG", "PNG", "WEBP"]))
    if kind == "JPEG":
        jpeg = written(0)
        return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(prefix + block) + 2) + prefix + block + jpeg[2:]
    if kind == "PNG":
        png = written(draw(st.sampled_from(_PNGS)))
        return png[:33] + chunk(b"eXIf", block) + png[33:]
    file = io.BytesIO()
    picture("RGB").save(file, "WEBP", exif=prefix + block)
    return file.getvalue()


_TIFFS = [number for number, (kind, _, _) in enumerate(KINDS) if kind == "TIFF"]


@st.composite
def tiffs(draw: DrawFn) -> bytes:
    """A TIFF whose directory has odd entries: another type, count, value or tag, one more or one less."""
    content = bytearray(written(draw(st.sampled_from(_TIFFS))))
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack(f"{order}I", content[4:8])
    (number,) = struct.unpack(f"{order}H", content[start : start + 2])
    for _ in range(draw(st.integers(1, 3))):
        at = start + 2 + 12 * draw(st.integers(0, number - 1))
        field = draw(st.sampled_from(["tag", "type", "count", "value", "value"]))
        if field == "tag":
            content[at : at + 2] = struct.pack(f"{order}H", draw(st.sampled_from(TAGS)))
        elif field == "type":
            content[at + 2 : at + 4] = struct.pack(f"{order}H", draw(st.integers(0, 14)))
        elif field == "count":
            content[at + 4 : at + 8] = struct.pack(f"{order}I", draw(small_counts))
        else:
            value = draw(
                st.one_of(
                    st.integers(0, 40), st.sampled_from([255, 32946, 65535, 1 << 16, (1 << 31) - 1, (1 << 32) - 1])
                )
            )
            content[at + 8 : at + 12] = struct.pack(f"{order}I", value)
    return bytes(content)


# All that may stand where an image is expected.
odd_images = st.one_of(
    mutated(image_files, head=400), mutated(image_files, most=1), pngs(), tiffs(), turned(), st.binary(max_size=64)
)
