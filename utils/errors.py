"""The one exception a user may meet: bad input, told in one line; and text of others, made fit for a terminal."""

from __future__ import annotations

import logging
import re
import unicodedata

# Control characters, bytes that are no UTF-8, line and paragraph separators; and what turns the direction of writing.
UNSHOWN = ("Cc", "Cs", "Zl", "Zp")
TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
# How a data loading process wraps an error, and where the error's own message begins in its traceback.
WRAPPED, OWN_MESSAGE = "Caught ", re.compile(r"^[\w.]*Error: ", re.MULTILINE)
# Characters of a message: ninety names of classes find room.
LONGEST = 1800


class UserError(Exception):
    """Input that the program cannot work with: a missing file, a contradictory option, an unreadable image.

    The message names the file, option or value and says what to do. Entry scripts print it alone and exit with 2. It is one line that
    any terminal can show, whatever names and values it cites.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if text.startswith(WRAPPED) else _short(shown_text(text))


def shown_text(text: object) -> str:
    r"""Text that came from anywhere, in one line, as a terminal may show it: what would steer the terminal is written out (``\x1b``).

    Blanks and letters of all scripts stay. Line breaks and tabs become blanks.
    """
    written = str(text)
    if written.isprintable():
        return written
    return "".join(map(_shown, written))


def printable(text: str, most: int = 100) -> str:
    """The same, no more than ``most`` characters of it: a name or value that a message cites."""
    shown = shown_text(text)
    return shown if len(shown) <= most else shown[:most] + "..."


def _short(text: str) -> str:
    """A text without its middle where it is longer than a screen: a value that it cites is what is long, not the advice."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"


def _shown(letter: str) -> str:
    if letter in "\n\r\t":
        return " "
    if unicodedata.category(letter) not in UNSHOWN and letter not in TURNING:
        return letter
    return letter.encode("unicode_escape").decode("ascii")


class PlainFormatter(logging.Formatter):
    """Log lines whose text cannot steer a terminal; tracebacks and line breaks of the program's own stay."""

    def format(self, record: logging.LogRecord) -> str:
        """The line or lines of a record."""
        return "\n".join(map(shown_text, super().format(record).split("\n")))


def reason(error: BaseException) -> str:
    """Why something failed, in one line of at most 300 characters, whatever was raised."""
    text = " ".join(str(error).split()) or "no reason given"
    name = "" if isinstance(error, UserError | OSError) else f"{type(error).__name__}: "
    return (name + text)[:300]


def one_line(error: UserError) -> str:
    """The message alone, also where a data loading process has wrapped it into the text of its traceback."""
    text = str(error).strip()
    starts = [match.end() for match in OWN_MESSAGE.finditer(text)] if text.startswith(WRAPPED) else []
    return shown_text(text[starts[-1] :] if starts else text)
