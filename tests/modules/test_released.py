"""Released folders: what is written comes back to the bit, what is half written, damaged or somebody else's says so."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from argparser import OPTIONS
from modules import released
from modules.description import Description
from modules.released import CONFIG, WEIGHTS, read_config, read_released, write_released
from utils.errors import UserError

DESCRIPTION = Description(
    network={
        "library": "web-wilss",
        "backbone": "timm:test_resnet",
        "output_stride": 16,
        "norm_act": "abn",
        "pooling": 4,
        "image_stats": "auto",
    },
    steps=((0, 8, 12), (10,)),
    class_names=("background", "cat", "dog", "naïve cow"),
    binary=True,
    dataset="voc",
    task="2-1",
    protocol="overlap",
    options={"lr": 0.1, "weakly": True, "data_root": "data", "step_ckpt": None, "backbone": "timm:test_resnet"},
    history=({"step": 0, "classes": ["cat", "dog"], "date": "2026-01-31", "from": "pixel labels"},),
)


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "body.conv.weight": (4, 3, 3, 3),
        "cls.0.weight": (3, 4, 1, 1),
        "cls.0.bias": (3,),
        "cls.1.weight": (1, 4, 1, 1),
    }
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    # As networks have them: channels last, a count without dimensions, one storage of two names.
    drawn["body.conv.weight"] = drawn["body.conv.weight"].to(memory_format=torch.channels_last)
    return drawn | {"body.bn.num_batches_tracked": torch.tensor(7), "body.twin.bias": drawn["cls.0.bias"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_released(tmp_path / "model", DESCRIPTION, weights(), {"scores": {"all": 0.5}}, {"README.md": "# A model\n"})
    return tmp_path / "model"


def edited(folder: Path, **changes: Any) -> None:
    """Change fields of a configuration; None removes one."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8")) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_released(folder)
    return str(caught.value)


def test_a_folder_comes_back(folder: Path) -> None:
    description, read = read_released(folder)
    assert description == DESCRIPTION
    assert read.keys() == weights().keys()
    assert all(torch.equal(read[key], value) and read[key].dtype == value.dtype for key, value in weights().items())
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", CONFIG, WEIGHTS]


def test_a_configuration_is_for_other_tools_too(folder: Path) -> None:
    config = read_config(folder)
    assert config["id2label"] == {"0": "background", "8": "cat", "12": "dog", "10": "naïve cow"}
    assert config["palette"]["8"] == "#400000" and config["palette"]["0"] == "#000000"
    assert config["scores"] == {"all": 0.5} and config["versions"]["torch"] == torch.__version__.partition("+")[0]
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "sha256": config["weights"]["sha256"]}


def test_places_of_the_machine_are_not_released(tmp_path: Path) -> None:
    options = {
        "web_path": "/home/me/secret/web",
        "data_root": "data/",
        "task": "tasks/zoo.json",
        "lr": 0.1,
        "ckpt": None,
    }
    texts = [
        "smp:Unet:resnet18=/home/me/secret place/w.pth",
        "web images of C:\\secret\\web",
        "hub:me/model",
        "6 images",
    ]
    history = tuple({"step": step, "from": text} for step, text in enumerate(texts))
    write_released(tmp_path, replace(DESCRIPTION, options=options, history=history), weights())
    assert "secret" not in (tmp_path / CONFIG).read_text()
    read = read_released(tmp_path)[0]
    assert [entry["from"] for entry in read.history] == [
        "smp:Unet:resnet18=w.pth",
        "web images of web",
        "hub:me/model",
        "6 images",
    ]
    assert read.options == {
        "web_path": "web",
        "data_root": "data",
        "task": "zoo.json",
        "lr": 0.1,
        "ckpt": None,
    }


def test_options_with_places_are_known() -> None:
    """A new option that names a file is cut in released folders, too."""
    assert {name for name, option in OPTIONS.items() if option.path} <= released.PLACES <= OPTIONS.keys()


def test_an_earlier_text_goes(folder: Path) -> None:
    write_released(folder, DESCRIPTION, weights(), texts={"README.md": None, "NEW.md": "new\n"})
    assert sorted(path.name for path in folder.iterdir()) == ["NEW.md", CONFIG, WEIGHTS]


def test_weights_that_are_not_finite_are_not_released(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    bad = weights() | {"cls.0.bias": torch.tensor([1.0, float("nan"), 0.0])}
    with pytest.raises(UserError, match=r"cls\.0\.bias"):
        write_released(folder, DESCRIPTION, bad)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_name_that_is_no_text_is_refused(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for extra in ({"a": "\ud800"}, {"a": float("nan")}):
        with pytest.raises(UserError, match=r"config\.json: cannot be written"):
            write_released(folder, DESCRIPTION, weights(), extra)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_full_disk_leaves_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Whichever file finds no room, in one line that names it."""
    before, synced = {path: path.read_bytes() for path in folder.iterdir()}, []

    def fsync(handle: int) -> None:
        if len(synced) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        synced.append(handle)

    monkeypatch.setattr("modules.released.os.fsync", fsync)
    with pytest.raises(UserError, match="No space left on device") as caught:
        write_released(folder, DESCRIPTION, weights() | {"cls.0.bias": torch.ones(3)}, texts={"README.md": "new\n"})
    assert str(folder / [CONFIG, "README.md", WEIGHTS][number]) in str(caught.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("fails", [WEIGHTS, "README.md", CONFIG])
def test_a_write_that_stops_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """In front of the first new name the folder is the old one; behind it, it says that it is half written."""
    rename = os.replace
    other = weights() | {"cls.0.bias": torch.ones(3)}

    class Killed(BaseException):
        pass

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == fails:
            raise Killed
        rename(source, target)

    monkeypatch.setattr("utils.whole.os.replace", replace)
    with pytest.raises(Killed):
        write_released(folder, DESCRIPTION, other, texts={"README.md": "new\n"})
    if fails == WEIGHTS:
        assert torch.equal(read_released(folder)[1]["cls.0.bias"], weights()["cls.0.bias"])
        assert (folder / "README.md").read_text() == "# A model\n"
    else:
        assert "half written" in refusal(folder)
    monkeypatch.undo()
    write_released(folder, DESCRIPTION, other, texts={"README.md": "new\n"})
    assert torch.equal(read_released(folder)[1]["cls.0.bias"], torch.ones(3))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "update this program"),
        ({"format": True}, "its format is not 1"),
        ({"format": None}, "its format is not 1"),
        ({"library_name": None}, "no configuration of a released folder of this project"),
        ({"library_name": None, "model_type": "segformer"}, "give transformers:"),
        ({"library_name": None, "encoder_name": "resnet18"}, "give smp:"),
        ({"id2label": {"0": "background", "8": "cat"}}, "does not agree"),
        ({"id2label": None}, "id2label or weights"),
        ({"weights": {"sha256": 3}}, "id2label or weights"),
        ({"weights": {"sha256": "0" * 64}}, "half written"),
        ({"steps": [[0, 8, 12, 10]]}, "classifier 0 should have 4 channels, it has 3"),
        ({"steps": [[0, 8, 12], [10, 11]], "class_names": ["background", "cat", "dog", "cow", "ox"],
          "id2label": {"0": "background", "8": "cat", "12": "dog", "10": "cow", "11": "ox"}}, "classifier 1 should have 2"),
        ({"steps": [[0, 8, 12]], "class_names": ["background", "cat", "dog"],
          "id2label": {"0": "background", "8": "cat", "12": "dog"}}, "has more classifiers"),
    ],
)  # fmt: skip
def test_configurations_that_do_not_fit(folder: Path, changes: dict[str, Any], said: str) -> None:
    edited(folder, **changes)
    assert said in refusal(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        '{"format": 1, "format": 1}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a":' * 60 + "1" + "}" * 60,
    ],
)
def test_configurations_that_are_none(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text)
    assert str(folder / CONFIG) in refusal(folder)


def test_a_huge_configuration(folder: Path) -> None:
    with (folder / CONFIG).open("ab") as file:
        file.truncate(1 << 30)
    assert "longer than" in refusal(folder)


def test_missing_files(folder: Path, tmp_path: Path) -> None:
    assert "no such released folder" in refusal(tmp_path / "nothing")
    (folder / WEIGHTS).unlink()
    assert "half written" in refusal(folder) and WEIGHTS in refusal(folder)
    (folder / CONFIG).unlink()
    assert "half written" not in refusal(folder)


def test_damaged_weights(folder: Path) -> None:
    path = folder / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert f"{path}: damaged: its weights are not as they were written" in refusal(folder)
    path.write_bytes(content[: len(content) // 2])
    assert f"{path}: damaged" in refusal(folder)
    path.write_bytes((1 << 40).to_bytes(8, "little") + content[8:])
    assert f"{path}: damaged" in refusal(folder)


def test_weights_of_odd_kinds(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights_apart() | {"cls.0.bias": torch.full((3,), float("inf"))}, folder / WEIGHTS)
    assert "NaN or infinity" in refusal(folder)
    save_file(weights_apart() | {"odd": torch.zeros(2).to(torch.float8_e4m3fn)}, folder / WEIGHTS)
    assert "odd of its weights is no plain tensor" in refusal(folder)


def weights_apart() -> dict[str, Tensor]:
    return {name: value.contiguous().clone() for name, value in weights().items()}


def test_links_that_lead_out(folder: Path, tmp_path: Path) -> None:
    """A file of somewhere else is not read as the folder's; the hub's cache has links to its own place."""
    (folder / WEIGHTS).rename(tmp_path / "elsewhere")
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    assert "leads out of the folder" in refusal(folder)
    cache = tmp_path / "models--me--mine"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    (tmp_path / "elsewhere").rename(cache / "blobs/1234")
    (folder / WEIGHTS).unlink()
    folder.rename(cache / "snapshots/abcd")
    (cache / "snapshots/abcd" / WEIGHTS).symlink_to("../../blobs/1234")
    assert read_released(cache / "snapshots/abcd")[0] == DESCRIPTION
