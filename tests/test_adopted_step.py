"""Weak steps after a segmenter of another library: run.py --backbone adopted, on drawn shapes, for each library."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import argparser
import engine.state
import generate_label
import run
from dataset.replay_tree import images_of, originals
from dataset.shapes import CLASS_NAMES
from engine.state import weights_origin
from segmentation_module import load_segmenter
from tests.conftest import ROOT
from tests.modules.adopting import images
from tests.replay_trees import images as replay_images
from tests.replay_trees import labelled
from tests.tiny_models import LIBRARIES, PACKAGES, SHAPES, save_base
from tests.trainers import make_trainer
from train import Trainer
from utils import checkpoint
from utils.errors import UserError

EXPERIMENT = "shapes-5-3-ov"
WEAK = "--weakly --affinity --loss_de 1 --pseudo_ep 0 --lr 0.001"
OLD = len(SHAPES)


@pytest.fixture(scope="module", params=LIBRARIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adopted step 0 called ``base``."""
    pytest.importorskip(PACKAGES[request.param], reason=f"needs the extra: pip install -e .[{request.param}]")
    folder = tmp_path_factory.mktemp(request.param)
    save_base(request.param, folder / "library", path_of(folder, "base", 0))
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("replay") / "tree", ["circle", "star"], 3)


def path_of(folder: Path, name: str, step: int) -> Path:
    return folder / "checkpoints/step" / EXPERIMENT / f"{name}_{step}.pth"


def line(folder: Path, data: Path, name: str, extra: str = "", previous: Path | None = None) -> list[str]:
    return (
        f"--dataset shapes --task 5-3 --overlap --dataset_dir {data} --checkpoints {folder}/checkpoints --logdir {folder}/logs "
        f"--backbone adopted --crop_size 64 --crop_size_val 64 --batch_size 4 --iters_per_epoch 2 --num_workers 0 --device cpu "
        f"--epochs 1 --sample_num 0 --step 1 --name {name} --step_ckpt {previous or path_of(folder, 'base', 0)} {extra}"
    ).split()


def execute(arguments: list[str]) -> int:
    return run.main(argparser.parse(arguments))


def losses(folder: Path, name: str) -> dict[str, float]:
    rows = map(json.loads, (folder / "logs" / EXPERIMENT / name / "scalars.jsonl").read_text().splitlines())
    return {row["tag"][5:]: row["value"] for row in rows if row["tag"].startswith("loss/")}


def test_nothing_changes_before_training(
    base: Path, small_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student's first predictions are the adopted segmenter's on every pixel: the new channels win nowhere."""
    reads: list[Path] = []
    read = engine.state.read_state

    def noted(path: Path) -> dict[str, Any]:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(engine.state, "read_state", noted)
    words = " ".join(line(base, small_shapes, "start", f"{WEAK} --init_balanced"))
    trainer = make_trainer(words, tmp_path, CLASS_NAMES)
    trainer.snapshot.start(weights_origin(trainer.options), None)
    assert reads == [path_of(base, "base", 0)], "a checkpoint is read once"
    model, segmenter = trainer.networks.model.eval(), load_segmenter(path_of(base, "base", 0), device="cpu")
    assert segmenter.description.class_names == SHAPES
    seen: set[int] = set()
    for size in ((64, 64), (48, 70), (96, 65)):
        pixels = images(*size)
        own = segmenter.logits(pixels)
        with torch.no_grad():
            logits = model(trainer.networks.normalisation.apply(pixels.float() / 255)).logits
        assert logits.shape[1] == OLD + 3 and own.shape[1] == OLD
        assert torch.equal(logits.argmax(dim=1), own.argmax(dim=1))
        torch.testing.assert_close(logits[:, OLD:], torch.full_like(logits[:, OLD:], -math.log(OLD)))
        seen |= set(own.argmax(dim=1).unique().tolist())
    assert len(seen) > 2


def test_best_recipe_rehearses(base: Path, small_shapes: Path, tree: Path) -> None:
    """Two iterations change the new channels and leave the frozen body; the checkpoint says what its network is."""
    extra = f"--weakly --recipe best --replay --replay_path {tree} --pseudo_ep 0 --lr 0.001"
    assert execute(line(base, small_shapes, "best", extra)) == 0
    before, after = (checkpoint.load(path_of(base, name, step)) for name, step in (("base", 0), ("best", 1)))
    assert after["finished"] and after["network"] == before["network"]
    assert [entry["step"] for entry in after["history"]] == [0, 1]
    assert after["model_state"]["cls.1.weight"].abs().max() > 0
    moved = {
        key.split(".")[0]
        for key, value in before["model_state"].items()
        if not torch.equal(value, after["model_state"][key])
    }
    assert "body" not in moved and "cls" in moved
    found = losses(base, "best")
    assert set(found) >= {"cls", "loc", "seg", "total"} and all(map(math.isfinite, found.values()))
    segmenter = load_segmenter(path_of(base, "best", 1), device="cpu")
    assert segmenter.description.class_names == tuple(CLASS_NAMES[i] for i in range(9))
    assert segmenter.logits(images(64, 64)).shape == (3, 9, 64, 64)


def test_the_whole_network_learns_in_half_precision(base: Path, small_shapes: Path) -> None:
    assert execute(line(base, small_shapes, "whole", f"{WEAK} --precision bf16")) == 0
    before, after = (checkpoint.load(path_of(base, n, step))["model_state"] for n, step in (("base", 0), ("whole", 1)))
    moved = {key.split(".")[0] for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved >= {"body", "cls"} and all(value.isfinite().all() for value in after.values())
    assert all(map(math.isfinite, losses(base, "whole").values()))


@pytest.mark.parametrize("base", ["transformers"], indirect=True)
def test_resumed_run_ends_the_same(base: Path, small_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SegFormer's dropout and stochastic depth are drawn from seed and iteration."""
    assert execute(line(base, small_shapes, "unbroken", WEAK)) == 0
    original = Trainer.train_step

    def stopping(self: Trainer, *arguments: Any) -> dict[str, torch.Tensor]:
        self.stopping.ask(15)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "train_step", stopping)
    assert execute(line(base, small_shapes, "broken", WEAK)) == 128 + 15
    monkeypatch.undo()
    assert not checkpoint.load(path_of(base, "broken", 1))["finished"]
    assert execute(line(base, small_shapes, "broken", f"{WEAK} --resume auto")) == 0
    found, expected = (checkpoint.load(path_of(base, name, 1)) for name in ("broken", "unbroken"))
    for part in ("model_state", "localizer"):
        assert [key for key, value in expected[part].items() if not torch.equal(value, found[part][key])] == []
    assert found["finished"] and len(found["history"]) == 2
    assert execute(line(base, small_shapes, "broken", f"{WEAK} --test --report")) == 0


def test_labels_are_what_it_sees(base: Path, tmp_path: Path) -> None:
    folder = replay_images(tmp_path / "tree", ["circle"], 2)
    arguments = f"--ckpt {path_of(base, 'base', 0)} --path {folder} --device cpu --num_workers 0"
    assert generate_label.main(generate_label.get_argparser().parse_args(arguments.split())) == 0
    segmenter = load_segmenter(path_of(base, "base", 0), device="cpu")
    pairs = [pair for original in originals(folder) for pair in images_of(original)]
    assert len(pairs) == 2
    for pair in pairs:
        assert np.array_equal(np.array(Image.open(pair.label)), segmenter.predict(pair.image).mask)


def test_two_ranks_equal_one(small_shapes: Path, tmp_path: Path) -> None:
    """The head's norms see the images of all ranks; a layer that the segmenter never asks (MobileNetV2's last) has no gradient.

    Without dropout: networks with it, or with stochastic depth, differ from one process, since each rank draws for its own images.
    The body's norms are fixed, because rounding grows a thousandfold where 50 of them follow the statistics of 8 images.
    """
    pytest.importorskip("transformers", reason="needs the extra: pip install -e .[transformers]")
    kind = {"kind": "mobilenet_v2", "classifier_dropout_prob": 0.0}
    save_base("transformers", tmp_path / "library", path_of(tmp_path, "base", 0), **kind)
    extra = f"{WEAK} --batch_size 8 --freeze_norm --norm_act iabn_sync --lr 0.00005 --lr_pseudo 0.0002 --lr_head 40"
    assert execute(line(tmp_path, small_shapes, "one", extra)) == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launcher, "run.py", *line(tmp_path, small_shapes, "two", extra)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (checkpoint.load(path_of(tmp_path, name, 1)) for name in ("one", "two"))
    for part in ("model_state", "localizer"):
        for key, value in one[part].items():
            torch.testing.assert_close(
                two[part][key], value, rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
            )
    assert losses(tmp_path, "two") == pytest.approx(losses(tmp_path, "one"), rel=1e-5, abs=1e-5)
    before = checkpoint.load(path_of(tmp_path, "base", 0))["model_state"]
    moved = {key.split(".")[0]: 0.0 for key in before}
    for key, value in before.items():
        if key.endswith("weight"):
            moved[key.split(".")[0]] = max(
                moved[key.split(".")[0]], float((one["model_state"][key] - value).abs().max())
            )
    assert min(moved.values()) > 1e-4, "what hardly moves is equal anyway"


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchvision_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refused")
    save_base("torchvision", folder / "library", path_of(folder, "base", 0))
    return folder


def test_step_0_trains_nothing_adopted(torchvision_base: Path, small_shapes: Path) -> None:
    arguments = line(torchvision_base, small_shapes, "none", "--bce")
    arguments[arguments.index("--step") + 1] = "0"
    place = arguments.index("--step_ckpt")
    with pytest.raises(
        UserError, match=r"--backbone adopted: step 0 trains networks of this project; python add_class\.py"
    ):
        execute(arguments[:place] + arguments[place + 2 :])


@pytest.mark.parametrize("option", ["--output_stride 8", "--pooling 4", "--image_stats half"])
def test_what_an_adopted_network_says_itself(option: str, torchvision_base: Path, small_shapes: Path) -> None:
    with pytest.raises(UserError, match=f"{option}: a network that was trained elsewhere keeps its own"):
        argparser.parse(line(torchvision_base, small_shapes, "own", f"{WEAK} {option}"))


def changed(folder: Path, path: Path, **fields: Any) -> Path:
    """The base with other fields; None takes one away."""
    state = checkpoint.load(path_of(folder, "base", 0)) | fields
    checkpoint.save(path, {key: value for key, value in state.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"library": None}, "does not say what its network is"),
        ({"library": "detectron"}, "no library is called detectron"),
        ({"mean": [0.5]}, "damaged: mean of its network is missing or wrong"),
        ({"mean": [float("nan")] * 3}, "damaged: mean of its network is missing or wrong"),
        ({"std": [0.0, 1.0, 1.0]}, "damaged: std of its network is missing or wrong"),
        ({"multiple": 0}, "damaged: multiple of its network"),
        ({"outputs": "argmax"}, "damaged: outputs of its network"),
        ({"size": [64]}, "damaged: size of its network"),
        ({"architecture": {"name": "resnet50"}}, "torchvision has no segmenter resnet50"),
        (
            {"architecture": {"name": "deeplabv3_mobilenet_v3_large"}},
            "made for another network than --backbone adopted",
        ),
    ],
)
def test_damaged_networks(
    change: dict[str, Any], words: str, torchvision_base: Path, small_shapes: Path, tmp_path: Path
) -> None:
    network = checkpoint.load(path_of(torchvision_base, "base", 0))["network"]
    path = changed(torchvision_base, tmp_path / "damaged.pth", network={**network, **change})
    with pytest.raises(UserError, match=words) as caught:
        execute(line(torchvision_base, small_shapes, "damaged", WEAK, previous=path))
    assert "\n" not in str(caught.value)
    assert not path_of(torchvision_base, "damaged", 1).exists()
    with pytest.raises(UserError, match=f"{words}|its weights do not fit"):
        load_segmenter(path, device="cpu")


def test_checkpoints_of_other_steps_and_networks(torchvision_base: Path, small_shapes: Path, tmp_path: Path) -> None:
    folder = torchvision_base
    state = checkpoint.load(path_of(folder, "base", 0))
    path = changed(folder, tmp_path / "none.pth", network=None)
    with pytest.raises(UserError, match="its network is missing or wrong"):
        execute(line(folder, small_shapes, "other", WEAK, previous=path))
    path = changed(
        folder,
        tmp_path / "later.pth",
        identity={**state["identity"], "classes": [[0, 1, 2, 3, 4, 5], [6, 7, 8]]},
        class_names=[CLASS_NAMES[i] for i in range(9)],
        options={**state["options"], "step": 1},
    )
    with pytest.raises(UserError, match=r"its classes is \[\[0, 1, 2, 3, 4, 5\], \[6, 7, 8\]\]"):
        execute(line(folder, small_shapes, "other", WEAK, previous=path))
    arguments = line(folder, small_shapes, "other", WEAK)
    arguments[arguments.index("adopted")] = "timm:resnet10t"
    with pytest.raises(UserError, match=r"holds an adopted network \(torchvision\); give --backbone adopted"):
        execute(arguments)
    own = changed(
        folder, tmp_path / "own.pth", network=None, options={**state["options"], "backbone": "timm:resnet10t"}
    )
    with pytest.raises(
        UserError, match="its network is one of this project: name it with --backbone in place of adopted"
    ):
        execute(line(folder, small_shapes, "other", WEAK, previous=own))
