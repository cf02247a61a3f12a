"""Markers: small JSON files that say which model and which settings the files beside them were made by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from utils.errors import UserError
from utils.whole import write_whole

Marked = TypeVar("Marked")


def read_marker(path: Path, kind: Callable[..., Marked], cure: str) -> Marked | None:
    """What a marker says; None where there is none.

    Args:
        path: the file.
        kind: a dataclass of texts, whole numbers, dictionaries, and ``classes``, pairs of id and name.
        cure: what to do about a damaged one.

    Raises:
        UserError: the marker cannot be read.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        classes = tuple((number, name) for number, name in fields.pop("classes"))
        marker = kind(classes=classes, **fields)
        sound = all(_is_a(getattr(marker, name), wanted) for name, wanted in get_type_hints(kind).items())
        sound = sound and all(_is_a(number, int) and _is_a(name, str) for number, name in classes)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{path}: damaged; {cure}")
    return marker


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of the type of a field; true is no number."""
    own = getattr(kind, "__origin__", kind)
    return type(value) is int if own is int else isinstance(value, own)


def write_marker(path: Path, marker: Any) -> None:
    """Write a marker, whole or not at all."""
    write_whole(path, json.dumps(asdict(marker), indent=1) + "\n")
