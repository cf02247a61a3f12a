"""Released folders: configurations and weights of anyone."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hypothesis import strategies as st
from torch import Tensor

from modules.released import CONFIG, WEIGHTS, read_released, write_released
from release.card import card
from release.taught import COLUMNS, Image, Taught, read_table
from tests.fuzz import strategies as draw
from tests.fuzz.harness import fuzz, outcome
from tests.modules.test_released import DESCRIPTION, weights
from utils.errors import UserError
from utils.normalisation import NORMALISATIONS


@cache
def valid() -> dict[str, bytes]:
    """The files of a folder."""
    with TemporaryDirectory() as place:
        write_released(Path(place), DESCRIPTION, weights())
        return {path.name: path.read_bytes() for path in Path(place).iterdir()}


def config() -> object:
    return json.loads(valid()[CONFIG])


def check(place: Path, **changed: bytes) -> None:
    """A folder is read, or refused with its name; what is read can be released again and has a card."""
    files = valid() | {name.replace("_", "."): content for name, content in changed.items()}
    for name, content in files.items():
        (place / name).write_bytes(content)
    read = outcome(lambda: read_released(place), place / CONFIG, place / WEIGHTS, place, memory=True)
    if isinstance(read, UserError):
        return
    description, tensors = read
    assert all(type(name) is str and isinstance(weight, Tensor) for name, weight in tensors.items())
    assert list(description.ids) == [number for classes in description.steps for number in classes]
    card(description, "model", normalisation=NORMALISATIONS["half"], licence=None, taught=Taught(), scores=None)
    again = place / "again"
    write_released(again, description, tensors)
    other, twice = read_released(again)
    assert other.steps == description.steps and other.class_names == description.class_names
    assert all(torch.equal(twice[name], weight) for name, weight in tensors.items())


@fuzz(
    draw.json_files(st.builds(config)),
    examples=[
        (b"[" * 100_000,),
        (b'{"format": 1' + b"0" * 5000 + b"}",),
        (b'{"a":' * 900 + b"1" + b"}" * 900,),
        (b'["\\ud800"]',),
        (b"[1e999]",),
    ],
    times=40,
)
def test_configurations(place: Path, content: bytes) -> None:
    check(place, config_json=content)


@fuzz(
    draw.swapped(st.builds(config), most=2).map(lambda tree: json.dumps(tree).encode()),
    times=40,
)
def test_values_of_configurations(place: Path, content: bytes) -> None:
    check(place, config_json=content)


@fuzz(draw.mutated(st.builds(lambda: valid()[WEIGHTS]), head=800), examples=[(b"\xff" * 16,), (b"",)], times=40)
def test_weights(place: Path, content: bytes) -> None:
    check(place, model_safetensors=content)


@fuzz(draw.encoded(draw.tables(list(COLUMNS))), times=40)
def test_tables_of_web_images(place: Path, content: bytes) -> None:
    path = place / "ATTRIBUTION.csv"
    path.write_bytes(content)
    outcome(lambda: read_table(path), path, memory=True)


lines = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=12)


@fuzz(
    st.lists(st.builds(Image, lines, lines, lines, lines, lines, lines, lines, lines), min_size=1, max_size=4), times=40
)
def test_tables_come_back(place: Path, images: list[Image]) -> None:
    text = Taught(images).table()
    assert text is not None
    path = place / "ATTRIBUTION.csv"
    path.write_text(text, encoding="utf-8")
    assert read_table(path) == images
