"""The comparison with what was recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECORDS = Path(__file__).resolve().parent / "records"
WIDTH = 150


def _text(value: Any, indent: int = 0) -> str:
    """JSON with one line for what fits into one, so that a record can be read and its differences too."""
    whole = json.dumps(value, ensure_ascii=False)
    if len(whole) + indent <= WIDTH or not value or not isinstance(value, dict | list):
        return whole
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {_text(item, indent + 1)}" for key, item in value.items()
        ]
    else:
        parts = [inner + _text(item, indent + 1) for item in value]
    left, right = "{}" if isinstance(value, dict) else "[]"
    return f"{left}\n" + ",\n".join(parts) + f"\n{' ' * indent}{right}"


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """A line for each value that differs; 1 and 1.0 and True are three values."""
    if isinstance(expected, dict) and isinstance(found, dict):
        lines = [f"{where}/{key}: is gone" for key in expected if key not in found]
        lines += [f"{where}/{key}: is new" for key in found if key not in expected]
        return lines + [
            line
            for key in expected
            if key in found
            for line in differences(expected[key], found[key], f"{where}/{key}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for i, (one, other) in pairs for line in differences(one, other, f"{where}/{i}")]
    same = type(expected) is type(found) and expected == found
    return [] if same else [f"{where}: {json.dumps(found)}, was {json.dumps(expected)}"]


@pytest.fixture
def pinned() -> Callable[[str, Any], None]:
    """Compare what was found, plain values or a text, with the record of a name (``NAME.json`` or ``NAME.txt``)."""

    def compare(name: str, found: Any) -> None:
        path = RECORDS / f"{name}.{'txt' if isinstance(found, str) else 'json'}"
        if name in os.environ.get("RECORD_PINS", "").split():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found if isinstance(found, str) else _text(found) + "\n", encoding="utf-8")
            return
        recorded = path.read_text(encoding="utf-8")
        if isinstance(found, str):
            assert found.splitlines() == recorded.splitlines()
        else:
            wrong = differences(json.loads(recorded), json.loads(json.dumps(found)))
            assert not wrong, "\n".join([f"{path.name}:", *wrong[:20]])

    return compare
