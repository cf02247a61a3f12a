"""Caption and noun files are read and written as they were published, byte for byte."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from captions.filter_files import read_kept, write_kept
from captions.formats import read_captions, read_class_words, read_nouns, write_captions, write_nouns
from utils.errors import UserError

ARCHIVE = "captions/web_data_cap_file_NN.zip"


def test_published_noun_files_survive(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / ARCHIVE) as archive:
        names = [name for name in archive.namelist() if name.endswith(".txt")]
        images = nothing = 0
        for name in names[::15]:
            original = tmp_path / "in.txt"
            original.write_bytes(archive.read(name))
            rows = read_nouns(original)
            write_nouns(tmp_path / "out.txt", rows)
            assert (tmp_path / "out.txt").read_bytes() == original.read_bytes(), name
            images += len(rows)
            nothing += sum(not nouns for _, nouns in rows)
    assert len(names) == 10582
    # The sample has what is odd in these files: lines of bg, and empty files.
    assert images > 10_000 and nothing > 20


def test_published_class_words(shared_data: Path) -> None:
    words = read_class_words(shared_data / "captions/pascal_classes.txt")
    assert len(words) == 10582
    assert words["2007_000032"] == ["airplane", "person"] and words["2011_003276"] == ["bird"]


def test_nouns_are_written_as_published(tmp_path: Path) -> None:
    path = tmp_path / "new" / "nouns.txt"
    write_nouns(path, [("00001.jpg", ["dog", "dining_table"]), ("00002.jpg", [])])
    assert path.read_bytes() == b"00001.jpg dog dining_table \n00002.jpg bg\n"
    assert read_nouns(path) == [("00001.jpg", ["dog", "dining_table"]), ("00002.jpg", [])]
    assert [p.name for p in path.parent.iterdir()] == ["nouns.txt"]


@pytest.mark.parametrize(
    "name, caption",
    [
        ("00001.jpg", "An image of a dog"),
        ("my holiday.JPG", "a cat.jpg on a screen"),
        ("no_suffix", "a dog"),
        ("00001.jpg", ""),
        ("été.png", " blanks  stay "),
        ("a.jpg", "one\u2028line"),
    ],
)
def test_captions_come_back(name: str, caption: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    write_captions(path, [(name, caption), ("next.jpg", "x")])
    assert read_captions(path) == [(name, caption), ("next.jpg", "x")]


def test_captions_keep_to_one_line(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    write_captions(path, [("a.jpg", "two\r\nlines")])
    assert path.read_bytes() == b"a.jpg two lines\n"


def test_files_of_other_systems(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_bytes(b"\xef\xbb\xbfa.jpg a dog\r\n\r\nb.jpg\r\nc.jpg bg")
    assert read_captions(path) == [("a.jpg", "a dog"), ("b.jpg", ""), ("c.jpg", "bg")]
    assert read_nouns(path) == [("a.jpg", ["a", "dog"]), ("b.jpg", []), ("c.jpg", [])]


@pytest.mark.parametrize(
    "name", ["my holiday", "a.jpg b.jpg", "a\nb.jpg", "a\rb.jpg", "\udcff.jpg", "\ufeffa.jpg", "\x1d"]
)
def test_names_that_would_be_lost_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text("old.jpg stays\n")
    with pytest.raises(UserError, match="rename"):
        write_captions(path, [("good.jpg", "x"), (name, "")])
    assert path.read_text() == "old.jpg stays\n"
    assert [p.name for p in tmp_path.iterdir()] == ["captions.txt"]


@pytest.mark.parametrize("noun", ["dining table", "", "dog\n"])
def test_nouns_with_blanks_are_refused(noun: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="noun"):
        write_nouns(tmp_path / "nouns.txt", [("a.jpg", [noun])])


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.txt: no such file"):
        read_captions(tmp_path / "gone.txt")
    (tmp_path / "bytes.txt").write_bytes(b"a.jpg \xff\xfe")
    with pytest.raises(UserError, match=r"bytes\.txt: is no text"):
        read_nouns(tmp_path / "bytes.txt")
    with pytest.raises(UserError, match="cannot be read"):
        read_captions(tmp_path)
    (tmp_path / "twice.txt").write_text("a.png dog \na.png cat \n")
    with pytest.raises(UserError, match="a stands twice"):
        read_class_words(tmp_path / "twice.txt")


def test_other_line_breaks_of_unicode_stay_in_names(tmp_path: Path) -> None:
    rows = [("a\u2028b.jpg", "a dog"), ("c\x85d.jpg", "half \ud800")]
    write_captions(tmp_path / "captions.txt", rows)
    assert read_captions(tmp_path / "captions.txt") == [rows[0], ("c\x85d.jpg", "half ?")]
    write_kept(tmp_path / "kept", {"list": [name for name, _ in rows]})
    assert read_kept(tmp_path / "kept") == {"list": [name for name, _ in rows]}
    for name in ("a\nb.jpg", "\udcff.jpg", ""):
        with pytest.raises(UserError, match=r"kept: the name .* cannot stand in a list"):
            write_kept(tmp_path / "kept", {"list": [name]})
    assert read_kept(tmp_path / "kept") == {"list": [name for name, _ in rows]}
