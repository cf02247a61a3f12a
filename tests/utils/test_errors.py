"""Messages that hold text of others."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from utils.errors import LONGEST, PlainFormatter, UserError, one_line, printable, shown_text

STEERING = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\x00"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain, für alle 犬 👩‍🌾 خر", "plain, für alle 犬 👩‍🌾 خر"),
        (STEERING, r"\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\x00"),
        ("a\nb\tc\rd", "a b c d"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("a\u2028b\u0085c", r"a\u2028b\x85c"),
        ("b\udcff.jpg", r"b\udcff.jpg"),
        (None, "None"),
    ],
)
def test_text_of_others(given: object, shown: str) -> None:
    assert shown_text(given) == shown


def test_a_message_is_whole_and_in_one_line() -> None:
    assert one_line(UserError(f"a\nb: {STEERING[:4]}: x")) == r"a b: \x1b]0;: x"
    wrapped = (
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File ...\n"
    )
    assert one_line(UserError(f"{wrapped}utils.errors.UserError: /a\x1b[1m: is\nempty\n")) == r"/a\x1b[1m: is empty"


@pytest.mark.parametrize("cited", ["a\x1b[31mb", "a\nb", "a\u2028b", "a\udcffb", "\u202egnp.exe"])
def test_the_text_of_an_error_is_what_is_printed(cited: str) -> None:
    """Also where something else than a script's end writes it: a log, a table, another message."""
    error = UserError(f"{cited}: no such file")
    assert str(error) == one_line(error) == f"{shown_text(cited)}: no such file"


def test_a_long_value_hides_neither_file_nor_cure() -> None:
    text = str(UserError(f"x.json: {'9' * 100_000} is no class; write one"))
    assert len(text) < LONGEST + 10 and text.startswith("x.json: 9") and text.endswith("9 is no class; write one")
    assert printable("x" * 200, 5) == "xxxxx..."


def test_text_of_a_data_loading_process_is_kept() -> None:
    text = "Caught UserError in DataLoader worker process 0.\nTraceback:\n  File ...\nutils.errors.UserError: x.png: is damaged\n"
    assert str(UserError(text)) == text and one_line(UserError(text)) == "x.png: is damaged"


def test_lines_of_the_log() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "of %s\nsecond", ("\x1b[31m",), None)
    assert PlainFormatter("%(levelname)s %(message)s").format(record) == "INFO of \\x1b[31m\nsecond"


def test_scripts_log_plain_lines() -> None:
    program = (
        "import logging, sys\nfrom utils.script import run\n"
        "sys.exit(run(lambda: logging.getLogger('webwilss').warning('a \\x1b[31m b'), 'x.py', level=logging.INFO))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == "a \\x1b[31m b\n"
