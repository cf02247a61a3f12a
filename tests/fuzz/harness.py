"""What holds for every reader, and how often it is tried.

A reader gives a value, or raises one ``UserError`` (``DecodeError`` is one) whose message is one line without control characters
and names the file; it raises nothing else, and stays within bounds of memory and time.

``FUZZ=long`` (``bash run.sh fuzz``) tries each reader for a minute, with inputs that are new every time; otherwise the suite tries
the same few of them every time.
"""

from __future__ import annotations

import os
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from utils.errors import UserError, one_line, shown_text

T = TypeVar("T")
LONG = os.environ.get("FUZZ") == "long"
# Seconds of a long run for each reader, and examples between two looks at the clock.
MINUTE = float(os.environ.get("FUZZ_SECONDS", "60"))
ROUND = 200
FIRST_SEED = int(os.environ.get("FUZZ_SEED", str(time.time_ns() % 1_000_000_000)))
# Seconds of the processor that one small file may take; a reader whose time grows with its square takes more.
SECONDS = 3.0
# What a reader of text may hold of a small file: strings are some fifty times as large as their bytes in the file.
MEMORY = 48 << 20
PER_BYTE = 200

# Examples of each test, for the summary of a long run.
counted: dict[str, int] = {}
# Making a fault's example smaller takes minutes: the long run does.
_PHASES = (Phase.explicit, Phase.generate, *([Phase.shrink] if LONG else []))
_COMMON: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def fuzz(
    *drawn: SearchStrategy[Any], examples: Iterable[tuple[Any, ...]] = (), times: int = 80
) -> Callable[[Callable[..., None]], Callable[[Path], None]]:
    """A test of a body ``body(place, *values)``: ``place`` is a folder of its own, the values are drawn.

    Args:
        drawn: strategies of the values.
        examples: values that are tried first, every time: faults that were found once.
        times: examples in the suite.
    """

    def decorate(body: Callable[..., None]) -> Callable[[Path], None]:
        def one_round(place: Path, most: int, seed: int | None) -> None:
            def tried(values: tuple[Any, ...]) -> None:
                counted[body.__name__] = counted.get(body.__name__, 0) + 1
                body(place, *values)

            tried.__name__ = tried.__qualname__ = body.__name__
            test = hypothesis.given(st.tuples(*drawn))(tried)
            if seed is None or seed == FIRST_SEED:
                for values in examples:
                    test = hypothesis.example(values)(test)
            if seed is not None:
                test = hypothesis.seed(seed)(test)
            settings(max_examples=most, derandomize=seed is None, phases=_PHASES, **_COMMON)(test)()

        # Pillow warns of much that it reads nevertheless.
        @pytest.mark.filterwarnings("ignore")
        def test(place: Path) -> None:
            if not LONG:
                one_round(place, times, None)
                return
            end = time.monotonic() + MINUTE
            for seed in count(FIRST_SEED):
                one_round(place, ROUND, seed)
                if time.monotonic() > end:
                    return

        test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
        return test

    return decorate


def outcome(read: Callable[[], T], *names: Path | str, memory: bool = False) -> T | UserError:
    """What a reader gave, or the error that it raised, after a look at its message.

    Args:
        read: calls the reader; a reader that is a stream has to be read to its end.
        names: files of which the message has to name one.
        memory: whether memory is measured; that of Python and NumPy, not of Pillow.
    """
    if memory:
        tracemalloc.start()
    began = time.process_time()
    result: T | UserError
    try:
        result = read()
    except UserError as error:
        result = error
    finally:
        seconds = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1] if memory else 0
        if memory:
            tracemalloc.stop()
    assert seconds < SECONDS, f"took {seconds:.1f} s"
    size = sum(Path(name).stat().st_size for name in names if Path(name).is_file()) if memory else 0
    assert peak <= MEMORY + PER_BYTE * size, f"took {peak >> 20} MiB for {size} bytes"
    if isinstance(result, UserError):
        check_message(result, *names)
    return result


def check_message(error: UserError, *names: Path | str) -> None:
    """One line, which names one of the files and moves no cursor."""
    text = str(error)
    assert text.splitlines() == [text], f"not one line: {text!r}"
    said = one_line(error)
    assert not control_characters(said), f"control characters: {said!r}"
    assert any(shown_text(str(name)) in said for name in names), (
        f"names none of {[str(name) for name in names]}: {said!r}"
    )
    assert len(said) < 2000, f"{len(said)} characters: {said[:200]!r}"


def control_characters(text: str) -> list[str]:
    """Letters of a text that a terminal obeys or cannot write: controls, ends of lines, halves of pairs."""
    return [letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")]


def emptied(folder: Path) -> Path:
    """A folder without anything in it."""
    for path in _deepest_first(folder):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _deepest_first(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.rglob("*"), reverse=True)) if folder.is_dir() else iter(())
