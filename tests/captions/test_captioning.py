"""Captions are written line by line: folders, trees, manifests; killed anywhere, nothing is done twice or lost."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from captions import captioning
from captions.captioners.base import Captioner, caption_readable
from captions.formats import read_captions
from dataset.replay_tree import IMAGES
from spread.ways import InProcess
from tests.conftest import ROOT
from utils import distributed
from utils.errors import UserError
from utils.manifest import write


def caption_images(
    images: Path, out: Path, captioner: Captioner, *, batch_size: int = 16, only_missing: bool = False
) -> captioning.Done:
    """As generate_caption.py asks, in this process."""
    way, make = InProcess(distributed.start("cpu")), partial(captioning.caption_worker, captioner)
    how = captioning.Captioning(way, make, captioner.origin, batch_size=batch_size)
    return captioning.caption_images(images, out, how, only_missing=only_missing, inside=IMAGES)


class Widths:
    """Says how wide an image is; remembers what it was asked, and dies when told."""

    def __init__(self, name: str = "widths", die_after: int | None = None) -> None:
        self.origin = {"captioner": name}
        self.asked: list[str] = []
        self.die_after = die_after

    def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
        self.asked += [f"{path.parent.name}/{path.name}" for path in paths]
        if self.die_after is not None and len(self.asked) > self.die_after:
            raise KeyboardInterrupt
        return caption_readable(paths, lambda images: [f"a picture\nof {image.width}" for image in images])


def draw(path: Path, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 4)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        draw(tmp_path / "photos" / f"{i} x.png", 10 + i)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.png").write_text("no image")
    return tmp_path / "photos"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for i in range(3):
        draw(tmp_path / "tree" / "2007_000032" / f"0000{i}.png", 10 + i)
        draw(tmp_path / "tree" / "2007_000039" / "image" / f"0000{i}.png", 20 + i)
    draw(tmp_path / "tree" / "2007_000039" / "label" / "00000.png", 99)
    (tmp_path / "tree" / "2007_000063").mkdir()
    (tmp_path / "tree" / "labels.json").write_text("{}")
    return tmp_path / "tree"


def test_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "captions.txt"
    done = caption_images(folder, out, Widths(), batch_size=4)
    assert (done.images, done.captioned, done.before, done.faults) == (6, 6, 0, [])
    assert out.read_text().splitlines()[0] == "0 x.png a picture of 10"
    assert read_captions(out) == [(f"{i} x.png", f"a picture of {10 + i}") for i in range(6)]


def test_replay_tree(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "captions"
    done = caption_images(tree, out, Widths(), batch_size=4)
    assert done.captioned == 6
    assert read_captions(out / "2007_000032.txt") == [(f"0000{i}.png", f"a picture of {10 + i}") for i in range(3)]
    assert read_captions(out / "2007_000039.txt") == [(f"0000{i}.png", f"a picture of {20 + i}") for i in range(3)]
    # The published files have empty ones, too.
    assert (out / "2007_000063.txt").read_bytes() == b""
    # A single original of a tree is a folder of images; its labels are none.
    assert caption_images(tree / "2007_000039", tmp_path / "one.txt", Widths()).captioned == 3


@pytest.mark.parametrize("kind", ["folder", "tree"])
def test_cut_anywhere_and_go_on(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    images = request.getfixturevalue(kind)
    whole, out = tmp_path / "whole", tmp_path / "out"
    caption_images(images, whole, Widths(), batch_size=1)
    files = [whole] if kind == "folder" else sorted(whole.glob("*.txt"))
    text = {file: file.read_bytes() for file in files}
    with pytest.raises(KeyboardInterrupt):
        caption_images(images, out, Widths(die_after=4), batch_size=1)
    half = out if kind == "folder" else out / "2007_000039.txt"
    lines = half.read_bytes().count(b"\n")
    # A process that is killed while it writes leaves half a line behind.
    with half.open("ab") as file:
        file.write("5 x.png a pic\u00e9"[:-1].encode() + b"\xc3")
    again = Widths()
    done = caption_images(images, out, again, batch_size=2)
    assert lines and (done.before, done.captioned) == (4, 2) and len(again.asked) == 2
    for file, content in text.items():
        other = out if kind == "folder" else out / file.name
        assert other.read_bytes() == content
    third = Widths()
    assert caption_images(images, out, third).before == 6 and third.asked == []


def test_unreadable_images_are_listed_and_tried_again(folder: Path, tmp_path: Path) -> None:
    (folder / "3 x.png").write_bytes(b"<html>")
    out = tmp_path / "captions.txt"
    done = caption_images(folder, out, Widths())
    assert (done.captioned, len(done.faults)) == (5, 1) and "3 x.png: is a web page" in done.faults[0]
    assert "3 x.png" not in dict(read_captions(out))
    draw(folder / "3 x.png", 77)
    done = caption_images(folder, out, Widths())
    assert (done.before, done.captioned, done.faults) == (5, 1, [])
    assert dict(read_captions(out))["3 x.png"] == "a picture of 77"


def test_names_that_a_line_cannot_hold_are_listed(folder: Path, tmp_path: Path) -> None:
    draw(folder / "a.png b.png", 5)
    done = caption_images(folder, tmp_path / "out.txt", Widths())
    assert done.captioned == 6 and "rename" in done.faults[0]


def write_manifest(path: Path, rows: Sequence[tuple[str, ...]], columns: tuple[str, ...]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def read_manifest(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_manifest(folder: Path, tmp_path: Path) -> None:
    rows = [(f"{i} x.png", "dog", f"http://a/{i}", "own" if i == 2 else "") for i in range(6)]
    (folder / "4 x.png").write_bytes(b"")
    write_manifest(folder / "manifest.csv", rows, ("path", "class", "url", "caption"))
    done = caption_images(folder, folder / "captioned.csv", Widths(), batch_size=4)
    assert (done.captioned, len(done.faults)) == (5, 1)
    found = read_manifest(folder / "captioned.csv")
    assert [row["path"] for row in found] == [row[0] for row in rows] and found[3]["url"] == "http://a/3"
    assert [row["caption"] for row in found] == [*(f"a picture of {10 + i}" for i in range(4)), "", "a picture of 15"]
    kept = caption_images(folder / "manifest.csv", tmp_path / "kept.csv", Widths(), only_missing=True)
    assert (kept.before, kept.captioned) == (1, 4)
    found = read_manifest(tmp_path / "kept.csv")
    # Elsewhere, paths are whole.
    assert found[2]["caption"] == "own" and Path(found[2]["path"]) == (folder / "2 x.png").resolve()


def test_manifest_goes_on(folder: Path, tmp_path: Path) -> None:
    write_manifest(folder / "manifest.csv", [(f"{i} x.png", "dog") for i in range(6)], ("path", "class"))
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    caption_images(folder, whole, Widths(), batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        caption_images(folder, out, Widths(die_after=3), batch_size=1)
    with out.open("ab") as file:
        file.write(b"3 x.png,do")
    again = Widths()
    done = caption_images(folder, out, again, batch_size=4)
    assert (done.before, done.captioned, len(again.asked)) == (3, 3, 3)
    assert out.read_bytes() == whole.read_bytes()
    write_manifest(folder / "manifest.csv", [(f"{i} x.png", "dog") for i in (1, 0, 2)], ("path", "class"))
    with pytest.raises(UserError, match=r"out\.csv: its rows are not those of"):
        caption_images(folder, out, Widths())


def test_captions_of_two_captioners_are_not_mixed(folder: Path, tree: Path, tmp_path: Path) -> None:
    write_manifest(folder / "manifest.csv", [("0 x.png", "dog")], ("path", "class"))
    (tmp_path / "foreign.txt").write_text("0 x.png by hand\n")
    with pytest.raises(UserError, match="another captioner"):
        caption_images(folder, tmp_path / "foreign.txt", Widths())
    assert (tmp_path / "foreign.txt").read_text() == "0 x.png by hand\n"
    for images, out in ((folder, "a.txt"), (tree, "b"), (folder, "c.csv")):
        caption_images(images, tmp_path / out, Widths("one"))
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        with pytest.raises(UserError, match="another captioner"):
            caption_images(images, tmp_path / out, Widths("two"))
        assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_what_fits_nothing_is_refused(folder: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("path,class\n0 x.png,dog\n")
    (tmp_path / "file.txt").write_text("")
    draw(tree / "stray.png", 4)
    for images, out, fault in (
        (tmp_path / "gone", "o.txt", "no such folder"),
        (tmp_path / "empty", "o.txt", "holds no images"),
        (tmp_path / "a.csv", "o.txt", "ends in .csv"),
        (tmp_path / "a.csv", "a.csv", "manifest to read"),
        (tree, "o", "one of them at a time"),
        (folder, "empty", "is a folder"),
    ):
        with pytest.raises(UserError, match=fault):
            caption_images(images, tmp_path / out, Widths())
    (tree / "stray.png").unlink()
    with pytest.raises(UserError, match="is a file"):
        caption_images(tree, tmp_path / "file.txt", Widths())
    with pytest.raises(UserError, match="only_missing"):
        caption_images(folder, tmp_path / "o.txt", Widths(), only_missing=True)


def command(*words: object) -> list[str]:
    return [sys.executable, str(ROOT / "generate_caption.py"), *map(str, words)]


def call(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_command_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("".join(f"{i} x.png the {i}th\n" for i in range(5)))
    out = tmp_path / "out.txt"
    ended = call(folder, out, "--captioner", "file", "--captions", tmp_path / "captions.txt", "--device", "cpu")
    assert ended.returncode == 1 and "5 captioned" in ended.stdout and "5 x.png" in ended.stderr
    assert dict(read_captions(out)) == {f"{i} x.png": f"the {i}th" for i in range(5)}
    ended = call(folder, out, "--captioner", "file")
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and "--captions" in ended.stderr


def test_killed_and_started_again(tmp_path: Path) -> None:
    for i in range(30):
        draw(tmp_path / "photos" / f"{i:03}.png", 200)
    out = tmp_path / "out.txt"
    words = (tmp_path / "photos", out, "--batch_size", 1, "--device", "cpu")
    process = subprocess.Popen(command(*words), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (out.is_file() and out.read_bytes().count(b"\n") >= 3):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = out.read_bytes().count(b"\n")
    assert 3 <= there < 30
    ended = call(*words[:2], "--batch_size", 64, "--device", "cpu")
    assert ended.returncode == 0 and f"{there} had captions" in ended.stdout
    assert [name for name, _ in read_captions(out)] == [f"{i:03}.png" for i in range(30)]


def test_the_protocol() -> None:
    captioner: Captioner = Widths()
    assert captioner.caption_files([]) == []


def test_names_that_no_caption_file_can_hold(tmp_path: Path) -> None:
    """The others are captioned, the faults are told; a pipe is not waited for."""
    folder = tmp_path / "photos"
    for name in ("a.png", "b\udcff.png", "c\nd.png", "x.png y.png", "e\u2028f.png"):
        draw(folder / name, 7)
    os.mkfifo(folder / "pipe.png")
    (folder / "z.png").symlink_to("nowhere.png")
    out = tmp_path / "captions.txt"
    done = caption_images(folder, out, Widths())
    assert (done.images, done.captioned, len(done.faults)) == (7, 2, 5)
    assert [name for name, _ in read_captions(out)] == ["a.png", "e\u2028f.png"]
    assert any("no UTF-8" in fault and fault.isprintable() for fault in done.faults)
    again = caption_images(folder, out, Widths())
    assert (again.captioned, again.before, len(again.faults)) == (0, 2, 5)


@pytest.mark.parametrize("kind", ["folder", "tree", "manifest"])
def test_two_at_once(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The second is refused by name while the first is at work, and changes nothing."""
    images = request.getfixturevalue("tree" if kind == "tree" else "folder")
    if kind == "manifest":
        write(tmp_path / "m.csv", ("path", "class"), [{"path": f"photos/{i} x.png", "class": "dog"} for i in range(6)])
        images = tmp_path / "m.csv"
    out = tmp_path / ("out.csv" if kind == "manifest" else "out")
    tried: list[str] = []

    class Meanwhile(Widths):
        def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
            with pytest.raises(UserError, match=r"out.*: another run is at work on it"):
                caption_images(images, out, Widths("other"))
            tried.append(str(paths[0]))
            return super().caption_files(paths)

    done = caption_images(images, out, Meanwhile(), batch_size=2)
    assert tried and not done.faults
    marker = out / "captioner.json" if kind == "tree" else out.with_name(f"{out.name}.captioner.json")
    assert "widths" in marker.read_text() and caption_images(images, out, Widths()).captioned == 0


def test_the_command_with_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("a.png", "b\udcff.png"):
        draw(folder / name, 7)
    (tmp_path / "captions.json").write_text('[{"image": "a.png", "caption": "a dog"}]')
    out = os.fsencode(tmp_path) + b"/out\xff.txt"
    line: list[str | bytes | Path] = [
        sys.executable,
        "generate_caption.py",
        folder,
        out,
        "--captioner",
        "file",
        "--captions",
    ]
    done = subprocess.run([*line, tmp_path / "captions.json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "2 images: 1 captioned" in done.stdout and "1 images without caption" in done.stderr
    with open(out) as file:
        assert file.read() == "a.png a dog\n"
