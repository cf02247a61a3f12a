"""How alike two nouns are, by names: ``SIMILARITIES``. Source: docs/method.md, "Old classes from captions".

    make_similarity("wup").matrix(["puppy", "table"], ["dog", "cat"])      # (2, 2)

- ``depth``: the published measure, exactly. It sees only how deep a word's hypernyms lie, not which they are.
- ``path``, ``wup``, ``lin``: measures on WordNet's tree, the best over all pairs of senses. Names (Seine) are left out of a word's
  senses where it has others. A word that names a class of ``classes.json`` has the senses written there, on either side: a monitor
  is a screen and no proctor, a dog no chap.
- ``embedding``: cosine of sentence embeddings (``captions/embedding.py``), where its package is installed.

A word is written as in noun files: small letters, ``_`` between the parts of an expression; plurals find their singular.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from captions import wordnet
from captions.vocabulary import Entry, match_class, table
from utils.errors import UserError

Matrix = NDArray[np.float64]

# Two class words of the published files that are not the classes' names, and no other name of them in general.
PUBLISHED_NAMES = {"table": "diningtable", "plant": "pottedplant"}
# The published measure's weight of a hypernym, per edge of its depth.
DEPTH_WEIGHT = 0.05
# Most elements of an array of all pairs of senses and their ancestors; larger batches are cut into parts.
LARGEST = 1 << 22


class Similarity(ABC):
    """A measure of nouns."""

    def matrix(self, words_a: Sequence[str], words_b: Sequence[str]) -> Matrix:
        """Similarity of every word of A with every word of B.

        Each distinct word is looked up once.

        Returns:
            (A, B), 1 for words that are the same to the measure; NaN where one is no noun that it knows.
        """
        distinct_a, place_a = np.unique(np.array([_key(word) for word in words_a], dtype=np.str_), return_inverse=True)
        distinct_b, place_b = np.unique(np.array([_key(word) for word in words_b], dtype=np.str_), return_inverse=True)
        if not len(distinct_a) or not len(distinct_b):
            return np.zeros((len(words_a), len(words_b)))
        return self._distinct(distinct_a.tolist(), distinct_b.tolist())[place_a[:, None], place_b]

    @abstractmethod
    def _distinct(self, words_a: Sequence[str], words_b: Sequence[str]) -> Matrix:
        """``matrix`` of distinct words in ``_key``'s form."""


def _key(word: str) -> str:
    return "_".join(word.lower().split())


def class_of(word: str) -> Entry | None:
    """The class of ``classes.json`` that a word names by whatever of its names; None for other words."""
    name = PUBLISHED_NAMES.get(word) or match_class(word, _table_classes())
    return table()[name] if name else None


@cache
def _table_classes() -> tuple[str, ...]:
    return tuple(table())


class Depth(Similarity):
    """The published measure: a word is a histogram of the depths of its hypernyms, weighted by depth; cosine of two histograms.

    Of a word's lemma the first synset counts, with all that it is a kind of, itself and instances left out.
    """

    def __init__(self) -> None:
        self.net = wordnet.load()

    def _distinct(self, words_a: Sequence[str], words_b: Sequence[str]) -> Matrix:
        return self._histograms(words_a) @ self._histograms(words_b).T

    def _histograms(self, words: Sequence[str]) -> Matrix:
        """(W, depths), of length 1; NaN for words without a sense, or without a hypernym."""
        histograms = np.zeros((len(words), int(self.net.max_depths.max()) + 1))
        for row, word in zip(histograms, words, strict=True):
            synset = self._synset(word)
            for other in self.net.hypernyms_closure(synset, instances=False) - {synset} if synset is not None else ():
                depth = self.net.max_depth(other)
                row[depth] += DEPTH_WEIGHT * depth
        length = np.linalg.norm(histograms, axis=1, keepdims=True)
        return np.divide(histograms, length, out=np.full_like(histograms, np.nan), where=length > 0)

    def _synset(self, word: str) -> int | None:
        """First synset of the shortest of NLTK's base forms, which the published code asks for."""
        forms = self._base_forms(word)
        return self.net.senses(min(forms, key=len))[0] if forms else None

    def _base_forms(self, word: str) -> list[str]:
        """NLTK's morphy, which differs from WordNet's own: no rule for short words or -ss, one for -ves, rules applied again."""
        if word in self.net.exceptions:
            return self._known([word, *self.net.exceptions[word]])
        forms = [word, *self._by_rule(word)]
        while forms:
            known = self._known(forms)
            if known:
                return known
            forms = [base for form in forms for base in self._by_rule(form)]
        return []

    def _known(self, forms: Sequence[str]) -> list[str]:
        return [form for form in dict.fromkeys(forms) if form in self.net.lemma_ids]

    @staticmethod
    def _by_rule(word: str) -> list[str]:
        endings = (*wordnet.ENDINGS, ("ves", "f"))
        return [word.removesuffix(end) + single for end, single in endings if word.endswith(end)]


@dataclass(frozen=True)
class Senses:
    """Senses of several words and what lies above them.

    Attributes:
        starts (W,): first sense of each word that has any.
        known (W all,): whether a word has a sense.
        synsets (S,): the senses, a row of each word behind that of the word before.
        above (S, P): ancestors of each sense, itself included; -1 behind the last.
        edges (S, P): edges of the shortest way up to each; infinite behind the last.
    """

    starts: NDArray[np.intp]
    known: NDArray[np.bool_]
    synsets: NDArray[np.intp]
    above: NDArray[np.intp]
    edges: Matrix


class Tree(Similarity):
    """A measure of two senses by an ancestor that they share, the best over all ancestors and all senses of both words."""

    def __init__(self) -> None:
        self.net = wordnet.load()

    @abstractmethod
    def _senses_alike(
        self, a: NDArray[np.intp], b: NDArray[np.intp], shared: NDArray[np.intp], edges: Matrix
    ) -> Matrix:
        """Similarity of senses.

        Args:
            a (A, 1, 1), b (B, 1): the senses.
            shared (B, P): ancestors of the senses of B.
            edges (A, B, P): edges of the way from a up to the ancestor and down to b; infinite where it is no ancestor of both.

        Returns:
            (A, B, P), the greatest of the last axis counts.
        """

    def _distinct(self, words_a: Sequence[str], words_b: Sequence[str]) -> Matrix:
        a, b = self._senses(words_a), self._senses(words_b)
        values = np.full((len(words_a), len(words_b)), np.nan)
        if a.known.any() and b.known.any():
            best = np.maximum.reduceat(self._all_senses(a, b), b.starts, axis=1)
            values[np.ix_(a.known, b.known)] = np.maximum.reduceat(best, a.starts, axis=0)
        return values

    def _all_senses(self, a: Senses, b: Senses) -> Matrix:
        """(senses of A, senses of B), as few array operations as memory allows."""
        # Ancestors of B's senses, numbered; one place more for all that is no ancestor.
        shared, place = np.unique(b.above, return_inverse=True)
        place = place.reshape(b.above.shape)
        step = max(1, LARGEST // max(b.above.size, 1))
        parts = []
        for start in range(0, len(a.synsets), step):
            rows = slice(start, start + step)
            above, edges = a.above[rows], a.edges[rows]
            column = np.minimum(np.searchsorted(shared, above), len(shared) - 1)
            up = np.full((len(above), len(shared)), np.inf)
            row, rank = np.nonzero((shared[column] == above) & (above >= 0))
            up[row, column[row, rank]] = edges[row, rank]
            way = up[:, place] + b.edges
            alike = self._senses_alike(a.synsets[rows, None, None], b.synsets[:, None], b.above, way)
            parts.append(alike.max(axis=2))
        return np.concatenate(parts)

    def _senses(self, words: Sequence[str]) -> Senses:
        rows = [senses(word) for word in words]
        known = np.array([bool(row) for row in rows])
        counts = np.array([len(row) for row in rows if row], dtype=np.intp)
        synsets = [synset for row in rows for synset in row]
        ways = [_ancestors(synset) for synset in synsets]
        width = max((len(way) for way in ways), default=0)
        above, edges = np.full((len(ways), width), -1, dtype=np.intp), np.full((len(ways), width), np.inf)
        for i, way in enumerate(ways):
            above[i, : len(way)] = list(way)
            edges[i, : len(way)] = list(way.values())
        return Senses(np.cumsum(counts) - counts, known, np.array(synsets, dtype=np.intp), above, edges)


@lru_cache(maxsize=1 << 16)
def senses(word: str) -> tuple[int, ...]:
    """The synsets that a word may mean: of its class where it names one, else all of its base forms, names last resort."""
    net = wordnet.load()
    entry = class_of(word)
    if entry is not None and entry.senses:
        return tuple(net.sense(name) for name in entry.senses)
    synsets: list[int] = []
    for form in net.lemmatise(word):
        lemma = net.lemma_ids[form]
        row = slice(net.sense_starts[lemma], net.sense_starts[lemma + 1])
        every, names = net.sense_synsets[row], net.sense_is_name[row]
        synsets += (every if names.all() else every[~names]).tolist()
    return tuple(dict.fromkeys(synsets))


@lru_cache(maxsize=1 << 17)
def _ancestors(synset: int) -> dict[int, int]:
    """All that a synset is a kind or instance of, itself included, with the edges of the shortest way."""
    net = wordnet.load()
    edges_to, level, edges = {synset: 0}, [synset], 0
    while level:
        edges += 1
        level = [above for below in level for above in net.hypernyms(below) if above not in edges_to]
        edges_to.update((above, edges) for above in level)
    return edges_to


class Path(Tree):
    """1 / (1 + edges of the shortest way between two senses) (Rada et al. 1989, as WordNet::Similarity has it)."""

    def _senses_alike(
        self, a: NDArray[np.intp], b: NDArray[np.intp], shared: NDArray[np.intp], edges: Matrix
    ) -> Matrix:
        return 1 / (1 + edges)


class WuPalmer(Tree):
    """2 d / (2 d + edges) for a shared ancestor at depth d, the root's being 1 (Wu and Palmer 1994)."""

    def _senses_alike(
        self, a: NDArray[np.intp], b: NDArray[np.intp], shared: NDArray[np.intp], edges: Matrix
    ) -> Matrix:
        twice = 2 * (self.net.max_depths[shared].astype(np.float64) + 1)
        return twice / (twice + edges)


class Lin(Tree):
    """2 I(ancestor) / (I(a) + I(b)) with I the information content (Lin 1998).

    I is not counted in a corpus, since none ships with WordNet, but follows from the tree (Seco, Veale and Hayes 2004):
    1 - log(kinds and instances of a synset, itself included) / log(all synsets); 0 for the root, 1 for a leaf.
    """

    def __init__(self) -> None:
        super().__init__()
        self.content = information_content()

    def _senses_alike(
        self, a: NDArray[np.intp], b: NDArray[np.intp], shared: NDArray[np.intp], edges: Matrix
    ) -> Matrix:
        total = (self.content[a] + self.content[b])[..., 0]
        twice = np.where(np.isfinite(edges), 2 * self.content[shared], -np.inf)
        # Where neither of two senses says anything, both are the root.
        return np.divide(twice, total[..., None], out=np.ones_like(twice), where=total[..., None] > 0)


@cache
def information_content() -> Matrix:
    """(S,) what it says of a thing that it is of each synset, 0..1 (``Lin``)."""
    net = wordnet.load()
    size = len(net)
    below = np.repeat(np.arange(size), np.diff(net.parent_starts))
    above = net.parents.astype(np.int64)
    pairs = [np.arange(size) * (size + 1)]
    while len(below):
        # A pair is one number; a synset that is reached by several ways counts once.
        level = np.unique(below * size + above)
        pairs.append(level)
        below, above = np.divmod(level, size)
        counts = np.diff(net.parent_starts)[above]
        first = np.repeat(net.parent_starts[above] - np.cumsum(counts) + counts, counts)
        below, above = np.repeat(below, counts), net.parents[first + np.arange(counts.sum())].astype(np.int64)
    descendants = np.bincount(np.unique(np.concatenate(pairs)) % size, minlength=size)
    return 1 - np.log(descendants) / np.log(size)


class Embedding(Similarity):
    """Cosine of sentence embeddings (``captions/embedding.py``). Every word is known; none gives NaN.

    Raises:
        UserError: the model's package or transformers is not installed.
    """

    def __init__(self) -> None:
        # Imported here, because no other measure needs torch.
        from captions.embedding import Embedder

        self.embedder = Embedder()

    def _distinct(self, words_a: Sequence[str], words_b: Sequence[str]) -> Matrix:
        words = list(dict.fromkeys((*words_a, *words_b)))
        vectors = dict(zip(words, self.embedder.embed([_written(word) for word in words]), strict=True))
        return np.stack([vectors[word] for word in words_a]) @ np.stack([vectors[word] for word in words_b]).T


def _written(word: str) -> str:
    """A word as people write it: dining table for diningtable and for the published table."""
    entry = class_of(word)
    names = (word,) if entry is None else (*(alias for alias in entry.aliases if " " in alias), entry.name)
    return names[0].replace("_", " ")


SIMILARITIES: dict[str, Callable[[], Similarity]] = {
    "depth": Depth,
    "path": Path,
    "wup": WuPalmer,
    "lin": Lin,
    "embedding": Embedding,
}


def make_similarity(name: str) -> Similarity:
    """A measure by its name.

    Raises:
        UserError: there is none of this name, or its package is not installed; says what to install.
    """
    if name not in SIMILARITIES:
        raise UserError(f"similarity {name}: is not known; choose from {', '.join(SIMILARITIES)}")
    return SIMILARITIES[name]()
