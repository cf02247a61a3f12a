"""Captions that came with the images are found in every format, and never given to another image."""

from __future__ import annotations

import json
import unicodedata
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


def test_a_fault_loses_only_what_it_is_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Images that were taken out, captions that are null, empty or no text, entries of another shape; one line says how many."""
    content = COCO | {
        "images": [*COCO["images"], {"id": 10}, None, {"id": [], "file_name": "x.jpg"}],
        "annotations": [
            {"image_id": 9, "caption": None},
            {"image_id": 9, "caption": " "},
            {"image_id": 9, "caption": ["no"]},
            {"image_id": 7, "caption": 3},
            *COCO["annotations"],
            {"image_id": 77, "caption": "gone"},
            {"image_id": [8], "caption": "gone"},
            "gone",
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    captioner = FileCaptioner(tmp_path / "coco.json")
    found = captioner.caption_files([tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "none.jpg"])
    assert found[:2] == ["A dog .", "A cat ."] and isinstance(found[2], UserError)
    assert [record.message.partition("left out: ")[2] for record in caplog.records] == [
        "3 images have no id or file_name, 3 captions are of images that it does not list, 4 captions are empty or no text"
    ]


@pytest.mark.parametrize(
    "entry",
    [
        {"image": "a.jpg", "caption": "A dog ."},
        {"image": "a.jpg", "captions": "A dog ."},
        {"file_name": "a.jpg", "captions": [None, "A dog ."]},
        {"image_path": "pictures\\a.jpg", "caption": "A dog ."},
        {"path": "C:\\pictures\\a.jpg", "caption": "A dog ."},
    ],
)
def test_lists_of_other_tools(entry: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "sbu.json").write_text(json.dumps([entry, {"image": "b.jpg"}, 3]), encoding="utf-8-sig")
    assert FileCaptioner(tmp_path / "sbu.json").caption_files([Path("a.jpg")]) == ["A dog ."]


def test_ids_of_other_tools(tmp_path: Path) -> None:
    """Text, or numbers with a decimal point."""
    content = {
        "images": [{"id": "1", "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 1.0, "caption": "a dog"}, {"image_id": "2", "caption": "a cat"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    found = FileCaptioner(tmp_path / "coco.json").caption_files([Path("a.jpg"), Path("b.jpg")])
    assert found == ["a dog", "a cat"]


def test_names_in_another_form_of_unicode(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "Zürich.jpg")
    (tmp_path / "list.json").write_text(json.dumps([{"image": apart, "caption": "a town"}]))
    assert FileCaptioner(tmp_path / "list.json").caption_files([Path("Zürich.jpg"), Path(apart)]) == ["a town"] * 2
    both = [{"image": apart, "caption": "a town"}, {"image": "Zürich.jpg", "caption": "a lake"}]
    (tmp_path / "list.json").write_text(json.dumps(both))
    assert FileCaptioner(tmp_path / "list.json").caption_files([tmp_path / "Zürich.jpg", tmp_path / apart]) == [
        "a lake",
        "a town",
    ]


def test_text_that_no_file_takes(tmp_path: Path) -> None:
    entries = [
        {"image": "a\0.jpg", "caption": "x"},
        {"image": "\ud800.jpg", "caption": "x"},
        {"image": "a.jpg", "caption": "a \ud800"},
    ]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    assert FileCaptioner(tmp_path / "list.json").caption_files([Path("a.jpg")]) == ["a ?"]


def test_a_manifest_that_windows_wrote(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="webwilss")
    (tmp_path / "im").mkdir()
    (tmp_path / "im" / "a.jpg").touch()
    (tmp_path / "im" / "b\\c.jpg").touch()
    text = "path,class,caption\r\nim\\a.jpg,dog,A dog\r\nim/b\\c.jpg,dog,A puppy\r\n"
    (tmp_path / "win.csv").write_text(text, encoding="utf-8-sig", newline="")
    found = FileCaptioner(tmp_path / "win.csv").caption_files([tmp_path / "im/a.jpg", tmp_path / "im/b\\c.jpg"])
    assert found == ["A dog", "A puppy"]
    assert "1 paths are written with \\ and read with /" in caplog.text


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
        ("a.json", '[{"file": "a.jpg", "captions": [3]}]', "holds no captions .1 captions are empty or no text"),
        ("a.json", "[3]", "needs"),
        (
            "a.json",
            '{"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}',
            "holds no captions .1 captions are of images that it does not list",
        ),
        ("a.json", '{"images": {}, "annotations": []}', "needs COCO"),
        ("a.json", '"a.jpg"', "needs COCO"),
        ("a.json", "[" * 100_000 + "]" * 100_000, "is nested too deeply"),
        ("a.json", "[" + "9" * 5000 + "]", "no JSON"),
        ("a.json", '{"images": [], "images": [], "annotations": []}', "'images' stands twice"),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "annotations": []}',
            "id 1 is that of two images, 'a.jpg' and 'b.jpg'",
        ),
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
