"""docs/reliability.md names the tests of what it promises: all of them, and none that is not there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)))


def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_what_is_named_exists(file: str, name: str) -> None:
    assert name in names_in(file)


@pytest.mark.parametrize("file", ["test_training", "test_web", "test_replay"])
def test_what_exists_is_named(file: str) -> None:
    named = {name for path, name in NAMED if path == f"tests/faults/{file}.py"}
    assert named == names_in(f"tests/faults/{file}.py")
