"""What a user names is found once, named for good, and refused in one line where it cannot be meant."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prediction import video
from prediction.inputs import LONGEST, Listed, list_files, name_items
from utils.errors import UserError


def picture(path: Path, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)
    return path


def sequence(path: Path, frames: int = 3, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.new("RGB", (6, 4), (40 * number, 0, 0)) for number in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in two floors, and what is none."""
    root = tmp_path / "photos"
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.tif", ".hidden.jpg", ".git/e.jpg"):
        picture(root / name)
    (root / "notes.txt").write_text("text")
    return root


def listed(*inputs: object, out: Path) -> Listed:
    return list_files([str(one) for one in inputs], out)


def names(found: Listed, taken: dict[str, str] | None = None) -> list[str]:
    return [item.name for item in name_items(found, taken or {})]


def test_folders_files_and_patterns(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = listed(folder, out=out)
    assert names(found) == ["a", "b", "sub/c", "sub/deep/d"]
    assert found.notes == [f"{folder}: 1 files are no image or video by name and are left out: notes.txt"]
    assert names(listed(folder / "b.jpg", folder / "notes.txt", out=out)) == ["b", "notes.txt"], (
        "what is named is tried"
    )
    assert names(listed(f"{folder}/**/*.[tw]*", out=out)) == ["sub/c", "sub/deep/d"]
    assert names(listed(f"{folder}/*", out=out)) == ["a", "b"]
    found = listed(folder / "b.jpg", folder, f"{folder}/*.jpg", out=out)
    assert names(found) == ["b", "a", "sub/c", "sub/deep/d"]
    assert "2 files are named more than once and are looked at once" in found.notes
    brackets = picture(tmp_path / "x[1].png")
    assert names(listed(brackets, out=out)) == ["x[1]"], "a file that is there is no pattern"


def test_manifests(folder: Path, tmp_path: Path) -> None:
    elsewhere = picture(tmp_path / "elsewhere/z.png")
    (folder / "manifest.csv").write_text(
        f"path,class,kept\nsub/c.webp,cat,1\nb.jpg,cat,0\n../elsewhere/z.png,dog,yes\n{elsewhere},dog,0\ngone.jpg,dog,1\n"
    )
    found = listed(folder / "manifest.csv", out=tmp_path / "out")
    assert names(found) == ["sub/c", "elsewhere/z", "gone"]
    assert found.notes == [f"{folder / 'manifest.csv'}: 2 rows are not kept and are left out"]
    assert any("name that file" in note for note in listed(folder, out=tmp_path / "out").notes)


def test_names_that_would_collide(tmp_path: Path) -> None:
    root, out = tmp_path / "photos", tmp_path / "out"
    for name in ("dog.jpg", "dog.png", "cat.jpg", "Cat.png", "e\u0301.jpg", "\u00e9.png", "one.jpg"):
        picture(root / name)
    other = picture(tmp_path / "others/one.jpg")
    found = listed(root, other, out=out)
    given = names(found)
    assert given[:2] == ["Cat.png", "cat.jpg"] and {"dog.jpg", "dog.png", "e\u0301.jpg", "\u00e9.png"} < set(given)
    assert given[-1] == "one.jpg-2" and "one.jpg" in given
    assert "8 results would have the name of another and got their own" in found.notes[-1]
    only = listed(other, out=out)
    assert names(only, {"one.jpg-2": str(other)}) == ["one.jpg-2"], "what has a name keeps it"
    assert names(only, {"one": "/another/one.jpg"}) == ["one-2"], "what another has is not taken away"


def test_no_folder_is_called_as_a_file_of_results(tmp_path: Path) -> None:
    """masks/a.png is the mask of a.jpg, and masks/a.png/ would be the folder of another's."""
    for name in ("a.jpg", "a.png/b.jpg"):
        picture(tmp_path / "photos" / name)
    sequence(tmp_path / "photos/c.png")
    picture(tmp_path / "photos/c.jpg")
    assert names(listed(tmp_path / "photos", out=tmp_path / "out")) == ["a", "c", "c.png_", "a.png_/b"]


def test_odd_names(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    odd = [os.fsdecode(b"\xff\xfe.png"), "line\nbreak.png", "x" * 240 + ".png", "\u4e2d" * 80 + ".png"]
    for name in odd:
        picture(root / name)
    given = names(listed(root, out=tmp_path / "out"))
    assert len(set(given)) == 4 and all(name.isprintable() and len(name.encode()) <= LONGEST for name in given)


def test_sequences_are_videos(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for name in ("a.gif", "b.png", "c.webp", "d.tif"):
        sequence(root / name)
    picture(root / "still.gif")
    # A preview behind the picture makes no sequence.
    Image.new("RGB", (60, 40)).save(root / "preview.tif", save_all=True, append_images=[Image.new("RGB", (6, 4))])
    items = name_items(found := listed(root, out=tmp_path / "out"), {})
    assert {item.name: item.frames for item in items} == {
        "a.gif": True, "b.png_": True, "c.webp": True, "d.tif": True, "still": False, "preview": False,
    }  # fmt: skip
    assert found.notes == ["4 image files hold several frames and are read as videos: a.gif, b.png, c.webp and 1 more"]


def test_frames(tmp_path: Path) -> None:
    path = sequence(tmp_path / "a.png", duration=[40, 80, 120])
    frames = list(video.frames_of(path))
    assert [round(seconds, 3) for _, seconds in frames] == [0.04, 0.08, 0.12]
    assert [frame[0, 0, 0] for frame, _ in frames] == [0, 40, 80] and frames[0][0].shape == (4, 6, 3)


def test_a_video_without_its_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.MP4").write_bytes(b"film")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"clip\.MP4: videos need the package imageio-ffmpeg; pip install -e \.\[video\]"
    ):
        listed(tmp_path / "clip.MP4", out=tmp_path / "out")


@pytest.mark.skipif(
    importlib.util.find_spec(video.PLUGIN) is None, reason="imageio-ffmpeg (extra video) is not installed"
)
def test_films(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with video.overlay_writer(path, 0.1) as put:
        for value in (0, 120, 240):
            put(np.full((33, 47, 3), value, np.uint8))
    frames = list(video.frames_of(path))
    assert [round(seconds, 3) for _, seconds in frames] == [0.1] * 3 and frames[0][0].shape == (34, 48, 3)
    assert all(abs(float(frame.mean()) - value) < 6 for (frame, _), value in zip(frames, (0, 120, 240), strict=True))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"film\.mp4: is damaged or no video"):
        list(video.frames_of(path))


def test_what_cannot_be_meant(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    for text in (empty, f"{folder}/*.bmp"):
        with pytest.raises(UserError, match=f"{str(text).replace('*', '.')}: holds no image or video"):
            listed(text, out=out)
    with pytest.raises(UserError, match=r"nowhere\.jpg: no such file or folder"):
        listed(tmp_path / "nowhere.jpg", out=out)
    for inside in (folder, folder / "out", folder / "sub/deep/out"):
        with pytest.raises(UserError, match=r"--out .*: lies in .*photos, and results would be taken for images"):
            listed(folder, out=inside)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UserError, match="lies in"):
        listed(folder, out=tmp_path / "link/out")
    picture(out / "masks/a.png")
    for text in (out / "masks", out / "masks/a.png", f"{out}/**/*.png"):
        with pytest.raises(UserError, match=r"--out .*: .*masks.* lies in it, and results might replace it"):
            listed(text, out=out)
