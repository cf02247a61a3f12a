"""Two gloo ranks compute what one process does: the same losses and weights on the same global batches."""

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
from tests.test_resume import BASE, WEAK, begin, command, stop_at
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
    """Base step and weak step, with a trained and a frozen body, past the epoch in which the segmenter starts to learn from the localizer.

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
    # A frozen body sees the images before the student does, which alone is wrapped.
    frozen = ["--freeze", "--loss_de", "0", "--epochs", "2", "--lr", "0.001", "--step_ckpt", previous]
    for name, ranks in (("one", 1), ("two", 2)):
        run([*command(tmp_path, small_shapes, name, *WEAK), *few, *frozen], ranks)
        log = (tmp_path / "logs/shapes-5-3-ov" / name / "log.txt").read_text()
        assert "The teacher's body is the same: one pass of it serves both" in log
    compare(tmp_path, 1)


@pytest.mark.slow
def test_a_body_that_learns_late(tmp_path: Path, small_shapes: Path) -> None:
    """Its gradients are averaged over the ranks though no output depended on it before."""
    few = ["--iters_per_epoch", "1", "--print_interval", "1", "--num_workers", "0", "--lr_pseudo", "0.001"]
    run([*command(tmp_path, small_shapes, "base", *BASE), *few], 1)
    previous = str(tmp_path / "checkpoints/step/shapes-5-3-ov/base_0.pth")
    late = ["--freeze", "--unfreeze_ep", "1", "--epochs", "2", "--lr", "0.001", "--step_ckpt", previous]
    for name, ranks in (("one", 1), ("two", 2)):
        run([*command(tmp_path, small_shapes, name, *WEAK), *few, *late], ranks)
        assert "The body is trained from now on" in (tmp_path / "logs/shapes-5-3-ov" / name / "log.txt").read_text()
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


@pytest.mark.slow
def test_two_ranks_paste_and_count_as_one(tmp_path: Path, small_shapes: Path) -> None:
    """What the best recipe may do more: pasted objects, counted confusion, likeness of classes; and the same after a stop."""
    tree = labelled(tmp_path / "tree", ["circle", "star"], 3)
    few = ["--iters_per_epoch", "1", "--print_interval", "1", "--num_workers", "0"]
    run([*command(tmp_path, small_shapes, "base", *BASE), *few], 1)
    more = (
        "--batch_size 8 --epochs 3 --loss_de 0 --freeze --replay --paste 1 --old_yields --confusion 0.5 --likeness 0.5"
    )
    rates = "--lr 0.0002 --lr_pseudo 0.0002"
    own = [*few, *more.split(), *rates.split(), "--replay_path", str(tree)]
    own += ["--step_ckpt", str(tmp_path / "checkpoints/step/shapes-5-3-ov/base_0.pth")]
    lines = {name: [*command(tmp_path, small_shapes, name, *WEAK), *own] for name in ("one", "two", "stopped")}
    for name, ranks in (("one", 1), ("two", 2)):
        run(lines[name], ranks)
    compare(tmp_path, 1)
    stop_at(begin(lines["stopped"]), "Epoch 2/3 done")
    run([*lines["stopped"], "--resume", "auto"], 1)
    one, two, again = (
        checkpoint.load(tmp_path / f"checkpoints/step/shapes-5-3-ov/{name}_1.pth") for name in ("one", "two", "stopped")
    )
    counts = one["memory"]["counts"]
    assert counts.sum() > 0
    torch.testing.assert_close(two["memory"]["counts"] * 2, counts, rtol=1e-4, atol=1e-4)
    for part in ("model_state", "localizer", "memory"):
        assert [key for key, value in one[part].items() if not torch.equal(again[part][key], value)] == [], part


@pytest.mark.slow
def test_blocks_that_run_again(tmp_path: Path, small_shapes: Path) -> None:
    """--recompute trains as without it, bit for bit: on one rank, after a stop, and on two ranks."""
    few = ("--iters_per_epoch", "1", "--print_interval", "1", "--num_workers", "0", "--norm_act", "iabn_sync")
    line = (*BASE, *few, "--epochs", "2", "--ckpt_interval", "1", "--backbone", "resnet50")
    for name, ranks, more in (
        ("plain", 1, ()),
        ("again", 1, ("--recompute",)),
        ("plain_two", 2, ("--epochs", "1")),
        ("two", 2, ("--recompute", "--epochs", "1")),
    ):
        run([*command(tmp_path, small_shapes, name, *line), *more], ranks)
    stopped = [*command(tmp_path, small_shapes, "stopped", *line), "--recompute"]
    assert "stopped by signal 15" in stop_at(begin(stopped), "Epoch 1/2 done")
    run([*stopped, "--resume", "auto"], 1)

    def weights(name: str) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = checkpoint.load(tmp_path / f"checkpoints/step/shapes-5-3-ov/{name}_0.pth")[
            "model_state"
        ]
        return state

    for name, like in (("again", "plain"), ("stopped", "plain"), ("two", "plain_two")):
        found, expected = weights(name), weights(like)
        assert [key for key, value in expected.items() if not torch.equal(found[key], value)] == [], name


def test_the_other_launcher(tmp_path: Path, small_shapes: Path) -> None:
    """torch.distributed.launch passes --local-rank with a dash."""
    arguments = command(tmp_path, small_shapes, "launch", *BASE, "--iters_per_epoch", "1")
    launcher = ["-m", "torch.distributed.launch", "--nproc_per_node", "2", "--master_port", "29641"]
    done = subprocess.run(
        [sys.executable, *launcher, *arguments[1:]], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "checkpoints/step/shapes-5-3-ov/launch_0.pth").is_file()


def rank_of(pid: int) -> str | None:
    """The rank that a launcher gave a process; None where it gave none, or the process is gone."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((text.decode()[5:] for text in variables if text.startswith(b"RANK=")), None)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks /proc for the ranks")
@pytest.mark.parametrize("whom", ["rank 1", "group"])
def test_ranks_agree_on_stopping(whom: str, tmp_path: Path, small_shapes: Path) -> None:
    """A signal at one rank alone, and one at all ranks and their launcher, which passes it on once more."""
    many = [*BASE, "--iters_per_epoch", "4", "--epochs", "3", "--batch_size", "4", "--num_workers", "1"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

    def arguments(name: str, *more: str) -> list[str]:
        line = command(tmp_path, small_shapes, name, *many, *more)
        return [line[0], *launcher, *line[1:]]

    path = tmp_path / "checkpoints/step/shapes-5-3-ov/stopped_0.pth"
    process = begin(arguments("stopped"))
    deadline = time.monotonic() + 240
    while not path.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if whom == "group":
        os.killpg(process.pid, signal.SIGTERM)
        for rank in children(process.pid):  # torchrun gives each rank a group of its own
            os.killpg(os.getpgid(rank), signal.SIGTERM)
    else:
        os.kill(next(rank for rank in children(process.pid) if rank_of(rank) == "1"), signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert process.returncode != 0 and errors.count("stopped by signal 15 at epoch ") == 1, errors[-3000:]
    state = checkpoint.load(path)
    assert not state["finished"] and 0 < 4 * state["epoch"] + state["iteration"] < 12

    for name, more in (("stopped", ["--resume", "auto"]), ("whole", [])):
        done = subprocess.run(
            arguments(name, *more), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    found, whole = (checkpoint.load(path.with_name(f"{name}_0.pth"))["model_state"] for name in ("stopped", "whole"))
    assert [key for key in whole if not torch.equal(found[key], whole[key])] == []
