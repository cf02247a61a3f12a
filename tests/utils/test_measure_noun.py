"""The published commands from the command line: files in, files out, bad input in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import pytest

from captions.formats import read_nouns
from dataset import replay_placing
from dataset.replay_tree import claimed_tree
from tests.conftest import ROOT
from utils.measure_noun import main

NOUNS = {
    "2008_000001": "1.jpg sky dog \n2.jpg puppy \n3.jpg car \n4.jpg dog \n",
    "2008_000002": "1.jpg bg\n2.jpg man horse \n3.jpg woman \n4.jpg street \n",
    "2008_000003": "",
}
CLASSES = "2008_000001.png dog \n2008_000002.png person horse \n2008_000003.png \n2008_000009.png cat \n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Noun files, class words and downloads."""
    (tmp_path / "nouns").mkdir()
    for name, text in NOUNS.items():
        (tmp_path / "nouns" / f"{name}.txt").write_text(text)
    (tmp_path / "classes.txt").write_text(CLASSES)
    for name in NOUNS:
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(1, 5):
            (tmp_path / "images" / name / f"{i}.jpg").write_bytes(f"{name} {i}".encode())
    return tmp_path


def run(folder: Path, command: str) -> int:
    """A command line whose paths lie in a folder (./name)."""
    return main([str(folder / word[2:]) if word.startswith("./") else word for word in command.split()])


def kept(folder: Path, name: str = "kept") -> dict[str, list[str]]:
    return {path.stem: path.read_text().split() for path in sorted((folder / name).iterdir())}


REPLAY = "filter_replay_with_NN --nouns ./nouns --classes ./classes.txt --out ./kept"


def test_replay_filter(folder: Path) -> None:
    assert run(folder, REPLAY) == 0
    assert kept(folder) == {"2008_000001": ["1.jpg", "4.jpg"], "2008_000002": ["2.jpg", "3.jpg"], "2008_000003": []}
    assert (folder / "kept" / "2008_000001.txt").read_text() == "1.jpg\n4.jpg\n"


def test_replay_filter_as_published(folder: Path) -> None:
    # First nouns alone, the first images that pass; a car passes for a dog, a street for a rider,
    # and neither man nor woman for a person.
    assert run(folder, f"{REPLAY} --similarity depth") == 0
    assert kept(folder) == {"2008_000001": ["2.jpg", "3.jpg"], "2008_000002": ["4.jpg"], "2008_000003": []}


def test_replay_filter_options(folder: Path) -> None:
    assert run(folder, f"{REPLAY} --per_original 1 --order first --similarity path --threshold 0.4") == 0
    assert kept(folder)["2008_000001"] == ["1.jpg"]
    assert run(folder, f"{REPLAY} --per_original 0 --first_nouns 1 --no-rivals") == 0
    assert kept(folder)["2008_000001"] == ["2.jpg", "4.jpg"]


def test_lists_stay_where_new_ones_cannot_take_their_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, REPLAY) == 0
    before, rename = kept(folder), Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    assert run(folder, f"{REPLAY} --per_original 1") == 2
    assert "kept: cannot be written (No space left on device)" in capsys.readouterr().err
    assert kept(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == ["classes.txt", "images", "kept", "nouns"]
    monkeypatch.undo()
    assert run(folder, f"{REPLAY} --per_original 1") == 0
    assert kept(folder) != before
    assert sorted(path.name for path in folder.iterdir()) == ["classes.txt", "images", "kept", "nouns"]


def test_nouns_from_an_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "nouns.zip", "w") as archive:
        archive.mkdir("lists")
        for name, text in NOUNS.items():
            archive.writestr(f"lists/{name}.txt", text)
    assert run(folder, REPLAY) == 0
    assert run(folder, REPLAY.replace("./nouns", "./nouns.zip").replace("./kept", "./zipped")) == 0
    assert kept(folder, "zipped") == kept(folder)


def test_against_captions(folder: Path) -> None:
    (folder / "originals.txt").write_text("2008_000001.jpg hound sky \n2008_000002.jpg bg\n2008_000003.jpg cat \n")
    command = "filter_replay_with_NN --nouns ./nouns --against caption --caption_nouns ./originals.txt --out ./kept"
    assert run(folder, command) == 0
    assert kept(folder) == {"2008_000001": ["1.jpg", "2.jpg"], "2008_000002": [], "2008_000003": []}


def test_new_classes(folder: Path) -> None:
    (folder / "web").mkdir()
    (folder / "web" / "sheep.txt").write_text("a.jpg ram grass \nb.jpg cow \nc.jpg field sheep \nd.jpg field \n")
    (folder / "web" / "cow.txt").write_text("a.jpg bull \nb.jpg sheep \n")
    assert run(folder, "filter_webnew_with_cls --nouns ./web --out ./kept") == 0
    assert kept(folder) == {"cow": ["a.jpg"], "sheep": ["a.jpg", "c.jpg"]}
    assert run(folder, "filter_webnew_with_cls --nouns ./web --out ./kept --per_class 1") == 0
    assert kept(folder) == {"cow": ["a.jpg"], "sheep": ["c.jpg"]}


@pytest.mark.parametrize("mode", replay_placing.MODES)
def test_move(folder: Path, mode: str) -> None:
    command = f"move_with_filtered_caption --images ./images --kept ./kept --out ./tree --mode {mode}"
    assert run(folder, REPLAY) == run(folder, command) == 0
    tree = folder / "tree"
    placed = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.jpg"))
    assert placed == [f"2008_00000{i}/image/{j}.jpg" for i, j in ((1, 1), (1, 4), (2, 2), (2, 3))]
    target, source = tree / "2008_000001" / "image" / "4.jpg", folder / "images" / "2008_000001" / "4.jpg"
    assert target.read_bytes() == b"2008_000001 4"
    assert target.is_symlink() == (mode == "symlink")
    assert os.path.samefile(target, source) == (mode != "copy")
    # A second run goes on: what is there stays, what is missing comes.
    target.unlink()
    before = (tree / "2008_000001" / "image" / "1.jpg").lstat().st_mtime_ns
    assert run(folder, command) == 0
    assert target.read_bytes() == b"2008_000001 4"
    assert (tree / "2008_000001" / "image" / "1.jpg").lstat().st_mtime_ns == before


def test_move_reads_what_a_tree_has_and_writes_web_folders(folder: Path) -> None:
    inside = folder / "images" / "2008_000001" / "image"
    inside.mkdir()
    (folder / "images" / "2008_000001" / "4.jpg").rename(inside / "4.jpg")
    assert run(folder, REPLAY) == 0
    assert run(folder, "move_with_filtered_caption --images ./images --kept ./kept --out ./tree --flat") == 0
    assert (folder / "tree" / "2008_000001" / "4.jpg").is_file()


def test_move_goes_on_where_images_are_missing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "images" / "2008_000001" / "1.jpg").unlink()
    assert run(folder, REPLAY) == 0
    assert run(folder, "move_with_filtered_caption --images ./images --kept ./kept --out ./tree") == 1
    assert "1 kept images are missing (2008_000001/1.jpg" in caplog.text
    assert (folder / "tree" / "2008_000002" / "image" / "3.jpg").is_file()


def test_nouns_are_found_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "captions").mkdir()
    for name in ("a", "b"):
        (folder / "captions" / f"{name}.txt").write_text("1.jpg A dog on a couch\n2.jpg \n")
    command = "generate_NN --captions ./captions --out ./found --tagger textblob"
    pytest.importorskip("textblob")
    assert run(folder, command) == 0
    assert read_nouns(folder / "found" / "a.txt") == [("1.jpg", ["dog", "couch"]), ("2.jpg", [])]
    # As if the first run had been stopped before the second file: the first one's is left as it is.
    (folder / "found" / "b.txt").unlink()
    stamp = (folder / "found" / "a.txt").stat().st_mtime_ns
    assert run(folder, command) == 0
    assert (folder / "found" / "b.txt").is_file()
    assert (folder / "found" / "a.txt").stat().st_mtime_ns == stamp
    # Captions with another image are done again.
    (folder / "captions" / "a.txt").write_text("1.jpg A cat\n3.jpg A cow\n")
    assert run(folder, command) == 0
    assert read_nouns(folder / "found" / "a.txt") == [("1.jpg", ["cat"]), ("3.jpg", ["cow"])]
    assert run(folder, "generate_NN --captions ./captions/a.txt --out ./one.txt --tagger textblob") == 0
    assert len(read_nouns(folder / "one.txt")) == 2


def test_web_images_of_an_earlier_step(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every kept image becomes an original of its own; what is not kept, or of another class, stays outside."""
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        (folder / "web").mkdir(exist_ok=True)
        (folder / "web" / name).write_bytes(name.encode())
    (folder / "web/manifest.csv").write_text("path,class,kept\na.jpg,cow,1\nb.jpg,cow,0\nc.jpg,sheep,1\nd.jpg,cows,1\n")
    line = "move_web_images --web_path ./web/manifest.csv --out ./tree --mode hardlink --classes"
    assert run(folder, f"{line} cow") == 0
    placed = {str(path.relative_to(folder / "tree")) for path in (folder / "tree").rglob("*.jpg")}
    assert placed == {"cow-000000/image/a.jpg", "cow-000003/image/d.jpg"}
    assert (folder / "tree/cow-000003/image/d.jpg").read_bytes() == b"d.jpg"
    (folder / "tree/cow-000000/image/a.jpg").unlink()
    (folder / "web/a.jpg").unlink()
    with caplog.at_level("INFO"):
        assert run(folder, f"{line} cow sheep") == 1
    assert (
        "1 images placed (hardlink), 1 were there before" in caplog.text
        and "1 kept images are missing (a.jpg" in caplog.text
    )
    assert run(folder, f"{line} cow horse") == 2


def web_images(folder: Path, rows: str) -> str:
    """A manifest of web images beside files outside of its folder; the command up to the classes."""
    (folder / "web/cow").mkdir(parents=True)
    for name in ("web/a.jpg", "web/cow/b.jpg", "secret.jpg", "secret.txt"):
        (folder / name).write_bytes(name.encode())
    (folder / "web/manifest.csv").write_text(f"path,class\n{rows}")
    return "move_web_images --web_path ./web/manifest.csv --out ./tree --classes"


@pytest.mark.parametrize("mode", replay_placing.MODES)
def test_a_manifest_names_files_of_its_own_folder(mode: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither files elsewhere nor links that lead there are placed unless a user says so."""
    line = web_images(folder, f"a.jpg,cow\n../secret.jpg,cow\n{folder}/secret.jpg,cow\nlink.jpg,cow\ncow/b.jpg,cow\n")
    (folder / "web/link.jpg").symlink_to("../secret.jpg")
    assert run(folder, f"{line} cow --mode {mode}") == 1
    placed = {path.name for path in (folder / "tree").rglob("*.jpg")}
    assert placed == {"a.jpg", "b.jpg"}
    assert "3 rows name files that lie neither in its folder" in caplog.text and "--anywhere" in caplog.text
    assert run(folder, f"{line} cow --mode {mode} --anywhere") == 0
    contents = sorted(path.read_bytes() for path in (folder / "tree").rglob("*.jpg"))
    assert contents == [b"secret.jpg"] * 3 + [b"web/a.jpg", b"web/cow/b.jpg"]


def test_a_selection_elsewhere_names_images_in_folders_of_classes(folder: Path) -> None:
    """As select_web.py writes one, whose manifest lies in another folder than its images."""
    (folder / "data/cow").mkdir(parents=True)
    (folder / "data/cow/1.jpg").write_bytes(b"1")
    line = web_images(folder, f"{folder}/data/cow/1.jpg,cow\n")
    assert run(folder, f"{line} cow") == 0
    assert (folder / "tree/cow-000000/image/1.jpg").read_bytes() == b"1"


def test_nothing_but_image_files_is_placed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    line = web_images(folder, "pipe.jpg,cow\ncow,cow\nmanifest.csv,cow\na.jpg,cow\nb.jpg,sheep\n")
    os.mkfifo(folder / "web/pipe.jpg")
    caplog.set_level("INFO")
    assert run(folder, f"{line} cow") == 1
    assert [path.name for path in (folder / "tree").rglob("*.*")] == ["a.jpg"]
    assert "3 kept images are missing (pipe.jpg, cow, manifest.csv" in caplog.text
    assert "1 images of other classes passed over: sheep" in caplog.text


def test_class_names_become_folders_that_a_tree_shows(folder: Path) -> None:
    line = web_images(folder, "a.jpg,tv/monitor\na.jpg,.net\na.jpg,HER2+\na.jpg,HER2-\n")
    assert run(folder, f"{line} tv/monitor .net HER2+") == 0
    assert sorted(path.name for path in (folder / "tree").iterdir()) == [
        "HER2+-000002",
        "_.net-000001",
        "tv_monitor-000000",
    ]


def test_one_run_at_a_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, REPLAY) == 0
    line = web_images(folder, "a.jpg,cow\n")
    (folder / "tree").mkdir()
    with claimed_tree(folder / "tree"):
        assert run(folder, MOVE) == run(folder, f"{line} cow") == 2
    assert capsys.readouterr().err.count("another run is at work on it") == 2
    assert not list((folder / "tree").iterdir())


def test_words_that_no_noun_is_similar_to_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """HER2+ is not taken for another word; its list keeps nothing."""
    for name in ("HER2+", "dog+", "cow"):
        (folder / "web").mkdir(exist_ok=True)
        (folder / "web" / f"{name}.txt").write_text("a.jpg her2 dog cow \n")
    assert run(folder, "filter_webnew_with_cls --nouns ./web --out ./kept") == 0
    assert kept(folder) == {"HER2+": [], "cow": ["a.jpg"], "dog+": []}
    assert "2 wanted words are no noun of the measure, and keep no image: HER2+, dog+" in caplog.text


def test_names_in_another_form_of_unicode(folder: Path) -> None:
    """Class words, lists and downloads meet, whichever way each of them writes an accent."""
    whole, apart = "kühe", unicodedata.normalize("NFD", "kühe")
    (folder / "nouns" / f"{apart}.txt").write_text(f"{whole}.jpg dog \n")
    (folder / "classes.txt").write_text(f"{CLASSES}{whole}.png dog \n", encoding="utf-8")
    (folder / "images" / whole).mkdir()
    (folder / "images" / whole / f"{apart}.jpg").write_bytes(b"x")
    assert run(folder, REPLAY) == 0
    assert kept(folder)[apart] == [f"{whole}.jpg"]
    assert run(folder, MOVE) == 0
    assert (folder / "tree" / apart / "image" / f"{whole}.jpg").read_bytes() == b"x"


MOVE = "move_with_filtered_caption --images ./images --kept ./kept --out ./tree"
BAD = {
    "no folder": ("", REPLAY.replace("./nouns", "./none"), "none: no such folder"),
    "no nouns": ("", REPLAY.replace("./nouns", "./images"), "images: holds no noun files (.txt)"),
    "no archive": ("", REPLAY.replace("./nouns", "./none.zip"), "none.zip: no such file"),
    "broken archive": ("x.zip=nothing", REPLAY.replace("./nouns", "./x.zip"), "x.zip: is damaged or no zip archive"),
    "no classes": ("", REPLAY.replace("./classes", "./none"), "none.txt: no such file"),
    "missing original": ("classes.txt=2008_000001.png dog \n", REPLAY, "2008_000002: its class words are missing (2 of 3"),
    "similarity": ("", f"{REPLAY} --similarity cosine", "similarity cosine: is not known; choose from depth"),
    "threshold": ("", f"{REPLAY} --threshold 7", "threshold 7.0: a similarity from -1 to 1 is needed"),
    "count": ("", f"{REPLAY} --per_original -1", "images to keep -1: a number from 0 is needed"),
    "both": ("", f"{REPLAY} --caption_nouns ./classes.txt", "--against classes needs --classes FILE and takes no --caption_nouns"),
    "other lists": ("kept/x.txt=", REPLAY, "kept: holds 1 other files (x.txt ...)"),
    "binary": ("nouns/x.txt=\udcff\udcfe", REPLAY, "x.txt: is no text in UTF-8"),
    "name of an archive": ("x.zip=PK\udcff", REPLAY.replace("./nouns", "./x.zip"), "x.zip: is damaged or no zip archive"),
    "no lists": ("", MOVE, "kept: no such folder"),
    "way out": ("kept/2008_000001.txt=../../x.jpg\n", MOVE, "'../../x.jpg' is no name of an image file"),
    "no images": ("kept/a.txt=1.jpg\n", MOVE.replace("./images", "./none"), "none: no such folder"),
    "other images": ("kept/a.txt=1.jpg\n|tree/a/image/2.jpg=", MOVE, "image: holds 2.jpg, which is not kept"),
    "own folder": ("kept/a.txt=1.jpg\n", MOVE.replace("./tree", "./images"), "images: holds the downloads"),
    "no captions": ("", "generate_NN --captions ./none --out ./x", "none: no such file"),
    "own captions": ("a.txt=1.jpg x\n", "generate_NN --captions ./a.txt --out ./a.txt", "a.txt: would replace the captions"),
    "tagger": ("a.txt=1.jpg x\n", "generate_NN --captions ./a.txt --out ./b.txt --tagger x", "tagger x: is not known"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, command, message = BAD[case]
    for item in filter(None, files.split("|")):
        name, _, text = item.partition("=")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(folder, command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0] and lines[0].startswith("utils.measure_noun: ")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_link_across_devices_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert run(folder, REPLAY) == 0
    assert run(folder, f"{MOVE} --mode hardlink") == 2
    assert "(Invalid cross-device link); --mode copy always is" in capsys.readouterr().err
    assert not list((folder / "tree").rglob("*.jpg")) and not list((folder / "tree").rglob("*.tmp"))


def test_as_a_module(folder: Path) -> None:
    command = [sys.executable, "-m", "utils.measure_noun", "filter_replay_with_NN", "--nouns", str(folder / "nouns")]
    command += ["--classes", str(folder / "classes.txt"), "--out", str(folder / "kept")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "4 of 8 images kept for 3 lists, none for 1" in done.stderr
    assert done.stdout == ""
    # Nothing heavy is loaded for it.
    code = "import sys; from utils.measure_noun import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *command[3:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.lower()) is False
