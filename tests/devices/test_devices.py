"""What is computed on a device is what the CPU computes in float64, within rounding; runs go on there as they were.

``DEVICE=cuda python -m pytest tests/devices`` on a machine with a card.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.peers import unfolded_affinity
from benchmarks.step import make_batch, make_trainer
from methods import losses
from methods.weak import weak_targets
from modules.affinity import DILATIONS, ITERATIONS, PAMR
from modules.norm import make_norm
from segmentation_module import load_segmenter
from tests.devices.runs import BASE, differing, step, stopped_at
from train import Trainer

CROP, IMAGES = 64, 4
# float32 against float64 over some hundred operations, of a network over a few steps.
CLOSE, STEPS = 1e-4, 2e-3


def close(found: Tensor, wanted: Tensor, tolerance: float = CLOSE) -> None:
    """Largest difference, as a share of the largest wanted value."""
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    assert found.shape == wanted.shape and bool(found.isfinite().all())
    assert float((found - wanted).abs().max()) <= tolerance * float(wanted.abs().max().clamp(min=1e-6))


def on(device: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values as float32 on the device."""
    return {
        name: value.to(device, torch.float32 if value.is_floating_point() else value.dtype)
        for name, value in tensors.items()
    }


@pytest.fixture
def drawn() -> dict[str, Tensor]:
    """Values of a batch of two, six channels of which four are old, in float64."""
    masks = torch.randint(0, 6, (2, 9, 9))
    masks[:, :2] = 255
    return {
        "logits": 3 * torch.randn(2, 6, 9, 9, dtype=torch.float64),
        "teacher": 3 * torch.randn(2, 4, 9, 9, dtype=torch.float64),
        "soft": torch.rand(2, 6, 9, 9, dtype=torch.float64),
        "refined": torch.randn(2, 6, 9, 9, dtype=torch.float64).softmax(1),
        "labels": torch.tensor([[0.0, 1, 0, 1, 0], [1, 0, 0, 0, 1]], dtype=torch.float64),
        "masks": masks,
    }


LOSSES: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
    "bce_ignore": lambda v: losses.bce_ignore(v["logits"], v["masks"], reduction="mean"),
    "soft_bce": lambda v: losses.soft_bce(v["logits"], v["soft"], reduction="mean"),
    "icarl_bce": lambda v: losses.icarl_bce(v["logits"], v["masks"], v["teacher"].sigmoid(), reduction="mean"),
    "unbiased_ce": lambda v: losses.unbiased_ce(v["logits"], v["masks"], 4),
    "distillation": lambda v: losses.distillation(v["logits"], v["teacher"]),
    "unbiased_distillation": lambda v: losses.unbiased_distillation(v["logits"], v["teacher"]),
    "image_level_bce": lambda v: losses.image_level_bce(v["logits"], v["labels"][:, 3:], mode="ngwp", reduction="mean"),
    "balanced_ce": lambda v: losses.balanced_ce(v["logits"], v["refined"].round(), v["labels"]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(device: str, name: str, drawn: dict[str, Tensor]) -> None:
    found = {}
    for where, values in (("wanted", drawn), ("found", on(device, drawn))):
        values["logits"] = values["logits"].clone().requires_grad_()
        loss = LOSSES[name](values)
        loss.backward()
        assert values["logits"].grad is not None
        found[where] = loss[None], values["logits"].grad
    for one, other in zip(found["found"], found["wanted"], strict=True):
        close(one, other)


def test_weak_targets(device: str, drawn: dict[str, Tensor]) -> None:
    def targets(v: dict[str, Tensor]) -> Tensor:
        made = weak_targets(
            v["refined"], v["refined"], v["labels"], v["teacher"].sigmoid(), alpha=0.5, background=-1, fold_absent=True
        )
        return torch.cat([made.refined, made.pseudo_mask, made.soft, made.segmenter], dim=1)

    close(targets(on(device, drawn)), targets(drawn))


def test_affinity(device: str) -> None:
    image, mask = torch.rand(2, 3, 20, 24, dtype=torch.float64), torch.rand(2, 5, 20, 24, dtype=torch.float64)
    wanted = unfolded_affinity(image, mask, ITERATIONS, DILATIONS)
    close(PAMR()(image.to(device).float(), mask.to(device).float()), wanted, 1e-5)


@pytest.mark.parametrize("name", ["iabn_sync", "abn"])
@pytest.mark.parametrize("training", [True, False])
def test_norms(device: str, name: str, training: bool) -> None:
    values, grad = 2 * torch.randn(3, 6, 8, 8, dtype=torch.float64) + 1, torch.randn(3, 6, 8, 8, dtype=torch.float64)
    layers = [make_norm(name)(6) for _ in range(2)]
    for layer in layers:
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(0.3, 1.5, 6))
            layer.bias.copy_(torch.linspace(-1, 1, 6))
        layer.train(training)
    results = []
    for layer, dtype, where in ((layers[0], torch.float64, "cpu"), (layers[1], torch.float32, device)):
        layer.to(where, dtype)
        # Not a leaf, and channels last, as convolutions give it.
        leaf = values.to(where, dtype).clone().requires_grad_()
        y = layer((leaf * 1).contiguous(memory_format=torch.channels_last))
        y.backward(grad.to(where, dtype))
        results.append([y, leaf.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var])
    for wanted, found in zip(*results, strict=True):
        close(found, wanted)


def settings(device: str, precision: str = "fp32", compiled: bool = False, freeze: bool = False) -> Namespace:
    return Namespace(
        backbone="timm:resnet10t", crop_size=CROP, batch_size=IMAGES, device=device, precision=precision,
        compile=compiled, freeze=freeze,
    )  # fmt: skip


def trained(trainer: Trainer, steps: int = 2) -> list[dict[str, float]]:
    """Values of the losses of a few iterations, from the epoch on in which all are there."""
    batch = make_batch(trainer, CROP, IMAGES)
    return [
        {name: float(value) for name, value in trainer.train_step(batch, trainer.options.pseudo_ep).items()}
        for _ in range(steps)
    ]


def near(found: list[dict[str, float]], wanted: list[dict[str, float]], tolerance: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(("number", "freeze"), [(0, False), (1, False), (1, True)])
def test_train_step(device: str, number: int, freeze: bool) -> None:
    """Losses of two iterations, so that an update is among them, beside the CPU's; a CPU beside its own with another layout."""
    found = trained(make_trainer(number, settings(device, freeze=freeze)))
    other = make_trainer(number, settings("cpu", freeze=freeze))
    if device == "cpu":
        other.networks.student.to(memory_format=torch.contiguous_format)
    near(found, trained(other), STEPS)


def test_bf16(device: str) -> None:
    fp32, bf16 = (trained(make_trainer(0, settings(device, precision))) for precision in ("fp32", "bf16"))
    assert fp32 != bf16
    near(bf16, fp32, 0.05)


def test_fp16_scales_its_loss(device: str) -> None:
    if device == "cpu":
        pytest.skip("fp16 is for GPUs")
    trainer = make_trainer(1, settings(device, "fp16"))
    before = [value.detach().clone() for value in trainer.networks.student.parameters()]
    # The scale begins too high, and halves until the gradients are finite.
    trained(trainer, 20)
    scale = trainer.optimisation.scaler.get_scale()
    moved = [
        float((now - old).abs().max()) for now, old in zip(trainer.networks.student.parameters(), before, strict=True)
    ]
    assert 1 <= scale <= 2**16 and max(moved) > 0 and all(value < float("inf") for value in moved)
    # The first iteration: the second comes before the scale has been found.
    found, wanted = (trained(make_trainer(0, settings(device, precision)), 1) for precision in ("fp16", "fp32"))
    near(found, wanted, 0.05)


def test_compiled(device: str) -> None:
    if device == "cpu" and os.environ.get("SLOW") != "1":
        pytest.skip("minutes; run where SLOW=1")
    found = trained(make_trainer(0, settings(device, compiled=True)))
    near(found, trained(make_trainer(0, settings(device))), STEPS)


def test_a_stopped_run_goes_on(
    device: str, small_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit on the CPU; on a GPU, whose sums have no order, within rounding."""
    line = f"{BASE} --epochs 2"
    whole = step(tmp_path / "whole", small_shapes, device, line)
    stopped_at(1, monkeypatch, lambda code: step(tmp_path / "parts", small_shapes, device, line, code))
    parts = step(tmp_path / "parts", small_shapes, device, f"{line} --resume auto")
    if device == "cpu":
        assert differing(whole, parts) == []
    for key, value in whole.items():
        close(parts[key], value, 1e-3)


def test_a_segmenter_is_asked(device: str, odd_ckpt: Path, tmp_path: Path) -> None:
    """A pixel may fall to another class where two are as probable; few do."""
    images = torch.randint(0, 256, (2, 3, 70, 90), dtype=torch.uint8)
    looks = {"scales": (1.0, 1.5), "flip": True}
    found, wanted = (load_segmenter(odd_ckpt, device=where) for where in (device, "cpu"))
    logits, expected = found.logits(images, **looks), wanted.logits(images, **looks)
    close(logits, expected, 1e-3)
    assert float((found.labels(logits).cpu() != wanted.labels(expected)).float().mean()) < 1e-3
