"""The one exception a user may meet: bad input, told in one line."""


class UserError(Exception):
    """Input that the program cannot work with: a missing file, a contradictory option, an unreadable image.

    The message names the file, option or value and says what to do. Entry scripts print it alone and exit with 2.
    """


def reason(error: BaseException) -> str:
    """Why something failed, in one line of at most 300 characters, whatever was raised."""
    text = " ".join(str(error).split()) or "no reason given"
    name = "" if isinstance(error, UserError | OSError) else f"{type(error).__name__}: "
    return (name + text)[:300]


def one_line(error: UserError) -> str:
    """The message alone, also where a data loading process has wrapped it into the text of its traceback."""
    last = str(error).strip().splitlines()[-1]
    head, colon, rest = last.partition("Error: ")
    return rest if colon and " " not in head else last


def printable(text: str, most: int = 100) -> str:
    """``text`` from a file or a stranger for a message of one line: no control characters, no more than ``most`` characters."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= most else shown[:most] + "..."
