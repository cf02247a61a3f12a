"""The nouns of a caption, in their order, by taggers that work offline. Source: docs/method.md, "Old classes from captions".

Which words are nouns follows the Penn Treebank's guidelines (the published files hold what they tag NN): "front" of "in front of",
"cement" of "cement ledge", "blue" of "in blue". Names of persons and places are left out. Each noun is a lemma in small letters: dogs
are ``dog``; what has a meaning in the plural alone stays (``clothes``, ``shorts``, ``people``). The longest expression that WordNet
has, and that ends in a noun, is one noun with ``_`` between its words: ``dining_table``, ``fire_hydrant``, ``young_man``.

``captions/noun_check.tsv`` holds hand-checked captions by these rules, on which ``python -m benchmarks.nouns`` compares the taggers.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from captions import wordnet
from utils.errors import UserError

SINGULAR, PLURAL, NAME, OTHER = "singular", "plural", "name", ""
# Words of a sentence, punctuation among them -> for each what kind of noun it is, or OTHER.
Tags = Callable[[Sequence[str]], list[str]]

DEFAULT_TAGGER = "hanta"
# Words of the longest expression that is looked for.
LONGEST = 4
# Nothing is read behind so many letters; no caption is that long.
LONGEST_CAPTION = 10_000
# A word's letters behind these are cut off; no noun is that long, and HanTa's time grows with the square of a word's length.
LONGEST_WORD = 40
# Clothes and the like that have their meaning in the plural alone.
PLURALS = frozenset(
    "binoculars bleachers briefs clothes dungarees glasses goggles jeans knickers leggings outskirts overalls pajamas panties pants "
    "people pyjamas scissors shorts slacks sunglasses surroundings tights tongs trousers tweezers woods".split()
)
PENN = {"NN": SINGULAR, "NNS": PLURAL, "NNP": NAME, "NNPS": NAME}
BNC = {"NN0": SINGULAR, "NN1": SINGULAR, "NN2": PLURAL, "NP0": NAME}

_TOKEN = re.compile(r"'s\b|[^\W_]+(?:(?:-|'(?!s\b))[^\W_]+)*|[^\w\s]")
_APOSTROPHES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'"})


def _package(module: str, package: str, tagger: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"tagger {tagger}: is not installed ({error}); pip install {package}") from error


def _textblob() -> Tags:
    """textblob's English tagger (Penn tags), which ships its lexicon; ``TextBlob(...).tags`` would need a download."""
    tag: Any = _package("textblob.en", "textblob", "textblob").tag
    return lambda words: [PENN.get(kind, OTHER) for _, kind in tag(" ".join(words), tokenize=False)]


def _hanta() -> Tags:
    """HanTa's English model (BNC tags)."""
    model = _package("HanTa.HanoverTagger", "HanTa", "hanta").HanoverTagger("morphmodel_en.pgz")
    return lambda words: [BNC.get(kind, OTHER) for _, _, kind in model.tag_sent(words)]


def spacy_model() -> str:
    """The package of spaCy's first installed English model; UserError where there is none."""
    models = _package("spacy.util", "spacy", "spacy").get_installed_models()
    english = sorted(name for name in models if name.startswith("en_"))
    if not english:
        raise UserError("tagger spacy: has no English model; python -m spacy download en_core_web_sm installs one")
    return str(english[0])


def _spacy() -> Tags:
    """spaCy's English model (Penn tags)."""
    name = spacy_model()
    model = importlib.import_module("spacy").load(name, exclude=["parser", "ner", "lemmatizer"])
    document = importlib.import_module("spacy.tokens").Doc
    return lambda words: [PENN.get(token.tag_, OTHER) for token in model(document(model.vocab, list(words)))]


TAGGERS: dict[str, Callable[[], Tags]] = {"textblob": _textblob, "hanta": _hanta, "spacy": _spacy}


def lemma(word: str, kind: str = PLURAL) -> str:
    """The singular of a noun, in small letters: WordNet's, or by its rules where WordNet does not know the word.

    Args:
        word: a noun as it is written.
        kind: SINGULAR leaves a word that WordNet knows as it is (``species``, ``gas``).
    """
    word = word.lower()
    net = wordnet.load()
    if word in PLURALS or (kind == SINGULAR and net.has(word)):
        return word
    forms = net.lemmatise(word)
    singulars = [form for form in forms if form != word]
    if forms:
        return singulars[0] if singulars else word
    if word.endswith("children"):
        return word.removesuffix("ren")
    return word.removesuffix("s") if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


class _Nouns:
    """Nouns of captions by one tagger."""

    def __init__(self, tags: Tags) -> None:
        self.tags = tags
        self.net = wordnet.load()

    def __call__(self, caption: str) -> list[str]:
        text = caption[:LONGEST_CAPTION].translate(_APOSTROPHES)
        words = [word[:LONGEST_WORD] for word in _TOKEN.findall(text)]
        if not words:
            return []
        lemmas = [self._lemma(word, kind) for word, kind in zip(words, self.tags(words), strict=True)]
        nouns, start = [], 0
        while start < len(words):
            stop, noun = self._unit(words, lemmas, start)
            nouns += [noun] if noun else []
            start = stop
        return nouns

    def _lemma(self, word: str, kind: str) -> str:
        """The lemma of a noun; empty for another word, and for a name that is no kind of thing (Boston; but Frisbee is one)."""
        if kind == OTHER or not word[0].isalpha():
            return ""
        noun = lemma(word, kind)
        return noun if kind != NAME or self._is_kind(noun) else ""

    def _is_kind(self, word: str) -> bool:
        sense = self.net.common_sense(word)
        return sense is not None and bool(self.net.hypernyms(sense, instances=False))

    def _unit(self, words: Sequence[str], lemmas: Sequence[str], start: int) -> tuple[int, str]:
        """Where the longest expression from ``start`` ends, and its lemma; a single word where there is none."""
        for stop in range(min(len(words), start + LONGEST), start + 1, -1):
            if lemmas[stop - 1]:
                head = "".join(f"{word}_" for word in words[start : stop - 1]).lower()
                for last in (lemmas[stop - 1], words[stop - 1].lower()):
                    if self._is_kind(head + last):
                        return stop, head + last
        return start + 1, lemmas[start]


def make_tagger(name: str) -> Callable[[str], list[str]]:
    """A function that gives the nouns of a caption in their order, as this file's first lines define them.

    Args:
        name: a key of ``TAGGERS``.

    Raises:
        UserError: there is no such tagger, or its package is not installed; says what to install.
    """
    if name not in TAGGERS:
        raise UserError(f"tagger {name}: is not known; choose from {', '.join(TAGGERS)}")
    return _Nouns(TAGGERS[name]())
