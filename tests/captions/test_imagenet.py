"""Which classes of ImageNet show a class: by WordNet, and by a table with reasons."""

from __future__ import annotations

import json

import pytest

from captions import imagenet, wordnet
from captions.labels import caption_labels
from captions.vocabulary import class_entry, make_vocabulary, table
from dataset.coco import CLASS_NAMES as COCO
from dataset.voc import CLASS_NAMES as VOC

VOC_NAMES, COCO_NAMES = ([name for name in names.values() if name != "background"] for names in (VOC, COCO))


def shown(name: str) -> set[str]:
    """The words of the classes of ImageNet that show a class."""
    (one,) = (one for one in imagenet.shown() if one.name == name)
    return {imagenet.words()[i] for i in one.by}


def test_the_table_is_sound() -> None:
    """Its ids are ImageNet's, beside their names; every part has its reason; nothing stands there that WordNet says already."""
    content = json.loads(imagenet.TABLE.read_text(encoding="utf-8"))
    numbers, usual = imagenet.wordnet_ids(), {}
    net = wordnet.load()
    for name, part in content["classes"].items():
        entry = table()[name]
        roots = {net.sense(sense) for sense in entry.kinds}
        for key in ("shows", "not"):
            for group in part.get(key, ()):
                assert group["why"]
                usual |= group["classes"]
                for number in group["classes"]:
                    is_kind = bool(net.hypernyms_closure(net.synset(int(number[1:]))) & roots)
                    assert is_kind == (key == "not"), f"{name}: {number} stands under {key}"
        assert 0 < part.get("least", {"sum": 0.5, "why": ""})["sum"] < 1
    renamed = {number for group in content["words"] for number in group["classes"]}
    assert usual.keys() | renamed <= set(numbers)
    for number in usual.keys() - renamed:
        assert imagenet.words()[numbers.index(number)] == usual[number]


@pytest.mark.parametrize("names", [VOC_NAMES, COCO_NAMES], ids=["voc", "coco"])
def test_no_word_names_what_its_class_does_not_show(names: list[str]) -> None:
    """Neither the crane of a building site a bird, nor the pitcher of water a person; and a class's own word names it alone."""
    vocabulary = make_vocabulary(names)
    by_name = {one.name: one for one in imagenet.shown()}
    own = {name: by_name[class_entry(name).name] for name in names if class_entry(name).name in by_name}
    for i, word in enumerate(imagenet.words()):
        for name in caption_labels(word, vocabulary):
            assert name in own and i in own[name].by, f"{word} ({i}) is read as {name}"
    for name, one in own.items():
        assert caption_labels(one.word, vocabulary) == {name}


def test_every_voc_class_is_shown() -> None:
    assert {class_entry(name).name for name in VOC_NAMES} <= {one.name for one in imagenet.shown()}


def test_senses_parts_and_what_is_worn() -> None:
    assert shown("horse") == {"sorrel", "horse cart"}
    assert {"pot"} == shown("pottedplant") and {"ram", "bighorn"} == shown("sheep")
    assert {"jersey", "suit", "ballplayer", "groom", "swing"} <= shown("person")
    assert "bird" not in shown("bird") and len(shown("bird")) == 59 and "construction crane" not in shown("bird")
    assert not {"cougar", "lynx"} & shown("cat") and len(shown("dog")) == 118
    assert "minivan" in shown("car") and "minivan" not in shown("truck")
    assert {"monitor", "television", "screen"} <= shown("tvmonitor")


@pytest.mark.parametrize(
    "caption", ["a flowerpot", "a jersey on a shelf", "a suit", "a sorrel of the garden", "an empty swing"]
)
def test_captions_of_people_are_read_as_before(caption: str) -> None:
    """The table is by ImageNet's classes; a person who writes jersey names nobody."""
    assert not caption_labels(caption, make_vocabulary(VOC_NAMES)) - {"pottedplant"}
