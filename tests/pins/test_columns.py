"""Columns of all that is a table. Later versions may add columns behind or between those of version 0.1.0; none is gone or has moved."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pins.conftest import CLASSES, RECORDS, Place, recording, select
from tests.pins.scripts import call


@pytest.fixture
def has_columns(pinned: Callable[[str, list[str]], None]) -> Callable[[str, Path], None]:
    """Whether a table has the columns that are recorded, in their order, and perhaps others."""

    def compare(name: str, path: Path) -> None:
        with path.open(newline="", encoding="utf-8") as file:
            found = next(csv.reader(file))
        if not recording(f"columns/{name}"):
            recorded = json.loads((RECORDS / f"columns/{name}.json").read_text(encoding="utf-8"))
            found = [column for column in found if column in recorded]
        pinned(f"columns/{name}", found)

    return compare


def pictures(folder: Path) -> None:
    """Two photographs of a class, a copy of one, a small one, and a page that is none."""
    (folder / "cow").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a", 80), ("b", 90), ("small", 20)):
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        coarse.resize((size, size)).save(folder / f"cow/{name}.png")
    (folder / "cow/copy.png").write_bytes((folder / "cow/a.png").read_bytes())
    (folder / "cow/page.jpg").write_text("<html>")


def test_results(trained: Place, has_columns: Callable[[str, Path], None]) -> None:
    has_columns("results", trained.here / "logs/results/shapes-5-3.csv")
    with (trained.here / "logs/results/shapes-5-3.csv").open(newline="") as file:
        base, weak = csv.DictReader(file)
    assert [base[key] for key in ("name", "step", "protocol", "method", "seed", "epochs", "iterations")] == (
        ["base", "0", "overlap", "supervised", "42", "2", "4"]
    )
    assert (weak["step"], weak["method"], base["new_iou"], base["harmonic"]) == ("1", "weak", "nan", "nan")
    assert base["iou heart"] == "" and float(weak["iou heart"]) >= 0


def test_confusion(trained: Place) -> None:
    """Rows are the truth, columns the prediction."""
    for name, step, count in (("base", 0, 6), ("weak", 1, 9)):
        with (trained.log(name) / f"confusion_{step}.csv").open(newline="") as file:
            first, *rows = csv.reader(file)
        classes = "background circle square triangle star ring cross crescent heart".split()[:count]
        assert first == ["true", *classes] and [row[0] for row in rows] == classes
        assert all(int(number) >= 0 for row in rows for number in row[1:])


def test_log(trained: Place) -> None:
    """What the pages read of a run: one JSON a line."""
    assert (trained.log("weak") / "log.txt").is_file()
    entries = [json.loads(line) for line in (trained.log("weak") / "scalars.jsonl").read_text().splitlines()]
    assert all({"tag", "step", "value"} <= entry.keys() for entry in entries)
    scores = ("overall_acc", "mean_acc", "mean_precision", "mean_iou", "old_iou", "new_iou", "all_iou", "harmonic")
    terms = ("cls", "loc", "de", "ref", "seg", "total")
    expected = {"lr", *(f"loss/{term}" for term in terms), *(f"test/{score}" for score in scores)}
    assert expected <= {entry["tag"] for entry in entries}


def test_collected(tmp_path: Path, has_columns: Callable[[str, Path], None]) -> None:
    pictures(tmp_path / "source")
    ended = call("collect_web.py", *f"--classes cow --out {tmp_path}/web --source folder:{tmp_path}/source".split())
    assert ended.code == 0, ended.err
    first, second = ended.out.splitlines()[:2]
    assert first == "class                  found    kept  refused  reasons"
    assert second.startswith("cow                        5       2        3  ")
    for name in ("manifest", "rejected", "fingerprints"):
        has_columns(f"collect.{name}", tmp_path / f"web/{name}.csv")
    assert [path.name for path in sorted((tmp_path / "web/cow").iterdir())] == ["00001.png", "00002.png"]


def test_captioned(tmp_path: Path, has_columns: Callable[[str, Path], None]) -> None:
    """The captioner is one that reads a file; the columns of the manifest stay, whatever they are."""
    pictures(tmp_path / "web")
    (tmp_path / "web/manifest.csv").write_text("path,class,mine\ncow/a.png,cow,1\ncow/b.png,cow,2\n")
    (tmp_path / "captions.json").write_text(json.dumps([{"file": "a.png", "captions": ["a cow"]}]))
    words = (
        f"{tmp_path}/web/manifest.csv {tmp_path}/web/captioned.csv --captioner file --captions {tmp_path}/captions.json"
    )
    ended = call("generate_caption.py", *words.split(), "--device", "cpu")
    assert ended.code == 1 and ended.out.startswith("2 images: 1 captioned, 0 had captions, 1 have none;"), ended.err
    has_columns("captioned", tmp_path / "web/captioned.csv")


def test_selected(trained: Place, tmp_path: Path, has_columns: Callable[[str, Path], None]) -> None:
    """By a discriminator and captions, and by captions alone; each image keeps its row, and the kept ones are marked 1."""
    weights = trained.checkpoint("base", 0).with_name("base_0_discriminator.pth")
    ended = select(trained, weights, tmp_path / "both/selected.csv", "--keep", "3")
    assert ended.code in (0, 1), ended.err
    assert ended.out.splitlines()[0] == f"{'class':20}{'candidates':>12}{'kept':>8}{'unusable':>10}"
    has_columns("selected.discriminator", tmp_path / "both/selected.csv")
    words = f"--web_path {trained.here}/web --out {tmp_path}/words/selected.csv --web_labels caption --device cpu --num_workers 0"
    ended = call("select_web.py", *words.split(), "--classes", *CLASSES)
    assert ended.code in (0, 1), ended.err
    has_columns("selected.captions", tmp_path / "words/selected.csv")
    assert sorted(path.stem for path in (tmp_path / "both/sheets").glob("*.html")) == sorted(CLASSES)
    for folder, kept in (("both", 3), ("words", 12)):
        with (tmp_path / folder / "selected.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 8 * 12 and all(row["reason"] for row in rows)
        assert [row["kept"] for row in rows].count("1") == 8 * kept and {row["kept"] for row in rows} <= {"0", "1"}
