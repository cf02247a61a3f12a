"""Where a run's weights come from, in the order in which it is decided, and what a checkpoint says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import argparser
from engine.networks import make_networks
from engine.state import Description, Origin, Snapshot, Start, read_model, weights_origin
from tasks import load_task
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError
from utils.logger import Logger


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Checkpoints of steps 0 and 1 of a run named ``run``, and others; none is read."""
    folder = tmp_path / "step/shapes-5-3"
    folder.mkdir(parents=True)
    for name in ("run_0.pth", "run_1.pth", "fresh_0.pth", "other.pth", "previous.pth"):
        (folder / name).touch()
    return folder


def origin(place: Path, line: str) -> Origin:
    line = line.replace("FOLDER", str(place))
    options = argparser.parse(f"--dataset shapes --task 5-3 --checkpoints {place.parent.parent} {line}".split())
    return weights_origin(options)


# Options, what is taken, the student's checkpoint and the teacher's.
STEP_1 = "--step 1 --weakly --name"
CASES = {
    "test": (f"{STEP_1} run --test", Start.TEST, "run_1", "run_0"),
    "test of another": (f"{STEP_1} run --test --ckpt FOLDER/other.pth", Start.TEST, "other", "run_0"),
    "go on from another": (f"{STEP_1} run --ckpt FOLDER/other.pth", Start.RESUMED, "other", "run_0"),
    "continue": (f"{STEP_1} run --continue_ckpt", Start.RESUMED, "run_1", "run_0"),
    "resume": (f"{STEP_1} run --resume auto", Start.RESUMED, "run_1", "run_0"),
    "nothing to resume": (f"{STEP_1} fresh --resume auto", Start.PREVIOUS_STEP, "fresh_0", "fresh_0"),
    "fresh over an earlier run": (f"{STEP_1} run", Start.PREVIOUS_STEP, "run_0", "run_0"),
    "previous step by name": (f"{STEP_1} run --step_ckpt FOLDER/previous.pth", Start.PREVIOUS_STEP, "previous", "previous"),
    "teacher of a resumed run": (
        f"{STEP_1} run --resume auto --step_ckpt FOLDER/previous.pth", Start.RESUMED, "run_1", "previous",
    ),
    "base": ("--step 0 --name run", Start.PRETRAINED, None, None),
    "base resumed": ("--step 0 --name run --resume auto", Start.RESUMED, "run_0", None),
    "base tested": ("--step 0 --name run --test", Start.TEST, "run_0", None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_where_weights_come_from(case: str, place: Path) -> None:
    line, start, student, teacher = CASES[case]
    paths = [None if name is None else place / f"{name}.pth" for name in (student, teacher)]
    assert origin(place, line) == Origin(start, *paths)


def test_the_localizer_of_another_checkpoint_starts_a_step_alone(place: Path) -> None:
    line = f"{STEP_1} run --pl_ckpt FOLDER/other.pth"
    assert origin(place, line).localizer == place / "other.pth"
    for going_on in ("--resume auto", "--continue_ckpt", "--test"):
        assert origin(place, f"{line} {going_on}").localizer is None, "the run's own localizer is in its checkpoint"


def test_what_a_checkpoint_says_of_itself(tmp_path: Path) -> None:
    weights = {"cls.0.bias": torch.ones(2)}
    torch.save({"model_state": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "published.pth")
    found, description = read_model(tmp_path / "published.pth")
    assert found.keys() == weights.keys() and description is None
    options = argparser.parse("--dataset voc --task 15-5".split()).plain()
    identity = {"dataset": "voc", "task": "15-5", "protocol": "disjoint", "classes": [[0, 3]]}
    own = {"options": options, "identity": identity, "class_names": ["background", "cow"]}
    checkpoint.save(tmp_path / "own.pth", {"model_state": weights, **own})
    _, description = read_model(tmp_path / "own.pth")
    assert description == Description(options, [[0, 3]], ["background", "cow"])
    with pytest.raises(UserError, match="no such checkpoint"):
        read_model(tmp_path / "nowhere.pth")


def test_a_step_starts_from_published_checkpoints(tmp_path: Path) -> None:
    """Student and teacher from the previous step's, the localizer from ``--pl_ckpt``, there named ``pseudolabeler``."""
    task, runtime = load_task("shapes", "5-3"), Runtime(torch.device("cpu"))
    network = f"--dataset shapes --task 5-3 --backbone timm:resnet10t --device cpu --checkpoints {tmp_path}"
    base = make_networks(argparser.parse(f"{network} --step 0 --random_seed 1".split()), task, runtime)
    weights = {f"module.{key}": value + 1 for key, value in base.model.state_dict().items()}
    previous, donor = tmp_path / "previous.pth", tmp_path / "donor.pth"
    torch.save({"model_state": weights}, previous)
    donor.touch()
    line = f"{network} --step 1 --weakly --step_ckpt {previous} --pl_ckpt {donor}"
    options = argparser.parse(line.split())
    networks = make_networks(options, task, runtime)
    assert networks.localizer is not None and networks.teacher is not None
    logger = Logger(tmp_path / "log", main=True, name="start", options={}, tensorboard=False)
    names = [str(number) for number in task.seen(1)]
    snapshot = Snapshot(options, task, names, networks, runtime, logger)
    localizer = {f"module.{key}": value + 1 for key, value in networks.localizer.state_dict().items()}
    fresh = networks.model.state_dict()["cls.1.weight"].clone()

    torch.save({"model_state": weights, "pseudolabeler": localizer}, donor)
    assert snapshot.start(weights_origin(options), None).epoch == 0
    for own in (networks.model.state_dict(), networks.teacher.state_dict()):
        assert all(torch.equal(own[key.removeprefix("module.")], value) for key, value in weights.items())
    assert torch.equal(networks.model.state_dict()["cls.1.weight"], fresh), "new classifiers are new"
    own = networks.localizer.state_dict()
    assert all(torch.equal(own[key.removeprefix("module.")], value) for key, value in localizer.items())

    last = list(localizer)[-1]
    for content, message in (
        ({}, "this checkpoint holds no localizer"),
        ({"localizer": localizer | {last: localizer[last][:-1]}}, "its localizer is of another network or number of"),
    ):
        torch.save({"model_state": weights, **content}, donor)
        with pytest.raises(UserError, match=f"--pl_ckpt {donor}: {message}"):
            snapshot.start(weights_origin(options), None)
    logger.close()
