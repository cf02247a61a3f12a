"""Records of stages: what the runner writes is what a reader gets, and those of earlier versions say the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.__main__ import get_argparser, make_runner
from experiments.history import read_history
from experiments.records import SAID, earlier, read_ended, record
from experiments.runner import Runner, Slot
from experiments.stage import Stage, keys
from tests.experiments.test_descriptions import LINES, described, make

# Whose records a section of the page, or a benchmark, reads.
READ = {"train", "test", "select", "nouns", "filter", "replay", "search"}


def write(path: Path, stage: Stage) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record(stage, "key", True, 1.25)), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", LINES)
def test_a_record_is_read_as_it_was_written(name: str, data: Path, tmp_path: Path) -> None:
    stages = described(LINES[name], data)
    for stage in stages:
        read = read_ended(write(tmp_path / f"stages/{stage.name}.json", stage))
        assert read is not None
        for attribute in ("name", "command", *SAID, "inputs", "outputs"):
            assert getattr(read, attribute) == getattr(stage, attribute), (stage.name, attribute)
    assert {stage.kind for stage in stages} >= {"train", "test", "table", "report"} and all(s.kind for s in stages)


@pytest.mark.parametrize("name", [name for name in LINES if not name.startswith("voc256")])
def test_a_command_of_an_earlier_version_says_what_its_record_does_not(name: str, data: Path) -> None:
    """From the name and the command alone: kind, arm, rule, seed, step and files of all stages that somebody reads."""
    more = ["--arms", "best", "ours", "discriminator", "joint"] if "animals" in name else []
    read = 0
    for stage in described(LINES[name], data, *more):
        found = earlier(stage.name, stage.command)
        if stage.kind not in READ:
            assert found == Stage(stage.name, stage.command), stage.name
            continue
        read += 1
        if stage.kind in ("nouns", "filter", "replay", "search"):  # The seed of a tree is nobody's question.
            stage = replace(stage, seed=None)
        for attribute in (*SAID, "inputs"):
            assert getattr(found, attribute) == getattr(stage, attribute), (stage.name, attribute)
        assert found.outputs == ({} if stage.kind == "search" else stage.outputs), stage.name
    assert read >= 6


def test_stages_of_an_earlier_version_are_done_and_in_the_history(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their records hold key, command, ended and seconds, and nothing else."""
    work = data.parent / "work"
    words = ["animals", "--data", str(data), "--seeds", "0", "1", "--work", str(work), "--arms", "ours", "joint"]
    runner = make_runner(get_argparser().parse_args(words), [])
    (work / "stages").mkdir(parents=True)
    for stage in runner.stages:
        old = {"key": runner.keys[stage.name], "command": stage.command, "ended": True, "seconds": 1.5}
        (work / f"stages/{stage.name}.json").write_text(json.dumps(old, indent=1) + "\n")
        for path in stage.makes:
            make(path)
    before = {path: path.read_bytes() for path in (work / "stages").iterdir()}
    assert runner.run() == 0
    count = len(runner.stages)
    assert capsys.readouterr().out == f"{count} of {count} stages are done\n"
    assert {path: path.read_bytes() for path in before} == before
    history = read_history(work)
    runs = {(run.arm, run.seed, run.step): run.checkpoint for run in history.runs}
    folder = work / "checkpoints/step"
    assert runs == {
        key: path
        for seed in (0, 1)
        for key, path in {
            ("base", seed, 0): folder / f"voc-4-2-ov/base-{seed}_0.pth",
            ("base-all-pixels", seed, 0): folder / f"voc-4-2-ov/base-{seed}_0.pth",
            ("ours", seed, 1): folder / f"voc-4-2-ov/ours-{seed}_1.pth",
            ("joint", seed, 0): folder / f"voc-animals-offline-ov/joint-{seed}_0.pth",
        }.items()
    }
    selected = [(stage.rule, stage.seed, stage.outputs["manifest"]) for stage in history.of_kind("select")]
    assert selected == [("captions", seed, work / f"web/captions-{seed}/selected.csv") for seed in (0, 1)]
    assert history.stages["replay-filter"].inputs == {"class_words": work / "search/class_words.txt"}


def test_the_runner_writes_what_a_stage_says(tmp_path: Path) -> None:
    plain = Stage("a", ("-c", f"open({str(tmp_path / 'a')!r}, 'w')"), makes=(tmp_path / "a",))
    stage = replace(plain, kind="select", rule="words", seed=0, outputs={"manifest": tmp_path / "a"})
    assert keys([stage]) == keys([plain]) and stage.makes == plain.makes
    assert Runner([plain], tmp_path / "work", [Slot((), 1)]).run() == 0
    path = tmp_path / "work/stages/a.json"
    assert json.loads(path.read_text()).keys() == {"key", "command", "ended", "seconds", "kind"}
    assert Runner([stage], tmp_path / "work", [Slot((), 1)]).done(stage), (
        "what a stage says of itself is no part of its key"
    )
    path.unlink()
    assert Runner([stage], tmp_path / "work", [Slot((), 1)]).run() == 0
    noted = json.loads(path.read_text())
    assert noted["key"] == keys([plain])["a"] and noted["ended"] is True
    said = {key: noted[key] for key in ("kind", "rule", "seed", "outputs")}
    assert said == {"kind": "select", "rule": "words", "seed": 0, "outputs": {"manifest": str(tmp_path / "a")}}
    assert not {"arm", "step", "inputs"} & noted.keys()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"ended": true}',
        '{"command": [], "ended": true}',
        '{"command": 3, "ended": true}',
        '{"command": ["run.py"], "ended": false}',
        '{"command": ["run.py"], "ended": true, "kind": "train", "outputs": ["a"]}',
        '{"command": ["select_web.py"], "ended": true, "kind": "select", "outputs": {"manifest": 3}}',
    ],
)
def test_a_damaged_record_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "select-words-x.json").write_text(text)
    assert read_ended(tmp_path / "select-words-x.json") is None
    assert read_ended(tmp_path / "nothing.json") is None


def test_a_stage_that_says_no_kind_is_read_by_its_command(tmp_path: Path) -> None:
    """As a benchmark describes one of its own."""
    stage = Stage("select-both", ("select_web.py", "--out", "kept.csv"))
    read = read_ended(write(tmp_path / "select-both.json", stage))
    assert read == replace(stage, kind="select", outputs={"manifest": Path("kept.csv")})


def test_a_command_that_run_py_no_longer_knows() -> None:
    command = ("run.py", "--option_of_another_version")
    assert earlier("base-0", command) == Stage("base-0", command)
