"""``python -m utils.table``: Markdown, CSV and LaTeX of the same numbers, missing seeds named, bad input in one line."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from results.table import main
from tests.conftest import ROOT
from tests.results.made_rows import OURS, WILSON, add, logs, step_row


def cells(text: str, title: str, arm: str) -> list[str]:
    """The row of an arm in the Markdown table of a title."""
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    row = next(line for line in section.splitlines() if line.startswith(f"| {arm} |"))
    return [cell.strip() for cell in row.strip("|").split(" | ")]


def test_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--logs", str(logs(tmp_path)), "--baseline", "WILSON"]) == 0
    text = capsys.readouterr().out
    step = "voc-3-1, overlap, step 1"
    assert cells(text, step, "WILSON") == [
        "WILSON", "50.0 ± 10.0", "30.0 ± 10.0", "55.0 ± 6.6", "37.0 ± 10.0", "200", "20 ± 10", "102", "3",
    ]  # fmt: skip
    assert cells(text, step, "joint") == ["joint", "80.0", "40.0", "73.8", "53.3", "200", "10", "100", "1 of 3"]
    assert cells(text, "voc-3-1, overlap, step 0", "base")[1:5] == ["55.0 ± 0.0", "-", "66.7 ± 0.0", "-"]
    assert "Missing: joint, seed 1, 2." in text
    compared = f"{step}: difference to WILSON"
    assert cells(text, compared, "ours")[:3] == ["ours", "+16.7 [+10.0, +20.0]", "+23.3 [+20.0, +30.0]"]
    assert cells(text, compared, "ours")[-1] == "3"
    assert cells(text, compared, "joint")[1] == "+30.0" and "One pair has no interval." in text
    assert "percentile bootstrap over the pairs: 10000 draws, random seed 0." in text
    assert "With 3 pairs it is hardly more than the range of the differences." in text
    assert "difference to" not in text.split(f"## {step}\n")[0], "a step without the baseline has no differences"


def test_csv_has_the_numbers_unrounded(tmp_path: Path) -> None:
    out = tmp_path / "tables/all.csv"
    assert main(["--logs", str(logs(tmp_path)), "--baseline", "WILSON", "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = {(row["experiment"], row["step"], row["arm"]): row for row in csv.DictReader(file)}
    ours = rows["voc-3-1", "1", "ours"]
    assert ours["seeds"] == "0 1 2" and ours["missing"] == "" and ours["pairs"] == "3"
    assert float(ours["old_mean"]) == pytest.approx(2 / 3, abs=1e-6) and float(ours["old_std"]) == pytest.approx(
        0.057735
    )
    assert [float(ours[f"old_difference_{key}"]) for key in ("mean", "low", "high")] == pytest.approx(
        [0.166667, 0.1, 0.2]
    )
    joint = rows["voc-3-1", "1", "joint"]
    assert joint["missing"] == "1 2" and joint["old_std"] == "" and joint["pairs"] == "1"
    assert rows["voc-3-1", "1", "WILSON"]["baseline"] == "" and rows["voc-3-1", "0", "base"]["new_mean"] == ""


def test_latex_escapes_and_balances(tmp_path: Path) -> None:
    for seed in range(2):
        add(tmp_path, "voc-3-1", step_row("50%_raw & noisy", seed, WILSON[seed]))
        add(tmp_path, "voc-3-1", step_row("ours", seed, OURS[seed]))
    out = tmp_path / "t.tex"
    assert main(["--logs", str(tmp_path), "--baseline", "ours", "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert r"50\%\_raw \& noisy & 45.0 $\pm$ 7.1 & 25.0 $\pm$ 7.1" in text
    assert r"\caption{voc-3-1, overlap, step 1." in text, "a hyphen in a name is no minus sign"
    assert r"50\%\_raw \& noisy & $-$20.0 [$-$20.0, $-$20.0]" in text
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert line.replace(r"\&", "").count("&") in (5, 8)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--logs", "nowhere"], "--logs nowhere: holds no results"),
        (
            ["--logs", "LOGS", "--baseline", "theirs"],
            "--baseline theirs: no such arm; there are WILSON, base, joint, ours",
        ),
        (["--logs", "LOGS", "--out", "table.docx"], "--out table.docx: the name of a table ends in .md, .csv, .tex"),
        (["--logs", "LOGS", "--out", "LOGS/results/voc-3-1.csv/t.md"], "cannot be written"),
    ],
)
def test_bad_input_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    folder = logs(tmp_path)
    assert main([part.replace("LOGS", str(folder)) for part in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("utils.table: ") and message in error and error.count("\n") == 1


def test_as_a_user_calls_it(tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "utils.table",
        "--logs",
        str(logs(tmp_path)),
        "--arms",
        "ours",
        "--out",
        str(tmp_path / "t.md"),
    ]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "| ours | 66.7 ± 5.8 |" in text and "WILSON" not in text
