"""The command: what it prints, and what its exit code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import collect_web
from tests.conftest import ROOT
from tests.web.server import photo


@pytest.fixture
def source(tmp_path: Path) -> str:
    for number, name in enumerate(("cow/a.jpg", "cow/b.jpg", "sheep/a.jpg", "sheep/b.jpg")):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(photo(number // 2))
    return f"folder:{tmp_path / 'source'}"


def run(*arguments: str | Path) -> int:
    return collect_web.main(collect_web.get_argparser().parse_args([str(argument) for argument in arguments]))


def test_a_collection(tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--classes", "cow", "sheep", "--out", tmp_path / "web", "--source", source) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "class                  found    kept  refused  reasons",
        "cow                        2       1        1  same file 1",
        "sheep                      2       1        1  same file 1",
    ]
    assert (tmp_path / "web/sheep/00001.jpg").is_file()


def test_a_class_without_images(tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--classes", "cow", "horse", "--out", tmp_path / "web", "--source", source) == 1
    told = capsys.readouterr()
    assert "collect_web.py: no image of horse (0 candidates)" in told.err.splitlines()
    assert "cow                        2       1" in told.out


def test_several_evaluation_sets(tmp_path: Path, source: str) -> None:
    for number in (0, 1):
        (tmp_path / f"{number}.jpg").write_bytes(photo(number))
    options = ["--not_in", tmp_path / "0.jpg", "--not_in", tmp_path / "1.jpg"]
    assert run("--classes", "cow", "sheep", "--out", tmp_path / "web", "--source", source, *options) == 1


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "collect_web.py"), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def test_bad_input_is_one_line(tmp_path: Path, source: str) -> None:
    done = command("--classes", "cow", "--out", tmp_path / "web", "--source", source, "--source", "commons")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "collect_web.py: --source commons: Wikimedia wants to know whom to write to; give --contact MAIL_OR_PAGE"
    ]


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, collect_web; collect_web.get_argparser().format_help(); assert not {'torch', 'httpx', 'PIL'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_that_is_printed_steers_the_terminal(
    tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source/cow/notes\x1b[31m.md").touch()
    (tmp_path / "source/cow/bad\x1b[31m.jpg").write_bytes(b"x")
    (tmp_path / "source/\x9bsheep").mkdir()
    listed = tmp_path / "list\x1b[31m.csv"
    listed.write_text("url,class\n\x1b[31m,cow\n,\x1b[31m\n")
    options = ["--source", source, "--source", f"list:{listed}", "--not_in", tmp_path / "source/sheep"]
    (tmp_path / "source/sheep/bad\x1b[31m.jpg").touch()
    assert run("--classes", "cow", "\x1b[31mhorse", "--out", tmp_path / "web", *options) == 1
    told = capsys.readouterr()
    assert (
        told.out.count("notes [31m.md") == 1
        and r"list\x1b[31m.csv" in told.err
        and r"no image of \x1b[31mhorse" in told.err
    )
    assert "1 of 3 cannot be read" in told.err
    for text in (told.out, told.err, *(path.read_text() for path in (tmp_path / "web").glob("re*.csv"))):
        assert not {"\x1b", "\x9b"} & set(text)


def test_bad_input_with_signs_is_plain(tmp_path: Path, source: str) -> None:
    done = command("--classes", "cow", "--out", tmp_path / "web", "--source", "folder:\x1b[31mnowhere\nsecond")
    assert (done.returncode, done.stderr) == (
        2,
        "collect_web.py: --source folder:\\x1b[31mnowhere second: no such folder\n",
    )
