"""A small model of four shapes whose random classifiers see something of every class, as a checkpoint of this project."""

from __future__ import annotations

from pathlib import Path

from dataset.shapes import CLASS_NAMES
from tests.odd_checkpoint import enliven
from tests.trainers import make_trainer


def checkpoint_of_four_shapes(folder: Path, drawn: Path) -> Path:
    """Circle, square, triangle and star, of drawn images in ``drawn``; written to ``folder``."""
    line = (
        "--dataset shapes --task 4-2 --bce --backbone timm:resnet10t --pretrained none --crop_size 64 --device cpu --name four "
        f"--norm_act iabn --protocol overlap --checkpoints {folder}"
    )
    trainer = make_trainer(line, folder / "log", CLASS_NAMES)
    enliven(trainer, drawn, looks=15)
    trainer.build(1)
    trainer.progress.finished = True
    trainer.snapshot.save(folder / "four_0.pth", trainer.progress, trainer.optimisation)
    return folder / "four_0.pth"
