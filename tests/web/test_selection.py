"""The rule of a selection, its reasons, and the contact sheets."""

from __future__ import annotations

import html.parser
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captions.vocabulary import make_vocabulary
from spread.ways import InProcess
from utils import distributed, manifest
from utils.errors import UserError
from web.pipeline import select
from web.scoring import DomainScores
from web.selection import (
    Decision,
    SelectionRule,
    WebImage,
    decide,
    decided_rows,
    format_ratio,
    read_web_images,
    summary,
)
from web.sheet import file_names, groups, write_sheets

CLASSES = ["cow"] * 4 + ["sheep"] * 2
RATIOS = [2.0, 0.5, 1.0, 4.0, 0.9, 0.1]


def scores(faults: dict[int, str] | None = None) -> DomainScores:
    found = np.log(np.array(RATIOS))
    for position in faults or {}:
        found[position] = math.nan
    return DomainScores(found, dict(faults or {}))


def images(dropped: dict[int, str] | None = None) -> list[WebImage]:
    reasons = dropped or {}
    return [WebImage(f"{i}.png", Path(), name, dropped=reasons.get(i, "")) for i, name in enumerate(CLASSES)]


def kept(decisions: list[Decision]) -> list[bool]:
    return [decision.kept for decision in decisions]


def test_the_papers_rule() -> None:
    decisions = decide(images(), scores(), SelectionRule())
    assert kept(decisions) == [True, False, False, True, False, False]
    assert decisions[0].reason == "p_ds / p_web = 2 > 1" and "not above 1" in decisions[2].reason


def test_best_of_each_class() -> None:
    decisions = decide(images(), scores(), SelectionRule(keep=1))
    assert kept(decisions) == [False, False, False, True, True, False]
    assert "rank 2 of 4" in decisions[0].reason


def test_never_fewer_than() -> None:
    decisions = decide(images(), scores(), SelectionRule(min_keep=1))
    assert kept(decisions) == [True, False, False, True, True, False]
    assert [decision.topped_up for decision in decisions] == [False, False, False, False, True, False]
    assert "among the best 1" in decisions[4].reason


def test_faults_and_captions_are_out_whatever_the_rule() -> None:
    candidates = images({0: "the caption does not name cow"})
    decisions = decide(candidates, scores({3: "is empty"}), SelectionRule(min_keep=4))
    assert kept(decisions) == [False, True, True, False, True, True]
    assert decisions[3].reason == "cannot be used: is empty" and decisions[0].reason == "the caption does not name cow"
    assert summary(decisions) == [("cow", 4, 2, 1), ("sheep", 2, 2, 0)]


def test_probabilities_and_ratio_agree() -> None:
    p_ds = scores().p_ds()
    np.testing.assert_allclose(p_ds / (1 - p_ds), RATIOS)
    assert DomainScores(np.array([-1e4, 1e4])).p_ds().tolist() == [0, 1]
    assert format_ratio(1e9) != "inf" and float(format_ratio(-1e9)) < 1e-300


@pytest.mark.parametrize(
    ("rule", "said"), [({"ratio": 0}, "--ratio"), ({"keep": 0}, "--keep"), ({"min_keep": -1}, "--min_keep"),
                       ({"keep": 2, "min_keep": 3}, "more than --keep")],
)  # fmt: skip
def test_wrong_rules_are_named(rule: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        SelectionRule(**rule)


def test_groups_show_each_image_once() -> None:
    many = [
        Decision(WebImage(f"{i}.png", Path(), "cow"), float(value), 0.5)
        for i, value in enumerate(np.linspace(-3, 3, 100))
    ]
    found = groups(many, 0.0)
    flat = [decision.image.path for group in found.values() for decision in group]
    assert len(flat) == len(set(flat)) == 54
    assert found["Best"][0] is many[99] and found["Worst"][-1] is many[0]
    assert all(abs(decision.log_ratio) < 0.6 for decision in found["Borderline"])
    few = groups(many[:2], 0.0)
    assert [decision for group in few.values() for decision in group] == [many[1], many[0]]
    assert len(groups(many[:25], 0.0)["Worst"]) == 7 and not groups(many[:25], 0.0)["Borderline"]


class Page(html.parser.HTMLParser):
    """Sources of the pictures, and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.sources.append(str(dict(attrs)["src"]))
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_sheets_open_offline(tmp_path: Path) -> None:
    rows = []
    for index, name in enumerate(CLASSES):
        (tmp_path / name).mkdir(exist_ok=True)
        path = f"{name}/{index}.png"
        Image.new("RGB", (300, 200), (40 * index, 90, 20)).save(tmp_path / path)
        rows.append({"path": path, "class": name, "caption": '<script>alert("cow")</script>'})
    manifest.write(tmp_path / "manifest.csv", ("path", "class", "caption"), rows)
    source = manifest.open_manifest(tmp_path)
    decisions = decide(read_web_images(source), scores(), SelectionRule())
    pages = write_sheets(tmp_path / "sheets", decisions, 0.0)
    assert [path.name for path in pages] == ["cow.html", "sheep.html"]
    text = pages[0].read_text(encoding="utf-8")
    found = Page()
    found.feed(text)
    assert not found.open and len(found.sources) == 4
    assert all(s.startswith("data:image/jpeg;base64,") for s in found.sources)
    assert "<script" not in text and "4 images were scored, 2 of them are kept" in text
    assert text.count('class="kept"') == 2 and text.count('class="left"') == 2


def test_rows_keep_what_they_had(tmp_path: Path) -> None:
    rows = [{"path": f"{i}.png", "class": name, "licence": "CC0"} for i, name in enumerate(CLASSES)]
    manifest.write(tmp_path / "manifest.csv", ("path", "class", "licence"), rows)
    source = manifest.open_manifest(tmp_path)
    decisions = decide(read_web_images(source), scores({1: "is empty"}), SelectionRule())
    found = list(decided_rows(source, decisions))
    assert found[0] | {"p_ds": "0.666667", "p_web": "0.333333", "ratio": "2", "kept": "1"} == found[0]
    assert found[0]["licence"] == "CC0" and found[1]["p_ds"] == "" and found[1]["kept"] == "0"


def test_no_two_classes_share_a_sheet(tmp_path: Path) -> None:
    classes = ["C++", "c", "C#", "c-2", "犬", "кот", "HER2+", "HER2-", "x" * 300 + "a", "x" * 300 + "b"]
    names = file_names(classes)
    assert names == file_names(classes[::-1]) and len({name.lower() for name in names.values()}) == len(classes)
    assert (names["c"], names["C#"], names["C++"], names["c-2"]) == ("c", "c-3", "c-4", "c-2")
    assert {names["犬"], names["кот"]} == {"class", "class-2"} and (names["HER2+"], names["HER2-"]) == ("her2", "her2-")
    many = [Decision(WebImage(f"{number}.png", tmp_path, name), 0.5, 0.6) for number, name in enumerate(classes)]
    pages = write_sheets(tmp_path / "sheets", many, 0.0)
    assert len(set(pages)) == len(classes)
    for name, page in zip(classes, pages, strict=True):
        assert f"<h1>Web images of {name}</h1>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["", "other"])
def test_names_with_blanks_survive_a_selection(tmp_path: Path, place: str) -> None:
    names = ["dog  1.jpg", " a.jpg", "b.v2.jpg"]
    for name in names:
        Image.new("RGB", (80, 80)).save(tmp_path / name)
    columns = ("path", "class", "caption")
    manifest.write(tmp_path / "m.csv", columns, ({"path": n, "class": "dog", "caption": "a  dog"} for n in names))
    out = tmp_path / place / "selected.csv"
    selected = select(
        manifest.open_manifest(tmp_path / "m.csv"),
        None,
        SelectionRule(),
        out,
        InProcess(distributed.start("cpu")),
        vocabulary=make_vocabulary(["dog"]),
    )
    assert selected.troubles == [] and selected.counts == [("dog", 3, 3, 0)]
    written = manifest.open_manifest(out)
    assert [written.file(row).resolve() for row in written] == [tmp_path / name for name in names]
