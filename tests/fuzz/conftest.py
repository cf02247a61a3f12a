"""A place for each reader's files, and the number of examples of a long run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.fuzz import harness


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What readers log of thousands of inputs is not kept."""
    caplog.set_level(logging.CRITICAL, "webwilss")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of one test; each example writes its files anew."""
    return tmp_path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if harness.LONG and harness.counted:
        terminalreporter.section(f"examples, first seed {harness.FIRST_SEED}")
        for name, number in harness.counted.items():
            terminalreporter.line(f"{number:8d} {name}")
