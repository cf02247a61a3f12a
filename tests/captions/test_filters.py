"""The filter of downloads by nouns: the published lists, and what each choice of a rule does."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captions import filter_files
from captions.filter_files import read_lists
from captions.filters import (
    RULES,
    FilterRule,
    caption_rule,
    filter_replay_with_NN,
    filter_webnew_with_cls,
    first_of,
    generate_NN,
    new_class_rule,
)
from captions.formats import read_class_words
from captions.similarity import Matrix, Similarity, make_similarity
from utils.errors import UserError


class Given(Similarity):
    """Similarities as a test wants them; others are unknown."""

    def __init__(self, values: dict[tuple[str, str], float]) -> None:
        self.values = values

    def _distinct(self, words_a: Sequence[str], words_b: Sequence[str]) -> Matrix:
        return np.array([[self.values.get((a, b), np.nan) for b in words_b] for a in words_a])


PUBLISHED = RULES["depth"]
ALIKE = Given({("pup", "dog"): 0.9, ("cub", "dog"): 0.7, ("cub", "cat"): 0.8, ("kit", "cat"): 0.9, ("mat", "dog"): 0.6})


@pytest.mark.golden
def test_published_lists(golden: Path, shared_data: Path) -> None:
    lists = read_lists(shared_data / "captions" / "web_data_cap_file_NN.zip")
    words = read_class_words(shared_data / "captions" / "pascal_classes.txt")
    kept = filter_replay_with_NN(lists, words, make_similarity("depth"), PUBLISHED)
    wanted = json.loads((golden / "replay_filter_released.json").read_text())
    assert {name: kept[name] for name in wanted} == wanted
    assert sum(map(len, kept.values())) == 19_227
    assert kept.keys() == lists.keys()


def test_the_default_keeps_what_the_published_rule_misses() -> None:
    rows = [
        ("1.jpg", ["top", "laptop"]),
        ("2.jpg", ["woman", "dress"]),
        ("3.jpg", ["grass"]),
        ("4.jpg", ["room", "girl"]),
    ]
    lists, words = {"a": rows}, {"a": ["person"], "b": ["dog"]}
    assert filter_replay_with_NN(lists, words, make_similarity("depth"), PUBLISHED)["a"] != ["2.jpg", "4.jpg"]
    assert filter_replay_with_NN(lists, words, make_similarity("wup"), RULES["wup"]) == {"a": ["2.jpg", "4.jpg"]}


def test_threshold_is_exclusive_and_first_noun_alone_counts() -> None:
    lists = {
        "a": [("1", ["mat"]), ("2", ["sky", "pup"]), ("3", ["pup", "sky"]), ("4", []), ("5", ["cub"]), ("6", ["pup"])]
    }
    words = {"a": ["dog"]}
    assert filter_replay_with_NN(lists, words, ALIKE, PUBLISHED) == {"a": ["3", "5"]}
    assert filter_replay_with_NN(lists, words, ALIKE, replace(PUBLISHED, threshold=0.59)) == {"a": ["1", "3"]}
    assert filter_replay_with_NN(lists, words, ALIKE, replace(PUBLISHED, first_nouns=2)) == {"a": ["2", "3"]}
    assert filter_replay_with_NN(lists, words, ALIKE, replace(PUBLISHED, most=0)) == {"a": ["3", "5", "6"]}


def test_the_most_similar_are_kept_in_the_order_of_the_list() -> None:
    rows = [("1", ["cub"]), ("2", ["sky", "pup"]), ("3", ["mat"]), ("4", ["pup"])]
    rule = FilterRule(0.5, rivals=False)
    assert filter_replay_with_NN({"a": rows}, {"a": ["dog"]}, ALIKE, rule) == {"a": ["2", "4"]}
    # At equal similarity, what is named first is shown rather than a statue of it.
    assert filter_replay_with_NN({"a": rows}, {"a": ["dog"]}, ALIKE, replace(rule, most=1)) == {"a": ["4"]}


def test_rivals_are_the_words_of_all_originals() -> None:
    lists = {"a": [("1", ["cub"]), ("2", ["pup"])]}
    rule = FilterRule(0.5, most=0)
    assert filter_replay_with_NN(lists, {"a": ["dog"]}, ALIKE, rule) == {"a": ["1", "2"]}
    assert filter_replay_with_NN(lists, {"a": ["dog"], "b": ["cat"]}, ALIKE, rule) == {"a": ["2"]}
    # Where the nearer class is the original's own too, there is no rival.
    assert filter_replay_with_NN(lists, {"a": ["dog", "cat"]}, ALIKE, rule) == {"a": ["1", "2"]}
    assert filter_replay_with_NN(lists, {"a": ["dog"], "b": ["cat"]}, ALIKE, replace(rule, rivals=False)) == {
        "a": ["1", "2"]
    }


def test_equally_similar_classes_are_no_rivals() -> None:
    similarity = Given({("pet", "dog"): 0.9, ("pet", "cat"): 0.9 + 1e-12})
    assert filter_replay_with_NN(
        {"a": [("1", ["pet"])]}, {"a": ["dog"], "b": ["cat"]}, similarity, FilterRule(0.5)
    ) == {"a": ["1"]}


def test_an_original_without_words_keeps_nothing_and_a_missing_one_is_named() -> None:
    lists = {"a": [("1", ["pup"])], "b": []}
    assert filter_replay_with_NN(lists, {"a": [], "b": ["dog"]}, ALIKE, PUBLISHED) == {"a": [], "b": []}
    with pytest.raises(UserError, match="b: its class words are missing"):
        filter_replay_with_NN(lists, {"a": ["dog"]}, ALIKE, PUBLISHED)


def test_captions_against_captions() -> None:
    # Any pair of the first two nouns of both, more similar than 0.6; the third noun of neither counts.
    rule = caption_rule("depth")
    assert (rule.threshold, rule.first_nouns, rule.most, rule.best, rule.rivals) == (0.6, 2, 2, False, False)
    lists = {"a": [("1", ["sky", "pup"]), ("2", ["sky", "sea", "pup"]), ("3", ["mat"])]}
    assert filter_replay_with_NN(lists, first_of({"a": ["sun", "dog", "cat"]}, 2), ALIKE, rule) == {"a": ["1"]}
    assert filter_replay_with_NN(lists, first_of({"a": ["sun", "cat", "dog"]}, 2), ALIKE, rule) == {"a": []}
    assert first_of({"a": ["x", "y"]}, 0) == {"a": ["x", "y"]}


def test_new_classes() -> None:
    rule = new_class_rule("depth")
    assert (rule.threshold, rule.first_nouns, rule.most) == (0.6, 2, 500)
    lists = {
        "dog": [("1", ["sky", "pup"]), ("2", ["sky", "sea", "pup"]), ("3", ["cub"])],
        "cat": [(str(i), ["kit"]) for i in range(502)],
    }
    kept = filter_webnew_with_cls(lists, ALIKE, rule)
    assert kept["dog"] == ["1", "3"]
    assert kept["cat"] == [str(i) for i in range(500)]
    assert filter_webnew_with_cls(lists, ALIKE, FilterRule(0.5, most=0))["dog"] == ["1", "2"]


def test_nouns_of_captions() -> None:
    assert generate_NN([("1.jpg", "a b"), ("2.jpg", "")], str.split) == [("1.jpg", ["a", "b"]), ("2.jpg", [])]


@pytest.mark.parametrize(
    "wrong", [{"threshold": 1.5}, {"threshold": 0.5, "first_nouns": -1}, {"threshold": 0.5, "most": -2}]
)
def test_rules_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="is needed"):
        FilterRule(**wrong)


def test_an_archive_whose_list_of_files_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "nouns.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ä.txt", "a.jpg dog \n")
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))
    with pytest.raises(UserError, match=r"nouns\.zip: its list of files is no text in UTF-8"):
        read_lists(path)


def test_an_archive_that_unpacks_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_files, "LARGEST", 1 << 20)
    path = tmp_path / "nouns.zip"
    for names in (["a"], [*"abcdefgh"]):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(f"{name}.txt", "a.jpg dog \n" * (200_000 // len(names)))
        assert path.stat().st_size < 100_000
        with pytest.raises(UserError, match=r"nouns\.zip: unpacks to more than 1 MiB"):
            read_lists(path)


def test_a_pipe_among_noun_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("a.jpg dog \n")
    os.mkfifo(tmp_path / "b.txt")
    assert read_lists(tmp_path) == {"a": [("a.jpg", ["dog"])]}
    assert "1 things are no files and are left out: b.txt" in caplog.text


def _one_list(
    rows: list[tuple[str, list[str]]], wanted: list[str], nearness: dict[str, dict[str, float]], rule: FilterRule
) -> list[str]:
    """The rule, image by image: what all lists as one array have to give."""
    passing = []
    for place, (_, nouns) in enumerate(rows):
        looked = nouns[: rule.first_nouns or None]
        scores = [max((nearness[noun][word] for word in wanted), default=-np.inf) for noun in looked]
        if scores and max(scores) > rule.threshold:
            passing.append((-max(scores), scores.index(max(scores)), place))
    if rule.best:
        passing.sort()
    return [rows[place][0] for place in sorted(place for *_, place in passing[: rule.most or None])]


@pytest.mark.parametrize("seed", range(20))
def test_all_lists_as_one_by_one(seed: int) -> None:
    """Lists without images, images without nouns, lists that want nothing, ties."""
    rng = np.random.default_rng(seed)
    nouns, words = [f"n{i}" for i in range(12)], [f"w{i}" for i in range(4)]
    values = rng.integers(0, 5, (12, 4)) / 4
    nearness = {noun: dict(zip(words, row.tolist(), strict=True)) for noun, row in zip(nouns, values, strict=True)}
    lists = {
        f"list{i}": [(f"{j}.jpg", rng.choice(nouns, rng.integers(0, 5)).tolist()) for j in range(rng.integers(0, 9))]
        for i in range(30)
    }
    wanted = {name: rng.choice(words, rng.integers(0, 4), replace=False).tolist() for name in lists}
    alike = Given({(noun, word): nearness[noun][word] for noun in nouns for word in words})
    rule = FilterRule(0.4, int(rng.integers(0, 3)), int(rng.integers(0, 4)), bool(rng.integers(2)), rivals=False)
    found = filter_replay_with_NN(lists, wanted, alike, rule)
    assert found == {name: _one_list(rows, wanted[name], nearness, rule) for name, rows in lists.items()}
