"""Which tagger finds the nouns of real captions best, and what finds the best lemmas.

    python -m benchmarks.nouns [--out benchmarks/results/nouns.md]

Judged by the hand-checked ``captions/noun_check.tsv`` (one caption of each of 100 photographs,
drawn with a fixed seed) and ``captions/lemma_check.tsv`` (nouns on -s and irregular plurals of all
captions of the same source). What is not installed is left out.
"""

from __future__ import annotations

import csv
import importlib.metadata
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.pages import ROOT, finish, make_parser, write_page
from captions import nouns
from results.table import markdown_table
from utils.errors import UserError

PACKAGES = {"textblob": "textblob", "hanta": "HanTa", "spacy": "spacy"}
Lemmatiser = Callable[[str], str]


@dataclass
class Score:
    """Nouns against the true ones, each caption a multiset; captions whose first noun is right."""

    right: int = 0
    extra: int = 0
    missing: int = 0
    first: int = 0
    captions: int = 0
    mistakes: list[str] = field(default_factory=list)

    def add(self, caption: str, tagged: Sequence[str], true: Sequence[str]) -> None:
        """Count one caption with the nouns that a tagger gives and the true ones."""
        extra, missing = Counter(tagged) - Counter(true), Counter(true) - Counter(tagged)
        self.right += len(tagged) - extra.total()
        self.extra += extra.total()
        self.missing += missing.total()
        self.first += list(tagged[:1]) == list(true[:1])
        self.captions += 1
        if extra or missing:
            words = [*(f"+{noun}" for noun in extra), *(f"-{noun}" for noun in missing)]
            self.mistakes.append(f"{caption} ({' '.join(words)})")

    @property
    def precision(self) -> float:
        """Right nouns of those found, 0..1."""
        return self.right / max(1, self.right + self.extra)

    @property
    def recall(self) -> float:
        """Right nouns of the true ones, 0..1."""
        return self.right / max(1, self.right + self.missing)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0..1."""
        return 2 * self.right / max(1, 2 * self.right + self.extra + self.missing)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a file of tabs whose first line names the columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def judge(tagger: Callable[[str], list[str]], rows: Sequence[dict[str, str]]) -> Score:
    """The score of a tagger on rows with ``caption`` and ``nouns``."""
    score = Score()
    for row in rows:
        score.add(row["caption"], tagger(row["caption"]), row["nouns"].split())
    return score


def _hanta() -> Lemmatiser:
    from HanTa.HanoverTagger import HanoverTagger

    model = HanoverTagger("morphmodel_en.pgz")

    def lemma(word: str) -> str:
        kinds = [kind for kind, _ in model.tag_word(word) if kind.startswith("NN")]
        return str(model.analyze(word, pos=kinds[0])[0]) if kinds else word

    return lemma


def _lemminflect() -> Lemmatiser:
    import lemminflect

    return lambda word: (*lemminflect.getLemma(word, upos="NOUN"), word)[0]


def _simplemma() -> Lemmatiser:
    import simplemma

    return lambda word: simplemma.lemmatize(word, lang="en")


def _textblob() -> Lemmatiser:
    from textblob.en.inflect import singularize

    return singularize


def _wordnet() -> Lemmatiser:
    from captions import wordnet

    net = wordnet.load()
    return lambda word: (*net.lemmatise(word), word)[0]


LEMMATISERS: dict[str, Callable[[], Lemmatiser]] = {
    "captions/nouns.py": lambda: nouns.lemma,
    "WordNet's morphy alone": _wordnet,
    "HanTa": _hanta,
    "lemminflect": _lemminflect,
    "simplemma": _simplemma,
    "textblob": _textblob,
}


@dataclass(frozen=True)
class Tagging:
    """A tagger's result.

    Attributes:
        name: as ``--tagger`` takes it.
        version: of its package and model.
        score: on the captions.
        milliseconds: of a caption.
        left_out: why it was not measured; the rest is empty then.
    """

    name: str
    version: str = ""
    score: Score = field(default_factory=Score)
    milliseconds: float = 0.0
    left_out: str = ""


@dataclass(frozen=True)
class Lemmas:
    """A lemmatiser's result.

    Attributes:
        name: whose lemmas they are.
        right: share in [0, 1].
        wrong: each wrong one, as ``word (lemma)``; None where it is not installed.
    """

    name: str
    right: float = 0.0
    wrong: Sequence[str] | None = None


def measure_taggers(rows: Sequence[dict[str, str]]) -> list[Tagging]:
    """Every tagger on rows with ``caption`` and ``nouns``."""
    measured = []
    for name in nouns.TAGGERS:
        try:
            tagger = nouns.make_tagger(name)
        except UserError as error:
            measured.append(Tagging(name, left_out=str(error)))
            continue
        # The first caption loads what is loaded late.
        tagger(rows[0]["caption"])
        start = time.perf_counter()
        score = judge(tagger, rows)
        spent = (time.perf_counter() - start) * 1000 / len(rows)
        measured.append(Tagging(name, _version(name), score, spent))
    return measured


def _version(name: str) -> str:
    text = f"{PACKAGES[name]} {importlib.metadata.version(PACKAGES[name])}"
    if name != "spacy":
        return text
    model = nouns.spacy_model()
    return f"{text}, {model} {importlib.metadata.version(model.replace('_', '-'))}"


def measure_lemmatisers(rows: Sequence[dict[str, str]]) -> list[Lemmas]:
    """Every lemmatiser on rows with ``word`` and ``lemma``."""
    measured = []
    for name, make in LEMMATISERS.items():
        try:
            lemma = make()
        except ImportError:
            measured.append(Lemmas(name))
            continue
        lemmas = {row["word"]: lemma(row["word"]) for row in rows}
        wrong = [f"{row['word']} ({lemmas[row['word']]})" for row in rows if lemmas[row["word"]] != row["lemma"]]
        measured.append(Lemmas(name, 1 - len(wrong) / len(rows), wrong))
    return measured


def _tagger_cells(one: Tagging) -> list[str]:
    if one.left_out:
        return [one.name, f"left out: {one.left_out}", *[""] * 5]
    label = f"**{one.name}** (default)" if one.name == nouns.DEFAULT_TAGGER else one.name
    shares = [f"{share:.3f}" for share in (one.score.precision, one.score.recall, one.score.f1)]
    return [label, one.version, *shares, f"{one.score.first / one.score.captions:.2f}", f"{one.milliseconds:.2f}"]


def _lemma_cells(one: Lemmas) -> list[str]:
    if one.wrong is None:
        return [one.name, "not installed", ""]
    return [one.name, f"{one.right:.3f}", ", ".join(one.wrong)]


def page(
    captions: Sequence[dict[str, str]], taggers: Sequence[Tagging], words: int, lemmatisers: Sequence[Lemmas]
) -> str:
    """The results page.

    Args:
        captions: rows that the taggers were judged on.
        taggers: their results.
        words: number of nouns that the lemmatisers were judged on.
        lemmatisers: their results.
    """
    count = sum(len(row["nouns"].split()) for row in captions)
    mistakes = [mistake for one in taggers if one.name == nouns.DEFAULT_TAGGER for mistake in one.score.mistakes]
    headings = ["`--tagger`", "version", "precision", "recall", "F1", "first noun right", "ms a caption"]
    lines = [
        "# Nouns of captions",
        "",
        "`python -m benchmarks.nouns`. The rules of the hand-check stand in `captions/nouns.py`. All taggers share its "
        "lemmas and its",
        "compounds (WordNet's expressions); they differ in which words they call nouns.",
        "",
        f"Taggers on {len(captions)} captions with {count} nouns:",
        "",
        *markdown_table(headings, map(_tagger_cells, taggers)),
        "",
        "Mistakes of the default (+ too much, - missing):",
        "",
        *(f"- {mistake}" for mistake in mistakes),
        "",
        f"Lemmas of {words} nouns (the plural-only words in `captions/nouns.py` were chosen with these in view):",
        "",
        *markdown_table(["lemmas of", "right", "wrong ones"], map(_lemma_cells, lemmatisers)),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the page."""
    given = make_parser("nouns", __doc__).parse_args(arguments)
    captions = read_table(ROOT / "captions" / "noun_check.tsv")
    words = read_table(ROOT / "captions" / "lemma_check.tsv")
    text = page(captions, measure_taggers(captions), len(words), measure_lemmatisers(words))
    print(write_page(given.out, text))
    return 0


if __name__ == "__main__":
    finish("nouns", main)
