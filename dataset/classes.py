"""``classes.txt``: the names of a folder's classes, in the forms in which people and their tools write them.

=====================================================================  ===========================================
form                                                                   numbers
=====================================================================  ===========================================
one name a line                                                        from 1; where ``background`` is first, from 0
``3 cow``, ``3: cow``, ``3,cow`` on every line                         as written; 0 is background or not there
a table with a heading, ``id,name`` or ``name;id`` (spreadsheets)      as written
labelme's ``labels.txt``: ``__ignore__``, ``_background_``, names      from -1, which is ignore
CVAT's ``labelmap.txt``: ``name:r,g,b:parts:actions``                  from 0; background is first
mmsegmentation's ``classes=('background', 'cow')``, or a list alone    from 0; background is first
=====================================================================  ===========================================

Empty lines and lines that begin with # count for nothing. What may be read in two ways is refused: a wrong guess would shift every
name against the masks.
"""

from __future__ import annotations

import ast
import csv
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

from dataset.files import shown, tell
from tasks import BACKGROUND, IGNORE
from utils.errors import UserError, shown_text
from utils.texts import composed, read_text

LONGEST = 1 << 20
DIGITS = 9
_BACKGROUND_NAMES = {"background", "bg"}
# Control signs, and ends of lines and paragraphs that are no line ends of a file.
_NO_SIGNS = {"Cc", "Zl", "Zp"}
_IGNORE_NAMES = {"ignore", "ignored", "void", "unlabeled", "unlabelled"}
_NUMBERED = re.compile(r"(-?\d+)(\s*[:,;=\t]\s*|[.)]\s+|\s+)(\S.*)")
_NUMBER_LAST = re.compile(r".*[:,;=\t]\s*-?\d+")
_CVAT = re.compile(r"([^:]+):(?:\s*\d+\s*,\s*\d+\s*,\s*\d+\s*)?:[^:]*:[^:]*")
_CODE = re.compile(r"\bclasses\b[\"']?\s*[=:]\s*(?=[(\[])", re.IGNORECASE)
_COLOUR = re.compile(r"(?<!\d)\d{1,3}[\s,;]+\d{1,3}[\s,;]+\d{1,3}(?!\d)")
# Headings of columns, without blanks and marks.
_NUMBER_HEADS = {
    "id",
    "classid",
    "idx",
    "index",
    "number",
    "no",
    "nr",
    "value",
    "labelid",
    "maskvalue",
    "pixelvalue",
    "categoryid",
}
_NAME_HEADS = {"name", "names", "classname", "labelname", "categoryname"}
_EITHER_HEADS = {"class", "classes", "label", "labels", "category", "categories"}

Numbered = list[tuple[int, str]]


def read_classes(path: Path) -> dict[int, str]:
    """id -> name of every class in the file, background included.

    Raises:
        UserError: the file is missing or no text, may be read in several ways, or a number or name is impossible or stands twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: missing; write one class name a line")

    def refuse(fault: str) -> NoReturn:
        raise UserError(f"{path}: {shown_text(fault)}")

    lines: list[str] = []
    comments: list[str] = []
    for line in composed(read_text(path, LONGEST)).split("\n"):
        if any((unicodedata.category(sign) in _NO_SIGNS and sign != "\t") or sign == "\ufeff" for sign in line):
            refuse(f"the line {line!r} holds a sign that no name has; save the file as plain text in UTF-8")
        if line.strip().strip(' \t,;"'):
            (comments if line.lstrip().startswith("#") else lines).append(line.strip())
    if comments:
        tell(f"{path}: {len(comments)} lines are comments: {shown(comments)}")
    if not lines:
        refuse("names no class")
    names = {BACKGROUND: "background"}
    for number, name in _numbered(lines, refuse, path):
        plain = _plain(name)
        if number in (-1, IGNORE) and plain in _IGNORE_NAMES:
            continue
        if number == BACKGROUND and plain in _BACKGROUND_NAMES:
            continue
        if number == BACKGROUND:
            refuse(f"number 0 is {name}, but 0 is background here; number the classes from 1, and the masks too")
        if plain in _BACKGROUND_NAMES:
            refuse(f"{name} has number {number}, but background is 0; put it first, or take it out")
        if plain in _IGNORE_NAMES:
            refuse(f"{name} has number {number}, but 255 is what masks ignore; take it out, or give it 255")
        if not 1 <= number < IGNORE or number in names:
            refuse(f"class number {number} ({name}) stands twice or is not from 1 to 254")
        if name in names.values():
            refuse(f"class {name} stands twice")
        names[number] = name
    if len(names) == 1:
        refuse("names no class")
    return names


def _plain(name: str) -> str:
    """A name in small letters, without blanks and marks: ``_background_`` is ``background``."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _numbered(lines: Sequence[str], refuse: Callable[[str], NoReturn], path: Path) -> Numbered:
    """Number and name of each class, by the first form that fits."""
    names = _code("\n".join(lines), refuse)
    if names is not None:
        return list(enumerate(_background_first(names, "a list of classes in code", refuse)))
    cvat = [_CVAT.fullmatch(line) for line in lines]
    if all(cvat):
        return list(
            enumerate(_background_first([match[1].strip() for match in cvat if match], "a labelmap.txt", refuse))
        )
    table = _table(lines, refuse)
    return _lines(lines, refuse, path) if table is None else table


def _background_first(names: Sequence[str], form: str, refuse: Callable[[str], NoReturn]) -> Sequence[str]:
    if not names or _plain(names[0]) not in _BACKGROUND_NAMES:
        refuse(
            f"{form} counts from 0, and 0 is background here, but its first name is {names[0] if names else 'missing'}; "
            "write one `number name` a line, as the masks have them"
        )
    return names


def _code(text: str, refuse: Callable[[str], NoReturn]) -> list[str] | None:
    """The names in ``classes=(...)``, or in a list of strings alone; None where the text is neither."""
    match = _CODE.search(text)
    start = match.end() if match else 0
    if not match and text[0] not in "([":
        return None
    end = start
    # A name may hold a bracket, too.
    for _ in range(20):
        end = text.find({"(": ")", "[": "]"}[text[start]], end + 1)
        if end < 0:
            break
        try:
            value = ast.literal_eval(text[start : end + 1])
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
            return [name.strip() for name in value]
    if match:
        refuse(f"what stands behind {match[0]!r} is no list of names; write one class name a line")
    return None


def _table(lines: Sequence[str], refuse: Callable[[str], NoReturn]) -> Numbered | None:
    """The rows of a table whose first line says which column is the number and which the name; None where it does not."""
    mark = next((mark for mark in "\t;," if mark in lines[0]), "")
    heads = [_plain(cell.strip('" ')) for cell in (lines[0].split(mark) if mark else lines[:1])]
    if len(lines) == 1 or not set(heads) & (_NUMBER_HEADS | _NAME_HEADS | _EITHER_HEADS):
        return None
    if not mark:
        refuse(f"its first line, {lines[0]}, is a heading or a class; take it out, or write `1 {lines[0]}`")
    number = next((i for i, head in enumerate(heads) if head in _NUMBER_HEADS), None)
    name = next((i for i, head in enumerate(heads) if head in _NAME_HEADS), None)
    either = [i for i, head in enumerate(heads) if head in _EITHER_HEADS]
    # A column called class is the name beside numbers, and the number beside names.
    if len(either) == 1:
        number, name = (number, either[0]) if name is None else (either[0] if number is None else number, name)
    if number is None or name is None:
        refuse(f"its heading, {lines[0]!r}, has not one column of numbers and one of names, as `id{mark}name` has")
    rows: Numbered = []
    try:
        for line in lines[1:]:
            (cells,) = csv.reader([line], delimiter=mark, strict=True)
            value = cells[number].strip() if len(cells) > max(number, name) else ""
            if not re.fullmatch(rf"-?\d{{1,{DIGITS}}}(\.0*)?", value) or not cells[name].strip():
                refuse(f"the row {line!r} has no whole number or no name under the heading {lines[0]!r}")
            rows.append((int(value.partition(".")[0]), cells[name].strip()))
    except csv.Error as error:
        refuse(f"the row {line!r} cannot be read ({error}); a row of a table is one line")
    return rows


def _lines(lines: Sequence[str], refuse: Callable[[str], NoReturn], path: Path) -> Numbered:
    """One class a line, all with their number or all without."""
    lines = [_unquoted(line.rstrip(",; \t")) for line in lines]
    if lines[0].startswith("{") or re.match(r"<(\?xml|!doctype|annotation|labels?|html)\b", lines[0], re.IGNORECASE):
        refuse(f"begins with {lines[0][:30]!r}, as data of programs do; write one class name a line")
    # These two need no number where they stand first, as labelme has them.
    kinds = [kind for kind in takewhile(lambda kind: kind is not None, map(_special, lines[:2])) if kind is not None]
    if kinds not in ([], [BACKGROUND], [-1, BACKGROUND]):
        refuse(f"begins with {shown(lines[:2])}; begin with background or a class, or with __ignore__ and _background_")
    head, body = [(kind, "background" if kind == BACKGROUND else "ignore") for kind in kinds], lines[len(kinds) :]
    if body and all(map(_COLOUR.search, body)):
        refuse(f"its lines hold colours, as {body[0]!r} does; write `number name`, the number as in the masks")
    matches = [(line, _NUMBERED.fullmatch(line)) for line in body]
    numbered = [match for _, match in matches if match]
    bare = [line for line, match in matches if not match]
    if numbered and bare:
        if len(numbered) > 1 or numbered[0][2].strip(" ") or numbered[0][1] == "0":
            refuse(
                f"some lines begin with a number ({shown(match[0] for match in numbered)}) and others do not "
                f"({shown(bare)}); write the number of every class before its name, or of none"
            )
        tell(f"{path}: {numbered[0][0]!r} is read as a name, because no other line begins with a number")
    elif numbered:
        if any(len(match[1]) > DIGITS for match in numbered):
            refuse("a class number is not from 1 to 254")
        for match in numbered:
            if match[2].strip(" ") in tuple(",;\t") and match[2].strip(" ") in match[3]:
                refuse(f"the line {match[0]!r} has more than two columns; write a heading, as `id{match[2]}name`")
        return [*head, *((int(match[1]), _unquoted(match[3])) for match in numbered)]
    if len(body) == 1 and "," in body[0]:
        refuse(f"names one class, {body[0][:80]!r}; write one a line, and {body[0][:80]!r} as `1 NAME` if it is one")
    if body and all(_NUMBER_LAST.fullmatch(line) for line in body):
        refuse(f"its lines end with a number, as {body[0]!r} does; write `number name`")
    for line in body:
        if "\t" in line or " #" in line:
            refuse(f"the line {line!r} has a tab or a comment in it; write the name alone")
    return [*head, *enumerate(body, 1)]


def _unquoted(name: str) -> str:
    return name[1:-1].strip() if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'" else name


def _special(line: str) -> int | None:
    """0 where a line is background's, -1 where it is that of ignored pixels, else None."""
    match = _NUMBERED.fullmatch(line)
    number, name = (match[1], _plain(match[3])) if match else ("", _plain(line))
    if name in _BACKGROUND_NAMES and number in ("", "0"):
        return BACKGROUND
    return -1 if name in _IGNORE_NAMES and number in ("", "-1") else None
