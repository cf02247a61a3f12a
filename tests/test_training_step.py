"""The project's own training step against the reference's: consecutive float64 steps of the weak incremental step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import argparser
from dataset.batch import Batch
from methods import weak
from tasks import load_task
from tests.golden_fill import fill_state
from train import Trainer
from utils import distributed
from utils.logger import Logger

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
    options = argparser.parse(line.split())
    logger = Logger(tmp_path / "log", main=False, name="golden", options={})
    task = load_task("voc", "15-5")
    trainer = Trainer(options, task, {}, distributed.start("cpu"), logger)
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
        images = torch.from_numpy(data[f"image_{i}"]).double()
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
