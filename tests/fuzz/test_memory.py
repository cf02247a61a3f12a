"""Small files that ask for much memory, read in processes that may not have it."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import ROOT
from tests.fuzz.strategies import chunk

resource = pytest.importorskip("resource", reason="limits of memory are known to POSIX systems alone")
MIB = 1 << 20
# Memory that a reader may take besides what its process has when it begins: of images four bytes a pixel in two places, and room.
ROOM = 400 * MIB

READ = """
import logging, resource, sys
from pathlib import Path
logging.disable()
{imports}
from utils.errors import UserError
def used():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used() + {room}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in map(Path, sys.argv[1:]):
    try:
        {call}
    except UserError as error:
        print("refused:", error)
    else:
        print("read")
"""


def read(paths: list[Path], imports: str, call: str, room: int = ROOM) -> list[str]:
    """What a process says that reads ``paths``, one after the other, within ``room`` bytes."""
    if not Path("/proc/self/statm").is_file():
        pytest.skip("this system does not say how much memory a process has")
    program = READ.format(imports=imports, call=call, room=room)
    command = [sys.executable, "-c", program, *map(str, paths)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ended.returncode == 0, f"{paths[ended.stdout.count(chr(10))].name}: {ended.stderr[-800:]}"
    said = ended.stdout.splitlines()
    for path, line in zip(paths, said, strict=True):
        assert line == "read" or (line.startswith("refused: ") and path.name in line), line
    return [line.partition(":")[0] for line in said]


def png(width: int, height: int, depth: int = 8, colour: int = 0, rows: int | None = None) -> bytes:
    """A PNG of zeros that says it has so many pixels, and has the given rows of them."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + (width * depth * channels + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height if rows is None else rows)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def animated() -> bytes:
    """A GIF whose screen is large and whose one frame is a pixel."""
    file = io.BytesIO()
    Image.new("P", (1, 1)).save(file, "GIF")
    content = bytearray(file.getvalue())
    content[6:10] = struct.pack("<HH", 65535, 65535)
    return bytes(content)


def directory(width: int, height: int) -> bytes:
    """A TIFF that has so many pixels by its head, and a byte of them."""
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, 1),
    ]
    body = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + body + bytes(4)


IMAGES: dict[str, Callable[[], bytes]] = {
    "39 megapixels of 16 bits": lambda: png(6245, 6245, 16),
    "39 megapixels of colour": lambda: png(6245, 6245, 8, 2),
    "a bomb": lambda: png(60_000, 60_000, 1, rows=10),
    "a long line": lambda: png(1 << 31 - 1, 1, rows=0),
    "a large screen": animated,
    "a TIFF that lies": lambda: directory(14_000, 14_000),
    "a TIFF of a bomb": lambda: directory(1 << 20, 1 << 20),
    "a large text": lambda: png(4, 4)[:33] + 100 * chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(4 * MIB))) + png(4, 4)[33:],
}  # fmt: skip


@pytest.mark.parametrize("reader", ["load_image", "load_mask"])
def test_images(reader: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{case}.png" for case in IMAGES]
    for path, content in zip(paths, IMAGES.values(), strict=True):
        path.write_bytes(content())
    said = dict(zip(IMAGES, read(paths, f"from utils.images import {reader}", f"{reader}(path)"), strict=True))
    assert said["39 megapixels of 16 bits"] == "read", "photographs of this size are not refused"
    assert said["a bomb"] == said["a long line"] == said["a TIFF of a bomb"] == "refused"


def test_an_archive_that_unpacks_to_much(tmp_path: Path) -> None:
    path = tmp_path / "nouns.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("cow.txt", "w") as file,
    ):
        for _ in range(250):
            file.write(b"\n" * MIB)
    said = read([path], "from captions.filter_files import read_lists", "read_lists(path)", 200 * MIB)
    assert said == ["refused"]


def test_a_shard_whose_members_say_that_they_are_large(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    content = b""
    for name in ("a.json", "a.txt", "a.jpg", "a.gz"):
        member = tarfile.TarInfo(f"cow/{name}")
        member.size = 1 << 34
        content += member.tobuf() + bytes(512)
    path.write_bytes(content)
    search = "list(search(f'webdataset:{path}', Query('cow'), type('C', (), {'limits': Limits()})()))"
    assert read([path], "from web.sources import search\nfrom web.candidate import Limits, Query", search) == ["read"]


def test_checkpoints_that_say_they_are_large(tmp_path: Path) -> None:
    """A tensor of many elements, of which the file holds one; and lengths that were overwritten."""
    paths = []
    for old in (False, True):
        whole, damaged = (tmp_path / f"{name} {old}.pth" for name in ("whole", "damaged"))
        state = {"model_state": {"w": torch.zeros(1).expand(1 << 20, 1 << 20)}}
        torch.save(state, whole, _use_new_zipfile_serialization=not old)
        content = whole.read_bytes()
        at = content.index(b"model_state") - 4
        damaged.write_bytes(content[:at] + struct.pack("<I", (1 << 31) + 11) + content[at + 4 :])
        paths += [whole, damaged]
    said = read(paths, "from utils.checkpoint import load", "load(path)")
    assert said[1] == said[3] == "refused"


def test_a_label_cache_that_says_it_is_large(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(4, bool))
    path.write_bytes(path.read_bytes().replace(b"(4,), }         ", b"(400000000000,)}"))
    call = "assert _read_cache(path, 4, 1) is None"
    assert read([path], "from dataset.source import _read_cache", call) == ["read"]
