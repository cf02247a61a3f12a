"""Which images found by captions are kept, by the nouns of their own captions. Pure functions; the files are
``captions/filter_files.py``'s.

An image is kept where one of its nouns is more similar than a threshold to one of the wanted words: the class words of the original
image, the nouns of its caption, or the name of the class that was searched for.

Source: docs/method.md, "Old classes from captions".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from captions.similarity import Similarity
from utils.errors import UserError
from utils.texts import composed

# Images of one list: name and nouns of each.
Rows = Sequence[tuple[str, Sequence[str]]]

DEFAULT_SIMILARITY = "wup"


@dataclass(frozen=True)
class FilterRule:
    """How a list is filtered.

    Attributes:
        threshold: a noun counts where its similarity to a wanted word is greater.
        first_nouns: so many nouns of a caption are looked at; 0 all of them.
        most: so many images of a list are kept; 0 all that pass.
        best: keep the most similar images of a list, at equal similarity those that name it first; else the first ones.
        rivals: a noun counts only where no other class is more similar to it: a bench is nearer to a chair than a truck, but no nearer
            to a sofa.
    """

    threshold: float
    first_nouns: int = 0
    most: int = 2
    best: bool = True
    rivals: bool = True

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise UserError(f"threshold {self.threshold}: a similarity from -1 to 1 is needed")
        for name, value in (("first_nouns", self.first_nouns), ("images to keep", self.most)):
            if value < 0:
                raise UserError(f"{name} {value}: a number from 0 is needed; 0 means all")

    def __str__(self) -> str:
        """The rule in a line of a log: ``Rule(threshold=0.86, first_nouns=0, ...)``."""
        return f"Rule({', '.join(f'{name}={value!r}' for name, value in asdict(self).items())})"


# The published rule, and thresholds from ``benchmarks/results/captions.md``.
RULES = {
    "depth": FilterRule(0.6, first_nouns=1, best=False, rivals=False),
    "path": FilterRule(0.22),
    "wup": FilterRule(0.86),
    "lin": FilterRule(0.65),
    "embedding": FilterRule(0.48),
}
# The paper's filter of captions against captions, and the published filter of new classes, look at two nouns.
TWO_NOUNS = 2
NEW_PER_CLASS = 500


def caption_rule(similarity: str) -> FilterRule:
    """The paper's filter against the original's caption: any pair of the first two nouns of both, the first images that pass.

    There are no rivals, since a caption names more than classes. Its threshold is the paper's for ``depth``, else as against classes.
    """
    return replace(RULES[similarity], first_nouns=TWO_NOUNS, best=False, rivals=False)


def new_class_rule(similarity: str) -> FilterRule:
    """The filter of new classes: with ``depth`` as published, two nouns, at most 500 a class."""
    rule = RULES[similarity]
    return replace(rule, first_nouns=TWO_NOUNS if similarity == "depth" else rule.first_nouns, most=NEW_PER_CLASS)


@dataclass(frozen=True)
class NounSimilarities:
    """Similarities of all nouns of several lists to all wanted words, each pair once.

    Attributes:
        values (N, W): minus infinity where there is no similarity, or a rival has a greater one.
        nouns, wanted: row of each noun and column of each wanted word.
    """

    values: NDArray[np.float64]
    nouns: Mapping[str, int]
    wanted: Mapping[str, int]

    def best(self, nouns: Sequence[str], wanted: Sequence[str]) -> list[float]:
        """For each noun, its similarity to the most similar wanted word."""
        rows, columns = [self.nouns[noun] for noun in nouns], [self.wanted[word] for word in wanted]
        return self.values[np.ix_(rows, columns)].max(axis=1, initial=-np.inf).tolist()


def noun_similarities(
    nouns: Sequence[str], wanted: Sequence[str], similarity: Similarity, rivals: bool
) -> NounSimilarities:
    """Similarities of distinct nouns and wanted words."""
    values = similarity.matrix(nouns, wanted)
    values[np.isnan(values)] = -np.inf
    if rivals:
        # Round-off must not part words that are equally similar.
        nearest = values.max(axis=1, keepdims=True, initial=-np.inf)
        values[values < nearest - 1e-9] = -np.inf
    return NounSimilarities(
        values, {noun: i for i, noun in enumerate(nouns)}, {word: i for i, word in enumerate(wanted)}
    )


def choose(rows: Rows, wanted: Sequence[str], similarities: NounSimilarities, rule: FilterRule) -> list[str]:
    """Names of the images of one list that are kept, in the list's order."""
    looked = [nouns[: rule.first_nouns or None] for _, nouns in rows]
    flat = similarities.best([noun for nouns in looked for noun in nouns], wanted)
    passing: list[tuple[float, int, int]] = []
    start = 0
    for place, nouns in enumerate(looked):
        scores = flat[start : start + len(nouns)]
        start += len(nouns)
        score = max(scores, default=-np.inf)
        if score > rule.threshold:
            passing.append((-score, scores.index(score), place))
    if rule.best:
        passing.sort()
    return [rows[place][0] for place in sorted(place for *_, place in passing[: rule.most or None])]


def _filtered(
    lists: Mapping[str, Rows], wanted: Mapping[str, Sequence[str]], similarity: Similarity, rule: FilterRule
) -> dict[str, list[str]]:
    seen = dict.fromkeys(
        noun for rows in lists.values() for _, nouns in rows for noun in nouns[: rule.first_nouns or None]
    )
    words = dict.fromkeys(word for name in wanted for word in wanted[name])
    similarities = noun_similarities(list(seen), list(words), similarity, rule.rivals)
    return {name: choose(rows, wanted[name], similarities, rule) for name, rows in lists.items()}


def generate_NN(captions: Iterable[tuple[str, str]], tagger: Callable[[str], list[str]]) -> list[tuple[str, list[str]]]:
    """Nouns of captions.

    Args:
        captions: name and caption of each image.
        tagger: of ``captions.nouns.make_tagger``.

    Returns:
        Name and nouns of each image, in the same order.
    """
    return [(name, tagger(caption)) for name, caption in captions]


def filter_replay_with_NN(
    lists: Mapping[str, Rows], wanted: Mapping[str, Sequence[str]], similarity: Similarity, rule: FilterRule
) -> dict[str, list[str]]:
    """Images that stand for an original image.

    Args:
        lists: for each original, what was found by its caption: name and nouns of each image.
        wanted: for each original, its class words, or the nouns of its own caption (``first_of``); none keep nothing.
        similarity: of ``captions.similarity.make_similarity``.
        rule: thresholds and choices; rivals are the words of all originals.

    Returns:
        For each original, the names of the images kept, in the list's order.

    Raises:
        UserError: an original of ``lists`` is missing in ``wanted``.
    """
    # An original's name may have its accents written in two ways.
    spelled = {composed(name): name for name in lists}
    wanted = {name if name in lists else spelled.get(composed(name), name): words for name, words in wanted.items()}
    missing = [name for name in lists if name not in wanted]
    if missing:
        raise UserError(
            f"{missing[0]}: its class words are missing ({len(missing)} of {len(lists)} originals have none)"
        )
    return _filtered(lists, wanted, similarity, rule)


def filter_webnew_with_cls(lists: Mapping[str, Rows], similarity: Similarity, rule: FilterRule) -> dict[str, list[str]]:
    """Images that show the new class that was searched for.

    Args:
        lists: for each class name, what was found by it: name and nouns of each image.
        similarity: of ``captions.similarity.make_similarity``.
        rule: thresholds and choices; rivals are the other classes of ``lists``.

    Returns:
        For each class, the names of the images kept, in the list's order.
    """
    return _filtered(lists, {name: [name] for name in lists}, similarity, rule)


def first_of(nouns: Mapping[str, Sequence[str]], count: int) -> dict[str, list[str]]:
    """The first nouns of each original's caption, as wanted words."""
    return {name: list(row[: count or None]) for name, row in nouns.items()}
