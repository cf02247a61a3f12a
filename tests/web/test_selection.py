"""The rule of a selection, its reasons, and the contact sheets."""

from __future__ import annotations

import html.parser
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils import manifest
from utils.errors import UserError
from web.scoring import Scores
from web.selection import Rule, decide, decided_rows, format_ratio, summary
from web.sheet import groups, write_sheets

CLASSES = ["cow"] * 4 + ["sheep"] * 2
RATIOS = [2.0, 0.5, 1.0, 4.0, 0.9, 0.1]


def scores(faults: dict[int, str] | None = None) -> Scores:
    found = np.log(np.array(RATIOS))
    for position in faults or {}:
        found[position] = math.nan
    return Scores(found, dict(faults or {}))


def test_the_papers_rule() -> None:
    decision = decide(CLASSES, scores(), Rule())
    assert decision.kept.tolist() == [True, False, False, True, False, False]
    assert decision.reasons[0] == "p_ds / p_web = 2 > 1" and "not above 1" in decision.reasons[2]


def test_best_of_each_class() -> None:
    decision = decide(CLASSES, scores(), Rule(keep=1))
    assert decision.kept.tolist() == [False, False, False, True, True, False]
    assert "rank 2 of 4" in decision.reasons[0]


def test_never_fewer_than() -> None:
    decision = decide(CLASSES, scores(), Rule(min_keep=1))
    assert decision.kept.tolist() == [True, False, False, True, True, False]
    assert decision.topped_up == {"sheep": 1}
    assert "among the best 1" in decision.reasons[4]


def test_faults_and_captions_are_out_whatever_the_rule() -> None:
    decision = decide(CLASSES, scores({3: "is empty"}), Rule(min_keep=4), {0: "the caption does not name cow"})
    assert decision.kept.tolist() == [False, True, True, False, True, True]
    assert decision.reasons[3] == "cannot be used: is empty" and decision.reasons[0] == "the caption does not name cow"
    assert summary(CLASSES, decision, {3: "is empty"}) == [("cow", 4, 2, 1), ("sheep", 2, 2, 0)]


def test_probabilities_and_ratio_agree() -> None:
    p_ds = scores().p_ds()
    np.testing.assert_allclose(p_ds / (1 - p_ds), RATIOS)
    assert Scores(np.array([-1e4, 1e4])).p_ds().tolist() == [0, 1]
    assert format_ratio(1e9) != "inf" and float(format_ratio(-1e9)) < 1e-300


@pytest.mark.parametrize(
    ("rule", "said"), [({"ratio": 0}, "--ratio"), ({"keep": 0}, "--keep"), ({"min_keep": -1}, "--min_keep"),
                       ({"keep": 2, "min_keep": 3}, "more than --keep")],
)  # fmt: skip
def test_wrong_rules_are_named(rule: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Rule(**rule)


def test_groups_show_each_image_once() -> None:
    many = Scores(np.linspace(-3, 3, 100))
    found = groups(range(100), many, 0.0)
    flat = [p for group in found.values() for p in group]
    assert len(flat) == len(set(flat)) == 54
    assert found["Best"][0] == 99 and found["Worst"][-1] == 0
    assert all(abs(many.log_ratio[p]) < 0.6 for p in found["Borderline"])
    few = groups(range(2), many, 0.0)
    assert [p for group in few.values() for p in group] == [1, 0]


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
    decision = decide(CLASSES, scores(), Rule())
    pages = write_sheets(tmp_path / "sheets", source, CLASSES, scores(), decision, 0.0)
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
    found = list(
        decided_rows(
            manifest.open_manifest(tmp_path), scores({1: "is empty"}), decide(CLASSES, scores({1: "x"}), Rule()), None
        )
    )
    assert found[0] | {"p_ds": "0.666667", "p_web": "0.333333", "ratio": "2", "kept": "1"} == found[0]
    assert found[0]["licence"] == "CC0" and found[1]["p_ds"] == "" and found[1]["kept"] == "0"
