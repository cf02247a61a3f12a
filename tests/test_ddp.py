"""Two gloo ranks compute what one process does: the same losses and weights on the same global batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.replay_trees import labelled
from tests.test_resume import BASE, WEAK, command
from utils import checkpoint


def run(arguments: list[str], ranks: int) -> None:
    if ranks > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        arguments = [arguments[0], *launcher, *arguments[1:]]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def losses(folder: Path, name: str) -> dict[tuple[str, int], float]:
    lines = (folder / "logs/shapes-5-3-ov" / name / "scalars.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {(row["tag"], row["step"]): row["value"] for row in rows if row["tag"].startswith("loss/")}


def compare(folder: Path, step: int) -> None:
    states = [checkpoint.load(folder / f"checkpoints/step/shapes-5-3-ov/{name}_{step}.pth") for name in ("one", "two")]
    for part in ("model_state", "localizer"):
        one, two = (state[part] for state in states)
        if one is None:
            continue
        assert one.keys() == two.keys()
        for key, value in one.items():
            torch.testing.assert_close(
                two[key], value, rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
            )
    one, two = losses(folder, "one"), losses(folder, "two")
    assert one.keys() == two.keys() and one
    for key, value in one.items():
        assert two[key] == pytest.approx(value, rel=1e-5, abs=1e-5), key


def test_two_ranks_equal_one(tmp_path: Path, small_shapes: Path) -> None:
    """Base step and weak step, past the epoch in which the segmenter starts to learn from the localizer.

    One iteration an epoch: round-off of float32 grows a hundredfold with each further one, whatever the number of ranks.
    """
    few = (
        "--iters_per_epoch",
        "1",
        "--print_interval",
        "1",
        "--num_workers",
        "0",
        "--norm_act",
        "iabn_sync",
        "--lr_pseudo",
        "0.001",
    )
    for name, ranks in (("one", 1), ("two", 2)):
        run([*command(tmp_path, small_shapes, name, *BASE), *few], ranks)
    compare(tmp_path, 0)
    previous = str(tmp_path / "checkpoints/step/shapes-5-3-ov/one_0.pth")
    for name, ranks in (("one", 1), ("two", 2)):
        run(
            [
                *command(tmp_path, small_shapes, name, *WEAK),
                *few,
                "--epochs",
                "2",
                "--lr",
                "0.001",
                "--step_ckpt",
                previous,
            ],
            ranks,
        )
    compare(tmp_path, 1)


def test_two_ranks_rehearse_as_one(tmp_path: Path, small_shapes: Path) -> None:
    """With replay images: the same global batches, new and replay in turn, however they are shared out."""
    tree = labelled(tmp_path / "tree", ["circle", "star"], 3)
    # Small steps and batches of 8: rounding differs between one and two ranks, and grows where the statistics are of few images.
    few = ["--iters_per_epoch", "1", "--print_interval", "1", "--num_workers", "0", "--lr_pseudo", "0.0002"]
    run([*command(tmp_path, small_shapes, "base", *BASE), *few], 1)
    previous = str(tmp_path / "checkpoints/step/shapes-5-3-ov/base_0.pth")
    replay = [
        "--batch_size",
        "8",
        "--epochs",
        "2",
        "--lr",
        "0.0002",
        "--step_ckpt",
        previous,
        "--replay",
        "--replay_path",
        str(tree),
    ]
    for name, ranks in (("one", 1), ("two", 2)):
        run([*command(tmp_path, small_shapes, name, *WEAK), *few, *replay], ranks)
    compare(tmp_path, 1)


def test_the_other_launcher(tmp_path: Path, small_shapes: Path) -> None:
    """torch.distributed.launch passes --local-rank with a dash."""
    arguments = command(tmp_path, small_shapes, "launch", *BASE, "--iters_per_epoch", "1")
    launcher = ["-m", "torch.distributed.launch", "--nproc_per_node", "2", "--master_port", "29641"]
    done = subprocess.run(
        [sys.executable, *launcher, *arguments[1:]], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "checkpoints/step/shapes-5-3-ov/launch_0.pth").is_file()
