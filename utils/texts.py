"""Text files that people and their editors wrote; names in Unicode's composed form."""

from __future__ import annotations

import codecs
import os
import unicodedata
from pathlib import Path

from utils.errors import UserError

# More than any list of images or classes.
LONGEST = 1 << 28
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_text(path: Path, longest: int = LONGEST) -> str:
    r"""The text of a small file: UTF-8 with or without a byte order mark, or UTF-16 with one; every line ends with ``\n``.

    Raises:
        UserError: no such file, or it is longer than ``longest`` bytes, or no text.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file" if not path.exists() else f"{path}: is no file")
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > longest:
                raise UserError(f"{path}: is longer than {longest:,} bytes; is it another file's name?")
            content = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b"")
    try:
        text = content.removeprefix(mark).decode(_MARKS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is no text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    if "\0" in text:
        raise UserError(f"{path}: holds bytes of value 0, as UTF-16 does and UTF-8 does not; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def composed(text: str) -> str:
    """A name in Unicode's composed form (NFC): an accent written as one sign or as two is the same name."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
