"""What the runner notes of a stage, ``WORK/stages/NAME.json``, and how a reader of the work folder gets the stage back.

A record holds key, command, whether the command ended, and its seconds; then what the stage says of itself: kind, arm, rule, seed, step,
inputs and outputs by name. Version 0.1.0 and those before it wrote the first four alone: ``earlier`` makes up for the rest.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import argparser
from experiments.stage import Stage

SAID, PATHS = ("kind", "arm", "rule", "seed", "step"), ("inputs", "outputs")


def record(stage: Stage, key: str, ended: bool, seconds: float) -> dict[str, Any]:
    """A stage as plain values for JSON.

    Args:
        stage: whose command has begun.
        key: of ``stage.keys``.
        ended: whether the command ended well, too.
        seconds: how long it took.
    """
    run = {"key": key, "command": stage.command, "ended": ended, "seconds": round(seconds, 1), "kind": stage.kind}
    said = {name: value for name in SAID if (value := getattr(stage, name)) not in ("", None)}
    paths = {name: {what: str(path) for what, path in getattr(stage, name).items()} for name in PATHS}
    return run | said | {name: named for name, named in paths.items() if named}


def read_ended(path: Path) -> Stage | None:
    """The stage of a record; None where it has not ended, or the record is damaged."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        command = tuple(map(str, read["command"]))
        if read["ended"] is not True or not command:
            return None
        if "kind" not in read:
            return earlier(path.stem, command)
        said = {name: read[name] for name in SAID if name in read}
        paths = {name: {what: Path(one) for what, one in read[name].items()} for name in PATHS if name in read}
        return Stage(path.stem, command, **said, **paths)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None


def run_options(command: Sequence[str]) -> dict[str, Any] | None:
    """Options of a run.py command by name, as given: None where the default holds. None where this version does not know the command."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            options = vars(argparser.get_argparser().parse_args(list(command[1:])))
        except SystemExit:
            return None
    options["protocol"] = "overlap" if options["overlap"] else options["protocol"] or "disjoint"
    return options


# ---- records of earlier versions --------------------------------------------------------------------------------------

# How the name of a stage began, its kind, and the options that named its inputs and outputs.
EARLIER: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "search": ("search", {"pool": "--pool", "originals": "--dataset_dir"}, {}),
    "select-": ("select", {}, {"manifest": "--out"}),
    "replay-nouns": ("nouns", {"captions": "--captions"}, {"nouns": "--out"}),
    "replay-filter": ("filter", {"class_words": "--classes"}, {"kept": "--out"}),
    "replay-tree-": ("replay", {"downloads": "--images"}, {"tree": "--out"}),
}


def earlier(name: str, command: tuple[str, ...]) -> Stage:
    """A stage of version 0.1.0 or before, from its name and its command; of no kind where no reader asks for it."""
    if command[0] == "run.py":
        return _earlier_run(name, command)

    def files(options: dict[str, str]) -> dict[str, Path]:
        return {what: Path(command[command.index(one) + 1]) for what, one in options.items() if one in command}

    for beginning, (kind, inputs, outputs) in EARLIER.items():
        if name.startswith(beginning):
            stage = Stage(name, command, kind=kind, inputs=files(inputs), outputs=files(outputs))
            if kind == "select":
                rule, _, seed = name.removeprefix(beginning).rpartition("-")
                stage = replace(stage, rule=rule, seed=int(seed))
            return stage
    return Stage(name, command)


def _earlier_run(name: str, command: tuple[str, ...]) -> Stage:
    options = run_options(command)
    if options is None:
        return Stage(name, command)
    run, seed, step = options["name"], options["random_seed"], options["step"]
    folder = argparser.experiment_name(options["dataset"], options["task"], options["protocol"])
    checkpoint = Path(options["ckpt"] or Path(options["checkpoints"]) / "step" / folder / f"{run}_{step}.pth")
    confusion = Path(options["logdir"]) / folder / run / f"confusion_{step}.csv"
    tested = options["test"]
    return Stage(
        name,
        command,
        kind="test" if tested else "train",
        arm=run.removesuffix(f"-{seed}"),
        seed=seed,
        step=step,
        inputs={"checkpoint": checkpoint} if tested else {},
        outputs={"confusion": confusion} if tested else {"checkpoint": checkpoint},
    )
