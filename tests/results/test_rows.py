"""A results table of many runs never loses a row, and refuses to when it would have to."""

from __future__ import annotations

import csv
import math
import multiprocessing
import os
from pathlib import Path

import pytest

from results.rows import append_results, read_runs, read_table
from tests.results.made_rows import OURS, add, step_row
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2,3\n", "row 2 has more cells"),
        (b"a,a\n1,2\n", "occurs twice"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b"\xe9,b\n", "cannot be read"),
        (b"a;b\n1;2\n", "semicolons stand between its cells; save it as CSV"),
        (b"sep=;\na;b\n", "semicolons"),
        (b"a\tb\n1\t2\n", "tabs"),
        (b"A,b\n1,2\n", "column 'A' is written 'a'"),
        (b" a,b\n1,2\n", "column ' a' is written 'a'"),
        (b"iou cow ,b\n1,2\n", "column 'iou cow ' is written 'iou cow'"),
        (b"a,,b\n1,2,3\n", "no name"),
        (b"a,b,\n1,2,3\n", "no name"),
        (b'a,b\n1,"2\n3,4\n', "line 2: .*quotation mark not closed"),
        (b'a,b\n1,"2\n3,4\n5,"\n', "line 2: a quotation mark is not closed"),
    ],
)
def test_results_table_that_cannot_be_kept_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    for number in (1, 2):
        with pytest.raises(UserError, match=rf"t\.csv.*{said}.*; the new row is kept in .*t\.aside\.csv"):
            append_results(path, {"a": number, "iou cow": 0.5})
    assert path.read_bytes() == content
    assert [row["a"] for row in _read(tmp_path / "t.aside.csv")] == ["1", "2"]


def test_a_table_that_a_spreadsheet_saved_gets_no_column_twice(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbf"time","name",old_iou,,\r\n"t0","a, ""b""",0.5,,\r\n')
    append_results(path, {"time": "t1", "name": "c", "old_iou": 0.25, "iou Cow": 1})
    append_results(path, {"time": "t2", "iou cow": 0})
    assert read_table(path) == (
        ["time", "name", "old_iou", "iou Cow", "iou cow"],
        [
            {"time": "t0", "name": 'a, "b"', "old_iou": "0.5", "iou Cow": "", "iou cow": ""},
            {"time": "t1", "name": "c", "old_iou": "0.25", "iou Cow": "1", "iou cow": ""},
            {"time": "t2", "name": "", "old_iou": "", "iou Cow": "", "iou cow": "0"},
        ],
    )


def test_what_a_spreadsheet_changed_in_the_cells_is_named(tmp_path: Path) -> None:
    add(tmp_path, "voc-3-1", step_row("a", 0, OURS[0]) | {"time": "2026-01-02T03:04:05+00:00"})
    path = tmp_path / "results/voc-3-1.csv"
    whole = path.read_text()
    assert len(read_runs([tmp_path])) == 1
    path.write_text(whole.replace("2026-01-02T03:04:05+00:00", "02.01.2026 03:04"))
    with pytest.raises(UserError, match=r"voc-3-1\.csv, row 2: time is '02.01.2026 03:04'; write it as"):
        read_runs([tmp_path])
    header, cells = whole.splitlines()
    values = dict(zip(header.split(","), cells.split(","), strict=True)) | {"all_iou": '"0,5"'}
    path.write_text(f"{header}\n{','.join(values.values())}\n")
    with pytest.raises(UserError, match=r"row 2: all_iou is '0,5', which is no number; write it with a point"):
        read_runs([tmp_path])


def test_rows_beside_a_table_are_read(tmp_path: Path) -> None:
    add(tmp_path, "voc-3-1", step_row("a", 0, OURS[0]))
    path = tmp_path / "results/voc-3-1.csv"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b",", b";"))
    with pytest.raises(UserError, match="aside"):
        add(tmp_path, "voc-3-1", step_row("a", 1, OURS[1]))
    path.write_bytes(whole)
    assert [run.seed for run in read_runs([tmp_path])] == [0, 1]


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
