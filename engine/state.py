"""The state of a run: how far it has come, where its weights come from, and what a checkpoint holds."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from argparser import Options, misfits
from engine.networks import Networks, Optimisation
from methods.base import memory_of
from modules.description import Description, check_network
from modules.norm import arithmetic
from modules.pretrained import load_pretrained, to_batch_norm
from tasks import Task
from utils import checkpoint
from utils.checks import other_class
from utils.distributed import Runtime
from utils.errors import UserError, printable
from utils.logger import Logger
from utils.names import ADOPTED
from utils.whole import InUse, clear_leftovers, locked

LOG = logging.getLogger("webwilss")
# Behind a checkpoint's name: where a fresh run keeps what it takes the place of.
FINISHED, UNFINISHED = ".bak", ".unfinished.bak"
# What a file system without locks answers.
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass
class Progress:
    """How far a run has come: the next iteration is ``iteration`` of ``epoch``."""

    epoch: int = 0
    iteration: int = 0
    best_score: float = 0.0
    finished: bool = False
    seconds: float = 0.0
    """Spent in iterations, loading included, over all resumptions; not in validation, tests and saving."""
    memory: float = 0.0
    """Peak in MiB up to the last save, over all resumptions (``Runtime.memory`` of the main rank)."""


@contextmanager
def claimed(options: Options, *, main: bool) -> Iterator[None]:
    """Keep other runs of its name away from a run's checkpoint while it trains; a test needs no claim, it reads a whole file.

    What killed runs of the name left half written is deleted. The claim ends with the process, however it ends.

    Args:
        options: the run's options.
        main: whether this is the rank that claims, for all.

    Raises:
        UserError: another run of this name trains this step, or the folder cannot be written.
    """
    if options.test or not main:
        yield
        return
    path = options.checkpoint_path(options.step)
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(path.with_name(f".{path.name}.lock"), wait=False, forked=False))
        except InUse:
            raise UserError(
                f"--name {options.name}: another run of this name is training step {options.step} ({path}); "
                "wait for its end, or give another --name"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise UserError(f"{path.parent}: cannot be written ({error.strerror or error})") from error
            LOG.warning("%s: no locks here, so that a second run of this name is not noticed", path.parent)
        for end in ("", FINISHED, UNFINISHED):
            clear_leftovers(path.with_name(path.name + end))
        for name in ("confusion_{}.csv", "report_{}.html"):
            clear_leftovers(options.log_folder / name.format(options.step))
        yield


# ---- where weights come from ----------------------------------------------------------------------------------------


class Start(Enum):
    """What a run starts from."""

    TEST = "the networks of a checkpoint, for a test"
    RESUMED = "the whole state of a checkpoint, to go on"
    PRETRAINED = "random weights and a pretrained body"
    PREVIOUS_STEP = "the networks of the previous step"


@dataclass(frozen=True)
class Origin:
    """Where a run's weights come from.

    Attributes:
        start: what is taken.
        student: checkpoint that it is taken from; None for ``Start.PRETRAINED``.
        teacher: the previous step's checkpoint; None at step 0.
        localizer: checkpoint whose localizer is taken, beside the previous step's networks; else None.
    """

    start: Start
    student: Path | None
    teacher: Path | None
    localizer: Path | None = None


def weights_origin(options: Options) -> Origin:
    """Where the weights of a run come from.

    The order is important, the first that applies decides:

    1. ``--test``: the networks of ``--ckpt``, else of the run's own checkpoint.
    2. ``--ckpt``: the whole state of that checkpoint.
    3. ``--continue_ckpt``: the whole state of the run's own checkpoint.
    4. ``--resume auto``: the same, where the run has a checkpoint.
    5. Step 0: random weights, the body's by ``--pretrained``.
    6. Later steps: the networks of ``--step_ckpt``, else of the previous step's checkpoint of the
       run's name; the localizer of ``--pl_ckpt``, else a random one.

    A teacher has the weights that 6 names, whatever the student's are.
    """
    own = options.found_checkpoint(options.step)
    teacher = Path(options.step_ckpt or options.found_checkpoint(options.step - 1)) if options.step > 0 else None
    if options.test:
        return Origin(Start.TEST, Path(options.ckpt or own), teacher)
    if options.ckpt:
        return Origin(Start.RESUMED, Path(options.ckpt), teacher)
    if options.continue_ckpt:
        return Origin(Start.RESUMED, own, teacher)
    if options.resume == "auto" and own.is_file():
        return Origin(Start.RESUMED, own, teacher)
    if teacher is None:
        return Origin(Start.PRETRAINED, None, None)
    return Origin(Start.PREVIOUS_STEP, teacher, teacher, None if options.pl_ckpt is None else Path(options.pl_ckpt))


# ---- what a checkpoint holds ----------------------------------------------------------------------------------------


# Options of a checkpoint that are asked for when its network, or its data, is made again.
ASKED = (
    "dataset", "data_root", "dataset_dir", "train_list", "task", "step", "protocol", "backbone", "output_stride", "norm_act", "pooling",
    "image_stats", "bce", "icarl", "method",
)  # fmt: skip


def read_state(path: Path) -> dict[str, Any]:
    """A segmenter's checkpoint, of this project or published; of this project it holds all that will be asked of it.

    Raises:
        UserError: the file is missing, damaged, no checkpoint, or one of something else.
    """
    state = checkpoint.load(path)
    if "kind" in state:
        raise UserError(f"{path}: holds a {printable(state['kind'])}, not a segmenter; give the checkpoint of a step")
    if "identity" not in state and "options" not in state:
        return state
    checkpoint.need(state, path, "identity", "options", "class_names")
    identity, options = state["identity"], state["options"]
    wrong = [key for key in ("dataset", "task", "protocol") if key not in identity]
    wrong += [key for key in ASKED if key not in options] + misfits(options)
    wrong += ["network"] * ((options.get("backbone") == ADOPTED) != ("network" in state))
    if wrong or options["step"] != len(identity["classes"]) - 1:
        raise UserError(
            f"{path}: damaged or not a checkpoint: its {(wrong or ['step'])[0]} is missing or wrong; give another"
        )
    if "network" in state:
        check_network(state["network"], str(path))
    return state


def read_model(path: Path) -> tuple[dict[str, Tensor], Description | None]:
    """The segmenter's weights in a checkpoint, and what it says of itself: None in a published one.

    Raises:
        UserError: the file is missing, damaged or no checkpoint.
    """
    state = read_state(path)
    if "identity" not in state:
        return state["model_state"], None
    return state["model_state"], Description.of_checkpoint(state, str(path))


def read_localizer(path: Path) -> dict[str, Tensor] | None:
    """The weights of a checkpoint's localizer; None where it has none.

    Raises:
        UserError: the file is missing, damaged or no checkpoint.
    """
    return _localizer_weights(read_state(path))


def adopted_network(options: Options, states: dict[Path, dict[str, Any]]) -> Mapping[str, Any] | None:
    """What the adopted segmenter of ``--backbone adopted`` is made from: the checkpoint that the run starts from says it.

    Args:
        options: the run's.
        states: takes that checkpoint under its path, for the ``Snapshot`` that will ask for its weights.

    Returns:
        ``Description.network``; None for a network of this project.

    Raises:
        UserError: the run starts from no checkpoint, or from one of a network of this project.
    """
    if options.backbone != ADOPTED:
        return None
    origin = weights_origin(options)
    path = origin.student or origin.teacher
    if path is None:
        raise UserError(
            f"--backbone {ADOPTED}: step 0 trains networks of this project; python add_class.py makes a step 0 of a "
            "segmenter that was trained elsewhere"
        )
    states[path] = read_state(path)
    network: Mapping[str, Any] | None = states[path].get("network")
    if network is None:
        raise UserError(f"{path}: its network is one of this project: name it with --backbone in place of {ADOPTED}")
    return network


def _localizer_weights(state: dict[str, Any]) -> dict[str, Tensor] | None:
    """The localizer of a checkpoint, in published ones a ``pseudolabeler``; None where it has none."""
    weights = state.get("localizer", state.get("pseudolabeler"))
    return None if weights is None else checkpoint.bare_keys(weights)


class _Part(Protocol):
    """Optimiser, schedule, loss scaling, or what a method remembers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


def _alike(saved: Any, own: Any) -> bool:
    """Whether a saved state has the structure of ``own``; what only one of them has is another version's."""
    if isinstance(own, dict):
        return isinstance(saved, dict) and all(_alike(saved[key], own[key]) for key in own.keys() & saved.keys())
    if isinstance(own, list):
        return isinstance(saved, list) and len(saved) == len(own) and all(map(_alike, saved, own))
    if own is None:
        return True
    numbers = bool, int, float
    return isinstance(saved, numbers if isinstance(own, numbers) else type(own))


def _fitting_optimizer(saved: dict[str, Any], optimizer: Any) -> bool:
    """Whether an optimiser's saved state is of the same parameters: their number in each group, and shapes of what it keeps of them."""
    if not _alike(saved.get("param_groups"), optimizer.state_dict()["param_groups"]):
        return False
    kept, parameters = saved.get("state"), [p for group in optimizer.param_groups for p in group["params"]]
    if not isinstance(kept, dict) or not all(isinstance(one, dict) for one in kept.values()):
        return False
    if not all(type(number) is int and 0 <= number < len(parameters) for number in kept):
        return False
    tensors = [(v, parameters[number]) for number, one in kept.items() for v in one.values() if v is not None]
    return all(isinstance(v, Tensor) and v.shape == p.shape and bool(v.isfinite().all()) for v, p in tensors)


class Snapshot:
    """Writes the state of a run to its checkpoint and gives networks what a checkpoint holds.

    Args:
        options: the run's options.
        task: which classes are learned when.
        class_names: names in channel order.
        networks: what is saved, and given weights.
        runtime: ranks, of which the main one writes.
        logger: where it says what was loaded.
        states: checkpoints that were read already, by their paths; each is used once.
    """

    def __init__(
        self,
        options: Options,
        task: Task,
        class_names: list[str],
        networks: Networks,
        runtime: Runtime,
        logger: Logger,
        states: dict[Path, dict[str, Any]] | None = None,
    ) -> None:
        self._states = {} if states is None else states
        self.options, self.task, self.class_names = options, task, class_names
        self.networks, self.runtime, self.logger = networks, runtime, logger
        self._keep: Path | None = None
        self._history: list[dict[str, Any]] = []
        self._nameless: set[Path] = set()

    def start(self, origin: Origin, optimisation: Optimisation | None) -> Progress:
        """Give the run its weights from ``origin``.

        Args:
            origin: as ``weights_origin`` says.
            optimisation: gets its state where the run goes on; None for a test.

        Returns:
            how far the run has come.

        Raises:
            UserError: a checkpoint of another data set, task, protocol, class order or network, or of a run with
                other training options.
        """
        for step in (self.options.step, self.options.step - 1):
            found, own = self.options.found_checkpoint(step), self.options.checkpoint_path(step)
            if found != own and found in (origin.student, origin.teacher):
                self.logger.info(
                    f"{found}: of version 0.1.0, whose folders had not the data folder's name; new: {own.parent}"
                )
        progress = self._started(origin, optimisation)
        self._plan_to_keep(origin)
        return progress

    def _started(self, origin: Origin, optimisation: Optimisation | None) -> Progress:
        if origin.start is Start.PRETRAINED:
            options = self.options
            self.logger.info(load_pretrained(self.networks.model.body, options.backbone, options.pretrained))
            return Progress()
        assert origin.student is not None
        if origin.start is Start.PREVIOUS_STEP:
            self._load_previous_step(origin.student)
            if origin.localizer is not None:
                self._load_localizer(origin.localizer)
            return Progress()
        if origin.start is Start.RESUMED:
            assert optimisation is not None
            progress = self._restore(origin.student, optimisation)
        else:
            self._load_student(origin.student)
            progress = Progress()
        self._load_teacher(origin.teacher)
        return progress

    # ---- the run's own checkpoint -------------------------------------------------------------------------------------

    def save(self, path: Path, progress: Progress, optimisation: Optimisation) -> None:
        """Write the whole state of the run to ``path`` (main rank only).

        Raises:
            UserError: it cannot be written, or a weight is not finite; what lies there is left as it was.
        """
        if not self.runtime.main:
            return
        progress.memory = max(progress.memory, self.runtime.memory())
        networks, memory = self.networks, memory_of(self.networks.method)
        weights = checkpoint.bare_keys(networks.model.state_dict())
        wrong = checkpoint.not_finite(weights)
        if wrong:
            raise UserError(
                f"{len(wrong)} of {len(weights)} weights are not finite at epoch {progress.epoch}, iteration {progress.iteration} "
                f"({wrong[0]} ...): not saved, {path} is as it was; lower --lr"
            )
        checkpoint.save(
            path,
            {
                "format": checkpoint.FORMAT,
                "identity": self._identity(self.options.step),
                "class_names": self.class_names,
                "options": self.options.plain(),
                "epoch": progress.epoch,
                "iteration": progress.iteration,
                "iters_per_epoch": optimisation.iters_per_epoch,
                "finished": progress.finished,
                "best_score": progress.best_score,
                "seconds": progress.seconds,
                "memory_mib": progress.memory,
                "model_state": weights,
                "localizer": None if networks.localizer is None else networks.localizer.state_dict(),
                "optimizer_state": optimisation.optimizer.state_dict(),
                "scheduler_state": optimisation.scheduler.state_dict(),
                "scaler": optimisation.scaler.state_dict(),
                "random_states": checkpoint.random_states(),
                "history": [*self._history, self._own_history()],
            }
            | ({} if networks.network is None else {"network": networks.network})
            | ({} if networks.student.unknown is None else {"unknown": networks.student.unknown.state_dict()})
            | ({} if memory is None else {"memory": memory.state_dict()}),
            keep=self._keep,
        )
        self._keep = None

    def _own_history(self) -> dict[str, Any]:
        """What the card of a segmenter says of this step."""
        options = self.options
        return {
            "step": options.step,
            "classes": self.class_names[len(self.task.old(options.step)) or 1 :],
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "from": f"web images of {options.web_path}" if options.web_path else f"images of {options.data_name}",
            "method": options.method,
        }

    def _restore(self, path: Path, optimisation: Optimisation) -> Progress:
        """Go on from ``path``: networks, optimiser, schedule and progress."""
        state = self._load_student(path)
        self._history = list(state.get("history", []))[:-1]
        if "identity" not in state:
            raise UserError(
                f"{path}: a published checkpoint can be tested or start a step (--step_ckpt), not be trained further"
            )
        parts: dict[str, _Part] = {
            "optimizer_state": optimisation.optimizer,
            "scheduler_state": optimisation.scheduler,
            "scaler": optimisation.scaler,
        }
        memory = memory_of(self.networks.method)
        if memory is not None:
            parts["memory"] = memory
        said = "epoch", "iteration", "iters_per_epoch", "best_score", "finished"
        checkpoint.need(state, path, *said, *parts, "random_states")
        changed = self.options.changed(state["options"])
        now, before = optimisation.iters_per_epoch, state["iters_per_epoch"]
        if now != before:
            changed.append(f"iterations per epoch {now} (was {before}): other data or images?")
        if changed:
            raise UserError(
                f"{path}: cannot go on with other settings: {', '.join(changed)}; change them back or give another --name"
            )
        if "last_epoch" not in state["scheduler_state"]:
            self._refuse_state(path, "scheduler_state")
        if state["scaler"].keys() != optimisation.scaler.state_dict().keys():
            self._refuse_state(path, "scaler")
        if not _fitting_optimizer(state["optimizer_state"], optimisation.optimizer):
            self._refuse_state(path, "optimizer_state")
        for name, part in parts.items():
            self._put_back(path, name, part, state[name])
        if state["iteration"] >= before:
            self._refuse_state(path, "iteration")
        try:
            checkpoint.restore_random_states(state["random_states"])
        except (KeyError, RuntimeError, TypeError):
            self._refuse_state(path, "random_states")
        self.logger.info(f"Restored from {path}: epoch {state['epoch']}, iteration {state['iteration']}")
        return Progress(
            state["epoch"],
            state["iteration"],
            state["best_score"],
            state["finished"],
            # Checkpoints of earlier versions do not say, nor does then the table.
            state.get("seconds", math.nan),
            state.get("memory_mib", math.nan),
        )

    def _put_back(self, path: Path, name: str, part: _Part, saved: dict[str, Any]) -> None:
        """Give a part its state; UserError where it does not fit."""
        if not _alike(saved, part.state_dict() | ({"state": {}} if name == "optimizer_state" else {})):
            self._refuse_state(path, name)
        try:
            part.load_state_dict(saved)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
            self._refuse_state(path, name)

    def _refuse_state(self, path: Path, name: str) -> NoReturn:
        raise UserError(
            f"{path}: its {name} does not fit this run: damaged, or of another network; give another"
        ) from None

    def _plan_to_keep(self, origin: Origin) -> None:
        """See that the checkpoint of an earlier run of this name stays beside that of this run, which takes its place.

        Nothing is moved before there is something to save. A finished state is only replaced by a later finished one.
        """
        own = self.options.checkpoint_path(self.options.step)
        if origin.start is Start.TEST or not self.runtime.main or not own.is_file():
            return
        if origin.start is Start.RESUMED and origin.student is not None and own.samefile(origin.student):
            return
        try:
            finished = checkpoint.load(own).get("finished", True)
        except UserError:
            finished = False
        self._keep = own.with_name(own.name + (FINISHED if finished else UNFINISHED))
        self.logger.warning(
            f"{own} is of an earlier run: this run takes its place when it saves, and keeps it as {self._keep.name}; "
            "--resume auto would go on from it"
        )

    # ---- networks from checkpoints ------------------------------------------------------------------------------------

    def _read(self, path: Path) -> dict[str, Any]:
        """The checkpoint at a path; one that was read already is handed over."""
        return self._states.pop(path) if path in self._states else read_state(path)

    def _load_teacher(self, path: Path | None) -> None:
        """Give the teacher, where there is one, the weights of the previous step."""
        if self.networks.teacher is not None and path is not None:
            state = self._read(path)
            self.networks.teacher.load_state_dict(self._checked_weights(state, path, self.options.step - 1))

    def _load_student(self, path: Path) -> dict[str, Any]:
        """Segmenter and, where both have one, localizer of this step; gives the whole checkpoint."""
        state = self._read(path)
        self.networks.model.load_state_dict(self._checked_weights(state, path, self.options.step))
        weights = _localizer_weights(state)
        if self.networks.localizer is not None and weights is not None:
            self._fill_localizer(weights, str(path))
        self._load_unknown(state, path)
        return state

    def _load_previous_step(self, path: Path) -> None:
        """Student and teacher start from the previous step's model; new classifiers are new."""
        step, model = self.options.step, self.networks.model
        state = self._read(path)
        self._history = list(state.get("history", []))
        weights = self._checked_weights(state, path, step - 1)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        missing = [key for key in missing if not key.startswith(f"cls.{step}.")]
        if missing or unexpected:
            self._refuse_keys(path, missing, unexpected)
        if self.networks.teacher is not None:
            self.networks.teacher.load_state_dict(weights)
        self._load_unknown(state, path)
        unknown = self.networks.student.unknown
        if self.options.init_balanced:
            model.init_new_classifier()
        elif unknown is not None:
            start_from(unknown, model.cls[-1])
        if not state.get("finished", True):
            self.logger.warning(f"{path}: this step was not trained to its end")
        self.logger.info(f"Step {step - 1} loaded from {path}")

    def _load_unknown(self, state: dict[str, Any], path: Path) -> None:
        """The classifier of the unknown, where the method has one."""
        unknown = self.networks.student.unknown
        if unknown is None:
            return
        try:
            unknown.load_state_dict(state.get("unknown", {}))
        except RuntimeError as error:
            raise UserError(
                f"{path}: holds no classifier of the unknown that fits; train its step with --method {self.options.method} too"
            ) from error

    def _load_localizer(self, path: Path) -> None:
        """``--pl_ckpt``: start from the localizer of another checkpoint."""
        state = self._read(path)
        weights = _localizer_weights(state)
        if weights is None or self.networks.localizer is None:
            raise UserError(f"--pl_ckpt {path}: this checkpoint holds no localizer")
        if "identity" in state:
            ids = [number for classes in state["identity"]["classes"] for number in classes]
            if ids != list(self.task.seen(self.options.step)):
                raise UserError(
                    f"--pl_ckpt {path}: its localizer knows classes {ids}, this step has others or in another order"
                )
        self._check_names(state, path, self.options.step)
        self._fill_localizer(weights, f"--pl_ckpt {path}")

    def _fill_localizer(self, weights: dict[str, Tensor], where: str) -> None:
        assert self.networks.localizer is not None
        try:
            self.networks.localizer.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(f"{where}: its localizer is of another network or number of classes") from error

    # ---- whether a checkpoint fits ------------------------------------------------------------------------------------

    def _identity(self, step: int) -> dict[str, Any]:
        """What must agree between a checkpoint and the run that goes on from it."""
        return {
            "dataset": self.task.dataset,
            "task": self.task.name,
            "protocol": self.options.protocol,
            "classes": [list(classes) for classes in self.task.steps[: step + 1]],
        }

    def _checked_weights(self, state: dict[str, Any], path: Path, step: int) -> dict[str, Tensor]:
        """The segmenter's weights in a checkpoint, in this run's arithmetic of norms.

        Raises:
            UserError: it is not of ``step`` of this task, of other classes, or of another network.
        """
        identity, wanted = state.get("identity"), self._identity(step)
        if identity is not None and identity != wanted:
            key = next(k for k in wanted if identity.get(k) != wanted[k])
            raise UserError(
                f"{path}: its {key} is {identity.get(key)}, this run's at step {step} is {wanted[key]}; give another checkpoint"
            )
        self._check_names(state, path, step)
        if "network" in state and self.networks.network is None:
            library = printable(str(state["network"].get("library")))
            raise UserError(f"{path}: holds an adopted network ({library}); give --backbone {ADOPTED}")
        weights: dict[str, Tensor] = state["model_state"]
        for index, classes in enumerate(self.task.classes_per_step(step)):
            classifier = weights.get(f"cls.{index}.weight")
            if classifier is None or classifier.shape[:1] != (classes,):
                count = "none" if classifier is None or not classifier.ndim else classifier.shape[0]
                raise UserError(
                    f"{path}: classifier {index} should have {classes} channels, it has {count}; is it of another task?"
                )
        # Published files say nothing of their norm: they are in-place ABN.
        saved = arithmetic(state.get("options", {}).get("norm_act", "iabn_sync"))
        own = arithmetic(self.options.norm_act)
        if self.networks.network is not None:
            pass  # Its norms are the library's.
        elif saved == "iabn" and own == "abn":
            weights = to_batch_norm(weights)
        elif saved != own:
            raise UserError(f"{path}: trained with plain batch norm; use --norm_act abn or abn_sync")
        expected = self._own_weights(step)
        missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
        if missing or unexpected:
            self._refuse_keys(path, missing, unexpected)
        other = [key for key, value in expected.items() if not _same_kind(value, weights[key])]
        if other:
            self._refuse_keys(path, [], [], other)
        return weights

    def _own_weights(self, step: int) -> dict[str, Tensor]:
        """What the segmenter of ``step`` has: this run's weights without later classifiers."""
        later = tuple(f"cls.{i}." for i in range(step + 1, len(self.task)))
        own = checkpoint.bare_keys(self.networks.model.state_dict())
        return {key: value for key, value in own.items() if not key.startswith(later)}

    def _refuse_keys(
        self, path: Path, missing: list[str], unexpected: list[str], other: list[str] | None = None
    ) -> None:
        first = printable(", ".join([*missing, *unexpected, *(other or [])][:3]))
        shapes = f", {len(other)} of another shape" if other else ""
        raise UserError(
            f"{path}: made for another network than --backbone {self.options.backbone} and this task "
            f"({len(missing)} weights missing, {len(unexpected)} unexpected{shapes}: {first} ...)"
        )

    def _check_names(self, state: dict[str, Any], path: Path, step: int) -> None:
        """UserError where a class has another name in the checkpoint: of another data set, or numbered anew since.

        Published checkpoints name no classes, which is told once.
        """
        here = dict(zip(self.task.seen(step), self.class_names, strict=False))
        if "class_names" not in state:
            if path not in self._nameless:
                self._nameless.add(path)
                self.logger.info(f"{path}: does not name its classes; they are taken to be {', '.join(here.values())}")
            return
        ids = (
            [number for classes in state["identity"]["classes"] for number in classes] if "identity" in state else here
        )
        other = other_class(dict(zip(ids, state["class_names"], strict=False)), here)
        if other:
            raise UserError(
                f"{path}: {other}: it is of another data set, or the classes were numbered anew; give another checkpoint or --name"
            )


@torch.no_grad()
def start_from(unknown: nn.Conv2d, new: nn.Module) -> None:
    """Give each channel of a new classifier the weights of the unknown's."""
    assert isinstance(new, nn.Conv2d) and new.bias is not None and unknown.bias is not None
    new.weight.copy_(unknown.weight.expand_as(new.weight))
    new.bias.copy_(unknown.bias.expand_as(new.bias))


def _same_kind(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()
