"""The page is well-formed, complete, self-contained, escaped and the same for the same input."""

from __future__ import annotations

import base64
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from results.page import Shown, write_report
from utils.visualise import colourise

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags close in order, and gathers what is on the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1] != "style":
            self.words.append(data.strip())


def _sample(name: str, before: bool = True, seed: int = 0) -> Shown:
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([0, 2, 255], np.uint8), (12, 16))
    image = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Shown(name, image, truth, np.zeros_like(truth) if before else None, np.full_like(truth, 2))


def _write(path: Path, **more: Any) -> str:
    content: dict[str, Any] = {
        "title": "Shapes 5-3",
        "intro": "Before and after.",
        "table": [
            {"": "before", "old": 0.6123, "new": math.nan, "all": 0.64, "harmonic": math.nan},
            {"": "after", "old": 0.6, "new": 0.3, "all": 0.5, "harmonic": 0.4},
        ],
        "per_class": [
            {"class": "cat", "before": 0.5, "after": 0.45},
            {"class": "dog", "before": math.nan, "after": 1.0},
        ],
        "samples": [_sample("one"), _sample("two", before=False, seed=1)],
        "class_names": ["background", "cat", "dog", "cow"],
        "options": {"lr": 0.01, "task": "5-3"},
        "command": "run.py --name ours",
    }
    write_report(path, **content | more)
    return path.read_text(encoding="utf-8")


def test_page_holds_everything(tmp_path: Path) -> None:
    page = Page(_write(tmp_path / "new" / "report.html"))
    for word in ("Shapes 5-3", "61.2", "40.0", "–", "before", "after", "run.py --name ours"):
        assert word in page.words, word
    assert any("task = 5-3" in word for word in page.words)
    captions = [word for word in page.words if word in ("image", "truth", "before", "after")]
    assert captions[-7:] == ["image", "truth", "before", "after", "image", "truth", "after"]
    widths = [attrs["style"] for tag, attrs in page.tags if tag == "i"]
    assert widths == ["width:50.0%", "width:45.0%", "width:0.0%", "width:100.0%"]


def test_legend_names_only_what_occurs(tmp_path: Path) -> None:
    text = _write(tmp_path / "r.html")
    legend = re.search(r'<ul class="legend">(.*?)</ul>', text, re.S)
    assert legend
    names = re.findall(r"</span>([^<]+)</li>", legend[1])
    assert names == ["background", "dog", "not judged"]
    assert "rgb(0,128,0)" in legend[1], "dog is channel 2"


def test_pictures_are_inside_and_exact(tmp_path: Path) -> None:
    page = Page(_write(tmp_path / "r.html"))
    sources = [attrs["src"] or "" for tag, attrs in page.tags if tag == "img"]
    pictures = []
    for source in sources:
        head, data = source.split(",", 1)
        assert head == "data:image/png;base64"
        pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))
    first = _sample("one")
    assert len(pictures) == 7
    assert (pictures[0] == first.image).all() and (pictures[1] == colourise(first.truth)).all()
    assert (pictures[3] == colourise(first.after)).all()
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    text = _write(tmp_path / "r.html")
    page = Page(text)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|url\(", text)
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


def test_text_is_escaped(tmp_path: Path) -> None:
    evil = '<script>"&'
    text = _write(
        tmp_path / "r.html",
        title=evil,
        intro=evil,
        table=[{evil: evil}],
        per_class=[{"class": evil, "x": 0.5}],
        samples=[_sample(evil)],
        class_names=[evil] * 3,
        options={evil: evil},
        command=evil,
    )
    assert "<script" not in text
    page = Page(text)
    assert page.words.count(evil) >= 7
    assert any(attrs.get("alt") == f"image of {evil}" for _, attrs in page.tags)


def test_same_input_same_bytes_and_no_leftovers(tmp_path: Path) -> None:
    assert _write(tmp_path / "a.html") == _write(tmp_path / "b.html") == _write(tmp_path / "a.html")
    assert {file.name for file in tmp_path.iterdir()} == {"a.html", "b.html"}


def test_page_without_samples_or_classes(tmp_path: Path) -> None:
    page = Page(_write(tmp_path / "r.html", samples=[], per_class=[], command=""))
    headings = [tag for tag, _ in page.tags if tag == "h2"]
    assert len(headings) == 1
