"""Pieces of pages: well-formed, escaped, and what a screen reader needs."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from utils.html import THUMB, card, cards, cell, figure, heading, png, row_name, swatch, table

EVIL = '<b>"&'


class Tags(HTMLParser):
    """Tags with their attributes, and the words of a piece."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += [data.strip()] if data.strip() else []

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def test_figure() -> None:
    source = png(Image.new("RGB", (3, 2)))
    whole = Tags(figure(source, EVIL, alt=f"{EVIL} of a dog", kind="mask", size=(3, 2)))
    assert whole.named("img") == [
        {"class": "mask", "src": source, "width": "3", "height": "2", "loading": "lazy", "alt": f"{EVIL} of a dog"}
    ]
    assert whole.words == [EVIL] and [tag for tag, _ in whole.tags] == ["figure", "img", "figcaption"]
    bare = Tags(figure(source, alt="a dog"))
    assert bare.tags == [("figure", {}), ("img", {"src": source, "alt": "a dog"})]


def test_card(tmp_path: Path) -> None:
    path = tmp_path / "dog.png"
    Image.new("RGB", (4 * THUMB, 2 * THUMB), (200, 30, 30)).save(path)
    kept = Tags(card(path, EVIL, kept=True, score="0.83", title=f"dog.png: {EVIL}"))
    assert kept.named("figure") == [{"class": "kept", "title": f"dog.png: {EVIL}"}]
    assert kept.words == ["0.83", "kept", EVIL]
    (picture,) = kept.named("img")
    assert picture["alt"] == EVIL
    head, data = str(picture["src"]).split(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (THUMB, THUMB // 2)
    left = Tags(card(path, "", kept=False))
    assert left.named("figure") == [{"class": "left"}] and left.words == ["left out"]
    assert left.named("img")[0]["alt"] == "dog.png"
    assert Tags(card(path, "short", kept=False, alt="the whole text")).named("img")[0]["alt"] == "the whole text"


def test_card_of_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    gone = Tags(cards([card(tmp_path / "gone.png", "dog", kept=False)]))
    assert gone.named("img") == []
    assert gone.words == [f"{tmp_path / 'gone.png'}: no such file", "left out", "dog"]


def test_table() -> None:
    rows = [[row_name(EVIL, swatch(1)), cell("61.2", "number")], [row_name("dog"), cell(EVIL)]]
    made = Tags(table([heading("class"), heading(EVIL, "number")], rows, kind="classes", label=EVIL))
    assert made.words == ["class", EVIL, EVIL, "61.2", "dog", EVIL]
    assert made.named("th")[:3] == [{"scope": "col"}, {"scope": "col", "class": "number"}, {"scope": "row"}]
    assert made.named("div") == [{"class": "wide", "tabindex": "0", "role": "region", "aria-label": EVIL}]
    assert made.named("td") == [{"class": "number"}, {}] and len(made.named("tr")) == 3
    assert Tags(table([], [])).tags == [
        ("div", {"class": "wide"}), ("table", {}), ("thead", {}), ("tr", {}), ("tbody", {}),
    ]  # fmt: skip
