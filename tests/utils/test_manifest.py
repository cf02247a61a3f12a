"""The manifest of web images."""

from __future__ import annotations

import logging
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
        ("path;class\na.jpg;cow\n", "semicolons stand between"),
        ("path\tclass\na.jpg\tcow\n", "tabs stand between"),
        ("\xff\xfep\0a\0t\0h\0", "UTF-16"),
        ("Path,class\na.jpg,cow\n", "'Path' of its first line is written path"),
        ("path,class,kept \na.jpg,cow,0\n", "'kept ' of its first line is written kept"),
        ("path,class\na\0.jpg,cow\n", "line 2: its path holds a NUL"),
        ("path,class\na.jpg,cow\n" + "x" * 300 + ".jpg,cow\n", "line 3: its path x+... is longer"),
        ("path,class\n" + "x/" * 3000 + "a.jpg,cow\n", "line 2: its path .*longer"),
        ('path,class\n"a\nb.jpg",cow\n', "line 2: its path a b.jpg holds a line break"),
        ('path,class\n"a.jpg,cow\nb.jpg,cow\n', "line 2: .*quotation mark not closed"),
        ('path,class\na.jpg,"cow\nb.jpg,cow\nc.jpg,"cow"\n', "line 2: .*quotation mark not closed"),
        (
            'path,class,caption\na.jpg,cow,"brown\nb.jpg,cow,\nc.jpg,cow,"\n',
            "line 2: a quotation mark is not closed.*b.jpg",
        ),
        ("path,class,kept\na.jpg,cow,1\nb.jpg,cow,maybe\n", "line 3: kept is 'maybe'; write 1, true, yes or x"),
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


def test_a_spreadsheet_saved_it(tmp_path: Path) -> None:
    """With a byte order mark, line ends of two characters, quoted cells, and an empty line at the end."""
    path = tmp_path / "m.csv"
    path.write_bytes('\ufeff"path","class","caption"\r\n"a.jpg",cow,"a ""brown""\r\ncow, or two"\r\n\r\n'.encode())
    rows = list(manifest.open_manifest(path))
    assert rows == [{"path": "a.jpg", "class": "cow", "caption": 'a "brown"\r\ncow, or two'}]


@pytest.mark.parametrize(
    ("cell", "kept"),
    [("1", True), ("1.0", True), ("TRUE", True), ("yes", True), ("x", True), ("X", True), ("1 ", True), (" True", True),
     ("0", False), ("0.0", False), ("FALSE", False), ("no", False), ("", False), (" ", False)],
)  # fmt: skip
def test_spellings_of_kept(tmp_path: Path, cell: str, kept: bool) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"path,class,kept\na.jpg,cow,{cell}\n")
    assert len(list(manifest.open_manifest(path).kept())) == kept


@pytest.mark.parametrize("cell", ["2", "-1", "nan", "1,0", "ja", "maybe", "TRUEISH"])
def test_other_spellings_of_kept_are_refused(cell: str) -> None:
    with pytest.raises(UserError, match=r"a\.jpg: kept is .*write 1, true"):
        manifest.is_kept({"path": "a.jpg", "kept": cell})


def test_blanks_of_a_path_come_back(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    names = ["dog  1.jpg", " a.jpg ", "b\u2028.jpg", "\u00a0.jpg"]
    manifest.write(
        path, ("path", "class", "caption"), ({"path": name, "class": "cow", "caption": "a  b"} for name in names)
    )
    assert [row["path"] for row in manifest.open_manifest(path)] == names


@pytest.mark.parametrize("name", ["a\nb.jpg", os.fsdecode(b"c\xff.jpg")])
def test_a_path_that_would_not_come_back(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="rename the file"):
        manifest.write(tmp_path / "m.csv", ("path", "class"), [{"path": name, "class": "cow"}])
    (tmp_path / "web/cow").mkdir(parents=True)
    (tmp_path / "web/cow" / name).touch()
    with pytest.raises(UserError, match="rename the file"):
        list(manifest.open_manifest(tmp_path / "web"))


def test_paths_inside_the_folder(tmp_path: Path) -> None:
    for name in ("web/cow", "other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.jpg").touch()
    (tmp_path / "web/link.jpg").symlink_to(tmp_path / "other/a.jpg")
    (tmp_path / "web/away").symlink_to(tmp_path / "other")
    (tmp_path / "web/near.jpg").symlink_to("cow/a.jpg")
    (tmp_path / "web/loop").symlink_to("loop")
    (tmp_path / "linked").symlink_to(tmp_path / "web")
    manifest.write(tmp_path / "web/manifest.csv", ("path", "class"), [])
    for root in ("web", "linked"):
        source = manifest.open_manifest(tmp_path / root)
        inside = {
            path: source.inside({"path": path})
            for path in (
                "cow/a.jpg", "near.jpg", "none.jpg", str(tmp_path / "web/cow/a.jpg"), "loop", "x/../cow/a.jpg",
                "link.jpg", "away/a.jpg", "../other/a.jpg", str(tmp_path / "other/a.jpg"), "/etc/passwd", "../web2/a.jpg",
            )
        }  # fmt: skip
        assert list(inside.values()) == [True] * 6 + [False] * 6, inside


def test_what_a_folder_holds_besides_images_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("cow/1.jfif", "cow/1.txt", "cow/b\x1b.doc", "cow/c", "cow/d", "sheep/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "cow/pipe.jpg")
    with caplog.at_level(logging.WARNING, "webwilss"):
        opened = manifest.open_manifest(tmp_path)
        assert [row["path"] for row in opened] == ["cow/1.jfif"]
        assert list(opened) == list(opened)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        r"5 things in its class folders are no image files by name and are left out: cow/1.txt, cow/b\x1b.doc, cow/c and 2 more"
    ]


def test_a_file_of_others_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("a,b\n1,2")
    with pytest.raises(UserError, match="other columns"):
        manifest.Writer(path, ("path", "class"))
    assert path.read_text() == "a,b\n1,2"
    path.write_text("a,b")
    with pytest.raises(UserError, match="other columns"):
        manifest.Writer(path, ("path", "class"))
    assert path.read_text() == "a,b"


def test_half_a_first_line_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("path,cl")
    with manifest.Writer(path, ("path", "class")) as writer:
        writer.write({"path": "a.jpg", "class": "cow"})
    assert path.read_text() == "path,class\na.jpg,cow\n"


def test_a_pipe_is_no_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.csv")
    with pytest.raises(UserError, match="no such manifest"):
        manifest.open_manifest(tmp_path / "m.csv")
