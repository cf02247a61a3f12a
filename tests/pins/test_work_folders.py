"""A work folder that version 0.1.0 left behind: no stage of it runs again, and its page can be made.

``records/0.1.0/stages-*.json`` say what each stage of an experiment was, as that version described it: its command, the stages that it
waited for, what it left behind, and its key where the work folder was /w and the data lay in /d. They are never recorded anew.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

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
