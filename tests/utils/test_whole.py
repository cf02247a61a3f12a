"""Files that are there whole or not at all, whatever stands in their way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.whole import replacing, whole_file, write_whole


def _temporary(path: Path) -> Path:
    with pytest.raises(KeyError), replacing(path) as temporary:
        raise KeyError
    return temporary


def test_text_is_written_as_it_is_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "t.txt"
    write_whole(path, "é\r\nold\n")
    assert path.read_bytes() == b"\xc3\xa9\r\nold\n"
    write_whole(path, "new\n")
    assert path.read_bytes() == b"new\n"
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_there_at_the_end_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "t.bin"
    with whole_file(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists() and temporary.parent == tmp_path
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_what_breaks_off_leaves_the_old_file_alone(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "t.txt"
    write_whole(path, "old")
    with pytest.raises(failure), whole_file(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_for_those_without_words_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    write_whole(path, "old")
    for error, said in ((OSError(28, "No space left on device"), "No space left on device"), (OSError("odd"), "odd")):
        with pytest.raises(UserError) as caught, whole_file(path) as temporary:
            temporary.write_text("half")
            raise error
        assert str(caught.value) == f"{path}: cannot be written ({said})"
        with pytest.raises(OSError) as passed, replacing(path) as temporary:
            temporary.write_text("half")
            raise error
        assert passed.value is error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "t.txt", tmp_path / "file" / "deep" / "t.txt"):
        with pytest.raises(UserError, match=r"t\.txt: cannot be written"):
            write_whole(path, "new")
    with pytest.raises(NotADirectoryError), replacing(tmp_path / "file" / "t.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_in_the_place_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.txt" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "t.txt", Path("t.txt"), Path()):
        with pytest.raises(UserError, match="cannot be written"):
            write_whole(path, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_replacing_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "t.txt") as temporary:
        temporary.write_text("new")
    assert not list(tmp_path.iterdir())


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    path, outside = tmp_path / "t.txt", tmp_path / "outside"
    outside.write_text("x")
    _temporary(path).symlink_to(outside)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert outside.read_text() == "x" and not path.is_symlink() and path.read_text() == "new"


def test_a_file_that_is_the_new_one_already_leaves_no_second_name(tmp_path: Path) -> None:
    """Renaming one name of a file to another of the same file does nothing."""
    path = tmp_path / "t.txt"
    path.write_text("x")
    with replacing(path) as temporary:
        os.link(path, temporary)
    assert path.read_text() == "x" and list(tmp_path.iterdir()) == [path]
