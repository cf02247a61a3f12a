"""Fingerprints on disk: made once, made anew where a file has changed."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from tests.web.server import photo
from utils import images as decode
from utils.errors import UserError, shown_text
from utils.images import DecodeError
from web import fingerprints
from web.crew import Crew
from web.duplicates import Fingerprint
from web.fingerprints import Fingerprints, image_files


@pytest.fixture
def crew() -> Iterator[Crew]:
    made = Crew(2)
    yield made
    made.close(5)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("a.jpg", "b  \n.jpg", os.fsdecode(b"c\xff.jpg"))):
        (folder / name).write_bytes(photo(number))
    return sorted(folder.iterdir())


def learn(path: Path, images: list[Path], crew: Crew) -> list[Fingerprint | DecodeError]:
    with closing(Fingerprints(path)) as prints:
        found = list(prints.of_files([(str(image), image) for image in images], crew))
    assert [name for name, _ in found] == [str(image) for image in images]
    return [print_ for _, print_ in found]


def hashes(found: list[Fingerprint | DecodeError]) -> list[str]:
    return [print_.sha256 for print_ in found if isinstance(print_, Fingerprint)]


def test_images_are_read_once(tmp_path: Path, images: list[Path], crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fingerprints.csv"
    first = learn(path, images, crew)
    assert len(set(hashes(first))) == 3
    read: list[Path] = []

    def load_image(path: Path) -> Image.Image:
        read.append(path)
        return decode.load_image(path)

    monkeypatch.setattr(fingerprints, "load_image", load_image)
    assert hashes(learn(path, images, crew)) == hashes(first) and not read

    images[0].write_bytes(photo(99))
    changed = learn(path, images, crew)
    assert read == [images[0]] and hashes(changed)[0] != hashes(first)[0]
    assert hashes(learn(path, images, crew)) == hashes(changed) and len(read) == 1


def test_damaged_lines_are_made_anew(tmp_path: Path, images: list[Path], crew: Crew) -> None:
    path = tmp_path / "fingerprints.csv"
    first = hashes(learn(path, images, crew))
    content = path.read_text()
    path.write_text(content[: len(content) // 2] + "\n\x00,,\n,,,,,,,,,\n" + content[-50:])
    assert hashes(learn(path, images, crew)) == first
    path.write_text(content[:-20])
    assert hashes(learn(path, images, crew)) == first


def test_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "fingerprints.csv"
    path.write_text("a,b\n")
    with pytest.raises(UserError, match="other columns"):
        Fingerprints(path)


def test_what_is_no_image_is_told(tmp_path: Path, images: list[Path], crew: Crew) -> None:
    images[1].write_bytes(b"nothing")
    found = learn(tmp_path / "fingerprints.csv", [*images, tmp_path / "none.jpg"], crew)
    assert len(hashes(found)) == 2
    assert "no image" in str(found[1]) and "none.jpg" in str(found[3])


def test_images_of_folders_and_files(tmp_path: Path, images: list[Path]) -> None:
    deep = tmp_path / "images/deep/er"
    deep.mkdir(parents=True)
    (deep / "d.PNG").touch()
    (deep / "notes.txt").touch()
    found = sorted([*images, deep / "d.PNG"])
    assert image_files([tmp_path / "images", images[0]]) == (found, [deep / "notes.txt"])
    assert image_files([images[0], images[0]]) == ([images[0]], [])


def test_what_a_file_holds_counts_more_than_its_name(tmp_path: Path) -> None:
    names = ["a.jfif", "b.JPE", "c", "d.jpg_large", "e.dat"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(photo(number))
    (tmp_path / "f.xml").write_text("<x/>")
    (tmp_path / "g.json").touch()
    assert image_files([tmp_path]) == ([tmp_path / name for name in names], [tmp_path / "f.xml", tmp_path / "g.json"])


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    (tmp_path / "eval/a/b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x.jpg").write_bytes(photo(1))
    (tmp_path / "eval/linked").symlink_to(tmp_path / "elsewhere")
    for name, target in (("eval/a/b/up", ".."), ("eval/a/root", tmp_path / "eval"), ("elsewhere/self", ".")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "eval/loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "eval/broken").symlink_to("nowhere")
    assert image_files([tmp_path / "eval"]) == (
        [tmp_path / "elsewhere/x.jpg", tmp_path / "eval/loop.jpg"],
        [tmp_path / "eval/broken"],
    )


def test_a_pipe_is_told_and_not_waited_for(tmp_path: Path, crew: Crew) -> None:
    (tmp_path / "eval").mkdir()
    for name in ("a.jpg", "b"):
        os.mkfifo(tmp_path / "eval" / name)
    assert image_files([tmp_path / "eval"]) == ([tmp_path / "eval/a.jpg"], [tmp_path / "eval/b"])
    found = learn(tmp_path / "fingerprints.csv", [tmp_path / "eval/a.jpg"], crew)
    assert [str(print_) for print_ in found] == [f"{tmp_path}/eval/a.jpg: is no regular file"]


def test_whatever_a_decoder_raises_is_told(
    tmp_path: Path, images: list[Path], crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_image(path: Path) -> Image.Image:
        if path == images[1]:
            raise struct.error("unpack requires a buffer of 2 bytes")
        return decode.load_image(path)

    monkeypatch.setattr(fingerprints, "load_image", load_image)
    found = learn(tmp_path / "fingerprints.csv", images, crew)
    assert len(hashes(found)) == 2
    assert str(found[1]) == shown_text(f"{images[1]}: is damaged (error unpack requires a buffer of 2 bytes)")


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--not_in .*none: no such"):
        image_files([tmp_path / "none"])
    with pytest.raises(UserError, match=r"--not_in .*: holds no image"):
        image_files([tmp_path])
    with pytest.raises(UserError, match=r"--not_in .*: no such"):
        image_files([tmp_path / ("x" * 300)])
