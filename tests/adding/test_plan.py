"""The plan: which commands, in which order, for which inputs; what is refused before anything runs."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import argparser
from adding.plan import Adding, Known, Taught, read_taught, stages, write_taught
from adding.sizes import Machine, choose
from experiments.stage import Stage, check, keys
from utils.errors import UserError

SIZES = choose(Machine("cpu", 8192, 2), 300, 190)
KNOWN = Known("base.pth", (), ("cat", "dog"), 1, ("--backbone", "resnet50"), listing="abc")


def adding(folder: Path, **changes: Any) -> Adding:
    given: dict[str, Any] = {"images": folder / "new", "old_images": folder / "old", "known": KNOWN, "sizes": SIZES}
    return Adding(new=("cow", "sheep"), out=folder / "out", **given | changes)


def named(planned: list[Stage]) -> dict[str, str]:
    check(planned)
    return {stage.name: " ".join(stage.command) for stage in planned}


def test_the_whole_chain_in_order(tmp_path: Path) -> None:
    planned = named(stages(adding(tmp_path)))
    assert list(planned) == [
        "candidates", "captions", "select", "rehearsal", "adopt", "labels", "train-files", "train", "statement", "release",
    ]  # fmt: skip
    assert "--recipe best" in planned["train"] and "--replay --replay_path" in planned["train"]
    assert "--step 1" in planned["train"] and "--backbone resnet50" in planned["train"]
    assert f"--epochs {SIZES.epochs} --iters_per_epoch {SIZES.iterations}" in planned["train"]
    assert "--listing abc" in planned["adopt"] and "--held_back" in planned["adopt"]


def test_every_stage_waits_for_what_it_reads(tmp_path: Path) -> None:
    """A changed input makes all that follows from it anew."""
    before = keys(stages(adding(tmp_path)))

    def changed(**changes: Any) -> set[str]:
        after = keys(stages(adding(tmp_path, **changes)))
        return {name for name in before if before[name] != after.get(name)}

    trained = {"train", "statement", "release"}
    adopted = {"adopt", "labels", "train-files"} | trained
    assert changed(images_listing="other") == {"candidates", "captions", "select"} | trained
    assert changed(old_listing="other") == {"rehearsal"} | adopted
    assert changed(known=replace(KNOWN, listing="other")) == adopted
    assert changed(sizes=replace(SIZES, iterations=7)) == trained
    assert changed(device="cuda") == set() == changed(sizes=replace(SIZES, workers=5))


def test_captions_that_are_there_are_kept(tmp_path: Path) -> None:
    for changes in ({"captioned": True}, {"captioner": "none"}):
        planned = named(stages(adding(tmp_path, **changes)))
        assert "captions" not in planned and "web/manifest.csv" in planned["select"]


def test_truth_takes_the_place_of_the_model_s_own_labels(tmp_path: Path) -> None:
    planned = named(stages(adding(tmp_path, val=tmp_path / "val")))
    assert f"--val {tmp_path / 'val'}" in planned["adopt"] and "--held_back" not in planned["adopt"]
    assert "--held_back" in planned["statement"] and "--val" in planned["statement"]


def test_without_old_images_somebody_has_to_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cat, dog, which will be forgotten; .* or --forget to go on"):
        adding(tmp_path, old_images=None)
    planned = named(stages(adding(tmp_path, old_images=None, forget=True)))
    assert not {"rehearsal", "labels", "train-files"} & set(planned)
    assert "--replay" not in planned["train"] and "--held_back" in planned["candidates"]


def test_what_is_not_given_is_collected(tmp_path: Path) -> None:
    planned = named(stages(adding(tmp_path, images=None, old_images=None, collect=("commons", "openverse"))))
    assert "--classes cow sheep" in planned["collect"] and "--source commons --source openverse" in planned["collect"]
    assert "--classes cat dog" in planned["collect-old"] and "collected-old" in planned["rehearsal"]
    planned = named(stages(adding(tmp_path, old_images=None, collect=("commons",))))
    assert "collect" not in planned and "collect-old" in planned
    planned = named(stages(adding(tmp_path, images=None, collect=("commons",))))
    assert "collect" in planned and "collect-old" not in planned


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": None}, "no images of the new classes"),
        ({"collect": ("commons",)}, "nothing is left to collect"),
        ({"forget": True}, "leave it out"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        adding(tmp_path, **changes)


def test_a_trial_comes_before_the_training_that_it_measures_for(tmp_path: Path) -> None:
    tried = named(stages(adding(tmp_path, trial=True)))
    assert list(tried)[-1] == "trial" and "train" not in tried
    assert f"--epochs 1 --iters_per_epoch {SIZES.trial} --pseudo_ep 0" in tried["trial"]


def test_the_next_call_rehearses_what_the_last_one_learned(tmp_path: Path) -> None:
    first = adding(tmp_path)
    assert read_taught(str(first.out)) == ()
    write_taught(first)
    assert read_taught(str(first.out)) == ()  # The images are gone.
    first.selected.parent.mkdir(parents=True)
    first.selected.touch()
    taught = read_taught(str(first.out))
    assert taught == (Taught(first.selected, ("cow", "sheep")),)
    again = replace(first, out=tmp_path / "again", new=("goat",), known=replace(KNOWN, taught=taught, step=2))
    planned = named(stages(again))
    assert f"--web_path {first.selected} --classes cow sheep" in planned["rehearsal-web-0"]
    assert list(planned).index("rehearsal-web-0") < list(planned).index("labels")
    again.selected.parent.mkdir(parents=True)
    again.selected.touch()
    write_taught(again)
    assert read_taught(str(again.out)) == (*taught, Taught(again.selected, ("goat",)))
    (first.work / "taught.json").write_text("[1]")
    with pytest.raises(UserError, match=r"taught\.json: cannot be read"):
        read_taught(str(first.out))


def test_the_checkpoint_is_where_run_py_keeps_it(tmp_path: Path) -> None:
    command = stages(adding(tmp_path))[-3].command
    assert command[0] == "run.py"
    given = argparser.get_argparser().parse_args(command[1:])
    own = argparser.Options(
        **{name: getattr(given, name, None) for name in argparser.OPTIONS if name != "protocol"},
        protocol=given.protocol,
    )
    assert own.checkpoint_path(1) == adding(tmp_path).checkpoint()


def parser_of(stage: Stage) -> argparse.ArgumentParser:
    name = stage.command[1] if stage.command[0] == "-m" else stage.command[0].removesuffix(".py")
    module = importlib.import_module("argparser" if name == "run" else name)
    make: Callable[[], argparse.ArgumentParser] = module.get_argparser
    return make()


@pytest.mark.parametrize(
    "changes", [{}, {"old_images": None, "forget": True}, {"images": None, "collect": ("commons",)}]
)
def test_every_command_is_one_that_its_script_takes(tmp_path: Path, changes: dict[str, Any]) -> None:
    for stage in stages(adding(tmp_path, **changes)):
        rest = stage.command[2:] if stage.command[0] == "-m" else stage.command[1:]
        parser_of(stage).parse_args([*rest, *stage.speed])
