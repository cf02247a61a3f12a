"""The offline captioner names what an ImageNet classifier sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from captions.captioners import make_captioner
from captions.captioners.base import CaptionerSettings
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
    named = [text for text in texts if {"ram", "bighorn"} & set(text.replace(",", "").split())]
    assert len(named) >= 8


def test_unknown_network() -> None:
    with pytest.raises(UserError, match="--model nothing_like_it"):
        make_captioner("tags", CaptionerSettings(model="nothing_like_it"), distributed.start("cpu"))
