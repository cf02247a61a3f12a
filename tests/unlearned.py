"""A discriminator's file without a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modules.discriminator import Preprocessing
from utils.metrics import BinaryScores
from web import discriminator as discriminators


def save_unlearned(path: Path, state: dict[str, Any]) -> Path:
    """Write a discriminator that learned nothing; its numbers have all their digits.

    Args:
        path: the file.
        state: of the step-0 checkpoint that it belongs to.
    """
    discriminators.save(
        path,
        discriminators.make(Preprocessing("test_resnet", size=64), seed=0),
        state,
        recipe={},
        scores=BinaryScores(*(0.5 for _ in BinaryScores.__dataclass_fields__)),
        by_class={},
        classes=["circle", "square"],
    )
    return path
