"""Nouns of captions: lemmas, compounds, names, and the taggers on hand-checked captions."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import pytest

from benchmarks.nouns import judge, read_table
from captions import nouns
from captions.nouns import lemma, make_tagger
from tests.conftest import ROOT
from utils.errors import UserError

STRANGE = (
    "", " ", ".", "a/b and/or c", "''", "'s", "it's a dog's bowl", "\u2019s",
    "#dog @cat http://a.b/c?d=e", "\u72ac\u304c\u8d70\u308b", "\U0001f415 dog",
    "&slash; dog/NN cat/VB", "dog\x00cat\ndog\u2028cat", "-- -", "1 2 3", "a" * 20_000, "dog " * 3_000, "\u0301", "\ufb01re hydrant",
)  # fmt: skip


def make(name: str) -> Callable[[str], list[str]]:
    try:
        return make_tagger(name)
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", list(nouns.TAGGERS))
def test_hand_checked_captions(name: str) -> None:
    score = judge(make(name), read_table(ROOT / "captions" / "noun_check.tsv"))
    assert score.captions == 100
    # benchmarks/results/nouns.md: the worst has 0.957.
    assert score.f1 > 0.95


def test_the_default_is_the_best_without_a_model_to_fetch() -> None:
    rows = read_table(ROOT / "captions" / "noun_check.tsv")
    f1 = {name: judge(make(name), rows).f1 for name in ("textblob", "hanta")}
    assert max(f1, key=lambda name: f1[name]) == nouns.DEFAULT_TAGGER


def test_hand_checked_lemmas() -> None:
    rows = read_table(ROOT / "captions" / "lemma_check.tsv")
    wrong = [row["word"] for row in rows if lemma(row["word"]) != row["lemma"]]
    # The boots have no singular; the bird has.
    assert wrong == ["waders"] and len(rows) > 100


@pytest.mark.parametrize(
    "caption, found",
    [
        ("Two dogs and three children on the grass .", ["dog", "child", "grass"]),
        ("A TV monitor on a dining table", ["tv_monitor", "dining_table"]),
        ("Two dining tables next to fire hydrants", ["dining_table", "fire_hydrant"]),
        ("a hot dog on a plate", ["hot_dog", "plate"]),
        ("A boy in swimming trunks .", ["boy", "swimming_trunks"]),
        ("The dog's bowl and the dogs\u2019 toys", ["dog", "bowl", "dog", "toy"]),
        ("A Frisbee in Boston", ["frisbee"]),
        ("A black and white photo of a white dog", ["photo", "dog"]),
        ("ox, ram", ["ox", "ram"]),
        ("running quickly", []),
    ],
)
def test_nouns_of_a_caption(caption: str, found: list[str]) -> None:
    assert make_tagger(nouns.DEFAULT_TAGGER)(caption) == found


def test_singular_words_that_look_like_plurals() -> None:
    assert [lemma(word, nouns.SINGULAR) for word in ("species", "gas", "dress", "Tennis")] == [
        "species", "gas", "dress", "tennis",
    ]  # fmt: skip
    assert [lemma(word) for word in ("arms", "glasses", "knives", "hoodies", "walrus")] == [
        "arm", "glasses", "knife", "hoodie", "walrus",
    ]  # fmt: skip


@pytest.mark.parametrize("name", list(nouns.TAGGERS))
def test_strange_captions_do_no_harm(name: str) -> None:
    tagger = make(name)
    for caption in STRANGE:
        found = tagger(caption)
        assert all(noun and noun.split() == [noun] for noun in found), caption
    assert tagger("it's a dog's bowl") == ["dog", "bowl"]


def test_unknown_tagger() -> None:
    with pytest.raises(UserError, match="tagger nltk: is not known; choose from textblob, hanta, spacy"):
        make_tagger("nltk")


@pytest.mark.parametrize(
    "name, module, package",
    [
        ("textblob", "textblob.en", "textblob"),
        ("hanta", "HanTa.HanoverTagger", "HanTa"),
        ("spacy", "spacy.util", "spacy"),
    ],
)
def test_tagger_that_is_not_installed(name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"tagger {name}: .*pip install {package}"):
        make_tagger(name)


def test_spacy_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    util = pytest.importorskip("spacy.util")
    monkeypatch.setattr(util, "get_installed_models", lambda: ["de_core_news_sm"])
    with pytest.raises(UserError, match="no English model"):
        make_tagger("spacy")


def test_nothing_heavy_is_imported_early() -> None:
    importlib.reload(nouns)
    source = (ROOT / "captions" / "nouns.py").read_text()
    assert not any(f"\n{way} {name}" in source for way in ("import", "from") for name in ("textblob", "HanTa", "spacy"))
