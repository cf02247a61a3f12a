"""A run that is killed and started again with --resume auto ends with the same weights, bit for bit on the CPU."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.replay_trees import labelled
from utils import checkpoint


def command(folder: Path, data: Path, name: str, *extra: str) -> list[str]:
    """A short weak step; its base step must exist in ``folder``."""
    line = (
        f"run.py --name {name} --dataset shapes --task 5-3 --overlap --dataset_dir {data} --checkpoints {folder}/checkpoints "
        f"--logdir {folder}/logs --backbone timm:resnet10t --crop_size 64 --crop_size_val 64 --batch_size 4 --iters_per_epoch 4 "
        f"--num_workers 1 --sample_num 0 --device cpu"
    )
    return [sys.executable, *line.split(), *extra]


BASE = ("--step", "0", "--bce", "--epochs", "1", "--no_pretrained")
WEAK = (
    "--step",
    "1",
    "--weakly",
    "--affinity",
    "--loss_de",
    "1",
    "--lr_policy",
    "warmup",
    "--pseudo_ep",
    "1",
    "--epochs",
    "3",
)


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    state = checkpoint.load(folder / "checkpoints/step/shapes-5-3-ov" / f"{name}_1.pth")
    assert state["finished"]
    localizer = {f"localizer.{key}": value for key, value in state["localizer"].items()}
    return state["model_state"] | localizer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    done = run(command(folder, small_shapes, "base", *BASE))
    assert done.returncode == 0, done.stderr
    return folder


def weak(folder: Path, data: Path, name: str, *extra: str) -> list[str]:
    previous = folder / "checkpoints/step/shapes-5-3-ov/base_0.pth"
    return command(folder, data, name, *WEAK, "--step_ckpt", str(previous), *extra)


@pytest.mark.parametrize(("kill", "replay"), [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGTERM, True)])
def test_killed_and_resumed_run_ends_the_same(
    base: Path, small_shapes: Path, tmp_path: Path, kill: signal.Signals, replay: bool
) -> None:
    extra = ["--replay", "--replay_path", str(labelled(tmp_path / "tree", ["circle"], 5))] if replay else []
    whole = run(weak(base, small_shapes, f"whole{kill}{replay}", *extra))
    assert whole.returncode == 0, whole.stderr

    name = f"killed{kill}{replay}"
    path = base / "checkpoints/step/shapes-5-3-ov" / f"{name}_1.pth"
    process = subprocess.Popen(
        weak(base, small_shapes, name, *extra), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while not path.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(kill)
    _, errors = process.communicate(timeout=240)
    assert process.returncode in (-kill, 128 + kill), errors
    interrupted = checkpoint.load(path)
    assert not interrupted["finished"]

    resumed = run(weak(base, small_shapes, name, *extra, "--resume", "auto"))
    assert resumed.returncode == 0, resumed.stderr
    expected, found = weights(base, f"whole{kill}{replay}"), weights(base, name)
    assert expected.keys() == found.keys()
    different = [key for key in expected if not torch.equal(expected[key], found[key])]
    assert not different

    again = run(weak(base, small_shapes, name, *extra, "--resume", "auto"))
    assert again.returncode == 0, again.stderr
    assert "Training step" not in again.stderr, "a finished step is not trained again"
