"""Two machines of a cluster, played by two torchruns with their ranks: the same numbers as one process, and no waiting for the dead.

What takes minutes on one core is marked slow.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.test_ddp import compare, run
from tests.test_resume import BASE, WEAK, command
from utils import checkpoint

FEW = ["--iters_per_epoch", "1", "--print_interval", "1", "--num_workers", "0", "--norm_act", "iabn_sync"]
FEW += ["--lr_pseudo", "0.001"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def nodes(lines: Sequence[list[str]], ranks: int) -> list[subprocess.Popen[str]]:
    """One torchrun a node, each with its own command line, in a process group of its own."""
    launcher = ["-m", "torch.distributed.run", "--nnodes", str(len(lines)), "--nproc_per_node", str(ranks)]
    launcher += ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"localhost:{free_port()}", "--rdzv_id", "nodes"]
    return [
        subprocess.Popen(
            [line[0], *launcher, *line[1:]],
            cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )
        for line in lines
    ]  # fmt: skip


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and stderr of each node."""
    try:
        errors = [process.communicate(timeout=500)[1] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return [(process.returncode, text) for process, text in zip(processes, errors, strict=True)]


def whole(lines: Sequence[list[str]], ranks: int) -> None:
    for code, text in ended(nodes(lines, ranks)):
        assert code == 0, text[-3000:]


@pytest.mark.slow
def test_two_nodes_of_two_ranks_equal_one_process(tmp_path: Path, small_shapes: Path) -> None:
    """Base step and weak step with synchronised norms, as tests/test_ddp.py compares two ranks with one."""
    run([*command(tmp_path, small_shapes, "one", *BASE), *FEW], 1)
    whole([[*command(tmp_path, small_shapes, "two", *BASE), *FEW]] * 2, 2)
    compare(tmp_path, 0)
    previous = str(tmp_path / "checkpoints/step/shapes-5-3-ov/one_0.pth")
    weak = [*WEAK, *FEW, "--epochs", "2", "--lr", "0.001", "--step_ckpt", previous]
    run(command(tmp_path, small_shapes, "one", *weak), 1)
    whole([command(tmp_path, small_shapes, "two", *weak)] * 2, 2)
    compare(tmp_path, 1)


@pytest.mark.slow
def test_two_nodes_stop_and_go_on(tmp_path: Path, small_shapes: Path) -> None:
    """SIGTERM to one node alone: both save and stop; with --resume auto both go on; without the file on one disk both refuse."""
    many = [*BASE, "--iters_per_epoch", "4", "--epochs", "3", "--num_workers", "0", "--resume", "auto"]
    line = command(tmp_path, small_shapes, "stopped", *many)
    path = tmp_path / "checkpoints/step/shapes-5-3-ov/stopped_0.pth"
    first, second = nodes([line] * 2, 1)
    deadline = time.monotonic() + 400
    while not path.is_file() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    second.send_signal(signal.SIGTERM)
    (code, text), (other, _) = ended([first, second])
    assert code and other and text.count("stopped by signal 15 at epoch ") == 1, text[-3000:]
    state = checkpoint.load(path)
    assert not state["finished"] and 0 < 4 * state["epoch"] + state["iteration"] < 12

    # A machine whose disk has not the checkpoint.
    apart = [*line, "--checkpoints", str(tmp_path / "disk of its own")]
    for code, text in ended(nodes([line, apart], 1)):
        assert code and f'  File "{ROOT}/run.py"' not in text, text[-3000:]
        assert "rank 1: the start is " in text and "share the folders of data and checkpoints, or copy them" in text
    assert checkpoint.load(path)["iteration"] == state["iteration"]

    whole([line] * 2, 1)
    one = command(tmp_path, small_shapes, "whole", *many)
    whole([one] * 2, 1)
    found, expected = (checkpoint.load(path.with_name(f"{name}_0.pth"))["model_state"] for name in ("stopped", "whole"))
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


def test_what_one_node_has_not(tmp_path: Path, small_shapes: Path) -> None:
    """A command line that one node refuses ends the other, which would wait for it to join."""
    line = command(tmp_path, small_shapes, "apart", *BASE, "--num_workers", "0")
    own, other = ended(nodes([line, [*line, "--val_list", str(tmp_path / "nowhere.npy")]], 1))
    assert own[0] and "run.py: rank 1 cannot go on; its own line says why" in own[1], own[1][-3000:]
    assert other[0] and f"run.py: --val_list {tmp_path}/nowhere.npy" in other[1], other[1][-3000:]
    assert not list(tmp_path.rglob("*.pth"))


def fake(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_the_line_of_slurm(tmp_path: Path, small_shapes: Path) -> None:
    """examples/slurm.sh with SLURM's commands and variables played: told that its time is over, it saves and asks for another turn."""
    script = ROOT / "examples/slurm.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    commands = tmp_path / "commands"
    commands.mkdir()
    fake(commands, "srun", 'exec "$@"')
    fake(commands, "scontrol", f'if [[ $1 == show ]]; then echo localhost; else echo "$@" >> {tmp_path}/asked; fi')
    variables = {"SLURM_JOB_ID": str(free_port()), "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "localhost"}
    variables |= {
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
    }
    many = ("--iters_per_epoch", "4", "--epochs", "3", "--num_workers", "0")
    line = ["bash", str(script), *command(tmp_path, small_shapes, "slurm", *BASE, *many)[2:]]
    path = tmp_path / "checkpoints/step/shapes-5-3-ov/slurm_0.pth"
    environment = os.environ | variables | {"PATH": f"{commands}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 400
    while not path.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    ((code, text),) = ended([process])
    assert code and text.count("stopped by signal 15 at epoch ") == 1, text[-3000:]
    assert (tmp_path / "asked").read_text() == f"requeue {variables['SLURM_JOB_ID']}\n"
    assert not checkpoint.load(path)["finished"]
