"""Short runs of ``run.py`` on a device, and what came out of them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import argparser
import run
from train import Trainer
from utils import checkpoint

BASE = "--step 0 --bce --epochs 1 --no_pretrained"
WEAK = "--step 1 --weakly --affinity --lr_policy warmup --pseudo_ep 0 --epochs 1 --report"


def step(folder: Path, data: Path, device: str, line: str, code: int = 0) -> dict[str, torch.Tensor]:
    """Weights after one step of ``run.py`` on drawn shapes, which ends with ``code``."""
    options = argparser.parse(
        f"--name n --dataset shapes --task 5-3 --overlap --dataset_dir {data} --checkpoints {folder}/checkpoints "
        f"--logdir {folder}/logs --backbone timm:resnet10t --crop_size 64 --crop_size_val 64 --batch_size 4 --iters_per_epoch 2 "
        f"--num_workers 0 --sample_num 1 --device {device} {line}".split()
    )
    assert run.main(options) == code
    return weights(folder / f"checkpoints/step/shapes-5-3-ov/n_{options.step}.pth")


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint."""
    state = checkpoint.load(path)
    return {**state["model_state"], **(state.get("localizer") or {})}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Names of tensors that differ in a bit."""
    assert one.keys() == other.keys()
    return [key for key, value in one.items() if not torch.equal(value, other[key])]


def far(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-3) -> list[str]:
    """Names of tensors that differ by more than ``tolerance`` of their greatest value."""
    assert one.keys() == other.keys()
    return [
        key
        for key, value in one.items()
        if float((value.double() - other[key].double()).abs().max())
        > tolerance * float(value.double().abs().max().clamp(min=1e-6))
    ]


def stopped_at(iteration: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[int], object]) -> None:
    """Do ``work`` as if a signal came in that iteration; it is told the exit code."""
    with monkeypatch.context() as patched:
        patched.setattr(
            Trainer, "_asked", lambda trainer: signal.SIGTERM if trainer.progress.iteration == iteration else 0
        )
        work(128 + signal.SIGTERM)
