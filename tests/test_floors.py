"""The house has floors: a file imports from its own floor and from those below, never upwards."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

# The options' type and tasks' plain data are read on every floor above the ground.
FLOORS = {
    "tasks": 1, "utils": 1,
    "modules": 2, "captions": 2, "dataset": 2, "segmentation_module": 2, "results": 2,
    "argparser": 2.5, "methods": 3,
    "train": 4, "engine": 4, "web": 4,
    "generate_caption": 5, "generate_label": 5, "generate_train_file": 5,
    "experiments": 5, "run": 5, "collect_web": 5, "train_discriminator": 5, "select_web": 5,
}  # fmt: skip
# Entry scripts on a lower floor: a user calls ``python -m utils.measure_noun`` by its published name.
ENTRIES = {"utils/measure_noun.py", "utils/table.py"}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0].removesuffix(".py") in FLOORS)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_imports_go_down(path: Path) -> None:
    place = path.relative_to(ROOT)
    own = 5 if place.as_posix() in ENTRIES else FLOORS[place.parts[0].removesuffix(".py")]
    above = {name for name in imported(path) if FLOORS.get(name, 0) > own}
    assert not above, f"{path.name} imports from a floor above: {above}"


def test_nobody_calls_cuda() -> None:
    for path in FILES:
        assert ".cuda()" not in path.read_text(encoding="utf-8"), path
