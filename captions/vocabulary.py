"""The words of each class, by which captions and folder names are read.

    python -m captions.vocabulary --classes cow sheep dog --out vocabulary.json

writes them to a file that may be edited and given as ``--vocabulary``: for each class ``words`` (its name, other names, synonyms),
``kinds`` (words for kinds of it: poodle) and ``not`` (words that never count, and expressions that hide a word: hot dog).

A class is looked up in ``classes.json`` (VOC, COCO and shapes: names, senses in WordNet, words people write, words that must not
count); one that is not there has WordNet's first sense of its name.
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from captions import wordnet
from utils.errors import UserError
from utils.script import run
from utils.spelling import by_form, fits, separated, squeezed
from utils.whole import write_whole

LOG = logging.getLogger("webwilss")
TABLE = Path(__file__).with_name("classes.json")
KEYS = ("words", "kinds", "not")


@dataclass(frozen=True)
class Entry:
    """What is known of a class before WordNet's kinds are added.

    Attributes:
        name: its name in the table.
        aliases: names that other data sets give it.
        senses: its senses in WordNet, as ``dog#1``.
        kinds: senses whose kinds are words of the class; fewer than ``senses`` where those have too many odd ones.
        words: further words people write for it.
        ignored: words that must not count.
    """

    name: str
    aliases: tuple[str, ...] = ()
    senses: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassWords:
    """Words of a class in the form of ``normal_form``: ``words`` named for it, ``kinds`` of it, ``ignored`` never."""

    words: frozenset[str]
    kinds: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of several classes, none of them of two.

    Attributes:
        by_class: words of each class, under the name the caller gave it.
    """

    by_class: Mapping[str, ClassWords]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the caller's order."""
        return tuple(self.by_class)

    def words(self, name: str) -> frozenset[str]:
        """All words that count for a class."""
        return self.by_class[name].words | self.by_class[name].kinds

    def write(self, path: Path) -> None:
        """Write an editable JSON file; UserError where that fails."""
        content = {
            name: {"words": sorted(entry.words), "kinds": sorted(entry.kinds), "not": sorted(entry.ignored)}
            for name, entry in self.by_class.items()
        }
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def normal_form(text: str) -> str:
    """A word or expression as captions are compared: small letters, one blank for ``_``, ``-`` between words and other blanks."""
    return separated(unicodedata.normalize("NFKC", text))


def _without_marks(lemma: str) -> str:
    """A lemma without blanks and marks, which people often leave out: jack-o'-lantern, St. Bernard."""
    return re.sub(r"[\W_]+", "", lemma.lower())


@cache
def table() -> dict[str, Entry]:
    """Entries of ``classes.json`` by name."""
    content = json.loads(TABLE.read_text(encoding="utf-8"))
    return {name: _entry(name, value) for name, value in content.items()}


def _entry(name: str, value: Mapping[str, Sequence[str]]) -> Entry:
    def part(key: str) -> tuple[str, ...]:
        return tuple(value.get(key, ()))

    return Entry(name, part("aliases"), part("senses"), part("kinds" if "kinds" in value else "senses"),
                 part("words"), part("not"))  # fmt: skip


@cache
def _names() -> dict[str, Entry]:
    """The table's entries by squeezed name and alias."""
    return {squeezed(name): entry for entry in table().values() for name in (entry.name, *entry.aliases)}


@cache
def _squeezed_lemmas() -> dict[str, str]:
    """WordNet's lemmas by squeezed spelling, so that firetruck and fire-truck find fire_truck; by that with their marks first."""
    lemmas = wordnet.load().all_lemmas[::-1]
    return {_without_marks(lemma): lemma for lemma in lemmas} | {squeezed(lemma): lemma for lemma in lemmas}


def _singulars(name: str) -> list[str]:
    """Squeezed spellings that a name may stand for: itself, then without its plural ending."""
    head, _, last = separated(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).rpartition(" ")
    forms = wordnet.load().lemmatise(last)
    whole = wordnet.load().lemmatise(squeezed(name))
    return list(dict.fromkeys([squeezed(name), *(squeezed(f"{head} {form}") for form in forms), *whole]))


def _find(name: str) -> Entry | None:
    return next((_names()[form] for form in _singulars(name) if form in _names()), None)


def class_entry(name: str) -> Entry:
    """Entry of a class in the table, under whatever of its names; else its first sense in WordNet.

    Raises:
        UserError: neither knows it; names classes and nouns that are spelled alike.
    """
    entry = _find(name)
    if entry is not None:
        return entry
    net = wordnet.load()
    for form in _singulars(name):
        lemma = _squeezed_lemmas().get(form)
        synset = net.common_sense(lemma) if lemma else None
        if lemma and synset is not None:
            sense = f"{lemma}#{net.senses(lemma).index(synset) + 1}"
            return Entry(lemma, (), (sense,), (sense,), net.lemmas(synset))
    key = squeezed(name)
    alike = difflib.get_close_matches(key, [*_names(), *(k for k in _squeezed_lemmas() if _near(k, key))], 4)
    hint = f"; spelled alike: {', '.join(dict.fromkeys(alike))}" if alike else ""
    raise UserError(f"class {name}: is no noun of WordNet and no class of {TABLE.name}{hint}")


def _near(word: str, key: str) -> bool:
    return word[:1] == key[:1] and abs(len(word) - len(key)) <= 2


def match_class(name: str, known: Sequence[str]) -> str | None:
    """The class that a folder name or label means: by spelling, plural or an other name of it; never by position.

    An exact name wins, then spellings by what they forget (``utils.spelling.FORMS``), then plurals, then other names: ``airplane``
    finds ``aeroplane``, ``TV_Monitor`` or ``television`` find ``tvmonitor``, ``Dining-Tables`` find ``diningtable``. Signs and letters
    are never forgotten: ``HER2+`` does not find ``HER2-``.

    Returns:
        An element of ``known``, or None where none is meant. An answer is looked up once.

    Raises:
        UserError: it may mean more than one; names them.
    """
    found = class_fits(name, known)
    if len(found) > 1:
        raise UserError(f"class name {name}: may mean {' or '.join(found)}; write it exactly as one of them")
    return found[0] if found else None


def class_fits(name: str, known: Sequence[str]) -> tuple[str, ...]:
    """All the classes that ``match_class`` has to choose from."""
    return _class_fits(name, tuple(known))


@lru_cache(maxsize=1 << 16)
def _class_fits(name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    found = fits(name, known)
    if not found:
        singulars = set(_singulars(name)) - {""}
        alike = {other for form in singulars for other in by_form(known, squeezed).get(form, ())}
        found = tuple(other for other in dict.fromkeys(known) if other in alike)
    entry = None if found else _find(name)
    return found if entry is None else tuple(other for other in dict.fromkeys(known) if _find(other) is entry)


def _kind_words(entry: Entry) -> dict[str, int]:
    """Words for kinds of a class, with the depth of the sense that they are kinds of.

    One word counts by its first sense alone, so that a star is no person. An expression counts by any sense, but only where its last
    word is a word of the class or it means nothing else: a black sheep is a sheep, a hot dog no person.
    """
    net = wordnet.load()
    depths: dict[str, int] = {}
    for name in entry.kinds:
        root = net.sense(name)
        under = set(net.hyponyms_closure(root).tolist())
        for lemma in {lemma for synset in under for lemma in net.lemmas(synset)}:
            if _is_kind(lemma, under, net):
                depths[normal_form(lemma)] = max(depths.get(normal_form(lemma), 0), net.max_depth(root))
    return depths


def _is_kind(lemma: str, under: set[int], net: wordnet.WordNet) -> bool:
    head, _, last = lemma.rpartition("_")
    if head and len(net.senses(lemma)) == 1:
        return True
    return net.common_sense(last) in under


def _explicit(name: str, entry: Entry) -> frozenset[str]:
    return frozenset(normal_form(word) for word in (name, entry.name, *entry.aliases, *entry.words))


def _shares(named: Mapping[str, frozenset[str]], kinds: Mapping[str, Mapping[str, int]]) -> dict[str, str | None]:
    """Owner of every word that several classes claim: whose own name it is, else who lists it, else who is deeper in WordNet; None
    where two are alike."""
    claims: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for name in named:
        for word in named[name] | kinds[name].keys():
            rank = 2 if word == normal_form(name) else int(word in named[name])
            claims[word].append((rank, 0 if rank else kinds[name][word], name))
    owners: dict[str, str | None] = {}
    for word, claim in claims.items():
        if len(claim) > 1:
            claim.sort(reverse=True)
            owners[word] = claim[0][2] if claim[0][:2] > claim[1][:2] else None
    return owners


def _check_classes(classes: Sequence[str]) -> None:
    entries: dict[str, str] = {}
    for name in classes:
        key = class_entry(name).name
        if key in entries:
            raise UserError(f"classes {entries[key]} and {name} are the same; give one of them")
        entries[key] = name


def _from_table(classes: Sequence[str]) -> Vocabulary:
    _check_classes(classes)
    entries = {name: class_entry(name) for name in classes}
    ignored = {name: frozenset(map(normal_form, entry.ignored)) for name, entry in entries.items()}
    named = {name: _explicit(name, entry) - ignored[name] for name, entry in entries.items()}
    kinds = {
        name: {word: depth for word, depth in _kind_words(entry).items() if word not in ignored[name] | named[name]}
        for name, entry in entries.items()
    }
    owners = _shares(named, kinds)
    nobody = sorted(word for word, owner in owners.items() if owner is None)
    if nobody:
        LOG.info("Words of several classes that count for none: %s", ", ".join(nobody))

    def own(name: str, words: Iterable[str]) -> frozenset[str]:
        return frozenset(word for word in words if owners.get(word, name) == name)

    return Vocabulary(
        {name: ClassWords(own(name, named[name]), own(name, kinds[name]), ignored[name]) for name in classes}
    )


def read_vocabulary(path: Path) -> Vocabulary:
    """A vocabulary that ``write`` wrote and a user may have edited.

    Raises:
        UserError: the file cannot be read, or a class's part is not as written, or two classes have the same word; names both.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_twins)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON file as captions.vocabulary writes it ({error})") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: holds no class; captions.vocabulary writes one part a class")
    by_class = {name: _class_words(path, name, part) for name, part in content.items()}
    owners: dict[str, str] = {}
    for name, entry in by_class.items():
        for word in sorted(entry.words | entry.kinds):
            if word in owners:
                raise UserError(f"{path}: classes {owners[word]} and {name} both have the word {word}; remove one")
            owners[word] = name
    return Vocabulary(by_class)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)} stands twice")
    return content


def _class_words(path: Path, name: str, part: Any) -> ClassWords:
    where = f"{path}: class {name}"
    if not isinstance(part, dict) or not part.keys() <= set(KEYS):
        raise UserError(f"{where}: needs a part with the lists {', '.join(KEYS)}")
    lists = {key: part.get(key, []) for key in KEYS}
    for key, words in lists.items():
        if not isinstance(words, list) or not all(
            isinstance(word, str) and any(map(str.isalnum, word)) for word in words
        ):
            raise UserError(f"{where}: {key} is no list of words")
    words, kinds, ignored = (frozenset(map(normal_form, lists[key])) for key in KEYS)
    if not (words | kinds) - ignored:
        raise UserError(f"{where}: has no word that counts")
    return ClassWords(words - ignored, kinds - words - ignored, ignored)


def make_vocabulary(classes: Sequence[str], path: Path | None = None) -> Vocabulary:
    """The vocabulary of classes, from an edited file or the table and WordNet.

    Args:
        classes: their names; none with a file means all of the file.
        path: file of ``Vocabulary.write``.

    Returns:
        A vocabulary with the names of ``classes``, in their order.

    Raises:
        UserError: a class is unknown or given twice, or the file is wrong or lacks a class.
    """
    if path is None:
        if not classes:
            raise UserError("a vocabulary needs at least one class")
        return _from_table(classes)
    whole = read_vocabulary(path)
    if not classes:
        return whole
    matches = {name: match_class(name, whole.classes) for name in classes}
    for name, other in matches.items():
        if other is None:
            raise UserError(f"{path}: class {name} is missing; it has {', '.join(whole.classes)}")
    if len(set(matches.values())) != len(classes):
        raise UserError(f"{path}: two of the classes {', '.join(classes)} are the same")
    return Vocabulary({name: whole.by_class[other] for name, other in matches.items() if other is not None})


def _run(given: argparse.Namespace) -> None:
    vocabulary = make_vocabulary(given.classes)
    vocabulary.write(given.out)
    counts = ", ".join(f"{name} {len(vocabulary.words(name))}" for name in vocabulary.classes)
    sys.stdout.write(f"{given.out}: words of {counts}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for bad input, after one line on stderr."""
    parser = argparse.ArgumentParser(prog="captions.vocabulary", description="Write the words of classes to edit them.")
    parser.add_argument("--classes", nargs="+", required=True, help="names of the classes")
    parser.add_argument("--out", type=Path, required=True, help="file to write (.json)")
    given = parser.parse_args(arguments)
    return run(lambda: _run(given), "captions.vocabulary")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())
