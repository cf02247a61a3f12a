"""A small model of four shapes whose random classifiers see something of every class, as a checkpoint of this project."""

from __future__ import annotations

from pathlib import Path

import torch

import argparser
from dataset import shapes
from dataset.shapes import CLASS_NAMES
from dataset.transform import val_transform
from tasks import load_task
from train import Trainer
from utils import distributed
from utils.logger import Logger
from utils.normalisation import NORMALISATIONS


def checkpoint_of_four_shapes(folder: Path, drawn: Path) -> Path:
    """Circle, square, triangle and star, of drawn images in ``drawn``; written to ``folder``."""
    line = (
        "--dataset shapes --task 4-2 --bce --backbone timm:resnet10t --pretrained none --crop_size 64 --device cpu --name four "
        f"--norm_act iabn --protocol overlap --checkpoints {folder}"
    )
    options = argparser.parse(line.split())
    task = load_task("shapes", options.task)
    logger = Logger(folder / "log", main=False, name="four", options={})
    trainer = Trainer(options, task, CLASS_NAMES, distributed.start("cpu"), logger)
    source = shapes.make(drawn, "train")
    pixels = torch.stack([val_transform(None, NORMALISATIONS["imagenet"])(*source.pair(i))[0] for i in range(8)])
    generator = torch.Generator().manual_seed(0)
    model = trainer.networks.model
    with torch.no_grad():
        # Norms that have seen images, and classifiers that agree on their mean: else one class is everywhere.
        for _ in range(15):
            model.train()(pixels)
        for classifier in model.cls:
            classifier.weight.normal_(std=0.1, generator=generator)
        model.cls[0].bias -= model.eval()(pixels).logits.mean(dim=(0, 2, 3))
    trainer.build(1)
    trainer.progress.finished = True
    trainer.snapshot.save(folder / "four_0.pth", trainer.progress, trainer.optimisation)
    return folder / "four_0.pth"
