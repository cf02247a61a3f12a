"""What the benchmarks read from the results tables of their runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.animals import finished, groups, last_row
from results.rows import append_results
from utils.errors import UserError


def test_the_last_test_of_a_run_at_a_step_counts(tmp_path: Path) -> None:
    path = tmp_path / "logs/results/voc-4-2.csv"
    path.parent.mkdir(parents=True)
    assert last_row(tmp_path, "4-2", 1, "wilson-0") is None
    for name, step, score in (("wilson-0", 1, 0.1), ("wilson-0", 1, 0.2), ("wilson-0", 2, 0.3), ("wilson-1", 1, 0.4)):
        append_results(path, {"name": name, "step": step, "mean_iou": score})
    row = last_row(tmp_path, "4-2", 1, "wilson-0")
    assert row is not None and row["mean_iou"] == "0.2" and finished(tmp_path, "WILSON", 0) == row
    assert last_row(tmp_path, "4-2", 0, "wilson-0") is None and last_row(tmp_path, "4-1", 1, "wilson-0") is None
    assert finished(tmp_path, "base", 0) is None


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "logs/results/voc-4-2.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"voc-4-2\.csv: cannot be read as a table"):
        last_row(tmp_path, "4-2", 1, "wilson-0")


def test_groups_are_means_of_classes() -> None:
    row = {"mean_iou": "0.5", "iou cat": "0.2", "iou dog": "0.4", "iou cow": "0.6", "iou sheep": ""}
    assert groups(row) == pytest.approx({"old": 0.3, "new": 0.6, "all": 0.5, "harmonic": 0.4})
