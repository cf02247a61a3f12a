"""Which classes of ImageNet show a class of ``classes.json``: what the words of an ImageNet classifier say of an image.

A classifier of ImageNet's 1000 classes has no word for a horse or a person: it says sorrel, and jersey. A class is shown by

- a kind of it: WordNet says so (sorrel is a horse), from the senses of ``classes.json``; what WordNet files elsewhere stands, with
  its reason, in ``imagenet.json``;
- a part that is not seen without it, or what is worn, held or drawn by it (jersey: person), by hand in ``imagenet.json``;
- never by what WordNet calls a kind and people do not (``not`` there).

All by ImageNet's own class, its WordNet id, and not by a word: "a jersey on a shelf" in a caption that a person wrote names nobody.

Source: docs/method.md, "Words of a classifier".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from captions import wordnet
from captions.vocabulary import Entry, table

TABLE = Path(__file__).with_name("imagenet.json")
CLASSES = 1000


@dataclass(frozen=True)
class Shown:
    """A class of ``classes.json`` that ImageNet's classes show.

    Attributes:
        name: its name in ``classes.json``.
        word: how a caption names it.
        by: positions of ImageNet's classes, ascending, 0..999.
        least: the sum of their probabilities from which on it is named; None for the captioner's own.
    """

    name: str
    word: str
    by: tuple[int, ...]
    least: float | None = None


@cache
def wordnet_ids() -> tuple[str, ...]:
    """The WordNet id of each of ImageNet's classes, as ``n02389026``, in their order."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return tuple(info.index_to_label_name(i) for i in range(CLASSES))


@cache
def words() -> tuple[str, ...]:
    """How a caption names each of ImageNet's classes: its usual name, or where that is another thing's too, one that is not."""
    from timm.data import ImageNetInfo

    info, own = ImageNetInfo("imagenet-1k"), _content()["words"]
    # A class has several names ("ram, tup"); the first is the usual one.
    usual = (info.index_to_description(i).split(",")[0].strip() for i in range(CLASSES))
    return tuple(own.get(number, name) for number, name in zip(wordnet_ids(), usual, strict=True))


@cache
def shown() -> tuple[Shown, ...]:
    """Every class of ``classes.json`` that a class of ImageNet shows."""
    known = _content()["classes"]
    found = (_shown(entry, known.get(name, {})) for name, entry in table().items())
    return tuple(one for one in found if one.by)


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    content["words"] = {number: word for part in content["words"] for number, word in part["classes"].items()}
    return content


@cache
def _above() -> dict[str, frozenset[int]]:
    """All that each of ImageNet's classes is a kind of, itself included, as synsets."""
    net = wordnet.load()
    return {number: net.hypernyms_closure(net.synset(int(number[1:]))) for number in wordnet_ids()}


def _shown(entry: Entry, part: Mapping[str, Any]) -> Shown:
    roots = {wordnet.load().sense(sense) for sense in entry.kinds}
    kinds = {number for number, above in _above().items() if above & roots}
    wanted = (kinds | _listed(part.get("shows", ()))) - _listed(part.get("not", ()))
    by = tuple(i for i, number in enumerate(wordnet_ids()) if number in wanted)
    return Shown(entry.name, part.get("word", entry.name), by, part.get("least", {}).get("sum"))


def _listed(parts: Sequence[Mapping[str, Any]]) -> set[str]:
    return {number for part in parts for number in part["classes"]}
