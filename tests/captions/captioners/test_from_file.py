"""Captions that came with the images are found in every format, and never given to another image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captions.captioners import make_captioner
from captions.captioners.base import CaptionerSettings
from captions.captioners.from_file import FileCaptioner
from utils import distributed
from utils.errors import UserError

COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 9, "file_name": "none.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 8, "caption": "A cat ."},
        {"id": 2, "image_id": 7, "caption": "A dog ."},
        {"id": 3, "image_id": 7, "caption": "A brown dog ."},
    ],
}


@pytest.mark.parametrize(
    "name, content",
    [
        ("coco.json", json.dumps(COCO)),
        (
            "list.json",
            json.dumps([{"file": "a.jpg", "captions": ["A dog .", "x"]}, {"file": "b.jpg", "caption": "A cat ."}]),
        ),
        ("captions.txt", "a.jpg A dog .\nb.jpg A cat .\nc.jpg\n"),
        ("manifest.csv", "path,class,caption\na.jpg,dog,A dog .\nb.jpg,cat,A cat .\nnone.jpg,dog,\n"),
    ],
)
def test_every_format(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    captioner = make_captioner("file", CaptionerSettings(captions=tmp_path / name), distributed.start("cpu"))
    found = captioner.caption_files([Path("elsewhere/b.jpg"), tmp_path / "a.jpg", Path("none.jpg")])
    assert found[:2] == ["A cat .", "A dog ."]
    assert isinstance(found[2], UserError) and "no caption" in str(found[2])


def test_equal_names_in_several_folders(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,class,caption\ncat/1.jpg,cat,a cat\ndog/1.jpg,dog,a dog\n")
    found = FileCaptioner(tmp_path / "manifest.csv").caption_files([tmp_path / "dog" / "1.jpg", Path("other/1.jpg")])
    assert found[0] == "a dog"
    assert isinstance(found[1], UserError) and "several" in str(found[1])


def test_real_captions(shared_data: Path) -> None:
    folder = shared_data / "web-captioned"
    captioner = FileCaptioner(folder / "captions.json")
    images = sorted((folder / "images").iterdir())
    found = captioner.caption_files(images)
    assert len(images) == 256 and all(isinstance(caption, str) and caption for caption in found)
    assert captioner.caption_files([Path("1001773457_577c3a7d70.jpg")]) == [
        "A black dog and a spotted dog are fighting"
    ]


@pytest.mark.parametrize(
    "name, content, fault",
    [
        ("a.json", "{", "no JSON"),
        ("a.json", '{"images": []}', "COCO"),
        ("a.json", '[{"name": "a.jpg"}]', "needs"),
        ("a.json", '[{"file": "a.jpg", "captions": [3]}]', "needs"),
        ("a.json", "[3]", "needs"),
        ("a.json", '{"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}', "needs"),
        ("a.json", "[]", "holds no captions"),
        ("a.csv", "path,class\na.jpg,dog\n", "has no captions"),
        ("a.txt", "a.jpg\n", "holds no captions"),
    ],
)
def test_wrong_files_are_named(name: str, content: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name}: .*{fault}"):
        FileCaptioner(tmp_path / name)


def test_missing_files(tmp_path: Path) -> None:
    for name in ("gone.json", "gone.txt", "gone.csv"):
        with pytest.raises(UserError, match="gone"):
            FileCaptioner(tmp_path / name)
    with pytest.raises(UserError, match="needs --captions"):
        make_captioner("file", CaptionerSettings(), distributed.start("cpu"))
    with pytest.raises(UserError, match="choose from tags"):
        make_captioner("flamingo", CaptionerSettings(), distributed.start("cpu"))
