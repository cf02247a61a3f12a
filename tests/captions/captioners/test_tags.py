"""The offline captioner names what an ImageNet classifier sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captions import imagenet
from captions.captioners import make_captioner
from captions.captioners.base import CaptionerSettings
from captions.captioners.tags import TagCaptioner
from utils import distributed
from utils.errors import UserError


def test_tags_name_the_animal(shared_data: Path) -> None:
    captioner = make_captioner("tags", CaptionerSettings(), distributed.start("cpu"))
    folder = shared_data / "web-animals"
    sheep = sorted((folder / "sheep").iterdir())[:12]
    gone = folder / "sheep" / "gone.jpg"
    found = captioner.caption_files([*sheep[:6], gone, *sheep[6:]])
    assert isinstance(found[6], UserError) and "gone.jpg" in str(found[6])
    texts = [text for text in found if isinstance(text, str)]
    assert len(texts) == 12 and all(texts)
    named = [text for text in texts if "sheep" in text.split(", ")]
    assert len(named) >= 8


def test_unknown_network() -> None:
    with pytest.raises(UserError, match="--model nothing_like_it"):
        make_captioner("tags", CaptionerSettings(model="nothing_like_it"), distributed.start("cpu"))


def lines(*rows: dict[str, float]) -> list[str]:
    """Captions of probabilities, by the words of ImageNet's classes; what is left is spread over all."""
    captioner = TagCaptioner(distributed.start("cpu"))
    words = imagenet.words()
    probability = torch.zeros(len(rows), len(words))
    for row, known in zip(probability, rows, strict=True):
        for word, value in known.items():
            row[words.index(word)] = value
    return captioner.lines(probability)


def test_a_class_is_named_before_what_shows_it() -> None:
    """By the sum of all that show it, though each is improbable; a word that shows no class stands as it is."""
    assert lines(
        {"sorrel": 0.9},
        {"jersey": 0.03, "suit": 0.03, "jean": 0.02, "lakeside": 0.5},
        {"television": 0.9},
        {"tabby": 0.06, "tiger cat": 0.05, "goldfish": 0.3, "hartebeest": 0.2},
        {"daisy": 0.05},
    ) == [
        "horse, sorrel",
        "person, lakeside",
        "television",
        "cat, goldfish, hartebeest",
        "daisy",
    ]


def test_a_word_does_not_name_a_class_that_is_too_improbable() -> None:
    """Unless nothing else can be said: a horse that is a little of every dog."""
    assert lines({"Saluki": 0.3, "sorrel": 0.06}, {"Saluki": 0.3}, {"Saluki": 0.3, "beagle": 0.4}) == [
        "horse",
        "Saluki",
        "dog, beagle, Saluki",
    ]


def test_a_changed_table_is_another_captioner(monkeypatch: pytest.MonkeyPatch) -> None:
    before = TagCaptioner(distributed.start("cpu")).origin
    monkeypatch.setattr(imagenet, "shown", lambda: ())
    assert TagCaptioner(distributed.start("cpu")).origin != before
