"""The judge of readers sees what it should: wrong errors, wrong messages, time and memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import harness
from tests.fuzz.harness import MEMORY, fuzz, outcome
from utils.errors import UserError

PATH = Path("folder/x.csv")


def raises(error: Exception) -> Callable[[], None]:
    def read() -> None:
        raise error

    return read


def test_one_line_that_names_the_file_is_right() -> None:
    error = UserError(f"{PATH}: cannot be read; repair it")
    assert outcome(raises(error), PATH) is error
    assert outcome(lambda: 3, PATH) == 3


@pytest.mark.parametrize("text", ["cannot be read", "other.csv: cannot be read", ""])
def test_a_message_without_the_file_is_a_fault(text: str) -> None:
    with pytest.raises(AssertionError):
        outcome(raises(UserError(text)), PATH)


@pytest.mark.parametrize("letter", ["\n", "\x1b", "\u2028", "\udcff"])
def test_letters_that_terminals_obey_are_a_fault(letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of UserError have none; an error that keeps them is seen."""
    outcome(raises(UserError(f"{PATH}: {letter} is odd")), PATH)
    monkeypatch.delattr(UserError, "__str__")
    monkeypatch.setattr(harness, "one_line", str)
    with pytest.raises(AssertionError):
        outcome(raises(UserError(f"{PATH}: {letter} is odd")), PATH)


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), RecursionError(), MemoryError()])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)):
        outcome(raises(error), PATH)


def test_time_and_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="MiB"):
        outcome(lambda: bytes(MEMORY + 1), PATH, memory=True)
    monkeypatch.setattr(harness, "SECONDS", 0.0)
    with pytest.raises(AssertionError, match="took"):
        outcome(lambda: sum(range(1000)), PATH)


def test_examples_come_first_and_a_round_is_the_same_every_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hypothesis import strategies as st

    monkeypatch.setattr(harness, "LONG", False)
    seen: list[list[int]] = []

    def body(place: Path, value: int) -> None:
        assert place == tmp_path
        seen[-1].append(value)

    for _ in range(2):
        seen.append([])
        fuzz(st.integers(0, 9**9), examples=[(-1,)], times=20)(body)(tmp_path)
    assert seen[0] == seen[1] and seen[0][0] == -1 and len(seen[0]) >= 20


def test_a_long_run_has_other_values_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from hypothesis import strategies as st

    monkeypatch.setattr(harness, "LONG", True)
    monkeypatch.setattr(harness, "MINUTE", 0.0)
    monkeypatch.setattr(harness, "ROUND", 20)
    seen: list[int] = []
    for first in (1, 2):
        monkeypatch.setattr(harness, "FIRST_SEED", first)
        fuzz(st.integers(0, 9**9))(lambda place, value: seen.append(value))(tmp_path)
    assert 30 <= len(seen) <= 60 and len(set(seen)) > 20
