"""Image-level labels from captions: a class is there where a word of its vocabulary is in the caption.

A caption is cut into units, the longest first: expressions of the vocabulary, then WordNet's expressions, then single words. So the
dog of "hot dog", the bear of "teddy bear" and the cat of "cat's eye" are no dog, bear or cat. What is denied ("no dog") is not
there.

Source: docs/method.md, "New classes from web images". The paper (arXiv 2407.13363) asks for a word of the vocabulary in the caption;
the longest match is our own decision.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from captions import wordnet
from captions.vocabulary import Vocabulary, normal_form

# Words of the longest expression that is looked for.
LONGEST = 4
# Nothing is read behind so many letters; no caption is that long, and a page of text names everything.
LONGEST_CAPTION = 10_000

_ADDRESS = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|@\w+")
_HASHTAG = re.compile(r"#(\w+)")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?|(?<=[^\W_])-(?=[^\W_])|[.,;:!?()\[\]|#&+*\"]")
_DASHES = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u02bc": "'"}
    | {"\u2010": "-", "\u2011": "-", "\u2212": "-", "\u2012": ",", "\u2013": ",", "\u2014": ",", "\n": "."}
)

_DENIALS = frozenset(("no", "without", "neither", "nor", "lacking", "minus"))
_NOT = frozenset(("not", "isn't", "aren't", "wasn't", "weren't", "cannot"))
_ARTICLES = frozenset(("a", "an", "the", "any", "his", "her", "its", "their", "my", "our", "your", "single", "one"))
# Words that end what a denial speaks of.
_STOPS = frozenset(
    "in on at by to from for with into onto over under behind beside near of but while as is are was were has have that which who "
    "then so because there".split()
)
_OR = frozenset(("or", "nor"))
# A denied noun has at most so many words before it: "no big black dog".
_DENIED = 3

# What stands before an animal's name for its age or sex: a baby elephant is no person.
_AGES = frozenset(
    "baby infant newborn juvenile adolescent adult male female mother mom momma mama father dad daddy papa parent sibling king "
    "queen emperor".split()
)
# In dog-drawn sled the dog is there; in dog-free, dog-like, man-made it is not.
_PRESENT = frozenset(("drawn", "pulled", "ridden", "mounted", "riding", "filled", "driven"))
_WORN = frozenset(("in", "wearing", "dressed", "bright", "dark", "light"))
_UNREAL = frozenset(("non", "anti", "faux", "pseudo", "ex"))


@dataclass(frozen=True)
class Token:
    """A word of a caption.

    Attributes:
        word: in small letters, with its 's.
        forms: the word, then what it may be a plural or possessive of.
        glued: a hyphen ties it to the next word.
        last: nothing but a mark of punctuation follows.
    """

    word: str
    forms: tuple[str, ...]
    glued: bool
    last: bool


@dataclass(frozen=True)
class Unit:
    """Tokens ``start`` to ``stop``, exclusive, that are one expression, and the class it names."""

    start: int
    stop: int
    name: str | None


@cache
def _expressions() -> frozenset[str]:
    """WordNet's nouns of two to four words; names (Little Dog, a constellation) hide no common noun."""
    net = wordnet.load()
    names = net.sense_is_name
    expressions = set()
    for i, lemma in enumerate(net.all_lemmas):
        if ("_" in lemma or "-" in lemma) and not names[net.sense_starts[i] : net.sense_starts[i + 1]].all():
            expressions.add(normal_form(lemma))
    return frozenset(words for words in expressions if 2 <= words.count(" ") + 1 <= LONGEST)


@lru_cache(maxsize=1 << 16)
def _forms(word: str) -> tuple[str, ...]:
    """A word and what it may be a plural or possessive of."""
    bare = word.removesuffix("'s").removesuffix("s'")
    forms = (word, bare, *wordnet.load().lemmatise(bare)) if bare != word else (word, *wordnet.load().lemmatise(word))
    return tuple(dict.fromkeys(normal_form(form) for form in forms))


@lru_cache(maxsize=1 << 16)
def _is_animal(forms: tuple[str, ...]) -> bool:
    net = wordnet.load()
    senses = [net.common_sense(form) for form in forms]
    return any(sense is not None and net.is_under(sense, net.sense("animal#1")) for sense in senses)


@lru_cache(maxsize=1 << 16)
def _is_colour(word: str) -> bool:
    net = wordnet.load()
    return any(net.is_under(sense, net.sense("color#1")) for sense in net.senses(word))


def tokens(caption: str, pattern: re.Pattern[str] = _TOKEN) -> list[Token]:
    """The words of a caption; addresses are left out, #BlackSheep is black and sheep.

    Args:
        caption: any text.
        pattern: finds words and marks; a vocabulary whose words have signs (c++) has one of its own.
    """
    text = unicodedata.normalize("NFKC", caption[:LONGEST_CAPTION]).translate(_DASHES)
    text = _HASHTAG.sub(lambda tag: f"# {_HUMP.sub(' ', tag[1])} #", _ADDRESS.sub(" ", text))
    parts = pattern.findall(text.lower())
    words = []
    for part, following in zip(parts, [*parts, "."][1:], strict=True):
        if _is_word(part):
            mark = not _is_word(following)
            words.append(Token(part, _forms(part), following == "-", mark and following not in "-&+"))
    return words


def _is_word(part: str) -> bool:
    return any(map(str.isalnum, part))


def _pattern(phrases: Iterable[str]) -> re.Pattern[str]:
    """``_TOKEN`` that also finds the words of a vocabulary that have signs: her2+ and her2- are two words, and none is her2."""
    signed = {word for phrase in phrases for word in phrase.split() if re.search(r"[^\w.']", word) and _is_word(word)}
    if not signed:
        return _TOKEN
    either = "|".join(map(re.escape, sorted(signed, key=lambda word: (-len(word), word))))
    return re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_]|[+#*-])|{_TOKEN.pattern}")


class Matcher:
    """Cuts captions into units and names their classes, for one vocabulary.

    Args:
        vocabulary: words of the classes.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.owners: dict[str, str | None] = {}
        for entry in vocabulary.by_class.values():
            # An expression that must not count hides the words in it; a single word just does not count.
            self.owners.update((phrase, None) for phrase in entry.ignored if " " in phrase)
        for name in vocabulary.classes:
            self.owners.update((word, name) for word in vocabulary.words(name))
        self.lengths: dict[str, int] = defaultdict(lambda: 1)
        for phrase in (*_expressions(), *self.owners):
            first, _, rest = phrase.partition(" ")
            self.lengths[first] = max(self.lengths[first], 1 + len(rest.split()))
        self.expressions = _expressions()
        self.pattern = _pattern(self.owners)

    def labels(self, caption: str) -> set[str]:
        """Classes that a caption names and does not deny."""
        words = tokens(caption, self.pattern)
        return set(self._present(words, self._units(words)))

    def _units(self, words: Sequence[Token]) -> list[Unit]:
        units, start = [], 0
        while start < len(words):
            units.append(self._unit(words, start))
            start = units[-1].stop
        return units

    def _unit(self, words: Sequence[Token], start: int) -> Unit:
        """The longest expression from ``start``, within one clause; a single word where there is none."""
        stop = start + 1
        longest = start + self.lengths.get(words[start].word, 1)
        while stop < min(len(words), longest) and not words[stop - 1].last:
            stop += 1
        for end in range(stop, start, -1):
            head = "".join(token.word + " " for token in words[start : end - 1])
            for form in words[end - 1].forms:
                if head + form in self.owners:
                    return Unit(start, end, self.owners[head + form])
            if head and any(head + form in self.expressions for form in words[end - 1].forms):
                return Unit(start, end, None)
        return Unit(start, start + 1, None)

    def _present(self, words: Sequence[Token], units: Sequence[Unit]) -> Iterable[str]:
        """Classes of the units that speak of a thing that is there."""
        denied = _denied(words, units)
        for unit in units:
            if unit.name is not None and unit.start not in denied and _is_thing(words, unit):
                yield unit.name


def _denied(words: Sequence[Token], units: Sequence[Unit]) -> set[int]:
    """Starts of the units that a denial before them speaks of, until a preposition, a new article or the end of the clause."""
    denied: set[int] = set()
    left = 0
    for unit in units:
        word = words[unit.start].word
        after = words[unit.stop].word if unit.stop < len(words) else ""
        if word in _DENIALS or (word in _NOT and after in _ARTICLES) or (word in _OR and left):
            left = _DENIED
        elif word in _STOPS or (word in _ARTICLES and left < _DENIED):
            left = 0
        elif word not in _ARTICLES and left:
            denied.add(unit.start)
            left -= 1
        if words[unit.stop - 1].last:
            left = 0
    return denied


def _is_thing(words: Sequence[Token], unit: Unit) -> bool:
    """Whether a unit's words stand for the thing itself and do not tell what another is like."""
    before = words[unit.start - 1] if unit.start and not words[unit.start - 1].last else None
    token = words[unit.stop - 1]
    after = words[unit.stop] if unit.stop < len(words) and not token.last else None
    if before is not None and before.glued and before.word in _UNREAL:
        return False
    if after is not None and token.glued:
        return after.word in _PRESENT
    if after is not None and token.word in _AGES and _is_animal(after.forms):
        return False
    return not (_is_colour(token.word) and _says_colour(before, after))


def _says_colour(before: Token | None, after: Token | None) -> bool:
    """Whether orange is a colour here: in orange; orange and white; orange shirt."""
    if before is not None and before.word in _WORN:
        return True
    return after is not None and (after.word == "and" or wordnet.load().has(after.word))


@lru_cache(maxsize=4)
def matcher(vocabulary: Vocabulary) -> Matcher:
    """The matcher of a vocabulary, made once."""
    return Matcher(vocabulary)


def caption_labels(caption: str, vocabulary: Vocabulary) -> set[str]:
    """Classes that a caption names.

    Args:
        caption: any text; empty, foreign or long ones do no harm (only ``LONGEST_CAPTION`` letters are read).
        vocabulary: words of the classes.

    Returns:
        Names of the vocabulary's classes.
    """
    return matcher(vocabulary).labels(caption)


@cache
def _no_classes() -> Matcher:
    return Matcher(Vocabulary({}))


def things(caption: str) -> list[str]:
    """What a caption speaks of, whatever the vocabulary: WordNet's expressions and nouns in it, each once, as they are written.

    Words of a caption's grammar that are nouns too (a, in, an) are left out.
    """
    words = tokens(caption)
    found: dict[str, None] = {}
    for unit in _no_classes()._units(words):
        phrase = " ".join(token.word for token in words[unit.start : unit.stop])
        noun = unit.stop - unit.start > 1 or any(wordnet.load().has(form) for form in words[unit.start].forms)
        if noun and phrase not in _ARTICLES | _STOPS | _OR | _DENIALS | _NOT:
            found[phrase] = None
    return list(found)
