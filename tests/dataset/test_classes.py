"""classes.txt as people and their tools write it: read rightly, or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataset import class_names
from dataset.folder import make
from utils.errors import UserError

RED_GREEN = {1: "red", 2: "green"}
READ = {
    "names": ("red\ngreen\n", RED_GREEN),
    "background first": ("background\nred\ngreen\n", RED_GREEN),
    "windows": ("\ufeffbackground\r\nred\r\n\r\ngreen\r\n", RED_GREEN),
    "old mac": ("red\rgreen\r", RED_GREEN),
    "signs": ('<b>bold</b>\na/b, "c"\n100%\n', {1: "<b>bold</b>", 2: 'a/b, "c"', 3: "100%"}),
    "comments": ("# classes of the farm\nred\n  # one more\ngreen", RED_GREEN),
    "numbered": ("7 sheep\n3: cow\n", {7: "sheep", 3: "cow"}),
    "numbered, background": ("0 background\n1 red\n2 green\n", RED_GREEN),
    "numbered with colons": ("0: _background_\n1: red\n2: green\n", RED_GREEN),
    "background alone has its number": ("0 background\nred\ngreen\n", RED_GREEN),
    "numbered with dots": ("1. red\n2. green\n", RED_GREEN),
    "other names of background": ("bg\nred\ngreen\n", RED_GREEN),
    "ignore as 255": ("1 red\n2 green\n255 void\n", RED_GREEN),
    "labelme": ("__ignore__\n_background_\nred\ngreen\n", RED_GREEN),
    "labelme, class_names.txt": ("_background_\nred\ngreen\n", RED_GREEN),
    "labelme with numbers": ("-1: __ignore__\n0: _background_\n1: red\n2: green\n", RED_GREEN),
    "CVAT": ("# label:color_rgb:parts:actions\nbackground:0,0,0::\nred:1,2,3::\ngreen:4,5,6::\n", RED_GREEN),
    "CVAT without colours": ("background:::\nred:::\ngreen:::\n", RED_GREEN),
    "mmsegmentation": ("METAINFO = dict(\n    classes=('background', 'red',\n  'green'),\n    palette=[[1, 2, 3], [4, 5, 6]])", RED_GREEN),
    "code with brackets in names": ("classes = ['background', 'red (x)', 'green']", {1: "red (x)", 2: "green"}),
    "a list alone": ('["background", "red", "green"]', RED_GREEN),
    "CSV": ("id,name\n1,red\n2,green\n", RED_GREEN),
    "CSV with background": ('id,name,colour\n0,background,black\n2,"green, dark",x\n1,red,y\n', {2: "green, dark", 1: "red"}),
    "semicolons, empty rows, numbers as a spreadsheet has them": ("Name;ID\r\nred;1.0\r\ngreen;2\r\n;\r\n", RED_GREEN),
    "TSV": ("class\tname\n1\tred\n2\tgreen\n", RED_GREEN),
    "Roboflow": ("Pixel Value, Class\n0, background\n1, red\n2, green\n", RED_GREEN),
    "YAML": ("0: background\n1: 'red'\n2: green\n", RED_GREEN),
    "CSV without heading": ("1,red\n2,green\n", RED_GREEN),
    "a spreadsheet's empty columns": ("red,,\ngreen,,\n", RED_GREEN),
    "quoted": ('"red"\n"green"\n', RED_GREEN),
    "a name that begins with a number": ("car\ntruck\n2 wheeler\n", {1: "car", 2: "truck", 3: "2 wheeler"}),
    "names that end with numbers": ("type 1\ntype 2\n", {1: "type 1", 2: "type 2"}),
    "names with signs": ("HER2+\nHER2-\nC#\n", {1: "HER2+", 2: "HER2-", 3: "C#"}),
    "decomposed": ("cafe\u0301\n", {1: "caf\u00e9"}),
}  # fmt: skip
REFUSED = {
    "numbers on some lines": ("red\n5: green\nblue\n", r"some lines begin with a number \(5: green\) and others do not \(red, blue\)"),
    "numbers on most lines": ("car\n3 wheeler\n2 wheeler\n", "some lines begin with a number"),
    "zero is no background": ("0 red\n1 green\n", "number 0 is red, but 0 is background"),
    "zero on one line": ("0 red\ngreen\n", "some lines begin with a number"),
    "code without background": ("classes=('road', 'car')", "its first name is road"),
    "code that is none": ("classes=(A, B)\n", "is no list of names"),
    "CVAT without background": ("red:1,2,3::\nbackground:0,0,0::\n", "its first name is red"),
    "background in the middle": ("red\nbackground\ngreen\n", "background has number 2"),
    "background with a number": ("1 background\n2 red\n", "background has number 1"),
    "void as a class": ("red\ngreen\nvoid\n", "void has number 3, but 255"),
    "ignore without background": ("__ignore__\nred\n", "begins with __ignore__, red"),
    "heading alone": ("Class\nred\ngreen\n", "its first line, Class, is a heading or a class"),
    "no column of numbers": ("name,r,g,b\nred,1,2,3\n", "has not one column of numbers"),
    "row without number": ("id,name\n1,red\n,green\n", "the row ',green' has no whole number"),
    "row over lines": ('id,name\n1,"red\n2,green"\n', "cannot be read"),
    "numbers last": ("red,1\ngreen,2\n", "its lines end with a number"),
    "colours first": ("64 128 64 Animal\n192 0 128 Archway\n", "its lines hold colours"),
    "colours last": ("red 255 0 0\ngreen 0 255 0\n", "its lines hold colours"),
    "numbers and colours": ("1,red,255,0,0\n2,green,0,255,0\n", "its lines hold colours"),
    "three columns": ("1,red,car\n2,green,bus\n", "has more than two columns"),
    "XML": ('<?xml version="1.0"?>\n<annotation>\n', "as data of programs do"),
    "JSON": ('{"1": "red",\n "2": "green"}', "as data of programs do"),
    "a YAML of YOLO": ("names:\n  1: red\n", "is a heading or a class"),
    "all in one line": ("red, green, blue\n", "write one a line"),
    "columns": ("red\tdark\ngreen\tlight\n", "has a tab or a comment"),
    "comment behind a name": ("red # nice\ngreen\n", "has a tab or a comment"),
    "twice": ("red\nred\n", "class red stands twice"),
    "twice in two Unicode forms": ("caf\u00e9\ncafe\u0301\n", "stands twice"),
    "number twice": ("1 red\n1 green\n", r"class number 1 \(green\) stands twice"),
    "number too high": ("1 red\n256 green\n", "is not from 1 to 254"),
    "number of 5000 digits": ("1" * 5000 + " red\n", "is not from 1 to 254"),
    "too many": ("".join(f"c{i}\n" for i in range(255)), "is not from 1 to 254"),
    "no class": ("background\n", "names no class"),
    "empty": ("\n \n# none\n", "names no class"),
    "NUL": ("re\0d\n", "save it as UTF-8"),
    "control sign": ("re\x1b[31md\n", r"re\\x1b\[31md.* holds a sign"),
    "a second byte order mark": ("red\n\ufeffgreen\n", "holds a sign"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_forms(name: str, tmp_path: Path) -> None:
    content, expected = READ[name]
    (tmp_path / "classes.txt").write_bytes(content.encode())
    assert class_names("folder", tmp_path) == {0: "background", **expected}


@pytest.mark.parametrize("name", REFUSED)
def test_doubtful_forms(name: str, tmp_path: Path) -> None:
    content, fault = REFUSED[name]
    (tmp_path / "classes.txt").write_bytes(content.encode())
    with pytest.raises(UserError, match=fault) as refused:
        make(tmp_path, "train")
    message = str(refused.value)
    assert message.startswith(str(tmp_path / "classes.txt")) and message.isprintable() and len(message) < 500


def test_encodings(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("background\r\nred\r\ngrün\r\n".encode("utf-16"))
    assert class_names("folder", tmp_path) == {0: "background", 1: "red", 2: "grün"}
    for content in ("grün\n".encode("latin-1"), "red\n".encode("utf-16-le"), bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(UserError, match="save it as UTF-8"):
            class_names("folder", tmp_path)
    path.write_bytes(b"red\n" * (1 << 19))
    with pytest.raises(UserError, match="is longer than 1,048,576 bytes"):
        class_names("folder", tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="missing"):
        class_names("folder", tmp_path)


def test_guesses_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "classes.txt").write_text("# of the road\ncar\n2 wheeler\n")
    class_names("folder", tmp_path)
    assert "1 lines are comments: # of the road" in caplog.text
    assert "'2 wheeler' is read as a name" in caplog.text
