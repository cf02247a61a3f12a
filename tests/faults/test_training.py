"""A training that is killed, stopped or out of disk, and gone on with, ends with the weights, bit for bit, that it would have had."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import argparser
import run as run_script
from tests.faults.harness import (
    LONG,
    SMALL,
    Ended,
    count_changes,
    differences,
    half_written,
    held,
    killed,
    killed_somewhere,
    one_thread,
    only_long,
    plain,
    read_only,
    rng,
    run,
    running,
    seeds,
    small_disk,
)
from tests.test_resume import WEAK, command
from utils import checkpoint
from utils.errors import UserError

pytestmark = pytest.mark.timeout(3600 if LONG else 600)

EXPERIMENT = "shapes-5-3-ov"
LAST = "Epoch 3/3 done"
# Of a row of results: what the clock and the machine say.
MEASURED = ("time", "seconds", "memory_mib")
STATE = (
    "epoch",
    "iteration",
    "finished",
    "best_score",
    "model_state",
    "localizer",
    "optimizer_state",
    "scheduler_state",
)


class Training:
    """A weak step of three epochs of four iterations in a folder of its own."""

    def __init__(self, folder: Path, data: Path, base_ckpt: Path, name: str = "run") -> None:
        self.folder, self.name = folder, name
        self.line = command(folder, data, name, *WEAK, *SMALL, "--step_ckpt", str(base_ckpt), "--resume", "auto")
        self.path = folder / "checkpoints/step" / EXPERIMENT / f"{name}_1.pth"
        self.log = folder / "logs" / EXPERIMENT / name

    def end(self) -> dict[str, Any]:
        """What the run ended with, without what the clock says."""
        state = checkpoint.load(self.path)
        assert state["finished"]
        with (self.folder / "logs/results/shapes-5-3.csv").open(newline="") as file:
            row = [row for row in csv.DictReader(file) if row["name"] == self.name][-1]
        lines = [json.loads(line) for line in (self.log / "scalars.jsonl").read_text().splitlines()]
        return {
            "state": plain({key: state[key] for key in STATE}),
            "row": {key: value for key, value in row.items() if key not in MEASURED},
            "confusion": (self.log / "confusion_1.csv").read_bytes(),
            "scalars": {f"{line['tag']} {line['step']}": line["value"] for line in lines},
        }

    def iterations(self) -> int:
        """Iterations whose losses are in the log so far."""
        path = self.log / "scalars.jsonl"
        return path.read_text().count('"loss/total"') if path.is_file() else 0

    def progress(self) -> tuple[int, int]:
        """Epoch and iteration of the saved state."""
        state = checkpoint.load(self.path)
        return state["epoch"], state["iteration"]

    def logged(self, text: str) -> bool:
        """Whether the log says so."""
        path = self.log / "log.txt"
        return path.is_file() and text in path.read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path, base_ckpt: Path) -> dict[str, Any]:
    """The end of a run that nobody disturbed."""
    training = Training(tmp_path_factory.mktemp("whole") / "run", small_shapes, base_ckpt)
    with one_thread():
        assert run_script.main(argparser.parse(training.line[2:])) == 0
    return training.end()


@pytest.fixture(scope="module")
def total(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path, base_ckpt: Path, whole: dict[str, Any]) -> int:
    """How many changes to files such a run makes."""
    folder = tmp_path_factory.mktemp("total")
    training = Training(folder / "run", small_shapes, base_ckpt)
    found = count_changes(training.line, training.folder, folder)
    assert not differences(whole, training.end())
    return found


def check_end(training: Training, whole: dict[str, Any], folder: Path) -> None:
    """The same command goes on to the end of an undisturbed run, and leaves nothing half written."""
    ended = run(training.line, folder)
    assert ended.code == 0, ended.err[-3000:]
    assert not differences(whole, training.end())
    assert not half_written(training.folder)


def stopped(training: Training, where: Path, seen: Callable[[], bool], number: int, group: bool) -> Ended:
    """The run, with a signal as soon as something is ``seen``."""
    with running(training.line, where) as child:
        child.wait_for(seen)
        child.send(number, group)
        return child.end()


def check_stopped(ended: Ended, number: int) -> None:
    assert ended.code == 128 + number, f"{ended.code}: {ended.err[-3000:]}"
    assert "Traceback" not in ended.err and f"stopped by signal {int(number)}" in ended.err


# ---- kills and stops ------------------------------------------------------------------------------------------------------


def test_interrupted_again_and_again(
    whole: dict[str, Any], tmp_path: Path, small_shapes: Path, base_ckpt: Path
) -> None:
    """One run: killed while it saves, doubled, its group stopped, its disk full, stopped in its last validation; then left alone."""
    training, where = Training(tmp_path / "run", small_shapes, base_ckpt), tmp_path / "out"
    saving = f"rename .{training.path.name}."
    assert killed(training.line, training.folder, where, saving).code == -signal.SIGKILL
    assert not training.path.is_file() and half_written(training.folder)

    with held(training.line, training.folder, where, saving) as child:
        run(training.line, where).check_refused("another run")
        child.send(signal.SIGCONT)
        child.wait_for(training.path.is_file)
        child.send(signal.SIGTERM, group=True)
        check_stopped(child.end(), signal.SIGTERM)
    assert not half_written(training.folder), "what the killed run left is gone"
    assert (0, 0) < training.progress() < (3, 0)

    state = training.path.read_bytes()
    run(training.line, where, largest=len(state) // 2).check_refused(str(training.path), "File too large")
    assert training.path.read_bytes() == state and not half_written(training.folder)

    ended = stopped(training, where, lambda: training.logged(LAST), signal.SIGTERM, group=True)
    check_stopped(ended, signal.SIGTERM)
    assert training.progress() == (3, 0), "the last epoch is saved before it is validated"
    check_end(training, whole, where)


@only_long
@pytest.mark.parametrize("seed", seeds(20))
def test_killed_at_any_moment(
    whole: dict[str, Any], total: int, tmp_path: Path, small_shapes: Path, base_ckpt: Path, seed: int
) -> None:
    training = Training(tmp_path / "run", small_shapes, base_ckpt)
    killed_somewhere(training.line, training.folder, tmp_path / "out", rng("training", seed), total)
    check_end(training, whole, tmp_path / "out")


@only_long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("seed", seeds(3))
def test_stopped_at_any_moment(
    whole: dict[str, Any], tmp_path: Path, small_shapes: Path, base_ckpt: Path, number: int, group: bool, seed: int
) -> None:
    """From the first iteration to the last; the state that it stopped in is saved."""
    training = Training(tmp_path / "run", small_shapes, base_ckpt)
    asked = rng("stopped", number, group, seed).randint(1, 12)
    ended = stopped(training, tmp_path / "out", lambda: training.iterations() >= asked, number, group)
    check_stopped(ended, number)
    epoch, iteration = training.progress()
    assert 4 * epoch + iteration >= asked
    check_end(training, whole, tmp_path / "out")


@only_long
@pytest.mark.parametrize("seed", range(3))
def test_one_rank_is_stopped(tmp_path: Path, small_shapes: Path, base_ckpt: Path, seed: int) -> None:
    """The ranks agree on the iteration after which they stop, whichever of them was asked."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    whole, training = (Training(tmp_path / name, small_shapes, base_ckpt) for name in ("whole", "run"))
    for one in (whole, training):
        one.line = [one.line[0], *launcher, *one.line[1:]]
    ended = run(whole.line, tmp_path / "out")
    assert ended.code == 0, ended.err[-3000:]
    asked, rank = rng("ranks", seed).randint(1, 10), seed % 2
    with running(training.line, tmp_path / "out") as child:
        child.wait_for(lambda: training.iterations() >= asked)
        ranks = [p for p in child.pids() if f"RANK={rank}" in environment(p) and parent(p) == child.process.pid]
        assert len(ranks) == 1
        os.kill(ranks[0], signal.SIGTERM)
        ended = child.end()
    assert ended.code and f"stopped by signal {int(signal.SIGTERM)}" in ended.err, ended.err[-3000:]
    epoch, iteration = training.progress()
    assert asked <= 4 * epoch + iteration < 12
    check_end(training, whole.end(), tmp_path / "out")


def environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# ---- disks ----------------------------------------------------------------------------------------------------------------


@only_long
@pytest.mark.parametrize("states", [0.5, 1.5, 2.5])
def test_a_small_disk(
    whole: dict[str, Any], tmp_path: Path, small_shapes: Path, base_ckpt: Path, states: float
) -> None:
    """Full while the first, second or third state is written: one line, the older state stays, and with more room it goes on."""
    size = len(base_ckpt.read_bytes()) * 1.3  # A weak step's is larger by its localizer.
    with small_disk(tmp_path / "run", f"{round(states * size / 2**10)}k") as resize:
        training = Training(tmp_path / "run", small_shapes, base_ckpt)
        run(training.line, tmp_path / "out").check_refused("No space left on device")
        assert training.path.is_file() == (states > 1) and not half_written(training.folder)
        resize("100m")
        check_end(training, whole, tmp_path / "out")


@pytest.mark.parametrize("part", ["checkpoints", "logs"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, small_shapes: Path, base_ckpt: Path, part: str) -> None:
    """Told before the first iteration: nobody trains for hours what cannot be saved."""
    training = Training(tmp_path / "run", small_shapes, base_ckpt)
    (training.folder / part).mkdir(parents=True)
    with read_only(training.folder / part), pytest.raises(UserError, match=f"run/{part}.*(Read-only|Permission)"):
        run_script.main(argparser.parse(training.line[2:]))
    assert not training.iterations()


# ---- commands that are refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    ["--step_ckpt MISSING", "--pl_ckpt MISSING", "--replay --replay_path MISSING", "--web --web_path MISSING",
     "--train_list MISSING", "--val_list MISSING", "--step_ckpt DAMAGED", "--pl_ckpt DAMAGED"],
)  # fmt: skip
def test_a_refused_command_leaves_the_checkpoint(
    tmp_path: Path, small_shapes: Path, base_ckpt: Path, options: str
) -> None:
    """Whatever is wrong with an input: the finished checkpoint of this name stays where it is."""
    (tmp_path / "DAMAGED").write_bytes(base_ckpt.read_bytes()[:1000])
    training = Training(tmp_path / "run", small_shapes, base_ckpt)
    training.path.parent.mkdir(parents=True)
    training.path.write_bytes(b"a finished checkpoint")
    words = [str(tmp_path / word) if word.isupper() else word for word in options.split()]
    fresh = [word for word in training.line[2:] if word not in ("--resume", "auto")]
    with pytest.raises(UserError, match=r"MISSING|DAMAGED"):
        run_script.main(argparser.parse([*fresh, *words]))
    assert training.path.read_bytes() == b"a finished checkpoint"
    assert [path.name for path in training.path.parent.iterdir() if not path.name.startswith(".")] == [
        training.path.name
    ]
