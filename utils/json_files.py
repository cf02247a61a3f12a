"""JSON files of others: read within bounds, or refused in one line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from utils.errors import UserError, printable
from utils.texts import read_text

LONGEST, DEEPEST = 1 << 22, 40


def read_json(path: Path, longest: int = LONGEST, deepest: int = DEEPEST) -> Any:
    """What a JSON file holds: of at most ``longest`` bytes and ``deepest`` levels, each key of an object once, all numbers finite.

    Raises:
        UserError: there is no such file, or it is something else.
    """
    try:
        value = json.loads(read_text(path, longest), object_pairs_hook=once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({printable(str(error))})") from error
    if _deeper(value, deepest):
        raise UserError(f"{path}: has more than {deepest} levels; is it another file's name?")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise UserError(f"{path}: holds a number that is not finite, or a text that is none ({error})") from error
    return value


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once (``object_pairs_hook``); JSON lets the last of several win.

    Raises:
        ValueError: a key stands twice.
    """
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"{repeated[0][:20]!r} stands twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in inner)
