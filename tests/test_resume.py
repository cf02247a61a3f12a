"""A run that is killed and started again with --resume auto ends with the same weights, bit for bit on the CPU."""

from __future__ import annotations

import json
import os
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


def begin(arguments: list[str]) -> subprocess.Popen[str]:
    """A command in a process group of its own."""
    return subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def stop_at(process: subprocess.Popen[str], words: str) -> str:
    """SIGTERM to the group as soon as the log says ``words``; the whole log."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            os.killpg(process.pid, signal.SIGTERM)
            break
    lines += process.stderr
    process.wait(timeout=240)
    return "".join(lines)


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


@pytest.mark.parametrize(
    ("kill", "replay", "group"),
    [
        (signal.SIGKILL, False, False),
        (signal.SIGTERM, False, False),
        (signal.SIGTERM, True, True),
        (signal.SIGINT, False, True),
    ],
)
def test_killed_and_resumed_run_ends_the_same(
    base: Path, small_shapes: Path, tmp_path: Path, kill: signal.Signals, replay: bool, group: bool
) -> None:
    """``group``: the signal is for the loader's workers, too, as those of SLURM, docker and a terminal are."""
    extra = ["--replay", "--replay_path", str(labelled(tmp_path / "tree", ["circle"], 5))] if replay else []
    whole = run(weak(base, small_shapes, f"whole{kill}{replay}", *extra))
    assert whole.returncode == 0, whole.stderr

    name = f"killed{kill}{replay}"
    path = base / "checkpoints/step/shapes-5-3-ov" / f"{name}_1.pth"
    process = begin(weak(base, small_shapes, name, *extra))
    deadline = time.monotonic() + 240
    while not path.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if group:
        os.killpg(process.pid, kill)
    else:
        process.send_signal(kill)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == (-kill if kill == signal.SIGKILL else 128 + kill), errors
    if (
        kill != signal.SIGKILL
    ):  # The loader's workers may complain of a parent that is gone from one moment to the next.
        assert "Traceback" not in errors
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


@pytest.fixture(scope="module")
def undisturbed(base: Path, small_shapes: Path) -> dict[str, torch.Tensor]:
    done = run(weak(base, small_shapes, "undisturbed"))
    assert done.returncode == 0, done.stderr
    return weights(base, "undisturbed")


@pytest.mark.parametrize(
    ("words", "where", "finished"),
    [
        ("Epoch 3/3 done", "in the validation after epoch 3", False),
        ("Epoch 1/3 done", "in the validation after epoch 1", False),
        ("val_localizer: ", "in the test", True),
    ],
)
def test_stopped_in_an_evaluation(
    base: Path, small_shapes: Path, undisturbed: dict[str, torch.Tensor], words: str, where: str, finished: bool
) -> None:
    """What was trained is saved before it; the validation is done again, the training is not."""
    name = where.replace(" ", "-")
    interval = "1" if "1/3" in words else "3"
    log = stop_at(begin(weak(base, small_shapes, name, "--val_interval", interval)), words)
    assert f"stopped by signal 15 {where}; " in log and "Traceback" not in log
    state = checkpoint.load(base / "checkpoints/step/shapes-5-3-ov" / f"{name}_1.pth")
    assert state["finished"] == finished and (state["epoch"], state["iteration"]) == (int(interval), 0)
    row = base / "logs/results/shapes-5-3.csv"
    assert f",{name},1," not in row.read_text()

    resumed = run(weak(base, small_shapes, name, "--val_interval", interval, "--resume", "auto"))
    assert resumed.returncode == 0, resumed.stderr
    found = weights(base, name)
    assert [key for key in undisturbed if not torch.equal(undisturbed[key], found[key])] == []
    assert f",{name},1," in row.read_text()
    scalars = (base / "logs/shapes-5-3-ov" / name / "scalars.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, scalars) if line["tag"] == "val/mean_iou"]
    assert steps == ([1, 2, 3] if interval == "1" else [3]), "each validation is there, and once"


def test_stopped_while_the_data_are_read(base: Path, small_shapes: Path) -> None:
    path = base / "checkpoints/step/shapes-5-3-ov/early_0.pth"
    done = run(command(base, small_shapes, "early", *BASE))
    assert done.returncode == 0, done.stderr
    log = base / "logs/shapes-5-3-ov/early/log.txt"
    log.unlink()
    process = begin(command(base, small_shapes, "early", *BASE, "--resume", "auto"))
    deadline = time.monotonic() + 240
    while not log.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 143, errors
    assert "stopped by signal 15 before the first iteration" in errors and "Traceback" not in errors
    assert checkpoint.load(path)["finished"]
