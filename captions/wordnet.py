"""WordNet's noun hierarchy, from one compact file (``python -m captions.build_wordnet`` makes it; licence: WORDNET_LICENSE).

A synset, a set of words of one meaning, is an integer 0..S-1: its line in ``data.noun``. A lemma, a word in lower case with ``_``
between its parts, is an integer 0..L-1 in the sorted list of lemmas. All relations are integer arrays in compressed rows: the row
of ``i`` is ``values[starts[i]:starts[i + 1]]``. Measures over many pairs read these arrays, single questions the methods.
"""

from __future__ import annotations

import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError

FILE = Path(__file__).with_name("wordnet_nouns.npz")
CURE = "python -m captions.build_wordnet DICT_FOLDER --out FILE makes it anew"

# Name of each array in the file and its type; counts are the lengths of rows, one after the other.
ARRAYS = {
    "offsets": np.int32,
    "parent_counts": np.uint8,
    "parents": np.int32,
    "parent_is_instance": np.bool_,
    "min_depths": np.uint8,
    "max_depths": np.uint8,
    "sense_counts": np.uint8,
    "sense_synsets": np.int32,
    "sense_places": np.uint8,
    "sense_is_name": np.bool_,
    "lemma_text": np.uint8,
    "exception_text": np.uint8,
}
# Endings of plurals and what stands in their place in the singular (WordNet's manual, morphy(7), nouns).
ENDINGS = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)


class WordNet:
    """Nouns, their senses and what each is a kind of.

    Args:
        arrays: the arrays of ``ARRAYS``.

    Attributes:
        offsets (S,): byte of the synset's line in ``data.noun``, ascending; eight digits of it are the name WordNet gives a synset.
        parent_starts (S + 1,), parents (E,): rows of synsets that a synset is a kind of (hypernyms) or an instance of.
        parent_is_instance (E,): true where the parent is of an instance (Seine, river) and not of a kind (ship, vessel).
        min_depths, max_depths (S,): edges on the shortest and the longest way up to a root, 0..19; entity, the one root, has 0.
        sense_starts (L + 1,), sense_synsets (N,): rows of synsets of a lemma, the most frequent sense first.
        sense_places (N,): place of the lemma among the words of its synset, 0 for the first.
        sense_is_name (N,): true where the sense is written with a capital in its last word (Ewe, a people; Little Dog, stars).
        lemma_text, exception_text: ASCII, a line each lemma; and a line each irregular plural, its singulars behind it.
    """

    def __init__(self, arrays: Mapping[str, NDArray]) -> None:
        self.offsets: NDArray[np.int32] = arrays["offsets"]
        self.parent_starts = _starts(arrays["parent_counts"])
        self.parents: NDArray[np.int32] = arrays["parents"]
        self.parent_is_instance: NDArray[np.bool_] = arrays["parent_is_instance"]
        self.min_depths: NDArray[np.uint8] = arrays["min_depths"]
        self.max_depths: NDArray[np.uint8] = arrays["max_depths"]
        self.sense_starts = _starts(arrays["sense_counts"])
        self.sense_synsets: NDArray[np.int32] = arrays["sense_synsets"]
        self.sense_places: NDArray[np.uint8] = arrays["sense_places"]
        self.sense_is_name: NDArray[np.bool_] = arrays["sense_is_name"]
        self.lemma_text: NDArray[np.uint8] = arrays["lemma_text"]
        self.exception_text: NDArray[np.uint8] = arrays["exception_text"]

    def __len__(self) -> int:
        """Number of synsets."""
        return len(self.offsets)

    @cached_property
    def all_lemmas(self) -> list[str]:
        """Every lemma, sorted; the position is the lemma's number."""
        return self.lemma_text.tobytes().decode("ascii").splitlines()

    @cached_property
    def lemma_ids(self) -> dict[str, int]:
        """Number of every lemma."""
        return dict(zip(self.all_lemmas, range(len(self.all_lemmas)), strict=True))

    @cached_property
    def exceptions(self) -> dict[str, tuple[str, ...]]:
        """Irregular plurals and their singulars (oxen: ox)."""
        lines = (line.split() for line in self.exception_text.tobytes().decode("ascii").splitlines())
        return {first: tuple(rest) for first, *rest in lines}

    @cached_property
    def _children(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows of children: where each synset's begin, and the edges sorted by parent."""
        order = np.argsort(self.parents, kind="stable")
        return np.searchsorted(self.parents[order], np.arange(len(self) + 1)), order

    @cached_property
    def words(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Starts (S + 1,) and values (N,) of the rows of lemmas of each synset, in WordNet's order."""
        order = np.lexsort((self.sense_places, self.sense_synsets))
        lemma = np.repeat(np.arange(len(self.sense_starts) - 1), np.diff(self.sense_starts))
        return np.searchsorted(self.sense_synsets[order], np.arange(len(self) + 1)), lemma[order]

    @cached_property
    def _edge_child(self) -> NDArray[np.intp]:
        """The child of every edge (E,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.parent_starts))

    def has(self, lemma: str) -> bool:
        """Whether this is a noun; blanks and capitals as people write them."""
        return _key(lemma) in self.lemma_ids

    def senses(self, lemma: str) -> tuple[int, ...]:
        """Synsets of a lemma, the most frequent first; none where WordNet does not know it."""
        position = self.lemma_ids.get(_key(lemma))
        return () if position is None else _row(self.sense_starts, self.sense_synsets, position)

    def common_sense(self, lemma: str) -> int | None:
        """The most frequent sense that is no name, for text in lower case; the first where all are names, none where none is."""
        position = self.lemma_ids.get(_key(lemma))
        if position is None:
            return None
        start, stop = self.sense_starts[position], self.sense_starts[position + 1]
        # argmin finds the first false, or the first of all where every one is true.
        return int(self.sense_synsets[start + np.argmin(self.sense_is_name[start:stop])])

    def sense(self, name: str) -> int:
        """Synset of ``dog#1``, the first sense of dog.

        Raises:
            UserError: WordNet has no such sense.
        """
        lemma, _, number = name.rpartition("#")
        senses = self.senses(lemma)
        if not number.isdecimal() or not 1 <= int(number) <= len(senses):
            raise UserError(f"{name}: WordNet has no such sense; a sense is a noun and a number from 1, as in dog#1")
        return senses[int(number) - 1]

    def synset(self, offset: int) -> int:
        """Synset of an offset; UserError where there is none."""
        position = bisect_left(self.offsets, offset)
        if position == len(self) or self.offsets[position] != offset:
            raise UserError(f"{offset:08d}: WordNet has no noun synset of this offset")
        return position

    def lemmas(self, synset: int) -> tuple[str, ...]:
        """Words of a synset, in lower case, ``_`` between the parts."""
        return tuple(self.all_lemmas[i] for i in _row(*self.words, synset))

    def hypernyms(self, synset: int, instances: bool = True) -> tuple[int, ...]:
        """What a synset is a kind of, one level up; with ``instances`` also what it is an instance of."""
        edges = slice(self.parent_starts[synset], self.parent_starts[synset + 1])
        above = self.parents[edges]
        return tuple((above if instances else above[~self.parent_is_instance[edges]]).tolist())

    def hypernyms_closure(self, synset: int, instances: bool = True) -> frozenset[int]:
        """All synsets above, at any distance, itself included."""
        closure, open_ = {synset}, [synset]
        while open_:
            above = [p for p in self.hypernyms(open_.pop(), instances) if p not in closure]
            closure.update(above)
            open_ += above
        return frozenset(closure)

    def hyponyms_closure(self, synset: int, instances: bool = False) -> NDArray[np.intp]:
        """All kinds of a synset, at any distance, itself included, ascending; with ``instances`` also its instances."""
        starts, order = self._children
        inside = np.zeros(len(self), dtype=np.bool_)
        inside[synset] = True
        level = [synset]
        while level:
            edges = np.concatenate([order[starts[s] : starts[s + 1]] for s in level])
            if not instances:
                edges = edges[~self.parent_is_instance[edges]]
            below = self._edge_child[edges]
            level = np.unique(below[~inside[below]]).tolist()
            inside[level] = True
        return np.flatnonzero(inside)

    def is_under(self, synset: int, ancestor: int, instances: bool = False) -> bool:
        """Whether a synset is ``ancestor`` or a kind of it; with ``instances`` also an instance of it."""
        return ancestor in self.hypernyms_closure(synset, instances)

    def min_depth(self, synset: int) -> int:
        """Edges on the shortest way up to the root."""
        return int(self.min_depths[synset])

    def max_depth(self, synset: int) -> int:
        """Edges on the longest way up to the root."""
        return int(self.max_depths[synset])

    def lemmatise(self, word: str) -> tuple[str, ...]:
        """Base forms that WordNet knows: the word itself, then its irregular singulars, or those by rule where it has none.

        "oxen": ox (and oxen, a lemma of its own); "glasses": glasses, glass. None for a word that WordNet does not know. The rules
        are WordNet's own (morphy(7)): words of two letters or on -ss have no plural ending, -ful keeps its place (boxesful).
        """
        word = _key(word)
        bases = self.exceptions.get(word) or self._by_rule(word)
        return tuple(dict.fromkeys(form for form in (word, *bases) if form in self.lemma_ids))

    @staticmethod
    def _by_rule(word: str) -> Iterable[str]:
        if word.endswith("ss") or len(word) <= 2:
            return ()
        if word.endswith("ful"):
            return [base + "ful" for base in WordNet._by_rule(word.removesuffix("ful"))]
        return [word.removesuffix(end) + single for end, single in ENDINGS if word.endswith(end)]


def _key(lemma: str) -> str:
    return "_".join(lemma.lower().split())


def _starts(counts: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _row(starts: NDArray[np.int64], values: NDArray, position: int) -> tuple[int, ...]:
    return tuple(values[starts[position] : starts[position + 1]].tolist())


def _check(arrays: Mapping[str, NDArray]) -> None:
    """That all arrays have the length that others say, and name synsets that are there; ValueError tells what is wrong."""
    for name, kind in ARRAYS.items():
        if arrays[name].dtype != kind or arrays[name].ndim != 1:
            raise ValueError(f"{name} is no row of {np.dtype(kind)}")
    size = {name: len(array) for name, array in arrays.items()}
    rows = {
        "parents": int(arrays["parent_counts"].sum(dtype=np.int64)),
        "parent_is_instance": size["parents"],
        "parent_counts": size["offsets"],
        "min_depths": size["offsets"],
        "max_depths": size["offsets"],
        "sense_counts": int(np.count_nonzero(arrays["lemma_text"] == ord("\n"))),
        "sense_synsets": int(arrays["sense_counts"].sum(dtype=np.int64)),
        "sense_places": size["sense_synsets"],
        "sense_is_name": size["sense_synsets"],
    }
    for name, length in rows.items():
        if size[name] != length:
            raise ValueError(f"{name} has {size[name]} values and not {length}")
    for name in ("parents", "sense_synsets"):
        if size[name] and not 0 <= arrays[name].min() <= arrays[name].max() < size["offsets"]:
            raise ValueError(f"{name} names synsets that are not there")


@cache
def load(path: Path = FILE) -> WordNet:
    """The noun hierarchy of a file; read once.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
        _check(arrays)
    except FileNotFoundError:
        raise UserError(f"{path}: WordNet's nouns are missing; {CURE}") from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: is damaged or no file of WordNet's nouns ({error}); {CURE}") from error
    return WordNet(arrays)
