"""Whether two spellings are one name: exact names first, then forms that forget more and more, never a sign or a letter.

Forgotten are Unicode's ways to write one letter, then case and blanks around a name, then which of blank, ``_`` and ``-`` parts two
words, then that anything does. Signs count (``HER2+`` is not ``HER2-``, ``C`` not ``C++``), and so does every letter
(``α-cell`` is not ``β-cell``, ``café`` not ``cafe``). A hyphen is a sign unless it joins two words: ``HER2-``, ``grade -1``.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from utils.texts import composed

# Ways to write a hyphen, a minus, an apostrophe, and the Greek letter that has two numbers.
_ALIKE = {ord(c): "-" for c in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"} | {
    0x2019: "'",
    0x02BC: "'",
    0xB5: "\u03bc",
}
# Letters of another width and ligatures; not ``²`` or ``①``, which name other things than 2 and 1.
_WIDTHS = ("<wide>", "<narrow>", "<noBreak>", "<compat>")
# A hyphen or stroke that joins two words, or stands between blanks.
_JOINT = re.compile(r"(?<=[^\W_]|')[-/]+(?=[^\W_]|')|(?<=[\s_])[-/]+(?=[\s_])")


def _of_one_width(letter: str) -> str:
    return unicodedata.normalize("NFKC", letter) if unicodedata.decomposition(letter).startswith(_WIDTHS) else letter


def folded(name: str) -> str:
    """``composed`` in small letters of one width, without blanks around it."""
    if name.isascii():  # Nothing to compose, and of one width already.
        return name.lower().strip()
    text = composed(name).translate(_ALIKE)
    return composed("".join(map(_of_one_width, text)).lower()).strip()


def separated(name: str) -> str:
    """``folded`` with one blank for ``_``, joining hyphens and strokes, and other blanks."""
    return " ".join(re.split(r"[\s_]+", _JOINT.sub(" ", folded(name)).strip(" _")))


def squeezed(name: str) -> str:
    """``separated`` without its blanks, but for those between two digits: 1-2 is not 12."""
    return re.sub(r"(?<!\d) | (?!\d)", "", separated(name))


# How a spelling is looked for, the most exact first.
FORMS: tuple[Callable[[str], str], ...] = (str, composed, folded, separated, squeezed)


def fits(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The names that a spelling fits most exactly, each once: several where it might be any of them, none where it is no name's."""
    known = tuple(dict.fromkeys(known))
    for form in FORMS:
        key = form(name)
        found = by_form(known, form).get(key, ()) if key else ()
        if found:
            return found
    return ()


@lru_cache(maxsize=64)
def by_form(known: tuple[str, ...], form: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """Names by a form of ``FORMS``; many spellings are looked for among the same names."""
    names: dict[str, tuple[str, ...]] = {}
    for name in known:
        key = form(name)
        names[key] = (*names.get(key, ()), name)
    return names


def on_disk(path: Path) -> Path:
    """``path``, or the only entry of its folder whose name is the same but for Unicode's form, where nothing lies at ``path``."""
    if path.name.isascii() or os.path.exists(path) or not os.path.isdir(path.parent):
        return path
    same = _entries(path.parent, path.parent.stat().st_mtime_ns).get(composed(path.name), [])
    return path.with_name(same[0]) if len(same) == 1 else path


@lru_cache(maxsize=64)
def _entries(folder: Path, changed: int) -> dict[str, list[str]]:
    """Names in a folder that was last ``changed`` then, by their form of ``composed``."""
    names = defaultdict(list)
    for name in os.listdir(folder):
        names[composed(name)].append(name)
    return dict(names)


def slashed(root: Path, name: str) -> str:
    """A relative or whole path with ``/`` for ``\\``, as Windows writes it, but where a file lies under the name as it is."""
    return name if "\\" not in name or os.path.exists(root / name) else name.replace("\\", "/")
