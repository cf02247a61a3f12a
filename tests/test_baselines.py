"""PLOP, the SSUL-like method and RaSP's weak step, trained: what they freeze, that they learn, that stops and ranks change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import argparser
import run as entry
from dataset import class_names, default_folder
from dataset.views import DataOptions, make_views
from tasks import load_task
from tests.test_ddp import compare
from tests.test_ddp import run as launched
from tests.test_resume import BASE, command
from train import Trainer
from utils import checkpoint, distributed
from utils.errors import UserError
from utils.logger import Logger

EXPERIMENT = "shapes-5-3-ov"


def execute(folder: Path, data: Path, name: str, *options: str) -> int:
    return entry.main(argparser.parse(command(folder, data, name, *options)[2:]))


def saved(folder: Path, name: str, step: int) -> dict[str, torch.Tensor]:
    state = checkpoint.load(folder / "checkpoints/step" / EXPERIMENT / f"{name}_{step}.pth")
    assert state["finished"]
    weights: dict[str, torch.Tensor] = dict(state["model_state"])
    return weights | {f"unknown.{key}": value for key, value in state.get("unknown", {}).items()}


def losses(folder: Path, name: str, term: str) -> list[float]:
    lines = (folder / "logs" / EXPERIMENT / name / "scalars.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["value"] for row in rows if row["tag"] == f"loss/{term}"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> Path:
    """A base step by binary cross entropy, ``base``, and one with a classifier of the unknown, ``ssul``."""
    folder = tmp_path_factory.mktemp("baselines")
    assert execute(folder, small_shapes, "base", *BASE, "--num_workers", "0") == 0
    assert execute(folder, small_shapes, "ssul", *BASE, "--num_workers", "0", "--method", "ssul") == 0
    # A teacher that takes everything for something.
    path = folder / "checkpoints/step" / EXPERIMENT / "base_0.pth"
    state = checkpoint.load(path)
    state["model_state"]["cls.0.bias"][0] -= 9
    checkpoint.save(path.with_name("eager_0.pth"), state)
    return folder


def later(folder: Path, *options: str, start: str = "base") -> tuple[str, ...]:
    """A step that logs every iteration."""
    previous = str(folder / "checkpoints/step" / EXPERIMENT / f"{start}_0.pth")
    return ("--step", "1", "--num_workers", "0", "--print_interval", "1", "--step_ckpt", previous, *options)


@pytest.mark.parametrize(
    ("start", "options", "term"),
    [
        ("base", "--method plop --init_balanced --lr 0.002 --epochs 3", "seg"),
        ("ssul", "--method ssul --freeze --lr 0.02 --epochs 3", "seg"),
        ("eager", "--method rasp --weakly --lr_pseudo 0.1 --epochs 2", "prior"),
    ],
)
def test_a_step_learns(base: Path, small_shapes: Path, start: str, options: str, term: str) -> None:
    name = f"learns-{options.split()[1]}"
    assert execute(base, small_shapes, name, *later(base, *options.split(), start=start)) == 0
    values = losses(base, name, term)
    assert len(values) >= 8 and sum(values[-4:]) < 0.85 * sum(values[:4])


def test_what_was_learned_is_frozen_and_new_classes_start_as_the_unknown(base: Path, small_shapes: Path) -> None:
    line = later(base, "--method", "ssul", "--freeze", "--epochs", "1", start="ssul")
    assert execute(base, small_shapes, "frozen", *line) == 0
    before, after = saved(base, "ssul", 0), saved(base, "frozen", 1)
    moved = {key for key in before if not torch.equal(before[key], after[key]) and "num_batches" not in key}
    assert moved == {"cls.0.weight", "cls.0.bias", "unknown.weight", "unknown.bias"}
    for key in ("cls.0.weight", "cls.0.bias"):
        assert torch.equal(before[key][1:], after[key][1:]) and not torch.equal(before[key][0], after[key][0])
    options = argparser.parse(command(base, small_shapes, "begun", *line)[2:])
    begun = start_of(options)
    assert torch.equal(begun["cls.1.weight"], before["unknown.weight"].expand(3, -1, -1, -1))
    with pytest.raises(UserError, match="holds no classifier of the unknown"):
        execute(base, small_shapes, "wrong", *later(base, "--method", "ssul", "--freeze", "--epochs", "1"))


def start_of(options: argparser.Options) -> dict[str, torch.Tensor]:
    """The student's weights before the first iteration."""
    folder = default_folder(options.dataset, options.data_root, options.dataset_dir)
    names, task = class_names(options.dataset, folder), load_task(options.dataset, options.task)
    logger = Logger(options.log_folder, main=False, name="begun", options={})
    trainer = Trainer(options, task, names, distributed.start("cpu"), logger)
    trainer.begin(make_views(task, options.step, folder, DataOptions.of(options)).train)
    weights: dict[str, torch.Tensor] = trainer.networks.model.state_dict()
    return weights


def stopped(base: Path, data: Path, name: str, line: tuple[str, ...], at: int) -> int:
    """Exit code of a run that is asked to stop at an iteration, 0 being the survey."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "_asked", lambda self: 15 if self.progress.iteration == at else 0)
        return execute(base, data, name, *line)


def compare_stopped(base: Path, data: Path, start: str, options: str, *stops: int) -> None:
    line = later(base, *options.split(), "--epochs", "1", "--iters_per_epoch", "3", start=start)
    whole, halves = f"whole-{start}", f"halves-{start}"
    assert execute(base, data, whole, *line) == 0
    for at in stops:
        assert stopped(base, data, halves, (*line, "--resume", "auto"), at) == 128 + 15
        path = base / "checkpoints/step" / EXPERIMENT / f"{halves}_1.pth"
        assert checkpoint.load(path)["iteration"] == at
    assert execute(base, data, halves, *line, "--resume", "auto") == 0
    one, two = saved(base, whole, 1), saved(base, halves, 1)
    assert one.keys() == two.keys() and not [key for key in one if not torch.equal(one[key], two[key])]


def test_a_stopped_run_goes_on_with_the_same(base: Path, small_shapes: Path) -> None:
    """Stopped in the survey and after it; each time the images are surveyed once more, and the same is found."""
    compare_stopped(base, small_shapes, "base", "--method plop --init_balanced", 0, 2)


@pytest.mark.slow
def test_what_is_unknown_goes_on_too(base: Path, small_shapes: Path) -> None:
    compare_stopped(base, small_shapes, "ssul", "--method ssul --freeze", 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "options"), [("base", "--method plop --init_balanced"), ("ssul", "--method ssul --freeze")]
)
def test_two_ranks_equal_one(base: Path, small_shapes: Path, tmp_path: Path, start: str, options: str) -> None:
    few = ("--epochs", "2", "--iters_per_epoch", "1", "--lr", "0.0002", "--norm_act", "iabn_sync")
    for name, ranks in (("one", 1), ("two", 2)):
        launched(command(tmp_path, small_shapes, name, *later(base, *options.split(), *few, start=start)), ranks)
    compare(tmp_path, 1)
