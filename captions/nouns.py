"""The nouns of a caption, in their order (WEB, section B3), by taggers that work offline.

Which words are nouns follows the Penn Treebank's guidelines (the published files hold what they tag NN): "front" of "in front of",
"cement" of "cement ledge", "blue" of "in blue". Names of persons and places are left out. Each noun is a lemma in small letters: dogs
are ``dog``; what has a meaning in the plural alone stays (``clothes``, ``shorts``, ``people``). The longest expression that WordNet
has, and that ends in a noun, is one noun with ``_`` between its words: ``dining_table``, ``fire_hydrant``, ``young_man``.

``captions/noun_check.tsv`` holds hand-checked captions by these rules, on which ``benchmarks/nouns.py`` compares the taggers.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from captions import wordnet
from utils.errors import UserError

# Words of a sentence, punctuation among them -> a tag for each: N common noun, P proper noun, or nothing.
Tags = Callable[[Sequence[str]], list[str]]

DEFAULT_TAGGER = "hanta"
# Words of the longest expression that is looked for.
LONGEST = 4
# Nothing is read behind so many letters; no caption is that long.
LONGEST_CAPTION = 10_000
# Nouns whose meaning, in captions, is that of the plural.
PLURALS = frozenset(
    "binoculars bleachers boxers clothes fireworks glasses goggles headphones jeans leggings outskirts overalls pajamas pants people "
    "pyjamas scissors shorts slacks sunglasses surroundings suspenders tights tongs trousers tweezers woods".split()
)

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
    kinds = {"NN": "N", "NNS": "N", "NNP": "P", "NNPS": "P"}
    # Sentences are tagged word by word; it drops nothing of a text whose words are parted by blanks.
    return lambda words: [kinds.get(kind, "") for _, kind in tag(" ".join(words), tokenize=False)]


def _hanta() -> Tags:
    """HanTa's English model (BNC tags)."""
    package = _package("HanTa.HanoverTagger", "HanTa", "hanta")
    model = package.HanoverTagger("morphmodel_en.pgz")
    kinds = {"NN0": "N", "NN1": "N", "NN2": "N", "NP0": "P"}
    return lambda words: [kinds.get(kind.split("-")[0], "") for _, _, kind in model.tag_sent(words)]


def _spacy() -> Tags:
    """spaCy's first installed English model."""
    package = _package("spacy", "spacy", "spacy")
    models = sorted(name for name in package.util.get_installed_models() if name.startswith("en_"))
    if not models:
        raise UserError("tagger spacy: has no English model; python -m spacy download en_core_web_sm")
    model = package.load(models[0], exclude=["parser", "ner", "lemmatizer"])
    document = importlib.import_module("spacy.tokens").Doc
    kinds = {"NN": "N", "NNS": "N", "NNP": "P", "NNPS": "P"}
    return lambda words: [kinds.get(token.tag_, "") for token in model(document(model.vocab, list(words)))]


TAGGERS: dict[str, Callable[[], Tags]] = {"textblob": _textblob, "hanta": _hanta, "spacy": _spacy}


def lemma(word: str) -> str:
    """The singular of a noun, in small letters: WordNet's, or by rule where WordNet does not know the word."""
    word = word.lower()
    if word in PLURALS:
        return word
    forms = wordnet.load().lemmatise(word)
    return forms[-1] if forms else word


class _Nouns:
    def __init__(self, tags: Tags) -> None:
        self.tags = tags
        self.net = wordnet.load()

    def __call__(self, caption: str) -> list[str]:
        words = _TOKEN.findall(caption[:LONGEST_CAPTION].translate(_APOSTROPHES))
        if not words:
            return []
        nouns = [self._counts(word, kind) for word, kind in zip(words, self.tags(words), strict=True)]
        found, start = [], 0
        while start < len(words):
            length, noun = self._noun(words, nouns, start)
            found += [noun] if noun else []
            start += length
        return found

    def _counts(self, word: str, kind: str) -> bool:
        """Whether a tagged word is a common noun; a Frisbee is one though it is written as a name."""
        return word[0].isalpha() and (kind == "N" or (kind == "P" and self._is_common(lemma(word))))

    def _is_common(self, word: str) -> bool:
        sense = self.net.lemma_ids.get(word)
        if sense is None:
            return False
        return not self.net.sense_is_name[self.net.sense_starts[sense] : self.net.sense_starts[sense + 1]].all()

    def _noun(self, words: Sequence[str], nouns: Sequence[bool], start: int) -> tuple[int, str]:
        """How many words the unit from ``start`` has, and its lemma where it is a noun."""
        for stop in range(min(len(words), start + LONGEST), start + 1, -1):
            if nouns[stop - 1]:
                expression = "_".join((*words[start : stop - 1], lemma(words[stop - 1]))).lower()
                if self._is_common(expression):
                    return stop - start, expression
        return 1, lemma(words[start]) if nouns[start] else ""


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
