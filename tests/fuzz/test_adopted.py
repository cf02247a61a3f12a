"""Folders of other libraries: configurations and weights of anyone."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import strategies as st

from modules.adopted import adopt, make_parts
from modules.adopted.settings import AdoptSettings
from modules.description import Description
from tests.fuzz import strategies as draw
from tests.fuzz.harness import fuzz, outcome
from utils.errors import UserError

smp = pytest.importorskip("segmentation_models_pytorch", reason="needs the extra smp: pip install -e .[smp]")

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@cache
def valid() -> dict[str, bytes]:
    """The files of a folder of smp's ``save_pretrained``."""
    network = smp.PSPNet("tu-test_efficientnet", encoder_weights=None, encoder_depth=2, psp_out_channels=8, classes=2)
    with TemporaryDirectory() as place:
        network.save_pretrained(place)
        return {name: (Path(place) / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def config() -> object:
    return json.loads(valid()[CONFIG])


def check(place: Path, **changed: bytes) -> None:
    """A folder is adopted, or refused with its name; what is adopted can be made again."""
    files = valid() | {name.replace("_", "."): content for name, content in changed.items()}
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "names.txt").write_text("background\ncat\n")
    settings = AdoptSettings(class_names=place / "names.txt")
    read = outcome(lambda: adopt(f"smp:{place}", settings), place)
    if isinstance(read, UserError):
        return
    description, weights = read
    network = Description.from_plain(json.loads(json.dumps(description.plain())), "again").network
    parts = make_parts(network, 2)
    own = {f"body.net.{key}" for key in parts.body.state_dict()} | {f"head.{key}" for key in parts.head.state_dict()}
    assert own | {"cls.0.weight", "cls.0.bias"} == set(weights)


@fuzz(
    draw.json_files(st.builds(config)),
    examples=[(b"[" * 100_000,), (b'{"classes": 1' + b"0" * 5000 + b"}",), (b'["\\ud800"]',)],
    times=20,
)
def test_configurations_of_smp(place: Path, content: bytes) -> None:
    check(place, config_json=content)


@fuzz(draw.swapped(st.builds(config), most=2).map(lambda tree: json.dumps(tree).encode()), times=20)
def test_values_of_configurations_of_smp(place: Path, content: bytes) -> None:
    check(place, config_json=content)


@fuzz(draw.mutated(st.builds(lambda: valid()[WEIGHTS]), head=4000), examples=[(b"\xff" * 16,), (b"",)], times=15)
def test_weights_of_smp(place: Path, content: bytes) -> None:
    check(place, model_safetensors=content)
