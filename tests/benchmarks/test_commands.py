"""Every benchmark is a command of the repository root: it answers, and ends with a code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.pages import ROOT, finish
from utils.errors import UserError

NAMES = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if 'if __name__ == "__main__"' in path.read_text("utf-8")
)


def call(*line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *line], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("name", NAMES)
def test_help_answers(name: str) -> None:
    done = call("-m", f"benchmarks.{name}", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--help" in done.stdout and f"python -m benchmarks.{name}" in done.stdout


def test_there_are_all_of_them() -> None:
    assert set(NAMES) >= {"animals", "captions", "data", "nouns", "readme", "replay", "scoring", "step", "domain"}


def test_nobody_changes_the_import_path() -> None:
    for path in (ROOT / "benchmarks").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "sys.path" not in text and "python benchmarks/" not in text, path.name


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def bad() -> int:
        raise UserError("--work x: holds nothing")

    with pytest.raises(SystemExit) as ended:
        finish("animals", bad)
    assert ended.value.code == 2 and capsys.readouterr().err == "benchmarks.animals: --work x: holds nothing\n"


@pytest.mark.parametrize("code", [0, 1])
def test_a_benchmark_ends_with_its_code(code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        finish("domain", lambda: code)
    assert ended.value.code == code


def test_a_stopped_benchmark_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> int:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        finish("domain", stopped)
    assert ended.value.code == 130 and capsys.readouterr().err.startswith("benchmarks.domain: stopped; ")
