"""Make the compact file of WordNet's nouns from a WordNet database.

    python -m captions.build_wordnet DICT_FOLDER --out captions/wordnet_nouns.npz

DICT_FOLDER holds ``data.noun``, ``index.noun`` and ``noun.exc`` of WordNet 3.x (format: WordNet's manual, wndb(5)). The file that
comes with this project is of WordNet 3.0, the release that the published similarities were computed with.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captions.wordnet import ARRAYS, FILE
from utils.errors import UserError
from utils.script import run
from utils.whole import replacing

PARENT_SIGNS = {"@": False, "@i": True}


@dataclass(frozen=True)
class Synset:
    """A line of ``data.noun``: its offset, words as written, and (parent's offset, is instance)."""

    offset: int
    words: tuple[str, ...]
    parents: tuple[tuple[int, bool], ...]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields without the gloss) of a database file; lines of its licence begin with blanks."""
    try:
        with path.open(encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                if line.strip() and not line.startswith("  "):
                    yield number, line.split(" | ", 1)[0].split()
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; a WordNet folder holds data.noun, index.noun and noun.exc") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def _synset(fields: Sequence[str]) -> Synset:
    """Fields: offset, file, type, hexadecimal count of words, (word, id)..., count of pointers, (sign, offset, type, words)..."""
    count = int(fields[3], 16)
    pointers = fields[5 + 2 * count :]
    if int(fields[4 + 2 * count]) * 4 != len(pointers) or count < 1:
        raise ValueError
    signs = zip(pointers[::4], pointers[1::4], strict=True)
    parents = tuple((int(offset), PARENT_SIGNS[sign]) for sign, offset in signs if sign in PARENT_SIGNS)
    return Synset(int(fields[0]), tuple(fields[4 : 4 + 2 * count : 2]), parents)


def _senses(fields: Sequence[str]) -> tuple[str, list[int]]:
    """Fields: lemma, type, count of synsets, count of signs, signs..., count of senses, tagged senses, offsets..."""
    count = int(fields[2])
    if count < 1 or len(fields) != 6 + int(fields[3]) + count:
        raise ValueError
    return fields[0], [int(offset) for offset in fields[-count:]]


def read_synsets(path: Path) -> list[Synset]:
    """Synsets of ``data.noun`` by offset; UserError names the line that is none."""
    found = []
    for number, fields in _lines(path):
        try:
            found.append(_synset(fields))
        except (ValueError, IndexError):
            raise UserError(f"{path} line {number}: is no synset") from None
    return sorted(found, key=lambda synset: synset.offset)


def read_index(path: Path) -> dict[str, list[int]]:
    """Lemma -> offsets of its senses, in ``index.noun``'s order; UserError names the line that is none."""
    found = {}
    for number, fields in _lines(path):
        try:
            lemma, offsets = _senses(fields)
        except (ValueError, IndexError):
            raise UserError(f"{path} line {number}: is no lemma with its senses") from None
        found[lemma] = offsets
    return dict(sorted(found.items()))


def _exceptions(path: Path) -> str:
    """Irregular plurals as they stand, a line each; UserError names the line without a singular."""
    text = []
    for number, fields in _lines(path):
        if len(fields) < 2:
            raise UserError(f"{path} line {number}: is no plural with its singular")
        text.append(" ".join(fields) + "\n")
    return "".join(text)


def _flat(rows: Sequence[Sequence[int]], kind: type) -> NDArray:
    return np.array([value for row in rows for value in row], dtype=kind)


def _counts(rows: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    return np.array([len(row) for row in rows], dtype=np.uint8)


def depths(parents: Sequence[Sequence[int]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Edges on the shortest and on the longest way up, for every synset.

    Raises:
        UserError: the hierarchy has a circle.
    """
    shortest, longest = [-1] * len(parents), [-1] * len(parents)
    for start in range(len(parents)):
        way = [start]
        while way:
            above = [p for p in parents[way[-1]] if shortest[p] < 0]
            if above and len(way) > 255:
                raise UserError("the hierarchy of the synsets has a circle; the WordNet folder is damaged")
            if above:
                way.append(above[0])
                continue
            synset = way.pop()
            shortest[synset] = min((shortest[p] + 1 for p in parents[synset]), default=0)
            longest[synset] = max((longest[p] + 1 for p in parents[synset]), default=0)
    return np.array(shortest, dtype=np.uint8), np.array(longest, dtype=np.uint8)


def arrays_of(folder: Path) -> dict[str, NDArray]:
    """The arrays of ``captions.wordnet.ARRAYS`` from a WordNet database.

    Raises:
        UserError: a file is missing, broken, or does not fit the others.
    """
    synsets = read_synsets(folder / "data.noun")
    index = read_index(folder / "index.noun")
    if not synsets or not index:
        raise UserError(f"{folder}: data.noun or index.noun holds no noun")
    number = {synset.offset: i for i, synset in enumerate(synsets)}
    try:
        parents = [[number[offset] for offset, _ in synset.parents] for synset in synsets]
        senses = [[number[offset] for offset in offsets] for offsets in index.values()]
        # The form of each lemma in each of its synsets: place and spelling.
        written = [[_place(lemma, synsets[i]) for i in row] for lemma, row in zip(index, senses, strict=True)]
    except KeyError as error:
        raise UserError(f"{folder}: data.noun and index.noun do not fit each other ({error.args[0]})") from None
    shortest, longest = depths(parents)
    return {
        "offsets": np.array(list(number), dtype=np.int32),
        "parent_counts": _counts(parents),
        "parents": _flat(parents, np.int32),
        "parent_is_instance": _flat([[flag for _, flag in synset.parents] for synset in synsets], np.bool_),
        "min_depths": shortest,
        "max_depths": longest,
        "sense_counts": _counts(senses),
        "sense_synsets": _flat(senses, np.int32),
        "sense_places": _flat([[place for place, _ in row] for row in written], np.uint8),
        "sense_is_name": _flat([[name for _, name in row] for row in written], np.bool_),
        "lemma_text": _text("".join(name + "\n" for name in index)),
        "exception_text": _text(_exceptions(folder / "noun.exc")),
    }


def _place(lemma: str, synset: Synset) -> tuple[int, bool]:
    """Place of a lemma among a synset's words, and whether its last word has a capital there; KeyError where it is not."""
    for place, word in enumerate(synset.words):
        if word.lower() == lemma:
            return place, word.rpartition("_")[2][0].isupper()
    raise KeyError(lemma)


def _text(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8)


def build(folder: Path, out: Path) -> tuple[int, int]:
    """Write the file of a WordNet database, whole or not at all; numbers of synsets and of lemmas.

    Raises:
        UserError: the database is broken, or the file cannot be written.
    """
    arrays = arrays_of(folder)
    content = io.BytesIO()
    named: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
    np.savez_compressed(content, **named)
    try:
        with replacing(out) as temporary:
            temporary.write_bytes(content.getvalue())
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    return len(arrays["offsets"]), len(arrays["sense_counts"])


def _run(given: argparse.Namespace) -> None:
    synsets, lemmas = build(given.folder, given.out)
    sys.stdout.write(f"{given.out}: {synsets} synsets, {lemmas} lemmas, {given.out.stat().st_size} bytes\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for bad input, after one line on stderr."""
    parser = argparse.ArgumentParser(prog="captions.build_wordnet", description="Make the file of WordNet's nouns.")
    parser.add_argument("folder", type=Path, help="folder with data.noun, index.noun and noun.exc of WordNet 3.x")
    parser.add_argument("--out", type=Path, default=FILE, help="file to write (.npz)")
    given = parser.parse_args(arguments)
    return run(lambda: _run(given), "captions.build_wordnet")


if __name__ == "__main__":
    sys.exit(main())
