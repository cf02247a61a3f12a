"""The project's own training step against the reference's: consecutive float64 steps of the weak incremental step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset.batch import Batch
from methods import weak
from tests.golden_fill import fill_state
from tests.trainers import make_trainer
from train import Trainer
from utils.normalisation import Normalisation

# Column of the golden table -> name of the project's loss term.
TERMS = {"l_cls_new": "cls", "l_loc": "loc", "l_de": "de", "l_refine": "ref", "l_seg": "seg", "total": "total"}


def _trainer(golden_file: Path, data: dict[str, np.ndarray], tmp_path: Path) -> Trainer:
    backbone = golden_file.stem.split("_")[2]
    dummy = tmp_path / "previous.pth"
    dummy.touch()
    size = data["image_0"].shape[-1]
    line = (
        f"--dataset voc --task 15-5 --overlap --step 1 --weakly --backbone {backbone} --crop_size {size} --norm_act iabn "
        f"--batch_size {data['image_0'].shape[0]} --alpha {float(data['alpha'])} --lr 0.001 --lr_pseudo 0.01 --loss_de 1 "
        f"--lr_policy none --device cpu --step_ckpt {dummy}" + (" --affinity" if data["affinity"] else "")
    )
    trainer = make_trainer(line, tmp_path / "log")
    trainer.networks.student.double()
    fill_state(trainer.networks.model)
    assert trainer.networks.teacher is not None and trainer.networks.localizer is not None
    fill_state(trainer.networks.teacher.double())
    fill_state(trainer.networks.localizer)
    with torch.no_grad():
        trainer.networks.localizer[-1].weight.mul_(6)  # golden/README.md
    trainer.build(1)
    return trainer


def _norms(trainer: Trainer) -> list[float]:
    groups = trainer.optimisation.optimizer.param_groups
    return [float(sum(p.grad.square().sum() for p in g["params"] if p.grad is not None) ** 0.5) for g in groups]


@pytest.mark.golden
@pytest.mark.parametrize("affinity", [0, 1])
def test_reproduces_the_reference(golden: Path, affinity: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(golden.glob(f"training_step_*_affinity{affinity}.npz"))
    if not files:
        pytest.skip(f"{golden} has no training step with affinity {affinity}")
    data = dict(np.load(files[0]))
    trainer = _trainer(files[0], data, tmp_path)
    captured: list[weak.WeakTargets] = []
    original = weak.weak_targets

    def spy(*args, **kwargs):
        captured.append(original(*args, **kwargs))
        return captured[-1]

    monkeypatch.setattr(weak, "weak_targets", spy)
    columns = [str(c) for c in data["columns"]]
    trainer.networks.student.train()
    for i, row in enumerate(data["losses"]):
        expected = dict(zip(columns, row.tolist(), strict=True))
        # The reference's images are normalised already; a float64 batch is taken as images in [0, 1].
        normalised = torch.from_numpy(data[f"image_{i}"]).double()
        mean, std = trainer.networks.normalisation.tensors(normalised)
        images = normalised * std + mean
        batch = Batch(
            images=images,
            masks=torch.zeros(len(images), *images.shape[-2:], dtype=torch.long),
            image_labels=torch.from_numpy(data[f"l1h_{i}"]).double(),
            is_replay=torch.tensor([False, True]),  # golden/README.md
            names=("a", "b"),
        )
        found = trainer.train_step(batch, int(expected["epoch"]))
        for column, term in TERMS.items():
            assert found.get(term, 0.0) == pytest.approx(expected[column], rel=1e-6, abs=1e-12), (
                f"iteration {i}, {column}"
            )
        if f"it{i}_grad_norms" in data:
            np.testing.assert_allclose(_norms(trainer), data[f"it{i}_grad_norms"], rtol=1e-6, atol=1e-12)
        if f"it{i}_refined" in data:
            targets = captured[-1]
            np.testing.assert_allclose(targets.refined.numpy(), data[f"it{i}_refined"], rtol=1e-6, atol=1e-12)
            np.testing.assert_array_equal(targets.pseudo_mask.numpy(), data[f"it{i}_pseudo_mask"])
            np.testing.assert_allclose(targets.segmenter.numpy(), data[f"it{i}_soft_target"], rtol=1e-6, atol=1e-12)
            np.testing.assert_array_equal(targets.image_weight.numpy(), data[f"it{i}_batch_weight"])

    state = trainer.networks.model.state_dict()
    assert trainer.networks.localizer is not None
    np.testing.assert_allclose(state["cls.1.weight"].numpy(), data["cls1_weight_after"], rtol=1e-6, atol=1e-12)
    bias = trainer.networks.localizer[-1].bias.detach().numpy()
    np.testing.assert_allclose(bias, data["localizer_out_bias_after"], rtol=1e-6, atol=1e-12)
    first = data["body_first_conv_after"]
    np.testing.assert_allclose(state["body.mod1.conv1.weight"].numpy()[: len(first)], first, rtol=1e-6, atol=1e-12)


def _losses(line: str, batch: Batch, folder: Path, normalisation: Normalisation | None) -> list[dict[str, float]]:
    """Of three iterations; with a ``normalisation`` in place of the network's own."""
    trainer = make_trainer(line, folder)
    if normalisation is not None:
        trainer.networks = replace(trainer.networks, normalisation=normalisation)
    trainer.build(3)
    trainer.networks.student.train()
    return [trainer.train_step(batch.to(trainer.runtime.device), epoch=0) for _ in range(3)]


@pytest.mark.parametrize("step", ["--step 0 --bce", "--step 1 --weakly --pseudo_ep 0 --loss_de 1 --step_ckpt"])
def test_bytes_train_as_floats_do(step: str, tmp_path: Path) -> None:
    """Images normalised in the loader, as float32, gave the same losses to the last bit."""
    (tmp_path / "previous.pth").touch()
    line = f"--dataset shapes --task 5-3 --overlap --backbone timm:resnet10t --crop_size 64 --batch_size 2 {step}"
    line += f" {tmp_path / 'previous.pth'}" if step.endswith("ckpt") else ""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    labels = torch.tensor([[0.0] * 5 + [1, 0, 1], [0.0] * 5 + [0, 1, 0]])
    masks = torch.randint(0, 5, (2, 64, 64), generator=generator, dtype=torch.uint8)
    batch = Batch(images, masks, labels[:, : 8 if "weakly" in step else 5], torch.tensor([False, False]), ("a", "b"))
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    floats = replace(batch, images=images.float().div_(255).sub_(mean).div_(std))
    found = _losses(line, batch, tmp_path, None)
    assert found == _losses(line, floats, tmp_path, Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    assert found[0] != found[2], "something was learned"
    assert {"seg", "ref"} <= found[0].keys() or "bce" in step
