"""A checkpoint that no training made, whose masks show every class it knows."""

from __future__ import annotations

from pathlib import Path

import torch

from dataset import shapes
from dataset.shapes import CLASS_NAMES
from dataset.transform import val_transform
from tests.trainers import make_trainer
from train import Trainer

ORDER = '{"0": [5, 2, 1, 3], "1": [8, 4]}'
# Class ids in channel order.
IDS = (0, 5, 2, 1, 3, 8, 4)


def enliven(trainer: Trainer, drawn: Path, looks: int) -> None:
    """Random classifiers that see something of every class: norms that have seen images, and classifiers that agree on their mean.

    Args:
        trainer: of drawn shapes.
        drawn: the data set whose images the norms see.
        looks: how often.
    """
    source = shapes.make(drawn, "train")
    images = torch.stack([val_transform(None)(*source.pair(i))[0] for i in range(8)])
    pixels = trainer.networks.normalisation.apply(images)
    generator = torch.Generator().manual_seed(0)
    model = trainer.networks.model
    with torch.no_grad():
        for _ in range(looks):
            model.train()(pixels)
        for classifier in model.cls:
            classifier.weight.normal_(std=0.1, generator=generator)
        means = (
            model.eval()(pixels).logits.mean(dim=(0, 2, 3)).split([classifier.out_channels for classifier in model.cls])
        )
        for classifier, mean in zip(model.cls, means, strict=True):
            classifier.bias -= mean


def odd_checkpoint(folder: Path, small_shapes: Path) -> Path:
    """``folder/odd_1.pth``, of the second step of a task in odd order, ``folder/odd.json``; its classifiers are random.

    Args:
        folder: where it is written.
        small_shapes: the fixture's data set, whose images its norms have seen.
    """
    (folder / "odd.json").write_text(ORDER)
    previous = folder / "base_0.pth"
    previous.touch()
    line = (
        f"--dataset shapes --task {folder / 'odd.json'} --step 1 --bce --backbone timm:resnet10t --crop_size 64 --device cpu "
        f"--step_ckpt {previous} --name odd --norm_act iabn"
    )
    trainer = make_trainer(line, folder / "log", CLASS_NAMES)
    enliven(trainer, small_shapes, looks=40)
    trainer.build(1)
    trainer.snapshot.save(folder / "odd_1.pth", trainer.progress, trainer.optimisation)
    return folder / "odd_1.pth"
