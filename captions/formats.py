"""The published text files of captions and nouns: one line an image, its name first.

- captions: ``00001.jpg An image of a dog on a couch``
- nouns: ``00001.jpg dog couch `` with a blank behind each noun, or ``00001.jpg bg`` where there is none
- class words of the originals: ``2007_000032.png airplane person `` with a blank behind each word

A name may hold blanks where it ends as an image file does. A noun of several words has ``_`` between them (``dining_table``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.errors import UserError
from utils.suffixes import FORMATS, IMAGE_SUFFIXES, image_stem
from utils.whole import whole_file

NOTHING = "bg"
# The shortest name that ends as an image file does and has a blank or nothing behind it.
_NAME = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))}))(?: |$)", re.IGNORECASE)
# Their own order, the most frequent first.
_ENDINGS = tuple(FORMATS)
_LONGEST = max(map(len, _ENDINGS))


def split_line(line: str) -> tuple[str, str]:
    """The image's name and what stands behind the blank that follows it."""
    name, _, rest = line.partition(" ")
    # Nearly all names end before the first blank; the expression finds the others, and those in letters of another case.
    if len(name) > _LONGEST and name.endswith(_ENDINGS):
        return name, rest
    match = _NAME.match(line)
    if match:
        return match[1], line[match.end() :]
    return name, rest


def _split(text: str) -> list[tuple[str, str]]:
    """``split_line`` of each line that is not blank; lines end as any system writes them."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return [split_line(line) for line in text.split("\n") if line.strip()]


def _lines(path: Path | str) -> list[tuple[str, str]]:
    try:
        # As one read of bytes: there may be ten thousand small files.
        with open(path, "rb", buffering=0) as file:
            return _split(file.read().decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _write(path: Path | str, lines: Iterable[str]) -> None:
    with whole_file(Path(path)) as temporary, temporary.open("x", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


def _line(name: str, rest: str) -> str:
    line = f"{name} {rest}\n"
    try:
        line.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{name!r}: its name or words are no UTF-8, and no caption file can hold them; rename it"
        ) from None
    # A file that begins with U+FEFF is read without it.
    if _split(line) != [(name, rest)] or not {"\n", "\r"}.isdisjoint(name) or name.startswith("\ufeff"):
        raise UserError(f"{name!r}: a caption file cannot hold this name; rename the image to one without blanks")
    return line


def caption_line(name: str, caption: str) -> str:
    """A line of a caption file with its end; line breaks of the caption become blanks, halves of characters question marks.

    Raises:
        UserError: the name could not be told from the caption when it is read again.
    """
    return _line(name, re.sub(r"[\r\n]+", " ", caption).encode("utf-8", "replace").decode())


def noun_line(name: str, nouns: Sequence[str]) -> str:
    """A line of a noun file with its end; ``bg`` where there is no noun.

    Raises:
        UserError: the name could not be told from the nouns, or a noun is empty or has blanks.
    """
    for noun in nouns:
        if not noun or noun.split() != [noun]:
            raise UserError(f"{name}: the noun {noun!r} has blanks; a noun file has _ between the words of a noun")
    return _line(name, "".join(f"{noun} " for noun in nouns) or NOTHING)


def read_captions(path: Path | str) -> list[tuple[str, str]]:
    """(name, caption) of each line of a caption file, in its order; a name alone has an empty caption.

    Raises:
        UserError: the file is missing or no text.
    """
    return _lines(path)


def write_captions(path: Path | str, rows: Iterable[tuple[str, str]]) -> None:
    """Write a whole caption file: to a temporary name, then renamed.

    Raises:
        UserError: it cannot be written, or cannot hold a name.
    """
    _write(path, (caption_line(name, caption) for name, caption in rows))


def read_nouns(path: Path | str) -> list[tuple[str, list[str]]]:
    """(name, nouns) of each line of a noun file, in its order; no nouns where the line says ``bg``.

    Raises:
        UserError: the file is missing or no text.
    """
    return _nouns(_lines(path))


def parse_nouns(text: str) -> list[tuple[str, list[str]]]:
    """``read_nouns`` for the text of a noun file, where it comes out of an archive."""
    return _nouns(_split(text.removeprefix("\ufeff")))


def _nouns(lines: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    rows = [(name, rest.split()) for name, rest in lines]
    return [(name, [] if nouns == [NOTHING] else nouns) for name, nouns in rows]


def write_nouns(path: Path | str, rows: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Write a whole noun file, byte for byte as the published ones: to a temporary name, then renamed.

    Raises:
        UserError: it cannot be written, or cannot hold a name or noun.
    """
    _write(path, (noun_line(name, nouns) for name, nouns in rows))


def read_class_words(path: Path | str) -> dict[str, list[str]]:
    """Class words of each original, by its name without the image suffix (``2007_000032``), as folders and noun files are named.

    Raises:
        UserError: the file is missing or no text, or an original stands twice.
    """
    return by_original(path, ((name, rest.split()) for name, rest in _lines(path)))


def by_original(path: Path | str, rows: Iterable[tuple[str, list[str]]]) -> dict[str, list[str]]:
    """Words of each original of a file, by its name without the image suffix.

    Args:
        path: the file, for the message.
        rows: names and words that it holds.

    Raises:
        UserError: an original stands twice.
    """
    words_of: dict[str, list[str]] = {}
    for name, words in rows:
        key = image_stem(name)
        if key in words_of:
            raise UserError(f"{path}: {key} stands twice; remove one of its lines")
        words_of[key] = words
    return words_of
