"""A filter of downloads against the truth: scores, thresholds, parts of the rule.

The classes of an original are those of its labels; a download is right where its nouns name one of
them by the hand-checked vocabulary ``benchmarks/noun_truth.json``, which no similarity reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captions import wordnet
from captions.filter_files import read_lists
from captions.filters import DEFAULT_SIMILARITY, RULES, FilterRule, Rows, filter_replay_with_NN, noun_similarities
from captions.formats import read_class_words
from captions.similarity import SIMILARITIES, Matrix, Similarity, make_similarity
from captions.vocabulary import class_entry
from utils.errors import UserError

# Classes in the order of the labels, and as the published class file spells them.
CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()
WORDS = (
    "airplane bicycle bird boat bottle bus car cat chair cow table dog horse motorbike person plant sheep sofa train "
    "monitor"
).split()
# The thresholds that are tried; those of path part the whole numbers of edges.
SWEEP = {
    "depth": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99],
    "path": [0.11, 0.13, 0.15, 0.18, 0.22, 0.3, 0.4, 0.7],
    "wup": [i / 100 for i in range(70, 99)],
    "lin": [i / 20 for i in range(2, 20)],
    "embedding": [i / 50 for i in range(20, 45)],
}
# What wins has more than this precision on the lists, and no recall that is clearly less than the
# most there is; among those the one that knows kinds best.
PRECISION = 0.95
CLEARLY = 0.005
NEEDED = 0.85


@dataclass(frozen=True)
class Truth:
    """The hand-checked vocabulary.

    Attributes:
        words: nouns that name a class, by class.
        pairs: pairs of neighbouring nouns that name it together.
        excluded: pairs of neighbours in which a noun of the class does not name it (coffee table).
        depicted: nouns behind which a thing is not the thing itself (statue, man).
    """

    words: Mapping[str, frozenset[str]]
    pairs: Mapping[str, frozenset[str]]
    excluded: Mapping[str, frozenset[str]]
    depicted: frozenset[str]

    def named(self, nouns: Sequence[str]) -> set[str]:
        """Classes that the nouns of a caption name."""
        named = set()
        for i, noun in enumerate(nouns):
            before, after = " ".join(nouns[max(0, i - 1) : i + 1]), " ".join(nouns[i : i + 2])
            for name in CLASSES:
                hidden = {before, after} & self.excluded[name] or (i and nouns[i - 1] in self.depicted)
                if before in self.pairs[name] or (noun in self.words[name] and not hidden):
                    named.add(name)
        return named


def read_truth(path: Path) -> Truth:
    """The vocabulary of ``benchmarks/noun_truth.json``."""
    content = json.loads(path.read_text(encoding="utf-8"))

    def part(key: str) -> dict[str, frozenset[str]]:
        return {name: frozenset(content["classes"][name][key]) for name in CLASSES}

    return Truth(part("words"), part("pairs"), part("not"), frozenset(content["depicted"]))


@dataclass(frozen=True)
class Task:
    """The lists, their truth and the limits that follow from it.

    Attributes:
        lists: name and nouns of each download, for each original.
        labels: classes of each original.
        wanted: the same in the published spelling.
        right: names of the downloads that name one of the classes.
    """

    lists: Mapping[str, Rows]
    labels: Mapping[str, tuple[str, ...]]
    wanted: Mapping[str, list[str]]
    right: Mapping[str, frozenset[str]]

    @property
    def possible(self) -> int:
        """Right images that a filter of two per original can keep."""
        return sum(min(2, len(names)) for names in self.right.values())

    def single(self, name: str) -> list[str]:
        """Originals that show this class alone."""
        return [original for original, labels in self.labels.items() if labels == (name,)]


def read_task(data: Path, truth: Truth) -> Task:
    """The published noun lists and VOC's labels.

    Args:
        data: folder with ``captions/web_data_cap_file_NN.zip`` and ``voc-meta/labels.npz``.
        truth: what says which downloads are right.

    Raises:
        UserError: a file is missing.
    """
    lists = read_lists(data / "captions" / "web_data_cap_file_NN.zip")
    labels_file = data / "voc-meta" / "labels.npz"
    if not labels_file.is_file():
        raise UserError(f"{labels_file}: is missing; --data names the folder that holds it")
    with np.load(labels_file) as file:
        rows = zip(file["train_ids"].tolist(), file["train_labels"], strict=True)
        labels = {name: tuple(CLASSES[i] for i in np.flatnonzero(row)) for name, row in rows}
    labels = {name: labels[name] for name in lists}
    wanted = {name: [WORDS[CLASSES.index(c)] for c in row] for name, row in labels.items()}
    seen: dict[tuple[str, ...], set[str]] = {}
    for rows_of in lists.values():
        for _, nouns in rows_of:
            key = tuple(nouns)
            if key not in seen:
                seen[key] = truth.named(nouns)
    right = {
        name: frozenset(image for image, nouns in row if seen[tuple(nouns)].intersection(labels[name]))
        for name, row in lists.items()
    }
    return Task(lists, labels, wanted, right)


class Cached(Similarity):
    """A similarity whose matrix of all nouns and class words is computed once."""

    def __init__(self, similarity: Similarity, nouns: Sequence[str]) -> None:
        self.rows = {noun: i for i, noun in enumerate(nouns)}
        self.columns = {word: i for i, word in enumerate(WORDS)}
        self.values = similarity.matrix(nouns, WORDS)

    def matrix(self, words_a: Sequence[str], words_b: Sequence[str]) -> Matrix:
        return self.values[np.ix_([self.rows[w] for w in words_a], [self.columns[w] for w in words_b])]

    def _distinct(self, words_a: Sequence[str], words_b: Sequence[str]) -> Matrix:
        raise NotImplementedError("matrix is cached")


@dataclass(frozen=True)
class Score:
    """What a filter kept.

    Attributes:
        kept: images.
        precision: right ones of the kept.
        recall: right ones kept of those that could be (``Task.possible``).
        two (C,): share of a class's single-class originals that get two images, right or wrong.
        two_right (C,): share that gets two right ones.
    """

    kept: int
    precision: float
    recall: float
    two: NDArray[np.float64]
    two_right: NDArray[np.float64]


def score(task: Task, kept: Mapping[str, Sequence[str]]) -> Score:
    """Judge the lists of a filter."""
    count = sum(map(len, kept.values()))
    right = {name: len(task.right[name].intersection(names)) for name, names in kept.items()}
    two, two_right = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
    for i, name in enumerate(CLASSES):
        originals = task.single(name)
        two[i] = np.mean([len(kept[o]) >= 2 for o in originals])
        two_right[i] = np.mean([right[o] >= 2 for o in originals])
    total = sum(right.values())
    return Score(count, total / max(1, count), total / task.possible, two, two_right)


def ceiling(task: Task) -> NDArray[np.float64]:
    """(C,) share of a class's single-class originals with two right downloads at all."""
    return np.array([np.mean([len(task.right[o]) >= 2 for o in task.single(name)]) for name in CLASSES])


def published_choice(threshold: float) -> FilterRule:
    """The published rule at another threshold."""
    return replace(RULES["depth"], threshold=threshold)


@dataclass(frozen=True)
class Kinds:
    """ImageNet's classes as a tagger writes them (golden_retriever), and their classes in WordNet.

    Attributes:
        words (K,): first name of each.
        true (K, C): which class it is a kind of.
    """

    words: tuple[str, ...]
    true: NDArray[np.bool_]

    def judge(self, similarity: Similarity, threshold: float, rivals: bool) -> tuple[float, float]:
        """Precision and recall of the pairs of a kind and its class."""
        passing = noun_similarities(self.words, WORDS, similarity, rivals) > threshold
        right = int(np.count_nonzero(passing & self.true))
        return right / max(1, int(np.count_nonzero(passing))), right / int(np.count_nonzero(self.true))


def read_kinds() -> Kinds:
    """ImageNet's 1000 classes, whose labels are WordNet's offsets."""
    # Imported here, so that --help answers at once.
    from timm.data import ImageNetInfo

    info, net = ImageNetInfo("imagenet-1k"), wordnet.load()
    words, true = [], np.zeros((info.num_classes(), len(CLASSES)), dtype=np.bool_)
    for i in range(info.num_classes()):
        words.append(info.index_to_description(i).split(",")[0].strip().lower().replace(" ", "_"))
        above = net.hypernyms_closure(net.synset(int(info.index_to_label_name(i).removeprefix("n"))))
        true[i] = [any(net.sense(sense) in above for sense in class_entry(name).senses) for name in CLASSES]
    # Two classes of one name (crane, a bird and a machine) are one word, and either is true.
    distinct = sorted(set(words))
    rows = [np.any([t for w, t in zip(words, true, strict=True) if w == word], axis=0) for word in distinct]
    return Kinds(tuple(distinct), np.array(rows))


@dataclass(frozen=True)
class Point:
    """A threshold with its scores: on the lists, and on kinds (precision, recall)."""

    threshold: float
    lists: Score
    kinds: tuple[float, float]

    @property
    def kinds_f1(self) -> float:
        """Harmonic mean of precision and recall on kinds."""
        return 2 * self.kinds[0] * self.kinds[1] / max(1e-9, sum(self.kinds))


Curve = list[Point]


def sweep(task: Task, kinds: Kinds, similarity: Similarity, thresholds: Sequence[float], published: bool) -> Curve:
    """Scores of a similarity at each threshold, with the published rule or our own."""
    curve = []
    for threshold in thresholds:
        rule = published_choice(threshold) if published else FilterRule(threshold)
        kept = filter_replay_with_NN(task.lists, task.wanted, similarity, rule)
        curve.append(Point(threshold, score(task, kept), kinds.judge(similarity, threshold, rule.rivals)))
    return curve


def winner(points: Curve) -> Point:
    """The best point of enough precision and recall, else the most precise one."""
    good = [point for point in points if point.lists.precision > PRECISION]
    if not good:
        return max(points, key=lambda point: point.lists.precision)
    most = max(point.lists.recall for point in good)
    return max((p for p in good if p.lists.recall >= most - CLEARLY), key=lambda point: point.kinds_f1)


@dataclass(frozen=True)
class Measurement:
    """All that the page shows.

    Attributes:
        task: lists and truth.
        curves: similarity -> its scores at each threshold by our rule and by the published one.
        published: the published filter with the published class file, in which dog and table are
            swapped.
        corrected: the same with the true classes.
        default: ``DEFAULT_SIMILARITY`` with its rule.
        variants: what differs from the default -> the rule's threshold and its score.
        left_out: a sentence for each similarity that is not installed.
    """

    task: Task
    curves: Mapping[str, tuple[Curve, Curve]]
    published: Score
    corrected: Score
    default: Score
    variants: Mapping[str, tuple[float, Score]]
    left_out: Sequence[str]


def variants_of(rule: FilterRule) -> dict[str, FilterRule]:
    """The rule, and what it would be without one of its parts."""
    return {
        "default: all nouns, the most similar images, rivals": rule,
        "without rivals": replace(rule, rivals=False),
        "the first images that pass": replace(rule, best=False),
        "first two nouns": replace(rule, first_nouns=2),
        "first noun": replace(rule, first_nouns=1),
        "published: first noun, first images, no rivals": published_choice(rule.threshold),
        "two images for nearly all, whatever they are: no rivals": replace(rule, rivals=False, threshold=0.5),
    }


def measure(data: Path, vocabulary: Path) -> Measurement:
    """Try every similarity at every threshold of ``SWEEP``, and the rule without each of its parts.

    Args:
        data: folder of ``read_task``, with ``captions/pascal_classes.txt`` (the published class
            words) beside the lists.
        vocabulary: file of ``read_truth``.
    """
    task, kinds = read_task(data, read_truth(vocabulary)), read_kinds()
    nouns = list(dict.fromkeys(noun for rows in task.lists.values() for _, row in rows for noun in row))
    measures: dict[str, Similarity] = {}
    left_out = []
    for name in SIMILARITIES:
        try:
            measures[name] = Cached(make_similarity(name), [*nouns, *kinds.words])
        except UserError as error:
            left_out.append(f"{name} is left out: {error}")
    swapped = read_class_words(data / "captions" / "pascal_classes.txt")

    def kept_by(wanted: Mapping[str, list[str]], similarity: Similarity, rule: FilterRule) -> Score:
        return score(task, filter_replay_with_NN(task.lists, wanted, similarity, rule))

    default, rule = measures[DEFAULT_SIMILARITY], RULES[DEFAULT_SIMILARITY]
    return Measurement(
        task,
        {
            name: (sweep(task, kinds, one, SWEEP[name], False), sweep(task, kinds, one, SWEEP[name], True))
            for name, one in measures.items()
        },
        published=kept_by(swapped, make_similarity("depth"), RULES["depth"]),
        corrected=kept_by(task.wanted, measures["depth"], RULES["depth"]),
        default=kept_by(task.wanted, default, rule),
        variants={
            label: (other.threshold, kept_by(task.wanted, default, other)) for label, other in variants_of(rule).items()
        },
        left_out=left_out,
    )
