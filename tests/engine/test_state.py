"""Where a run's weights come from, in the order in which it is decided, and what a checkpoint says of itself."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import argparser
from engine import state as engine_state
from engine.networks import Networks, Optimisation, make_networks, make_optimisation
from engine.state import Origin, Progress, Snapshot, Start, claimed, read_model, weights_origin
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
    assert description is not None and (description.options, description.steps) == (options, ((0, 3),))
    assert description.names == {0: "background", 3: "cow"} and not description.adopted
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


# ---- a run's own state ----------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A run of shapes 5-3 that is not trained, in a folder of its own."""

    options: argparser.Options
    networks: Networks
    optimisation: Optimisation
    snapshot: Snapshot

    @property
    def path(self) -> Path:
        return self.options.checkpoint_path(self.options.step)

    def save(self, **progress: Any) -> dict[str, Any]:
        self.snapshot.save(self.path, Progress(**progress), self.optimisation)
        return checkpoint.load(self.path)

    def start(self) -> Progress:
        return self.snapshot.start(weights_origin(self.options), self.optimisation)


NAMES = ("background", "circle", "square", "triangle", "star", "ring", "cross", "crescent", "heart")


def a_run(folder: Path, line: str = "", names: Sequence[str] = NAMES) -> Run:
    task, runtime = load_task("shapes", "5-3"), Runtime(torch.device("cpu"))
    network = (
        f"--dataset shapes --task 5-3 --backbone timm:resnet10t --device cpu --checkpoints {folder} --no_pretrained"
    )
    if "--step 1" in line:
        network = network.removesuffix(" --no_pretrained")
    options = argparser.parse(f"{network} {line}".split())
    networks = make_networks(options, task, runtime)
    optimisation = make_optimisation(options, networks, runtime, 4)
    logger = Logger(folder / "log", main=True, name="start", options={}, tensorboard=False)
    own = list(names[: len(task.seen(options.step))])
    return Run(options, networks, optimisation, Snapshot(options, task, own, networks, runtime, logger))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A weak step that was stopped, and all that its checkpoint holds."""
    folder = tmp_path_factory.mktemp("whole")
    base = a_run(folder)
    base.save(epoch=1, finished=True)
    run = a_run(folder, "--step 1 --weakly")
    for group in run.optimisation.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    run.optimisation.optimizer.step()
    return folder, run.save(epoch=1, iteration=2)


def test_a_stopped_run_goes_on(whole: tuple[Path, dict[str, Any]]) -> None:
    progress = a_run(whole[0], "--step 1 --weakly --resume auto").start()
    assert (progress.epoch, progress.iteration, progress.finished) == (1, 2, False)


ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    "x",
    b"x",
    [],
    [1],
    {},
    {"a": 1},
    {1: "a"},
    torch.ones(2),
    {"w": torch.ones(2)},
)
# What may stand there as well: nobody asks, or it fits.
ALLOWED = {"localizer": (None,), "best_score": (-1, 1.5), "seconds": (-1, 1.5), "memory_mib": (-1, 1.5),
           "scaler": ({},), "finished": (True,), "history": ([], ())}  # fmt: skip


def started(state: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> str:
    """What a run says that goes on from a state, or from the step before it; "" where it goes on."""
    read = checkpoint.read
    monkeypatch.setattr(checkpoint, "read", lambda path, *more: state if path == run.path else read(path, *more))
    try:
        run.start()
    except UserError as error:
        assert str(error).isprintable() and str(run.path) in str(error)
        return str(error)
    return ""


def test_every_field_of_another_type_is_refused(
    whole: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each field in a dozen ways: one line, and never another error."""
    folder, state = whole
    run = a_run(folder, "--step 1 --weakly --resume auto")
    tried = 0
    for name in state:
        allowed = ALLOWED.get(name, ())
        for odd in ODD:
            said = started(state | {name: odd}, folder, monkeypatch, run)
            fits = any(odd is one or (type(odd) is type(one) and odd == one) for one in allowed)
            assert bool(said) != fits, f"{name} = {odd!r}: {said!r}"
            tried += 1
        without = {key: value for key, value in state.items() if key != name}
        said = started(without, folder, monkeypatch, run)
        assert bool(said) != (name in ("format", "localizer", "seconds", "memory_mib", "history")), (
            f"without {name}: {said!r}"
        )
    assert tried > 200


def changed(state: Any, path: str, value: Any) -> Any:
    """A copy of nested dictionaries and lists with one value changed, or left out where it is ``...``."""
    key, _, rest = path.partition("/")
    copy = list(state) if isinstance(state, list | tuple) else dict(state)
    own: Any = int(key) if key.lstrip("-").isdigit() else key
    if rest:
        copy[own] = changed(copy[own], rest, value)
    elif value is ...:
        del copy[own]
    else:
        copy[own] = value
    return copy


DEEP: tuple[tuple[str, Any], ...] = (
    ("identity/classes", [[0, 1], [2]]), ("identity/classes", []), ("identity/classes/1", "678"), ("identity/classes/0/1", 1.0),
    ("identity/classes/0/1", "1"), ("identity/dataset", 3), ("identity/task", None), ("identity/protocol", ...),
    ("identity/dataset", ...), ("identity/dataset", "voc"), ("class_names/2", 2), ("identity/classes/1", [6, 7, 7]),
    ("identity/classes/1", [6, 7, 255]), ("class_names", ["background"]), ("class_names/1", "hammer"), ("options/step", "1"),
    ("options/step", 0), ("options/step", ...), ("options/lr", "fast"), ("options/backbone", 50), ("options/norm_act", []),
    ("options/norm_act", ...), ("options/pooling", None), ("options/batch_size", torch.ones(1)), ("iteration", 4),
    ("iteration", 10**30), ("iters_per_epoch", 0), ("format", 2), ("kind", "discriminator"), ("kind", "\x1b[31m"), ("kind", None),
    ("model_state/cls.1.bias", torch.ones(9)), ("model_state/cls.1.weight", torch.tensor(1.0)), ("model_state/cls.0.weight", ...),
    ("model_state/cls.0.bias", torch.full((6,), float("nan"))), ("model_state/cls.0.bias", torch.ones(6, dtype=torch.int64)),
    ("model_state/cls.0.bias", torch.ones(1).expand(6)), ("model_state/cls.0.bias", [1.0] * 6), ("model_state/\x1b[31m", torch.ones(1)),
    ("model_state/body.model.conv1.0.weight", torch.ones(1)), ("localizer/stranger", torch.ones(1)),
    ("optimizer_state/param_groups", ...), ("optimizer_state/param_groups", []), ("optimizer_state/param_groups/0/lr", "fast"),
    ("optimizer_state/param_groups/0/params", [0]), ("optimizer_state/param_groups/0", 3), ("optimizer_state/state", [1]),
    ("optimizer_state/state/0/momentum_buffer", torch.ones(1)), ("optimizer_state/state/0/momentum_buffer", "x"),
    ("optimizer_state/state/0", 3), ("optimizer_state/state/9999", {}), ("optimizer_state/state/a", {}),
    ("random_states/torch", torch.ones(3)), ("random_states/torch", torch.ones(3, dtype=torch.uint8)),
    ("scheduler_state/last_epoch", "x"), ("scheduler_state/last_epoch", None),
)  # fmt: skip


@pytest.mark.parametrize(("path", "value"), DEEP, ids=[path for path, _ in DEEP])
def test_damage_inside_fields_is_refused(
    path: str, value: Any, whole: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, state = whole
    assert started(changed(state, path, value), folder, monkeypatch, a_run(folder, "--step 1 --weakly --resume auto"))


# ---- whose weights they are -----------------------------------------------------------------------------------------

OTHER = ("background", "apple", *NAMES[2:])
SWAPPED = ("background", "square", "circle", *NAMES[3:])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (OTHER, "class 1 is circle there and apple here"),
        (SWAPPED, "class 1 is circle there and square here"),
        ((*NAMES[:5], "moon", *NAMES[6:]), "class 5 is ring there and moon here"),
    ],
)
@pytest.mark.parametrize(
    "line",
    ["--test", "--resume auto", "--continue_ckpt", "--ckpt {path}", "--test --ckpt {path}", "--step 1 --weakly"],
)
def test_a_checkpoint_of_other_classes_is_refused(
    line: str, names: Sequence[str], words: str, whole: tuple[Path, dict[str, Any]]
) -> None:
    """Same task file, same ids, other names: of another data set, or of a list of classes in another order."""
    folder = whole[0]
    path = folder / "step/shapes-5-3/Experiment_0.pth"
    run = a_run(folder, line.format(path=path), names)
    with pytest.raises(
        UserError, match=f"{path}: {words}: it is of another data set, or the classes were numbered anew"
    ):
        run.start()


def test_the_teacher_and_the_localizer_are_of_the_same_classes_too(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, state = whole
    own, base = (folder / f"step/shapes-5-3/Experiment_{step}.pth" for step in (1, 0))
    foreign = tmp_path / "foreign.pth"
    teacher = checkpoint.load(base)
    teacher["class_names"][3] = "cube"
    checkpoint.save(foreign, teacher)
    for line in (
        f"--test --step_ckpt {foreign} --report",
        f"--resume auto --step_ckpt {foreign}",
        f"--step_ckpt {foreign}",
    ):
        with pytest.raises(UserError, match=f"{foreign}: class 3 is cube there and triangle here"):
            a_run(folder, f"--step 1 --weakly {line}").start()
    for change, words in (
        ({"class_names": [*state["class_names"][:-1], "moon"]}, "class 8 is moon there and heart here"),
        ({"identity": state["identity"] | {"classes": [[0, 2, 1, 3, 4, 5], [6, 7, 8]]}}, "its localizer knows classes"),
    ):
        checkpoint.save(foreign, state | change)
        with pytest.raises(UserError, match=words):
            a_run(folder, f"--step 1 --weakly --pl_ckpt {foreign} --name donor --step_ckpt {base}").start()
    assert a_run(folder, f"--step 1 --weakly --pl_ckpt {own} --name donor --step_ckpt {base}").start().epoch == 0


def test_a_published_checkpoint_names_no_classes_which_is_told_once(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    base = checkpoint.load(whole[0] / "step/shapes-5-3/Experiment_0.pth")
    published = tmp_path / "published.pth"
    torch.save({"model_state": base["model_state"]}, published)
    run = a_run(tmp_path, f"--step 1 --weakly --step_ckpt {published}")
    run.start()
    said = [line for line in (tmp_path / "log/log.txt").read_text().splitlines() if "does not name its classes" in line]
    assert len(said) == 1 and said[0].endswith(
        f"{published}: does not name its classes; they are taken to be {', '.join(NAMES[:6])}"
    )


def test_a_discriminator_is_no_segmenter(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    checkpoint.save(path, {"kind": "discriminator", "model_state": {"w": torch.ones(1)}})
    with pytest.raises(UserError, match=r"x\.pth: holds a discriminator, not a segmenter"):
        a_run(whole[0], f"--test --ckpt {path}").start()


# ---- what is moved when ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["--step 1 --weakly", "--step 1 --weakly --pl_ckpt {bad}", "--step 0"])
def test_nothing_is_moved_before_all_is_read(line: str, whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    base = checkpoint.load(whole[0] / "step/shapes-5-3/Experiment_0.pth")
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"PK\x03\x04")
    place = tmp_path / "step/shapes-5-3"
    checkpoint.save(place / "Experiment_0.pth", base)
    checkpoint.save(place / "Experiment_1.pth", whole[1])
    if line == "--step 1 --weakly":
        (place / "Experiment_0.pth").write_bytes(b"PK\x03\x04")
    before = {path: path.read_bytes() for path in place.iterdir()}
    run = a_run(tmp_path, line.format(bad=bad))
    if line == "--step 0":
        run.options = dataclasses.replace(run.options, pretrained=str(bad))
        run.snapshot.options = run.options
    with pytest.raises(UserError, match="damaged"):
        run.start()
    assert {path: path.read_bytes() for path in place.iterdir()} == before


def test_the_first_save_takes_the_place_of_an_earlier_run(tmp_path: Path) -> None:
    """An unfinished state has a place of its own, so that it never takes that of a finished one."""
    a_run(tmp_path).save(epoch=30, finished=True)
    fresh = a_run(tmp_path)
    fresh.start()
    assert not fresh.path.with_name("Experiment_0.pth.bak").exists(), "nothing to save yet"
    assert checkpoint.load(fresh.path)["epoch"] == 30
    fresh.save(epoch=1)
    fresh.save(epoch=2)
    third = a_run(tmp_path)
    third.start()
    third.save(epoch=3)
    kept = {
        end: checkpoint.load(fresh.path.with_name(fresh.path.name + end))["epoch"]
        for end in ("", ".bak", ".unfinished.bak")
    }
    assert kept == {"": 3, ".bak": 30, ".unfinished.bak": 2}
    text = (tmp_path / "log/log.txt").read_text()
    assert (
        f"{fresh.path} is of an earlier run: this run takes its place when it saves, and keeps it as Experiment_0.pth.bak"
        in text
    )
    resumed = a_run(tmp_path, "--resume auto")
    assert resumed.start().epoch == 3
    resumed.save(epoch=4)
    assert checkpoint.load(fresh.path.with_name("Experiment_0.pth.unfinished.bak"))["epoch"] == 2, (
        "its own is no earlier run's"
    )


def test_going_on_from_another_file_keeps_the_own_one(tmp_path: Path) -> None:
    other = a_run(tmp_path, "--name other")
    other.save(epoch=1)
    a_run(tmp_path).save(epoch=30, finished=True)
    run = a_run(tmp_path, f"--ckpt {other.path}")
    assert run.start().epoch == 1
    run.save(epoch=2)
    assert checkpoint.load(run.path)["epoch"] == 2
    assert checkpoint.load(run.path.with_name("Experiment_0.pth.bak"))["epoch"] == 30


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.save(epoch=1)
    with torch.no_grad():
        run.networks.model.cls[0].bias[0] = float("nan")
    with pytest.raises(
        UserError, match=r"1 of \d+ weights are not finite at epoch 2, .*cls\.0\.bias.* not saved, .* lower --lr"
    ):
        run.save(epoch=2)
    assert checkpoint.load(run.path)["epoch"] == 1


# ---- one run of a name ----------------------------------------------------------------------------------------------


def test_a_second_run_of_a_name_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    options, other, test = (
        argparser.parse(f"--dataset shapes --task 5-3 --checkpoints {tmp_path} {line}".split())
        for line in ("", "--name other", "--test --ckpt pyproject.toml")
    )
    path = options.checkpoint_path(0)
    with claimed(options, main=True):
        with pytest.raises(UserError) as caught, claimed(options, main=True):
            pytest.fail("two train one checkpoint")
        assert str(caught.value) == (
            f"--name Experiment: another run of this name is training step 0 ({path}); wait for its end, or give another --name"
        )
        with claimed(options, main=False), claimed(test, main=True), claimed(other, main=True):
            pass
    with claimed(options, main=True):
        pass
    assert not path.exists()


def test_a_claim_clears_what_killed_runs_of_the_name_left(tmp_path: Path) -> None:
    options = argparser.parse(f"--dataset shapes --task 5-3 --checkpoints {tmp_path}".split())
    place = options.checkpoint_path(0).parent
    place.mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [place / f".Experiment_0.pth{end}.{dead.pid}.tmp" for end in ("", ".bak", ".unfinished.bak")]
    stays = [place / f".Experiment_0.pth.{os.getpid()}.tmp", place / f".Experiment_1.pth.{dead.pid}.tmp"]
    for path in (*left, *stays):
        path.touch()
    with claimed(options, main=True):
        assert not any(path.exists() for path in left) and all(path.exists() for path in stays)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = argparser.parse(f"--dataset shapes --task 5-3 --checkpoints {tmp_path}/file/x".split())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written \\(Not a directory\\)"), claimed(options, main=True):
        pytest.fail("there is no folder")

    def locked(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(engine_state, "locked", locked)
    options = argparser.parse(f"--dataset shapes --task 5-3 --checkpoints {tmp_path}".split())
    number = errno.EROFS
    with pytest.raises(UserError, match="cannot be written \\(Read-only file system\\)"), claimed(options, main=True):
        pytest.fail("there is no lock")
    number = errno.ENOLCK
    with claimed(options, main=True):
        pass
