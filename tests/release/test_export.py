"""export.py: what goes out comes back to the bit, from networks of this project and adopted ones; what is in the way is left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import argparser
import export
import run
from dataset.shapes import CLASS_NAMES
from engine.described import as_checkpoint
from engine.state import read_model, read_state
from modules.description import Description
from modules.released import CONFIG, WEIGHTS, is_released, read_config, read_released
from release.card import CARD
from release.taught import FILE, read_table
from segmentation_module import load_segmenter, make_segmenter
from tests.modules.test_released import DESCRIPTION
from tests.release.test_taught import BY, web
from utils import checkpoint
from utils.errors import UserError

# Steps of this project's own network: circle to square, then star.
OWN = replace(
    DESCRIPTION,
    steps=((0, 1, 2), (3,)),
    class_names=("background", "circle", "square", "star"),
    dataset="shapes",
    task="2-1",
    options={},
)


def filled(model: nn.Module) -> dict[str, Tensor]:
    """Weights whose every value, running statistics too, is its own."""
    generator = torch.Generator().manual_seed(3)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            drawn = torch.rand(value.shape, generator=generator)
            value.copy_(0.5 + drawn if "var" in name or value.ndim < 2 else (drawn - 0.5) / 4)
    return model.state_dict()


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    """A checkpoint of the second step."""
    checkpoint.save(tmp_path / "best_1.pth", as_checkpoint(OWN, filled(make_segmenter(OWN))))
    return tmp_path / "best_1.pth"


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """MODEL and options of a torchvision segmenter of three classes."""
    from torchvision.models import get_model

    folder = tmp_path_factory.mktemp("adopted")
    model = get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=3)
    torch.save(filled(model), folder / "weights.pth")
    (folder / "names.txt").write_text("background\ncat\ndog\n")
    model_text = f"torchvision:lraspp_mobilenet_v3_large={folder / 'weights.pth'}"
    return ["--model", model_text, "--class_names", str(folder / "names.txt")]


def exported(*line: str | Path) -> int:
    return export.main(export.get_argparser().parse_args(list(map(str, line))))


def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def same_logits(one: str | Path, other: str | Path, line: list[str] | None = None) -> None:
    settings = None if line is None else export.settings_of(export.get_argparser().parse_args([*line, "--out", "x"]))
    first = load_segmenter(one, device="cpu", settings=settings)
    second = load_segmenter(other, device="cpu")
    logits = first.logits(images())
    assert torch.equal(logits, second.logits(images())) and logits.std() > 0
    assert first.description.names == second.description.names and first.normalisation == second.normalisation


def test_a_network_of_this_project_comes_back(ckpt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported("--model", ckpt, "--out", tmp_path / "out", "--licence", "mit") == 0
    assert "4 classes, 0 web images" in capsys.readouterr().out
    same_logits(ckpt, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [CARD, CONFIG, WEIGHTS]
    config = read_config(tmp_path / "out")
    assert config["normalisation"] == {"mean": [0.5] * 3, "std": [0.5] * 3} and config["licence"] == "mit"


def test_an_adopted_network_comes_back(adopted: list[str], tmp_path: Path) -> None:
    assert exported(*adopted, "--out", tmp_path / "out") == 0
    same_logits(adopted[1], tmp_path / "out", adopted)
    text = (tmp_path / "out" / CARD).read_text(encoding="utf-8") + (tmp_path / "out" / CONFIG).read_text(
        encoding="utf-8"
    )
    assert str(Path(adopted[3]).parent) not in text and "weights.pth" in text


def test_a_released_folder_is_released_again(ckpt: Path, tmp_path: Path) -> None:
    """Licence, scores and table of web images stay."""
    stars = web(tmp_path / "stars", [("star", BY, "Ann", "1"), ("star", "", "", "1")])
    first, second = tmp_path / "first", tmp_path / "second"
    assert exported("--model", ckpt, "--out", first, "--web", stars, "--licence", "cc0-1.0") == 0
    scores = {"time": "now", "dataset": "shapes", "protocol": "overlap", "all": 0.5, "classes": {"star": 0.25}}
    config = json.loads((first / CONFIG).read_text()) | {"scores": scores}
    (first / CONFIG).write_text(json.dumps(config))
    assert exported("--model", first, "--out", second) == 0
    assert read_config(second) == config
    same_logits(first, second)
    assert [image.author for image in read_table(second / FILE)] == ["Ann", ""]
    card = (second / CARD).read_text(encoding="utf-8")
    assert 'license: "cc0-1.0"' in card and "| star | 25.0 |" in card and "1 of them come without a licence" in card


def test_other_forms_of_an_earlier_model_go(ckpt: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    exported("--model", ckpt, "--out", tmp_path / "out")
    (tmp_path / "out/model.onnx").write_text("of an earlier model")
    exported("--model", ckpt, "--out", tmp_path / "out")
    assert not (tmp_path / "out/model.onnx").exists() and "model.onnx: is of an earlier release" in caplog.text


def test_what_is_not_known_is_said(ckpt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported("--model", ckpt, "--out", tmp_path / "out")
    said = capsys.readouterr()
    assert "export.py: step 0: its checkpoint is not beside" in said.err and "--web" in said.err


def test_what_is_in_the_way_is_left_alone(ckpt: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, text in ((CARD, "my project"), (CONFIG, '{"model_type": "segformer"}'), (CONFIG, "no JSON")):
        (out / name).write_text(text)
        with pytest.raises(UserError, match=f"--out {out}: its {name} is of something else"):
            exported("--model", ckpt, "--out", out)
        assert {path.name: path.read_text() for path in out.iterdir()} == {name: text}
        (out / name).unlink()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is no folder"):
        exported("--model", ckpt, "--out", tmp_path / "file")
    (out / "notes.txt").write_text("mine")
    assert exported("--model", ckpt, "--out", out) == 0 and (out / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="is the model itself"):
        exported("--model", out, "--out", f"{out}/../out")


@pytest.mark.parametrize("model", ["nothing.pth", "hub:no name", "torchvision:nothing", "here"])
def test_models_that_are_none(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError):
        exported("--model", model, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_sent_or_fetched_unasked(ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is asked at all would be noticed."""
    import socket

    def connect(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", connect)
    exported("--model", ckpt, "--out", tmp_path / "out")
    load_segmenter(tmp_path / "out", device="cpu")


def test_a_bad_name_to_push_to_costs_nothing(ckpt: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no name of the hub"):
        exported("--model", ckpt, "--out", tmp_path / "out", "--push", "mine")
    assert not (tmp_path / "out").exists()


def test_names_of_the_hub_are_models(ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported("--model", ckpt, "--out", tmp_path / "out")
    monkeypatch.setattr("modules.hub.fetched", lambda name: tmp_path / name.removeprefix("hub:me/"))
    same_logits(ckpt, "hub:me/out")


# ---- the way back: a step's checkpoint --------------------------------------------------------------------------------------


def test_a_folder_becomes_a_checkpoint(ckpt: Path, tmp_path: Path) -> None:
    exported("--model", ckpt, "--out", tmp_path / "out")
    checkpoint.save(tmp_path / "again.pth", as_checkpoint(*read_released(tmp_path / "out")))
    first, second = read_model(ckpt), read_model(tmp_path / "again.pth")
    assert second[1] == first[1] and all(torch.equal(second[0][key], value) for key, value in first[0].items())
    same_logits(ckpt, tmp_path / "again.pth")


def test_an_adopted_folder_becomes_a_checkpoint(adopted: list[str], tmp_path: Path) -> None:
    exported(*adopted, "--out", tmp_path / "out")
    description, weights = read_released(tmp_path / "out")
    with pytest.raises(UserError, match="names none"):
        as_checkpoint(description, weights)
    described = replace(description, dataset="folder", task="zoo")
    checkpoint.save(tmp_path / "zoo_0.pth", as_checkpoint(described, weights))
    state = read_state(tmp_path / "zoo_0.pth")
    assert state["options"]["backbone"] == "adopted" and state["identity"]["protocol"] == "disjoint"
    assert Description.of_checkpoint(state, "").network == description.network
    same_logits(tmp_path / "zoo_0.pth", tmp_path / "out")


def test_a_step_starts_from_a_released_folder(small_shapes: Path, tmp_path: Path) -> None:
    """run.py takes it as the checkpoint of the step before, and what it makes of it is released with both steps."""
    base = replace(
        OWN,
        steps=(tuple(range(6)),),
        class_names=tuple(CLASS_NAMES[i] for i in range(6)),
        task="5-3",
        options={"bce": True, "pooling": 4, "crop_size": 64},
    )
    checkpoint.save(tmp_path / "base.pth", as_checkpoint(base, filled(make_segmenter(base))))
    exported("--model", tmp_path / "base.pth", "--out", tmp_path / "released")
    checkpoint.save(tmp_path / "start.pth", as_checkpoint(*read_released(tmp_path / "released")))
    line = (
        f"--name zoo --dataset shapes --task 5-3 --overlap --dataset_dir {small_shapes} --checkpoints {tmp_path}/c "
        f"--logdir {tmp_path}/logs "
        f"--backbone timm:test_resnet --norm_act abn --crop_size 64 --crop_size_val 64 --batch_size 4 --iters_per_epoch 1 --num_workers 0 "
        f"--sample_num 0 --device cpu --step 1 --weakly --epochs 1 --pseudo_ep 0 --step_ckpt {tmp_path}/start.pth"
    )
    assert run.main(argparser.parse(line.split())) == 0
    exported("--model", tmp_path / "c/step/shapes-5-3-ov/zoo_1.pth", "--out", tmp_path / "out")
    description, weights = read_released(tmp_path / "out")
    assert [len(classes) for classes in description.steps] == [6, 3] and len(description.history) == 2
    assert description.history[0] == DESCRIPTION.history[0] and description.history[1]["step"] == 1
    scores = read_config(tmp_path / "out")["scores"]
    assert 0 <= scores["all"] <= 1 and set(scores["classes"]) == set(description.class_names)
    exported("--model", tmp_path / "out", "--out", tmp_path / "unscored", "--no_scores")
    assert read_config(tmp_path / "unscored")["scores"] is None
    assert is_released(tmp_path / "out") and weights["cls.1.weight"].shape[0] == 3
