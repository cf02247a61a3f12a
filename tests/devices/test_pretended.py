"""Nothing is mixed of two devices: whole commands on a GPU that is pretended give what they give on the CPU."""

from __future__ import annotations

import argparse
import csv
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import generate_label
import predict
import select_web
import train_discriminator
from dataset.shapes import render_web
from segmentation_module import load_segmenter
from tests.devices.runs import BASE, WEAK, differing, far, step, stopped_at, weights
from tests.pretend import pretend_cuda
from tests.replay_trees import images

SMALL = "--network tf_efficientnet_lite0 --size 64 --epochs 1 --batch_size 16"
DEVICES = "cpu", "cuda"
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, nothing is pretended")


def pretended(device: str) -> AbstractContextManager[object]:
    return pretend_cuda() if device == "cuda" else nullcontext()


def arguments(script: ModuleType, line: str, device: str) -> argparse.Namespace:
    given: argparse.Namespace = script.get_argparser().parse_args(
        [*line.split(), "--device", device, "--num_workers", "0"]
    )
    return given


@pytest.fixture
def web_images(tmp_path: Path) -> Path:
    render_web(tmp_path / "web", ["circle", "square", "triangle", "star", "ring"], 12, 0, 0.0, 1.0, size=64)
    return tmp_path / "web"


def test_what_a_gpu_refuses_is_refused() -> None:
    with pretend_cuda() as cuda:
        values = torch.ones(2, 3, device=cuda)
        assert values.device == cuda and (values + torch.tensor(1.0)).sum().item() == 12
        assert torch.tensor([1.0], device=cuda).device == cuda == values.new_zeros(3).device
        assert values.cpu().numpy().sum() == 6 and values.cpu().device.type == "cpu"
        for wrong in (
            lambda: values + torch.ones(3),
            lambda: torch.cat([values, torch.ones(2, 3)]),
            lambda: torch.ones(3)[torch.zeros(1, dtype=torch.int64, device=cuda)],
            lambda: torch.nn.functional.conv2d(values[None, None], torch.ones(1, 1, 1, 1)),
        ):
            with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
                wrong()
        with pytest.raises(RuntimeError, match="a generator of cpu"):
            torch.rand(3, device=cuda, generator=torch.Generator())
        with pytest.raises(TypeError, match="to numpy"):
            np.asarray(values)
        with pytest.raises(RuntimeError, match="cannot pin"):
            values.pin_memory()


@pytest.mark.parametrize("extra", ["--loss_de 1", "--freeze --init_balanced --old_yields"])
def test_base_and_weak_step(extra: str, small_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, validation, the test of both models, sample predictions. An optimiser may sum in another order on another device."""
    monkeypatch.setattr("engine.networks.FOLDS_ON", set())  # What is folded rounds otherwise.
    lines = BASE, f"{WEAK} {extra}"
    wanted = [step(tmp_path / "cpu", small_shapes, "cpu", line) for line in lines]
    with pretend_cuda():
        found = [step(tmp_path / "cuda", small_shapes, "cuda", line) for line in lines]
    for one, other in zip(wanted, found, strict=True):
        assert far(one, other) == []


@pytest.mark.slow
def test_a_stopped_run_goes_on(small_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of optimiser and schedule finds its way back to the GPU."""
    with pretend_cuda():
        whole = step(tmp_path / "whole", small_shapes, "cuda", f"{BASE} --epochs 2")
        stopped_at(
            1, monkeypatch, lambda code: step(tmp_path / "parts", small_shapes, "cuda", f"{BASE} --epochs 2", code)
        )
        parts = step(tmp_path / "parts", small_shapes, "cuda", f"{BASE} --epochs 2 --resume auto")
    assert differing(whole, parts) == []


@pytest.mark.parametrize("features", [pytest.param("image", marks=pytest.mark.slow), "encoder"])
def test_discriminator_and_selection(features: str, small_shapes: Path, web_images: Path, tmp_path: Path) -> None:
    step(tmp_path / "base", small_shapes, "cpu", BASE)
    ckpt = tmp_path / "base/checkpoints/step/shapes-5-3-ov/n_0.pth"
    ratios = {}
    for device in DEVICES:
        folder = tmp_path / device
        folder.mkdir()
        with pretended(device):
            line = f"--step_ckpt {ckpt} --web_path {web_images} --out {folder}/d.pth --features {features} {SMALL}"
            train_discriminator.main(arguments(train_discriminator, line, device))
            line = (
                f"--web_path {web_images} --out {folder}/selected.csv --discriminator {folder}/d.pth --trust --keep 2"
            )
            line += f" --step_ckpt {ckpt}" if features == "encoder" else ""
            select_web.main(arguments(select_web, line, device))
        with (folder / "selected.csv").open() as file:
            ratios[device] = [(row["path"], row["p_ds"]) for row in csv.DictReader(file)]
    assert differing(*(weights(tmp_path / device / "d.pth") for device in DEVICES)) == []
    assert ratios["cpu"] and ratios["cpu"] == ratios["cuda"]


def test_labels_and_masks(odd_ckpt: Path, tmp_path: Path) -> None:
    """Looks at several scales, mirrored, unsure pixels, probabilities, tiles; and a segmenter asked from Python."""
    trees = [images(tmp_path / device, ["circle", "square"], 2) for device in DEVICES]
    found: list[list[bytes]] = []
    sure: list[np.ndarray] = []
    for device, tree in zip(DEVICES, trees, strict=True):
        photos = sorted(tree.glob("*/image/*"))
        out = tmp_path / f"out-{device}"
        looks = "--flip --scales 1 1.5 --threshold 0.2"
        with pretended(device):
            line = f"--ckpt {odd_ckpt} --path {tree} --batch_size 2 {looks}"
            assert generate_label.main(arguments(generate_label, line, device)) == 0
            for number, extra in enumerate(("--probabilities", "--tile 80 --tile_overlap 4")):
                line = f"--model {odd_ckpt} --out {out}/{number} {looks} {extra} {photos[0].parent}"
                assert predict.main(arguments(predict, line, device)) == 0
            seen = load_segmenter(odd_ckpt, device=device).predict(photos[0])
        written = [path.read_bytes() for path in sorted([*tree.glob("*/label/*.png"), *out.glob("?/masks/*.png")])]
        found.append([*written, seen.mask.tobytes()])
        sure.append(seen.confidence)
    assert len(found[0]) > 6 and found[0] == found[1]
    # What is copied to another device may lie otherwise in memory, and be summed in another order.
    assert np.allclose(sure[1], sure[0], rtol=1e-5, atol=0)
