"""What a segmenter says of itself: read back as it was, and refused where a value is of another kind."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

import argparser
from modules.description import OWN, Description, own_network
from utils.errors import UserError

ADOPTED = {
    "library": "smp", "architecture": {"name": "Unet"}, "outputs": "softmax", "background": "own", "bgr": False,
    "multiple": 32, "size": None, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
}  # fmt: skip


def adopted() -> Description:
    history = ({"step": 0, "classes": ["cat"], "from": "smp:Unet:resnet18=w.pth"},)
    return Description(ADOPTED, ((0, 1), (2,)), ("background", "cat", "cow"), True, history=history)


def test_it_is_read_back_as_it_was() -> None:
    for one in (adopted(), Description(own_network(options()), ((0, 3),), ("background", "cow"), False, "voc", "15-5")):
        assert Description.from_plain(json.loads(json.dumps(one.plain())), "config.json") == one


def options() -> dict[str, Any]:
    return argparser.parse("--dataset voc --task 15-5".split()).plain()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network", None), ("network", {}), ("network/library", 3), ("network/architecture", "Unet"), ("network/size", [3]),
        ("network/size", [0, 4]), ("network/mean", [1, 2]), ("network/std", ["a", 1, 1]), ("network/outputs", "relu"),
        ("network/background", "maybe"), ("network/multiple", 0), ("network/multiple", True), ("network/bgr", 1),
        ("steps", []), ("steps", [[]]), ("steps", [[0, 1], []]), ("steps", [[1, 2], [0]]), ("steps", [[0, 0], [1]]),
        ("steps", [[0, 1], [255]]), ("steps", [[0, 1.0], [2]]), ("steps", [3]), ("class_names", ["background", "cat"]),
        ("class_names", ["background", "cat", 3]), ("binary", None), ("binary", 1), ("dataset", 3), ("options", []),
        ("history", {}), ("history", ["x"]),
    ],
)  # fmt: skip
def test_what_is_of_another_kind_is_refused(path: str, value: Any) -> None:
    values = copy.deepcopy(adopted().plain())
    *parents, last = path.split("/")
    place = values
    for key in parents:
        place = place[key]
    place[last] = value
    with pytest.raises(UserError, match=r"^config\.json: damaged"):
        Description.from_plain(values, "config.json")


def test_a_network_of_this_project_says_its_five_values() -> None:
    network = own_network(options())
    for key in network:
        with pytest.raises(UserError, match=r"x\.pth: damaged"):
            Description.from_plain({**adopted().plain(), "network": {**network, key: None}}, "x.pth")
    assert network["library"] == OWN and network["backbone"] == "resnet101"


def test_ids_and_names_are_in_channel_order() -> None:
    one = Description(ADOPTED, ((0, 7), (3,)), ("background", "cat", "cow"), True)
    assert one.ids == (0, 7, 3) and one.names == {0: "background", 7: "cat", 3: "cow"} and one.adopted
