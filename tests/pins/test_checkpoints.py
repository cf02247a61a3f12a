"""Keys of every kind of checkpoint, and checkpoints of version 0.1.0: they are tested, resumed, started from, labelled and selected with.

``records/0.1.0/*.json`` say all that such a file held: its values, and its tensors by type and shape (``states.py`` fills them).
``records/checkpoints/*.json`` are what a run writes: a key more or less, another type or shape, another value that does not depend on
the machine is seen.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pins import states
from tests.pins.conftest import BASE, PIXEL, WEAK, Place, select
from tests.pins.scripts import call

# What a training measured: pinned is that it is there, and its type.
MEASURED = ("seconds", "memory_mib", "scores", "by_class", "encoder")
FILES = {"base": "base_0", "weak": "weak_1", "discriminator": "base_0_discriminator"}


def held(path: Path, here: Path) -> dict[str, Any]:
    """What a checkpoint holds, without what a training measured."""
    found = states.described(states.read(path), here)
    if "history" in found:
        found["history"] = [entry | {"date": "a date"} for entry in found["history"]]
    return {key: states.kinds(value) if key in MEASURED else value for key, value in found.items()}


@pytest.mark.parametrize("kind", FILES)
def test_what_a_checkpoint_holds(kind: str, trained: Place, pinned: Callable[[str, Any], None]) -> None:
    path = trained.checkpoint("base", 0).with_name(f"{FILES[kind]}.pth")
    pinned(f"checkpoints/{kind}", held(path, trained.here))


@pytest.fixture(scope="module")
def old(place: Callable[[], Place]) -> Place:
    """A folder that version 0.1.0 left: a base step, a weak step after the first of two epochs, and a finished one."""
    made = place()
    states.write("base", made.checkpoint("base", 0), made.here)
    states.write("weak-half", made.checkpoint("weak", 1), made.here)
    return made


def rows(made: Place) -> list[dict[str, str]]:
    with (made.here / "logs/results/shapes-5-3.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_base_step_is_tested(old: Place) -> None:
    for name, options in (("base", BASE), ("other", f"{BASE} --ckpt {old.checkpoint('base', 0)}")):
        ended = old.run(name, f"{options} --test")
        assert ended.code == 0, ended.err
        assert ended.out.splitlines()[0].split() == ["old", "new", "all", "harmonic"]
    scores = [{key: value for key, value in row.items() if "iou" in key} for row in rows(old)[-2:]]
    assert scores[0] == scores[1] and float(scores[0]["mean_iou"]) >= 0


def test_a_finished_base_step_is_not_trained_again(old: Place) -> None:
    path = old.checkpoint("base", 0)
    before, stamp = states.read(path)["model_state"], path.stat().st_mtime_ns
    ended = old.run("base", f"{BASE} --resume auto")
    assert ended.code == 0 and "Restored from" in ended.err and "Training step" not in ended.err, ended.err
    assert path.stat().st_mtime_ns == stamp and not path.with_name(f"{path.name}.bak").exists()
    assert all(tensor.equal(before[key]) for key, tensor in states.read(path)["model_state"].items())


def test_a_weak_step_goes_on_in_the_middle(old: Place) -> None:
    path = old.checkpoint("weak", 1)
    first = states.read(path)
    assert (first["epoch"], first["iteration"], first["finished"]) == (1, 0, False)
    refused = old.run("weak", f"{WEAK} --resume auto --lr 0.5")
    assert refused.code == 2 and refused.err.strip().splitlines()[-1] == (
        f"run.py: {path}: cannot go on with other settings: --lr 0.5 (was 0.01); change them back or give another --name"
    )
    ended = old.run("weak", f"{WEAK} --resume auto")
    assert ended.code == 0 and f"Restored from {path}: epoch 1, iteration 0" in ended.err, ended.err
    assert "Epoch 2/2 done" in ended.err and "Epoch 1/2 done" not in ended.err
    state = states.read(path)
    assert (state["epoch"], state["iteration"], state["finished"]) == (2, 0, True)
    assert state["seconds"] > first["seconds"] and state["scheduler_state"]["last_epoch"] == 4
    assert not path.with_name(f"{path.name}.bak").exists()
    row = rows(old)[-1]
    assert (row["name"], row["epochs"], row["iterations"]) == ("weak", "2", "4")


def test_a_step_starts_from_a_base_step(old: Place, pinned: Callable[[str, Any], None]) -> None:
    ended = old.run("pixel", PIXEL)
    assert ended.code == 0 and f"Step 0 loaded from {old.checkpoint('base', 0)}" in ended.err, ended.err
    assert "was not trained to its end" not in ended.err
    pinned("checkpoints/pixel", held(old.checkpoint("pixel", 1), old.here))


def test_replay_images_are_labelled(old: Place, pinned: Callable[[str, Any], None]) -> None:
    """``labels.json`` says whose labels a tree holds: where it says something else, labels of version 0.1.0 are refused."""
    tree = old.here / "tree"
    for name in ("circle", "star"):
        (tree / f"{name}_0").mkdir(parents=True)
        for path in sorted((old.here / "web" / name).glob("*.jpg"))[:2]:
            (tree / f"{name}_0/image").mkdir(exist_ok=True)
            (tree / f"{name}_0/image" / path.name).write_bytes(path.read_bytes())
    path = states.write("weak-half", old.here / "label_with.pth", old.here)
    words = ["generate_label.py", "--ckpt", str(path), "--path", str(tree), "--num_workers", "0", "--device", "cpu"]
    for times in ("4 labelled, 0 dropped, 0 were done before", "0 labelled, 0 dropped, 4 were done before"):
        ended = call(*words)
        assert ended.code == 0 and times in ended.out, ended.err
    pinned("0.1.0/labels", json.loads((tree / "labels.json").read_text()))
    done = call("generate_train_file.py", "--path", str(tree))
    assert done.code == 0
    lines = (tree / "circle_0/train_fullPath.txt").read_text().splitlines()
    assert len(lines) == 2 and all(len(line.split()) == 2 for line in lines)


@pytest.mark.parametrize("kind", ["discriminator", "discriminator-encoder"])
def test_web_images_are_selected(kind: str, old: Place, tmp_path: Path) -> None:
    """Also by one that works on the features of the base step, which must be those that it was trained with."""
    base = states.write("base", tmp_path / "base_0.pth", old.here)
    weights = states.write(kind, tmp_path / "base_0_discriminator.pth", old.here)
    ended = select(old, weights, tmp_path / "selected.csv")
    assert ended.code in (0, 1) and (tmp_path / "selected.csv").is_file(), ended.err
    if kind == "discriminator":
        return
    other = states.read(base)
    other["model_state"]["body.model.conv1.0.weight"] += 1
    states.save(base, other)
    refused = select(old, weights, tmp_path / "again.csv")
    assert refused.code == 2 and refused.err.endswith(
        f"{weights}: made for the features of another step-0 checkpoint\n"
    )
