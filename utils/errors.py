"""The one exception a user may meet: bad input, told in one line."""

from __future__ import annotations

import unicodedata

# Controls, halves of pairs, ends of lines: a terminal would obey them, or could not write them.
_NOT_SHOWN = ("Cc", "Cs", "Zl", "Zp")
# Turn the direction of writing, so that a name looks like another.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# How Python begins the text of an error that came out of a data loading process.
_WRAPPED = "Caught "
# Characters of a message: ninety names of classes find room.
LONGEST = 1800


class UserError(Exception):
    """Input that the program cannot work with: a missing file, a contradictory option, an unreadable image.

    The message names the file, option or value and says what to do. Entry scripts print it alone and exit with 2. It is one line that
    any terminal can show, whatever names and values it cites.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if text.startswith(_WRAPPED) else _short(printable(text))


def printable(text: str) -> str:
    """A text in which line breaks and what else moves a terminal's cursor stand as escapes (``\\n``, ``\\x1b``)."""
    if text.isprintable():
        return text
    return "".join(_escaped(letter) for letter in text)


def _short(text: str) -> str:
    """A text without its middle where it is longer than a screen: a value that it cites is what is long, not the advice."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"


def _escaped(letter: str) -> str:
    hidden = letter in _TURNS or unicodedata.category(letter) in _NOT_SHOWN
    return letter.encode("unicode_escape").decode() if hidden else letter


def one_line(error: UserError) -> str:
    """The message alone, also where a data loading process has wrapped it into the text of its traceback."""
    last = str(error).strip().splitlines()[-1]
    head, colon, rest = last.partition("Error: ")
    return rest if colon and " " not in head else last


def printable(text: str, most: int = 100) -> str:
    """``text`` from a file or a stranger for a message of one line: no control characters, no more than ``most`` characters."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= most else shown[:most] + "..."
