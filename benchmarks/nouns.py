"""Which tagger finds the nouns of real captions best, and what finds the best lemmas.

    python benchmarks/nouns.py [--out benchmarks/results/nouns.md]

Judged by the hand-checked ``captions/noun_check.tsv`` (one caption of each of 100 photographs, drawn with a fixed seed) and
``captions/lemma_check.tsv`` (nouns on -s and irregular plurals of all captions of the same source). What is not installed is left out.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.pages import write_page  # noqa: E402
from captions import nouns  # noqa: E402
from utils.errors import UserError  # noqa: E402

PACKAGES = {"textblob": "textblob", "hanta": "HanTa", "spacy": "spacy"}
Lemmatiser = Callable[[str], str]


@dataclass
class Score:
    """Nouns of all captions against the true ones, each caption a multiset; captions whose first noun is right."""

    right: int = 0
    extra: int = 0
    missing: int = 0
    first: int = 0
    captions: int = 0
    mistakes: list[str] = field(default_factory=list)

    def add(self, caption: str, found: Sequence[str], true: Sequence[str]) -> None:
        """Count one caption."""
        extra, missing = Counter(found) - Counter(true), Counter(true) - Counter(found)
        self.right += len(found) - extra.total()
        self.extra += extra.total()
        self.missing += missing.total()
        self.first += list(found[:1]) == list(true[:1])
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


def tagger_lines(rows: Sequence[dict[str, str]]) -> list[str]:
    """The table of the taggers, and the mistakes of the default."""
    lines = [
        f"Taggers on {len(rows)} captions with {sum(len(row['nouns'].split()) for row in rows)} nouns:",
        "",
        "| `--tagger` | version | precision | recall | F1 | first noun right | ms a caption |",
        "|---|---|---|---|---|---|---|",
    ]
    mistakes: list[str] = []
    for name in nouns.TAGGERS:
        try:
            tagger = nouns.make_tagger(name)
        except UserError as error:
            lines.append(f"| {name} | left out: {error} | | | | | |")
            continue
        # The first caption loads what is loaded late.
        tagger(rows[0]["caption"])
        start = time.perf_counter()
        score = judge(tagger, rows)
        spent = (time.perf_counter() - start) * 1000 / len(rows)
        label = f"**{name}** (default)" if name == nouns.DEFAULT_TAGGER else name
        lines.append(
            f"| {label} | {_version(name)} | {score.precision:.3f} | {score.recall:.3f} | {score.f1:.3f} "
            f"| {score.first / score.captions:.2f} | {spent:.2f} |"
        )
        if name == nouns.DEFAULT_TAGGER:
            mistakes = score.mistakes
    lines += ["", "Mistakes of the default (+ too much, - missing):", "", *(f"- {mistake}" for mistake in mistakes)]
    return lines


def _version(name: str) -> str:
    text = f"{PACKAGES[name]} {importlib.metadata.version(PACKAGES[name])}"
    if name != "spacy":
        return text
    model = nouns.spacy_model()
    return f"{text}, {model} {importlib.metadata.version(model.replace('_', '-'))}"


def lemma_lines(rows: Sequence[dict[str, str]]) -> list[str]:
    """The table of the lemmatisers."""
    lines = [
        f"Lemmas of {len(rows)} nouns (the plural-only words in `captions/nouns.py` were chosen with these in view):",
        "",
        "| lemmas of | right | wrong ones |",
        "|---|---|---|",
    ]
    for name, make in LEMMATISERS.items():
        try:
            lemma = make()
        except ImportError:
            lines.append(f"| {name} | not installed | |")
            continue
        found = {row["word"]: lemma(row["word"]) for row in rows}
        wrong = [f"{row['word']} ({found[row['word']]})" for row in rows if found[row["word"]] != row["lemma"]]
        lines.append(f"| {name} | {1 - len(wrong) / len(rows):.3f} | {', '.join(wrong)} |")
    return lines


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "nouns.md")
    settings = parser.parse_args()
    lines = [
        "# Nouns of captions",
        "",
        "`python benchmarks/nouns.py`. The rules of the hand-check stand in `captions/nouns.py`. All taggers share its lemmas and its",
        "compounds (WordNet's expressions); they differ in which words they call nouns.",
        "",
        *tagger_lines(read_table(ROOT / "captions" / "noun_check.tsv")),
        "",
        *lemma_lines(read_table(ROOT / "captions" / "lemma_check.tsv")),
    ]
    print(write_page(settings.out, "\n".join(lines)))


if __name__ == "__main__":
    main()
