"""A work folder that version 0.1.0 left behind: no stage of it runs again, and its page can be made.

``records/0.1.0/stages-*.json`` say what each stage of an experiment was, as that version described it: its command, the stages that it
waited for, what it left behind, and its key where the work folder was /w and the data lay in /d. They are never recorded anew.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pins.conftest import RECORDS
from tests.pins.scripts import Ended, call

NAMES = ("demo", "animals")


def read(name: str, work: str, data: str) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """The words of an experiment and its stages, for folders."""
    text = (RECORDS / f"0.1.0/stages-{name}.json").read_text(encoding="utf-8")
    record = json.loads(text.replace("<work>", work).replace("<data>", data))
    return record["line"].split(), record["stages"]


def keys(stages: dict[str, dict[str, Any]]) -> dict[str, str]:
    """As version 0.1.0 computed them."""
    found: dict[str, str] = {}
    for name, stage in stages.items():
        text = json.dumps([stage["command"], [found[other] for other in stage["after"]]])
        found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def write(work: Path, stages: dict[str, dict[str, Any]]) -> None:
    """The records, and what the stages made, empty."""
    (work / "stages").mkdir(parents=True)
    for name, key in keys(stages).items():
        record = {"key": key, "command": stages[name]["command"], "ended": True, "seconds": 1.5}
        (work / f"stages/{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        for path in map(Path, stages[name]["makes"]):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if path.suffix else path.mkdir(exist_ok=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("voc-animals", "web-animals", "web-captioned"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data/web-captioned/captions.json").touch()
    return tmp_path / "data"


def run(words: list[str], work: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Ended:
    with monkeypatch.context() as patched:
        # Whatever would run after all ends at once.
        patched.setattr(sys, "executable", "/bin/false")
        return call("-m", "experiments", *words, "--work", str(work), "--cpu", *more)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_depends_on_the_command_and_those_before_alone(name: str) -> None:
    _, stages = read(name, "/w", "/d")
    assert keys(stages) == {name: stage["key"] for name, stage in stages.items()}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_an_older_work_folder_runs_again(
    name: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    words, stages = read(name, str(work), str(data))
    write(work, stages)
    Path(work / "table.md").write_text("| table |")
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}

    planned = run(words, work, monkeypatch, "--dry_run")
    assert (planned.code, planned.err) == (0, "")
    assert [sum("done" in line for line in planned.out.splitlines()), "kept as .bak" in planned.out] == [
        len(stages),
        False,
    ]
    ended = run(words, work, monkeypatch)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        f"{len(stages)} of {len(stages)} stages are done\n| table |\nlook at {work}/table.md and {work}/report.html\n"
    )
    assert before.items() <= {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}.items()


@pytest.mark.parametrize("change", ["product", "command", "ended"])
def test_what_is_not_done_is_not_taken_for_done(
    change: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    words, stages = read("demo", str(work), str(data))
    if change == "command":
        stages["raw-web-42-step2"]["command"] += ["--lr", "1"]
    write(work, stages)
    path = work / "stages/raw-web-42-step2.json"
    if change == "product":
        (work / "checkpoints/step/shapes-4-2-ov/raw-web-42_2.pth").unlink()
    elif change == "ended":
        path.write_text(path.read_text().replace("true", "false"))
    # Where a command was another one, the table and the page that come after it are others too.
    assert (
        f"{len(stages) - (3 if change == 'command' else 1)} of {len(stages)} stages"
        in run(words, work, monkeypatch).out
    )


def filled(work: Path) -> None:
    """Scores of the demo's runs as version 0.1.0 wrote them, a selection of web images, and a rehearsal."""
    (work / "logs/results").mkdir(parents=True)
    shutil.copy(RECORDS / "0.1.0/shapes-4-2.csv", work / "logs/results")
    for name in (
        "web-images/cross/1.jpg",
        "web-images/cross/2.jpg",
        "search/downloads/one/1.jpg",
        "search/downloads/one/2.jpg",
    ):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), "red").save(work / name)
    (work / "web/captions-42/selected.csv").write_text(
        "path,class,caption,kept,reason\n../../web-images/cross/1.jpg,cross,a crooked cross,1,the best of its class\n"
        "../../web-images/cross/2.jpg,cross,a ring,0,the caption does not name cross\n"
    )
    for name, text in (
        ("search/captions/one.txt", "1.jpg a crimson circle\n2.jpg two dogs\n"),
        ("rehearsal/nouns/one.txt", "1.jpg circle \n2.jpg dog \n"),
        ("rehearsal/kept/one.txt", "1.jpg\n"),
        ("search/class_words.txt", "one.png circle \n"),
    ):
        (work / name).write_text(text)


def test_scores_of_older_rows_are_read(tmp_path: Path) -> None:
    work = tmp_path / "work"
    _, stages = read("demo", str(work), "/d")
    write(work, stages)
    filled(work)
    table = next(stage["command"] for stage in stages.values() if "utils.table" in stage["command"])
    assert call(*table).code == 0
    with (work / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = (
        "experiment",
        "protocol",
        "step",
        "arm",
        "seeds",
        "old_mean",
        "new_mean",
        "all_mean",
        "harmonic_mean",
        "iterations",
    )
    overlap = ("shapes-4-2", "overlap")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        (*overlap, "0", "base", "42", "0.565385", "", "0.618971", "", "300.0"),
        (*overlap, "0", "base-all-pixels", "42", "0.60258", "", "0.582804", "", "0.0"),
        (*overlap, "1", "raw-web", "42", "0.605131", "0.635095", "0.653114", "0.619751", "120.0"),
        (*overlap, "1", "best-discriminator", "42", "0.756409", "0.622175", "0.685088", "0.682757", "120.0"),
        (*overlap, "2", "raw-web", "42", "0.741898", "0.414817", "0.690901", "0.532114", "120.0"),
        (*overlap, "2", "best-discriminator", "42", "0.596784", "0.38552", "0.572835", "0.468434", "120.0"),
    ]
    text = (work / "table.md").read_text()
    assert "| best-discriminator | +15.1 | -1.3 | +3.2 | +6.3 | 1 |" in text
    assert "| raw-web | 74.2 | 41.5 | 69.1 | 53.2 | 120 | 42 | 902 | 1 |" in text
    assert (work / "table.tex").stat().st_size > 0


def test_the_page_of_an_older_work_folder(tmp_path: Path, small_shapes: Path) -> None:
    """The commands in its records say where all is, whatever records of later versions say more."""
    work = tmp_path / "work"
    _, stages = read("demo", str(work), "/d")
    write(work, stages)
    filled(work)
    (work / "data").rmdir()
    (work / "data").symlink_to(small_shapes)
    ended = call(*stages["report"]["command"])
    # Its checkpoints are empty here: the page goes on without predictions, and says so.
    assert ended.code == 1 and ended.out == f"{work}/report.html: open it in a browser\n", ended.err
    assert f"No predictions of base: {work}/checkpoints/step/shapes-4-2-ov/base-42_0.pth: damaged" in ended.err
    for arm, step in (("raw-web", 1), ("raw-web", 2), ("best-discriminator", 2), ("base", 0)):
        assert f"No confusion matrix was kept of {arm}, seed 42, step {step}" in ended.err
    page = re.sub(r"<[^>]+>", " ", (work / "report.html").read_text(encoding="utf-8"))
    for text in (
        "a crooked cross",
        "the caption does not name cross",
        "a crimson circle",
        "--recipe best",
        "heart (new)",
    ):
        assert text in page, text
