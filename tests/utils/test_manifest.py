"""The manifest of web images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from utils import manifest
from utils.errors import UserError


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    with manifest.Writer(path) as writer:
        writer.write({"path": "cow/1.jpg", "class": "cow", "caption": 'a "brown" cow,\nby a fence', "width": 5})
    with manifest.Writer(path) as writer:
        writer.write({"path": "sheep/1.jpg", "class": "sheep"})
    opened = manifest.open_manifest(tmp_path)
    rows = list(opened)
    assert [row["class"] for row in rows] == ["cow", "sheep"]
    assert rows[0]["caption"] == 'a "brown" cow, by a fence'
    assert rows[0]["width"] == "5" and rows[1]["width"] == ""
    assert opened.file(rows[0]) == tmp_path / "cow" / "1.jpg"


def test_half_a_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    with manifest.Writer(path, ("path", "class")) as writer:
        writer.write({"path": "a.jpg", "class": "cow"})
    with path.open("a") as file:
        file.write('"half of a li')
    with manifest.Writer(path, ("path", "class")) as writer:
        writer.write({"path": "b.jpg", "class": "cow"})
    assert [row["path"] for row in manifest.open_manifest(path)] == ["a.jpg", "b.jpg"]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    manifest.write(path, ("path", "class"), [])
    with pytest.raises(UserError, match="other columns"):
        manifest.Writer(path)


def test_folder_of_class_folders(tmp_path: Path) -> None:
    for name in ("sheep/b.jpg", "cow/a.PNG", "cow/notes.txt", ".hidden/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = list(manifest.open_manifest(tmp_path))
    assert rows == [{"path": "cow/a.PNG", "class": "cow"}, {"path": "sheep/b.jpg", "class": "sheep"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("url,class\n", "path"),
        ("path,class,class\n", "twice"),
        ("path,class\na.jpg\n", "line 2"),
        ("path,class\na.jpg,cow,3\n", "line 2"),
        ("path,class\n,cow\n", "line 2"),
        ("path,class\n\xff\xfe\x00", "cannot be read"),
    ],
)
def test_bad_manifests_are_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=said) as caught:
        list(manifest.open_manifest(path))
    assert "m.csv" in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such"):
        manifest.open_manifest(tmp_path / "none.csv")
    with pytest.raises(UserError, match="neither"):
        manifest.open_manifest(tmp_path)


def test_write_does_not_follow_a_link_in_its_way(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    (tmp_path / f".m.csv.{os.getpid()}.tmp").symlink_to(outside)
    assert manifest.write(tmp_path / "m.csv", ("path", "class"), []) == 0
    assert outside.read_text() == "x" and not (tmp_path / "m.csv").is_symlink()


def test_write_replaces_the_whole_file_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    assert manifest.write(path, ("path", "class"), [{"path": "a", "class": "b"}]) == 1

    def breaks() -> object:
        yield {"path": "c", "class": "d"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manifest.write(path, ("path", "class"), breaks())
    assert [row["path"] for row in manifest.open_manifest(path)] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.csv"]


def test_kept_and_matched_rows(tmp_path: Path) -> None:
    rows = [("a.jpg", "cow", "1"), ("b.jpg", "cow", "0"), ("c.jpg", "zebra", "1"), ("d.jpg", "cattle", "1")]
    path = tmp_path / "selected.csv"
    columns = ("path", "class", "kept")
    manifest.write(path, columns, (dict(zip(columns, row, strict=True)) for row in rows))
    opened = manifest.open_manifest(path)
    assert [(number, row["path"]) for number, row in opened.kept()] == [(0, "a.jpg"), (2, "c.jpg"), (3, "d.jpg")]
    matched = opened.matched({"cow": "cow", "cattle": "cow"}.get)
    assert [(own, row["path"]) for own, row in matched] == [
        ("cow", "a.jpg"), ("cow", "b.jpg"), (None, "c.jpg"), ("cow", "d.jpg"),
    ]  # fmt: skip


def test_without_a_selection_every_row_is_kept(tmp_path: Path) -> None:
    for name in ("1.jpg", ".2.jpg", "notes.txt"):
        (tmp_path / "cow").mkdir(exist_ok=True)
        (tmp_path / "cow" / name).touch()
    assert [row["path"] for _, row in manifest.open_manifest(tmp_path).kept()] == ["cow/1.jpg"]
