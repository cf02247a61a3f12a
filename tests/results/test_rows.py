"""A results table of many runs never loses a row, and refuses to when it would have to."""

from __future__ import annotations

import csv
import math
import multiprocessing
import os
from pathlib import Path

import pytest

from results.rows import append_results
from utils.errors import UserError


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_results_table_grows_columns_and_keeps_rows(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "voc-15-5.csv"
    append_results(path, {"name": "a, b\nc", "old": 0.5})
    append_results(path, {"new": 0.25, "name": "é"})
    append_results(path, {"name": "d", "old": math.nan, "new": 1})
    assert _read(path) == [
        {"name": "a, b\nc", "old": "0.5", "new": ""},
        {"name": "é", "old": "", "new": "0.25"},
        {"name": "d", "old": "nan", "new": "1"},
    ]
    assert [file.name for file in path.parent.iterdir() if not file.name.endswith(".lock")] == [path.name]


def test_results_table_cut_off_short_or_empty_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("")
    append_results(path, {"a": 1})
    path.write_text("a,b\n1,2\n\n3")
    append_results(path, {"b": 4})
    rows = _read(path)
    assert [(row["a"], row["b"]) for row in rows] == [("1", "2"), ("3", ""), ("", "4")]


@pytest.mark.parametrize("content", [b"a,b\n1,2,3\n", b"a,a\n1,2\n", b"\xff\xfe\x00"])
def test_results_table_that_cannot_be_kept_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"t\.csv"):
        append_results(path, {"a": 1})
    assert path.read_bytes() == content


def _append_many(path: Path, run: int) -> None:
    for i in range(10):
        append_results(path, {"run": run, "i": i, f"only{run}": 1})


@pytest.mark.skipif(os.name != "posix", reason="file locks of the POSIX kind")
def test_runs_that_end_together_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_many, args=(path, run)) for run in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted((row["run"], row["i"]) for row in _read(path)) == [
        (str(r), str(i)) for r in range(3) for i in range(10)
    ]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(UserError, match=r"results.voc-15-5\.csv: cannot be written"):
        append_results(tmp_path / "results" / "voc-15-5.csv", {"a": 1})
