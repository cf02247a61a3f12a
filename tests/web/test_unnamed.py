"""A selection by captions tells which classes they never name, and what they say instead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from captions.captioning import captioner_of
from captions.vocabulary import make_vocabulary
from spread.ways import InProcess
from utils import distributed, manifest
from web.pipeline import Selected, select
from web.selection import SelectionRule

CLASSES = ("horse", "dog", "cat")


def selected(folder: Path, captions: Sequence[str], captioner: str | None = None) -> Selected:
    """A selection of images of a horse search with these captions."""
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    rows = [{"path": "a.png", "class": "horse", "caption": caption} for caption in captions]
    manifest.write(folder / "m.csv", ("path", "class", "caption"), iter(rows))
    if captioner is not None:
        (folder / "m.csv.captioner.json").write_text(captioner)
    way = InProcess(distributed.start("cpu"))
    source = manifest.open_manifest(folder / "m.csv")
    return select(source, None, SelectionRule(), folder / "s.csv", way, vocabulary=make_vocabulary(CLASSES))


def test_a_class_that_the_captioner_has_no_word_for(tmp_path: Path) -> None:
    captions = ["sorrel, fence"] * 120 + ["hartebeest"] * 9 + ["a gazelle in the grass"] * 8 + [""] * 13
    found = selected(tmp_path, captions, '{"captioner": "tags"}')
    assert found.troubles == [
        "horse: no caption of 137 names it; the captioner tags says sorrel (120), fence (120), hartebeest (9), ...: write "
        "words for it into a --vocabulary (python -m captions.vocabulary), or caption with another --captioner"
    ]
    assert found.counts == [("horse", 150, 0, 0)]


def test_a_class_that_is_nearly_lost(tmp_path: Path) -> None:
    """From 5 % on nothing is told; below, it is, though some images are kept."""
    nearly = selected(tmp_path, ["a horse"] * 4 + ["Sorrels"] * 96)
    assert nearly.counts == [("horse", 100, 4, 0)]
    (said,) = nearly.troubles
    assert said.startswith("horse: 4 of 100 captions name it; they say sorrels (96), horse (4): write words")
    assert selected(tmp_path, ["a horse"] * 5 + ["sorrel"] * 95).troubles == []


def test_images_of_other_classes_are_no_fault_of_the_captioner(tmp_path: Path) -> None:
    found = selected(tmp_path, ["a dog"] * 60 + ["a cat on a dog"] * 20 + ["a lawn"] * 20)
    assert found.troubles == [
        "horse: no caption of 100 names it, but dog (80), cat (20): look at its images, which may be of other classes"
    ]


def test_captions_that_say_nothing(tmp_path: Path) -> None:
    (said,) = selected(tmp_path, ["in the", "a"]).troubles
    assert "they say nothing that is a noun" in said
    (said,) = selected(tmp_path, ["", ""]).troubles
    assert said.startswith("nothing is kept of horse (2 candidates)")


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"captioner": 3}', "{}", "[" * 100_000])
def test_a_captioner_that_nobody_names(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "m.csv.captioner.json").write_text(content)
    assert captioner_of(tmp_path / "m.csv") is None
