"""The page of the animals benchmark says what the results tables of a work folder say."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest

import argparser
from benchmarks import animals
from benchmarks.animals import ARMS, MAKE, main, measure, page
from benchmarks.readme import quoted
from benchmarks.studies import PAGES
from experiments.__main__ import get_argparser
from tests.benchmarks.work_folder import add, end_stages, row
from utils.errors import UserError

# Background, the four old classes, the two new ones; the base step knows five channels.
TESTS = {
    ("base", 0): [0.9, 0.6, 0.6, 0.5, 0.7],
    ("fine-tuning", 1): [0.9, 0.0, 0.0, 0.0, 0.0, 0.2, 0.2],
    ("MiB", 1): [0.9, 0.4, 0.4, 0.4, 0.4, 0.1, 0.3],
    ("WILSON", 1): [0.9, 0.5, 0.5, 0.5, 0.6, 0.1, 0.2],
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Two seeds; at the second one every class but background is a tenth better."""
    folder = tmp_path / "work"
    end_stages(folder, tmp_path / "data", ARMS, [3, 5])
    for seed, more in ((3, 0.0), (5, 0.1)):
        for (arm, step), ious in TESTS.items():
            add(folder, row(f"{arm}-{seed}", step, [ious[0], *(value + more for value in ious[1:])]))
        joint = row(f"joint-{seed}", 0, [0.9, *(value + more for value in (0.6, 0.6, 0.6, 0.6, 0.4, 0.6))])
        add(folder, joint | {"old_iou": 0.6, "new_iou": "nan"}, "animals-offline")
    return folder


def test_the_numbers_of_the_page(work: Path) -> None:
    text = page(measure(work))
    assert "seeds 3, 5, mean ± standard deviation, percent." in text
    for line in (
        "| run | old mIoU | new mIoU | all mIoU | harmonic |",
        "| base | 65.0 ± 7.1 | - | 70.0 ± 5.7 | - |",
        "| fine-tuning | 5.0 ± 7.1 | 25.0 ± 7.1 | 22.9 ± 6.1 | 7.5 ± 10.6 |",
        "| MiB | 45.0 ± 7.1 | 25.0 ± 7.1 | 45.7 ± 6.1 | 32.1 ± 7.7 |",
        "| WILSON | 57.5 ± 7.1 | 20.0 ± 7.1 | 51.4 ± 6.1 | 29.5 ± 8.8 |",
        "| joint | 65.0 ± 7.1 | 55.0 ± 7.1 | 65.7 ± 6.1 | 59.6 ± 7.1 |",
        "| base all-class mIoU | 0.700 | above 0.55 | yes |",
        "| fine-tuning: old mIoU kept, share of base | 0.077 | below 0.5 | yes |",
        "| WILSON: old mIoU kept, share of base | 0.885 | above 0.85 | yes |",
        "| WILSON: new mIoU, share of MiB's | 0.800 | above 0.5 | yes |",
    ):
        assert line in text.splitlines()


def test_one_seed_has_no_deviation(work: Path) -> None:
    path = work / "logs/results/voc-animals-offline.csv"
    with path.open() as file:
        rows = list(csv.reader(file))
    with path.open("w") as file:
        csv.writer(file).writerows(rows[:2])
    assert "| WILSON | 52.5 | 15.0 | 47.1 | 23.3 |" in page(measure(work))


def test_the_last_test_of_a_run_counts(work: Path) -> None:
    add(work, row("WILSON-3", 1, [0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1], "2026-01-02T00:00:00+00:00"))
    assert measure(work).scores["WILSON"]["old"] == pytest.approx([0.9, 0.625])


def test_the_command_of_the_page_makes_its_runs(work: Path) -> None:
    """It is one of experiments, and run.py accepts each of those that the page shows."""
    given = get_argparser().parse_args(shlex.split(MAKE)[3:])
    assert (given.experiment, given.task, tuple(given.arms)) == ("animals", "4-2", ARMS)
    measurement = measure(work)
    assert list(measurement.commands) == ["base", *ARMS]
    for arm, command in measurement.commands.items():
        words = shlex.split(command)
        options = argparser.get_argparser().parse_args(words[2:])
        assert words[:2] == ["python", "run.py"] and options.name == f"{arm}-3"
        assert (options.dataset_dir, options.logdir) == ("DIR/voc-animals", "WORK/logs")


def test_it_writes_what_readme_quotes(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "animals.md"
    assert main(["--work", str(work), "--out", str(out)]) == 0
    assert capsys.readouterr().out == out.read_text(encoding="utf-8") + "\n"
    assert quoted(out, PAGES["animals.md"]) == "WILSON: all mIoU 51.4 ± 6.1"


def test_what_is_missing_is_named(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no run of an experiment has ended there"):
        measure(tmp_path / "nowhere")
    (work / "stages/MiB-3-step1.json").unlink()
    with pytest.raises(UserError, match=r"MiB, seed 3, has not ended; python -m experiments animals .* goes on"):
        measure(work)
    monkeypatch.setattr(animals, "ARMS", ("fine-tuning", "LwF"))
    with pytest.raises(UserError, match=r"no test of LwF at step 1 of voc-4-2; python -m experiments animals"):
        measure(work)


def test_a_table_that_is_none_is_named(work: Path) -> None:
    (work / "logs/results/voc-4-2.csv").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"voc-4-2\.csv: cannot be read as a table"):
        measure(work)
