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


def noun_similarities(
    nouns: Sequence[str], wanted: Sequence[str], similarity: Similarity, rivals: bool
) -> NDArray[np.float64]:
    """Similarities of distinct nouns and wanted words, each pair once.

    Returns:
        (N, W); minus infinity where there is no similarity, or a rival has a greater one.
    """
    values = similarity.matrix(nouns, wanted)
    values[np.isnan(values)] = -np.inf
    if rivals:
        # Round-off must not part words that are equally similar.
        nearest = values.max(axis=1, keepdims=True, initial=-np.inf)
        values[values < nearest - 1e-9] = -np.inf
    return values


def _filtered(
    lists: Mapping[str, Rows], wanted: Mapping[str, Sequence[str]], similarity: Similarity, rule: FilterRule
) -> dict[str, list[str]]:
    """Names of the images of each list that are kept, in the list's order. All lists are one array, since most are short."""
    images = [image for rows in lists.values() for image in rows]
    list_of = np.repeat(np.arange(len(lists)), [len(rows) for rows in lists.values()])
    nouns = [noun for _, row in images for noun in row[: rule.first_nouns or None]]
    count = np.fromiter((len(row[: rule.first_nouns or None]) for _, row in images), np.intp, len(images))
    number = {noun: i for i, noun in enumerate(dict.fromkeys(nouns))}
    column = {word: i for i, word in enumerate(dict.fromkeys(word for name in wanted for word in wanted[name]))}
    values = noun_similarities(list(number), list(column), similarity, rule.rivals)

    # One column more for lists that want fewer words than others.
    values = np.pad(values, ((0, 0), (0, 1)), constant_values=-np.inf)
    columns = [[column[word] for word in wanted[name]] for name in lists]
    width = max(map(len, columns), default=0)
    asked = np.array([row + [len(column)] * (width - len(row)) for row in columns], np.intp).reshape(len(lists), width)
    row_of = np.fromiter(map(number.__getitem__, nouns), np.intp, len(nouns))
    image_of = np.repeat(np.arange(len(images)), count)
    score = np.full(len(nouns), -np.inf)
    for of_list in asked.T:
        np.maximum(score, values[row_of, of_list[list_of][image_of]], out=score)

    best, place = _best_noun(score, count, image_of)
    passing = np.flatnonzero(best > rule.threshold)
    if rule.best:
        passing = passing[np.lexsort((place[passing], -best[passing], list_of[passing]))]
    if rule.most:
        before = np.arange(len(passing)) - np.searchsorted(list_of[passing], list_of[passing])
        passing = passing[before < rule.most]
    kept: dict[str, list[str]] = {name: [] for name in lists}
    names = list(kept)
    for image in np.sort(passing).tolist():
        kept[names[list_of[image]]].append(images[image][0])
    return kept


def _best_noun(
    score: NDArray[np.float64], count: NDArray[np.intp], image_of: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The greatest score of each image's nouns and the place among them of the first that has it.

    Args:
        score (N,): of the nouns, image behind image.
        count (I,): nouns of each image.
        image_of (N,): the image of each noun.

    Returns:
        (I,) and (I,); minus infinity and 0 for images without a noun.
    """
    best, place = np.full(len(count), -np.inf), np.zeros(len(count), np.intp)
    some = np.flatnonzero(count)
    if len(some):
        starts = (np.cumsum(count) - count)[some]
        best[some] = np.maximum.reduceat(score, starts)
        # Behind the last noun where a score is not the best one.
        where = np.where(score == best[image_of], np.arange(len(score)), len(score))
        place[some] = np.minimum.reduceat(where, starts) - starts
    return best, place


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
