"""What faults happen to: a base model, two frozen models that see different things, and a discriminator; made once, in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import argparser
import run
from engine.labelling import Labeller, LabelSettings
from tests.faults.harness import SMALL, one_thread
from tests.test_resume import BASE, command
from utils import checkpoint, distributed


@pytest.fixture(scope="session")
def base(small_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint of a base step."""
    folder = tmp_path_factory.mktemp("base")
    line = command(folder, small_shapes, "base", *BASE, *SMALL, "--num_workers", "0", "--iters_per_epoch", "1")
    with one_thread():
        assert run.main(argparser.parse(line[2:])) == 0
    return folder


@pytest.fixture(scope="session")
def base_ckpt(base: Path) -> Path:
    """The checkpoint of a base step."""
    return base / "checkpoints/step/shapes-5-3-ov/base_0.pth"


@pytest.fixture(scope="session")
def labellers(base_ckpt: Path, small_shapes: Path) -> tuple[Path, Path]:
    """Checkpoints of two models that see different classes in an image, several in each."""
    made, drawn = [], sorted((small_shapes / "images/train").iterdir())[:8]
    for seed in (1, 2):
        state, path = checkpoint.load(base_ckpt), base_ckpt.with_name(f"labeller{seed}_0.pth")
        generator = torch.Generator().manual_seed(seed)
        weights = state["model_state"]
        weights["cls.0.weight"] = torch.randn(weights["cls.0.weight"].shape, generator=generator)
        checkpoint.save(path, state)
        # Classifiers that agree on their mean: else one class is everywhere.
        labeller = Labeller(path, LabelSettings(), distributed.start("cpu"))
        pixels = torch.stack([torch.from_numpy(np.array(Image.open(p).convert("RGB").resize((64, 64)))) for p in drawn])
        logits = labeller.segmenter.logits(pixels.permute(0, 3, 1, 2))
        weights["cls.0.bias"] = weights["cls.0.bias"] - logits.mean(dim=(0, 2, 3))
        checkpoint.save(path, state)
        made.append(path)
    return made[0], made[1]
