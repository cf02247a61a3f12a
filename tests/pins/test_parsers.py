"""Options, defaults, choices and types of every entry script; not the wording of their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.pins.scripts import parser_of

SCRIPTS = (
    "run.py",
    "collect_web.py",
    "train_discriminator.py",
    "select_web.py",
    "generate_caption.py",
    "generate_label.py",
    "generate_train_file.py",
    "predict.py",
    "pretrained/fetch.py",
    "-m utils.measure_noun",
    "-m utils.table",
    "-m dataset.check",
    "-m dataset.shapes",
    "-m captions.vocabulary",
    "-m experiments",
    "-m experiments.report",
    "-m experiments.noisy_web",
    "-m experiments.imitated_search",
)
# What a type makes of these says what it is, whatever it is called.
TEXTS = (
    *("0", "1", "-1", "2", "30", "0.5", "1.5", "-0.5", "1e-4", "inf", "nan", "", "word"),
    *("auto", "cpu", "cuda", "mps", "resnet50", "resnet101", "wider_resnet38_a2", "timm:net", "timm:"),
)


def plain(value: Any) -> Any:
    """As JSON; paths are told from texts, and the root has a name."""
    if isinstance(value, Path):
        return {"path": str(value).replace(str(ROOT), "<root>")}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def readings(read: Callable[[str], Any]) -> dict[str, str]:
    found = {}
    for text in TEXTS:
        try:
            found[text] = repr(read(text))
        except argparse.ArgumentTypeError as error:
            found[text] = f"refused: {error}"
        except (TypeError, ValueError):
            found[text] = "refused"
    return found


KNOWN: dict[str, Callable[[str], Any]] = {"text": str, "int": int, "float": float, "path": Path}


def kind(action: argparse.Action) -> Any:
    """Name of a type that behaves as a known one; else what it makes of some texts."""
    found = readings(action.type if callable(action.type) else str)
    return next((name for name, read in KNOWN.items() if readings(read) == found), found)


def described(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """All that decides what a command line means."""
    options: dict[str, Any] = {}
    positionals: list[Any] = []
    commands: dict[str, Any] = {}
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        entry: dict[str, Any] = {"names": list(action.option_strings), "dest": action.dest, "nargs": action.nargs}
        if isinstance(action, argparse._SubParsersAction):
            commands = {name: described(command) for name, command in action.choices.items()}
            entry["choices"] = list(commands)
        else:
            entry |= {
                "action": type(action).__name__.strip("_"),
                "default": plain(action.default),
                "const": plain(action.const),
                "choices": None if action.choices is None else plain(list(action.choices)),
                "type": kind(action),
            }
        entry |= {"required": action.required}
        entry = {key: value for key, value in entry.items() if value not in (None, False) or key == "default"}
        if action.option_strings:
            options[action.option_strings[0]] = entry
        else:
            positionals.append(entry)
    own = {action.dest for action in parser._actions}
    found = {
        "prog": parser.prog.split()[-1],
        "abbreviations": parser.allow_abbrev,
        # Where an option has a default it says so itself.
        "set": {key: plain(value) for key, value in sorted(parser._defaults.items()) if key not in own},
        "exclusive": [sorted(a.dest for a in group._group_actions) for group in parser._mutually_exclusive_groups],
        "positionals": positionals,
        "options": dict(sorted(options.items())),
        "commands": commands,
    }
    return {key: value for key, value in found.items() if value not in ({}, [])}


@pytest.mark.parametrize("script", SCRIPTS)
def test_options_of(script: str, pinned: Callable[[str, Any], None]) -> None:
    found = described(parser_of(*script.split()))
    if script == "pretrained/fetch.py":  # Named after the program that runs it: it gives no name.
        del found["prog"]
    pinned(f"parsers/{script.removeprefix('-m ').removesuffix('.py').replace('/', '.')}", found)
