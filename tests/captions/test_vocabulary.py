"""The words of classes, the file a user may edit, and folder names."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from captions import wordnet
from captions.vocabulary import (
    class_entry,
    class_fits,
    main,
    make_vocabulary,
    match_class,
    normal_form,
    read_vocabulary,
    table,
)
from dataset.coco import CLASS_NAMES as COCO
from dataset.shapes_web import SYNONYMS
from dataset.voc import CLASS_NAMES as VOC
from utils.errors import UserError

VOC_NAMES = [name for name in VOC.values() if name != "background"]
COCO_NAMES = [name for name in COCO.values() if name != "background"]


def test_the_table_knows_every_class_of_the_data_sets() -> None:
    names = {class_entry(name).name for name in (*VOC_NAMES, *COCO_NAMES, *SYNONYMS)}
    assert names == set(table())
    assert {match_class(name, COCO_NAMES) for name in VOC_NAMES} == {
        *"airplane bicycle bird boat bottle bus car cat chair cow dog horse motorcycle person sheep couch train tv".split(),
        "dining table",
        "potted plant",
    }


def test_the_table_is_sound() -> None:
    """Senses are there, no alias is of two classes, no word is wanted and unwanted."""
    net = wordnet.load()
    aliases = [alias for entry in table().values() for alias in {entry.name, *entry.aliases}]
    assert len(aliases) == len(set(aliases))
    for entry in table().values():
        assert all(net.sense(sense) >= 0 for sense in (*entry.senses, *entry.kinds)), entry.name
        assert not {normal_form(word) for word in entry.words} & {normal_form(word) for word in entry.ignored}, (
            entry.name
        )


@pytest.mark.parametrize(
    ("name", "above"),
    [
        ("cow", "bovine#1"),
        ("mouse", "electronic_device#1"),
        ("tvmonitor", "instrumentality#3"),
        ("orange", "citrus#1"),
        ("remote", "device#1"),
        ("baseball bat", "club#3"),
        ("kite", "plaything#1"),
        ("tie", "neckwear#1"),
        ("toaster", "kitchen_appliance#1"),
        ("hair drier", "blower#1"),
        ("bear", "carnivore#1"),
        ("pottedplant", "plant#2"),
        ("diningtable", "furniture#1"),
        ("hot dog", "matter#3"),
        ("toilet", "plumbing_fixture#1"),
        ("donut", "food#2"),
        ("star", "plane_figure#1"),
        ("heart", "plane_figure#1"),
    ],
)
def test_senses_mean_the_thing(name: str, above: str) -> None:
    """Not the proctor, the industrial plant, the table of data, the rodent, the colour or the person who toasts."""
    net = wordnet.load()
    assert all(net.is_under(net.sense(sense), net.sense(above)) for sense in class_entry(name).senses)


def test_words_of_some_classes() -> None:
    vocabulary = make_vocabulary(VOC_NAMES)
    for name, words in {
        "dog": "dog puppy poodle dachshund collie|toy dog|german shepherd|great dane|pit bull",
        "cat": "cat kitten kitty siamese cat|tabby",
        "cow": "cow calf ox oxen heifer cattle bull",
        "sheep": "sheep lamb ewe ram|black sheep|merino",
        "horse": "horse pony stallion foal mare",
        "person": "person people man woman boy girl child baby toddler crowd rider",
        "sofa": "sofa couch settee loveseat",
        "tvmonitor": "tv television monitor|computer screen",
        "bird": "bird goose duck crane penguin rooster",
        "aeroplane": "airplane aeroplane plane jet",
        "diningtable": "dining table|diningtable|table",
        "pottedplant": "potted plant|houseplant",
    }.items():
        groups = [group if group in vocabulary.words(name) else group.split() for group in words.split("|")]
        for word in (w for group in groups for w in ([group] if isinstance(group, str) else group)):
            assert word in vocabulary.words(name) or normal_form(words) == word, (name, word)
    person = vocabulary.words("person")
    assert not person & set("star dog cat white tiger crane mouse gull bird hot black|hot dog|black sheep".split("|"))
    assert not person & set("star dog cat white black tiger crane mouse gull bird chicken chair".split())
    assert "wolf" not in vocabulary.words("dog") and "lion" not in vocabulary.words("cat")
    assert "coffee table" not in vocabulary.words("diningtable")


def test_no_word_is_of_two_classes() -> None:
    for names in (VOC_NAMES, COCO_NAMES, list(SYNONYMS)):
        vocabulary = make_vocabulary(names)
        words = [word for name in names for word in vocabulary.words(name)]
        assert len(words) == len(set(words))
        assert all(normal_form(name) in vocabulary.words(name) for name in names)


def test_shared_words(caplog: pytest.LogCaptureFixture) -> None:
    """To the class that names it, else to the more special one, else to none."""
    vocabulary = make_vocabulary(["animal", "dog", "poodle", "cat"])
    assert "poodle" in vocabulary.words("poodle") and "poodle" not in vocabulary.words("dog")
    assert "toy poodle" in vocabulary.words("poodle")
    assert "terrier" in vocabulary.words("dog") and "wolf" in vocabulary.words("animal")
    caplog.set_level(logging.INFO, logger="webwilss")
    shared = make_vocabulary(["canid", "domestic animal"])
    assert "poodle" in shared.words("canid") and "poodle" not in shared.words("domestic animal")
    tied = make_vocabulary(["sculpture", "painting", "diptych"])
    assert "diptych" in tied.words("diptych")


def test_a_word_named_by_two_classes_counts_for_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="webwilss")
    vocabulary = make_vocabulary(["ring", "donut"])
    assert "doughnut" not in vocabulary.words("ring") | vocabulary.words("donut")
    assert "count for none: doughnut" in caplog.text


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("airplane", "aeroplane"),
        ("Aeroplanes", "aeroplane"),
        ("TV_Monitor", "tvmonitor"),
        ("tv-monitor", "tvmonitor"),
        ("television", "tvmonitor"),
        ("dining table", "diningtable"),
        ("diningTables", "diningtable"),
        ("potted_plants", "pottedplant"),
        ("motorcycle", "motorbike"),
        ("motor-bike", "motorbike"),
        ("couches", "sofa"),
        ("people", "person"),
        ("SHEEP", "sheep"),
        ("buses", "bus"),
        ("001_dog", None),
        ("hot dog", None),
        ("", None),
        ("1", None),
        ("犬", None),
    ],
)
def test_folder_names(name: str, found: str | None) -> None:
    assert match_class(name, VOC_NAMES) == found
    assert match_class(name, VOC_NAMES[::-1]) == found


def test_folder_names_of_other_classes() -> None:
    assert match_class("Fire_Engines", ["fire engine", "tractor"]) == "fire engine"
    assert match_class("lemming", ["lemming"]) == "lemming" and match_class("dog", []) is None
    assert match_class("couch", ["sofa", "couch"]) == "couch"


@pytest.mark.parametrize(
    "known", [["HER2+", "HER2-"], ["C", "C++", "C#"], ["type_1", "type1"], ["α-cell", "β-cell"], ["sofa", "couch"]]
)
def test_exact_names_win(known: list[str]) -> None:
    for order in (known, known[::-1]):
        assert [match_class(name, order) for name in order] == order


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("HER2-", ["HER2+"]),
        ("her2", ["HER2+", "HER2-"]),
        ("HER2- cells", ["HER2 cell"]),
        ("α-cell", ["β-cell", "cell"]),
        ("C++", ["C"]),
        ("dog+", ["dog"]),
        ("dogs'", ["dog"]),
    ],
)
def test_signs_and_letters_count(name: str, known: list[str]) -> None:
    assert match_class(name, known) is None


@pytest.mark.parametrize(
    ("name", "known", "two"),
    [
        ("television", ["tv", "tvmonitor"], "tv or tvmonitor"),
        ("CAT", ["cat", "Cat"], "cat or Cat"),
        ("axes", ["ax", "axis", "dog"], "ax or axis"),
        ("T_ype1", ["type_1", "type1"], "type_1 or type1"),
    ],
)
def test_a_spelling_of_two_classes_is_refused(name: str, known: list[str], two: str) -> None:
    assert len(class_fits(name, known)) == 2
    with pytest.raises(UserError, match=f"class name {name}: may mean {two}; write it exactly"):
        match_class(name, known)


def test_a_class_named_by_signs_is_no_noun_without_them() -> None:
    for name in ("C++", "dog+", "cat-"):
        with pytest.raises(UserError, match="is no noun of WordNet"):
            make_vocabulary([name])
    assert class_entry("Cats eye").senses == class_entry("cat's-eye").senses


def test_a_class_that_is_not_in_the_table() -> None:
    for name in ("FireEngine", "fire-engine", "fireengine", "fire engines"):
        assert class_entry(name).senses == ("fire_engine#1",)
    assert "emperor penguin" in make_vocabulary(["penguin"]).words("penguin")
    assert make_vocabulary(["turkey"]).classes == ("turkey",)
    assert wordnet.load().lemmas(wordnet.load().sense(class_entry("crane").senses[0])) == ("crane",)


@pytest.mark.parametrize(
    ("name", "said"), [("sheeep", "sheep"), ("bycicle", "bicycle"), ("qqzzx", "no noun of WordNet")]
)
def test_an_unknown_class(name: str, said: str) -> None:
    with pytest.raises(UserError, match=f"class {name}: .*{said}"):
        make_vocabulary(["dog", name])


def test_classes_that_are_the_same() -> None:
    with pytest.raises(UserError, match="sofa and couch are the same"):
        make_vocabulary(["sofa", "dog", "couch"])
    with pytest.raises(UserError, match="at least one class"):
        make_vocabulary([])


def test_an_edited_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "made" / "vocabulary.json"
    assert main(["--classes", "cow", "sheep", "dog", "--out", str(path)]) == 0
    assert "words of cow" in capsys.readouterr().out
    made, read = make_vocabulary(["cow", "sheep", "dog"]), read_vocabulary(path)
    assert all(read.by_class[name] == made.by_class[name] for name in made.classes)
    content = json.loads(path.read_text())
    content["dog"]["words"].append("Good_Boy")
    content["dog"]["not"].append("poodle")
    content["zebu"] = {"words": ["zebu"]}
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    edited = make_vocabulary([], path)
    assert edited.classes == ("cow", "sheep", "dog", "zebu")
    assert "good boy" in edited.words("dog") and "poodle" not in edited.words("dog")
    assert make_vocabulary(["Dogs", "cow"], path).classes == ("Dogs", "cow")
    with pytest.raises(UserError, match="class cat is missing") as caught:
        make_vocabulary(["dog", "cat"], path)
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="are the same"):
        make_vocabulary(["dog", "dogs"], path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "holds no class"),
        ("{}", "holds no class"),
        ('{"dog": ["dog"]}', "class dog: needs a part"),
        ('{"dog": {"word": ["dog"]}}', "class dog: needs a part"),
        ('{"dog": {"words": "dog"}}', "class dog: words is no list"),
        ('{"dog": {"words": [3]}}', "class dog: words is no list"),
        ('{"dog": {"words": [" "]}}', "class dog: words is no list"),
        ('{"dog": {"words": ["-"]}}', "class dog: words is no list"),
        ('{"dog": {"words": []}}', "class dog: has no word"),
        ('{"dog": {"words": ["dog"], "not": ["dog"]}}', "class dog: has no word"),
        ('{"dog": {"words": ["pet"]}, "cat": {"words": ["Pet"]}}', "classes dog and cat both have the word pet"),
        ('{"dog": {"words": ["dog"]}, "dog": {"words": ["pet"]}}', "dog stands twice"),
        ("\xff", "no JSON"),
    ],
)
def test_a_wrong_file(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "v.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=said) as caught:
        make_vocabulary([], path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        make_vocabulary(["dog"], tmp_path / "none.json")
    assert main(["--classes", "dog", "--out", str(tmp_path)]) == 2
    assert main(["--classes", "sheeep", "--out", str(tmp_path / "v.json")]) == 2
    said = capsys.readouterr().err
    assert "cannot be written" in said and "spelled alike: sheep" in said
