"""WordNet's nouns: facts that are known of them, and the script that makes the file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from captions import build_wordnet, wordnet
from captions.wordnet import WordNet
from utils.errors import UserError


@pytest.fixture(scope="module")
def net() -> WordNet:
    return wordnet.load()


def _first(net: WordNet, lemma: str) -> int:
    return net.senses(lemma)[0]


def test_counts_of_the_release(net: WordNet) -> None:
    """WordNet's own statistics (wnstats(7)) of release 3.0; one root."""
    assert len(net) == 82115 and len(net.all_lemmas) == 117798 and len(net.sense_synsets) == 146312
    assert np.flatnonzero(net.min_depths == 0).tolist() == [_first(net, "entity")]
    assert net.all_lemmas == sorted(net.all_lemmas)


def test_the_chain_above_dog(net: WordNet) -> None:
    chain, synset = [], _first(net, "dog")
    while above := net.hypernyms(synset):
        synset = above[0]
        chain.append(net.lemmas(synset)[0])
    assert (
        chain
        == (
            "canine carnivore placental mammal vertebrate chordate animal organism living_thing whole object physical_entity entity"
        ).split()
    )
    dog = _first(net, "dog")
    assert [net.lemmas(parent)[0] for parent in net.hypernyms(dog)] == ["canine", "domestic_animal"]
    assert (net.min_depth(dog), net.max_depth(dog)) == (8, 13)
    assert net.lemmas(dog) == ("dog", "domestic_dog", "canis_familiaris")
    assert net.synset(int(net.offsets[dog])) == dog


def test_depths_follow_from_the_parents(net: WordNet) -> None:
    for synset in range(0, len(net), 997):
        above = net.hypernyms(synset)
        assert net.min_depth(synset) == min((net.min_depth(p) + 1 for p in above), default=0)
        assert net.max_depth(synset) == max((net.max_depth(p) + 1 for p in above), default=0)


def test_senses_keep_their_order(net: WordNet) -> None:
    """The most frequent first, which is not the order of the file."""
    assert [net.lemmas(s)[0] for s in net.senses("mouse")] == ["mouse", "shiner", "mouse", "mouse"]
    assert net.lemmas(net.sense("mouse#4")) == ("mouse", "computer_mouse")
    assert net.senses("Hot dog") == net.senses("hot_dog") and len(net.senses("hot_dog")) == 3
    assert net.senses("xyzzyx") == () and not net.has("xyzzyx") and net.has("dining table")


@pytest.mark.parametrize("name", ["dog#0", "dog#99", "dog", "xyzzyx#1", "dog#x"])
def test_a_sense_that_is_none(net: WordNet, name: str) -> None:
    with pytest.raises(UserError, match="no such sense"):
        net.sense(name)


def test_names_are_told_from_words(net: WordNet) -> None:
    """The first sense of ewe is a people, of crane a writer; both are written with a capital."""
    for lemma, above in (("ewe", "sheep"), ("crane", "device"), ("turkey", "bird")):
        common = net.common_sense(lemma)
        assert common is not None and net.is_under(common, _first(net, above))
    assert net.common_sense("xyzzyx") is None
    assert net.common_sense("canis_minor") == _first(net, "canis_minor")


def test_what_is_under_what(net: WordNet) -> None:
    dog, animal, river = (_first(net, lemma) for lemma in ("dog", "animal", "river"))
    assert net.is_under(dog, animal) and net.is_under(dog, dog) and not net.is_under(animal, dog)
    below = net.hyponyms_closure(dog)
    assert _first(net, "poodle") in below and dog in below and _first(net, "wolf") not in below
    assert all(net.is_under(int(s), dog) for s in below)
    seine = _first(net, "seine_river")
    assert not net.is_under(seine, river) and net.is_under(seine, river, instances=True)
    assert seine not in net.hyponyms_closure(river) and seine in net.hyponyms_closure(river, instances=True)
    assert net.hypernyms(seine, instances=False) == ()
    assert len(net.hyponyms_closure(_first(net, "entity"), instances=True)) == len(net)


@pytest.mark.parametrize(
    ("word", "bases"),
    [
        ("dogs", ("dog",)),
        ("oxen", ("oxen", "ox")),
        ("geese", ("goose",)),
        ("sheep", ("sheep",)),
        ("calves", ("calf",)),
        ("Children", ("child",)),
        ("men", ("men", "man")),
        ("glasses", ("glasses", "glass")),
        ("puppies", ("puppy",)),
        ("buses", ("bus",)),
        ("foxes", ("fox",)),
        ("benches", ("bench",)),
        ("toothbrushes", ("toothbrush",)),
        ("grass", ("grass",)),
        ("boxesful", ("boxful",)),
        ("hot dogs", ("hot_dog",)),
        ("is", ()),
        ("xyzzyxs", ()),
    ],
)
def test_plurals(net: WordNet, word: str, bases: tuple[str, ...]) -> None:
    assert net.lemmatise(word) == bases


def test_loads_at_once() -> None:
    """In 0.03 s where it was measured; ten times that is a regression."""
    wordnet.load.cache_clear()
    start = time.perf_counter()
    wordnet.load()
    assert time.perf_counter() - start < 0.4
    assert wordnet.FILE.stat().st_size < 1_500_000


LICENCE = "  1 This software and database is being provided to you\n"
DATA = (
    LICENCE + "00000100 03 n 01 entity 0 001 ~ 00000200 n 0000 | all\n"
    "00000200 05 n 02 animal 0 Beast 1 002 @ 00000100 n 0000 ~ 00000300 n 0000 | it moves; it | eats\n"
    "00000300 05 n 01 dog 0 002 @ 00000200 n 0000 @ 00000100 n 0000 | it barks\n"
    "00000400 05 n 02 Rex 0 dog 2 001 @i 00000300 n 0000 | a dog\n"
)
INDEX = (
    LICENCE + "animal n 1 2 @ ~ 1 0 00000200  \n"
    "beast n 1 0 1 0 00000200  \n"
    "dog n 2 2 @ ~ 2 1 00000400 00000300  \n"
    "entity n 1 1 ~ 1 0 00000100  \n"
    "rex n 1 1 @i 1 0 00000400  \n"
)
EXCEPTIONS = "doggen dog\n"


def _dict(folder: Path, data: str = DATA, index: str = INDEX, exceptions: str = EXCEPTIONS) -> Path:
    folder.mkdir()
    for name, content in (("data.noun", data), ("index.noun", index), ("noun.exc", exceptions)):
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_a_small_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.npz"
    assert build_wordnet.main([str(_dict(tmp_path / "dict")), "--out", str(out)]) == 0
    assert "4 synsets, 5 lemmas" in capsys.readouterr().out
    net = wordnet.load(out)
    assert net.senses("dog") == (3, 2) and net.lemmas(3) == ("rex", "dog") and net.common_sense("rex") == 3
    assert net.hypernyms(2) == (1, 0) and net.hypernyms(3, instances=False) == ()
    assert net.max_depths.tolist() == [0, 1, 2, 3] and net.min_depths.tolist() == [0, 1, 1, 2]
    assert net.lemmatise("doggen") == ("dog",) and net.hyponyms_closure(0).tolist() == [0, 1, 2]
    build_wordnet.build(tmp_path / "dict", tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": DATA + "00000500 05 n 02 cat 0 001 @ 00000200\n"}, "data.noun line 6: is no synset"),
        ({"data": DATA + "<html>\n"}, "data.noun line 6"),
        ({"data": DATA + "00000500 05 n 01 chât 0 000 | x\n"}, "cannot be read"),
        ({"index": INDEX + "cat n 1 0 1 0\n"}, "index.noun line 7: is no lemma"),
        ({"index": INDEX + "cat n 1 0 1 0 00000900\n"}, "do not fit"),
        ({"index": INDEX + "cat n 1 0 1 0 00000300\n"}, "do not fit"),
        ({"data": DATA.replace("@ 00000100", "@ 00000900")}, "do not fit"),
        ({"data": DATA.replace("~ 00000200", "@ 00000300")}, "circle"),
        ({"exceptions": "doggen\n"}, "noun.exc line 1"),
        ({"data": LICENCE}, "holds no noun"),
    ],
)
def test_a_broken_database(tmp_path: Path, change: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build_wordnet.build(_dict(tmp_path / "dict", **change), tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_a_missing_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_wordnet.main([str(tmp_path), "--out", str(tmp_path / "out.npz")]) == 2
    assert "data.noun: is missing" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot be written"):
        build_wordnet.build(_dict(tmp_path / "dict"), tmp_path / "none" / "out.npz")


def _damaged(path: Path, kind: str) -> None:
    content = wordnet.FILE.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("no such thing")
    elif kind == "empty":
        path.touch()
    elif kind == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(200) + content[middle + 200 :])
    else:
        with np.load(wordnet.FILE) as file:
            arrays = dict(file)
        if kind == "array missing":
            del arrays["parents"]
        elif kind == "array short":
            arrays["max_depths"] = arrays["max_depths"][:-1]
        elif kind == "other type":
            arrays["parents"] = arrays["parents"].astype(np.float32)
        elif kind == "out of range":
            arrays["parents"][5] = len(arrays["offsets"])
        np.savez(path, **arrays)


@pytest.mark.parametrize(
    "kind", ["cut", "text", "empty", "flipped", "array missing", "array short", "other type", "out of range"]
)
def test_a_damaged_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "nouns.npz"
    _damaged(path, kind)
    with pytest.raises(UserError, match="damaged") as caught:
        wordnet.load(path)
    assert str(path) in str(caught.value) and "build_wordnet" in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="are missing; python -m"):
        wordnet.load(tmp_path / "none.npz")
