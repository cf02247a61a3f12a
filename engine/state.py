"""The state of a run: how far it has come, where its weights come from, and what a checkpoint holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from torch import Tensor

from argparser import Options
from engine.networks import Networks, Optimisation
from modules.norm import arithmetic
from modules.pretrained import load_pretrained, to_batch_norm
from tasks import Task
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError
from utils.logger import Logger


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
    own = options.checkpoint_path(options.step)
    teacher = Path(options.step_ckpt or options.checkpoint_path(options.step - 1)) if options.step > 0 else None
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


@dataclass(frozen=True)
class Description:
    """What a checkpoint of this project says of itself.

    Attributes:
        options: the options of its run, by name.
        steps: class ids of each step up to its own, background first.
        class_names: names in channel order.
    """

    options: dict[str, Any]
    steps: list[list[int]]
    class_names: list[str]


def read_model(path: Path) -> tuple[dict[str, Tensor], Description | None]:
    """The segmenter's weights in a checkpoint, and what it says of itself: None in a published one.

    Raises:
        UserError: the file is missing, damaged or no checkpoint.
    """
    state = checkpoint.load(path)
    if "options" not in state or "identity" not in state:
        return state["model_state"], None
    return state["model_state"], Description(state["options"], state["identity"]["classes"], state["class_names"])


def _localizer_weights(state: dict[str, Any]) -> dict[str, Tensor] | None:
    """The localizer of a checkpoint, in published ones a ``pseudolabeler``; None where it has none."""
    weights = state.get("localizer", state.get("pseudolabeler"))
    return None if weights is None else checkpoint.bare_keys(weights)


class Snapshot:
    """Writes the state of a run to its checkpoint and gives networks what a checkpoint holds.

    Args:
        options: the run's options.
        task: which classes are learned when.
        class_names: names in channel order.
        networks: what is saved, and given weights.
        runtime: ranks, of which the main one writes.
        logger: where it says what was loaded.
    """

    def __init__(
        self,
        options: Options,
        task: Task,
        class_names: list[str],
        networks: Networks,
        runtime: Runtime,
        logger: Logger,
    ) -> None:
        self.options, self.task, self.class_names = options, task, class_names
        self.networks, self.runtime, self.logger = networks, runtime, logger

    def start(self, origin: Origin, optimisation: Optimisation | None) -> Progress:
        """Give the run its weights from ``origin``.

        Args:
            origin: as ``weights_origin`` says.
            optimisation: gets its state where the run goes on; None for a test.

        Returns:
            how far the run has come.

        Raises:
            UserError: a checkpoint of another task, protocol, class order or network, or of a run with
                other training options.
        """
        if origin.start is Start.PRETRAINED:
            self._set_aside()
            options = self.options
            self.logger.info(load_pretrained(self.networks.model.body, options.backbone, options.pretrained))
            return Progress()
        assert origin.student is not None
        if origin.start is Start.PREVIOUS_STEP:
            self._set_aside()
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
        """Write the whole state of the run to ``path`` (main rank only)."""
        if not self.runtime.main:
            return
        progress.memory = max(progress.memory, self.runtime.memory())
        networks = self.networks
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
                "model_state": checkpoint.bare_keys(networks.model.state_dict()),
                "localizer": None if networks.localizer is None else networks.localizer.state_dict(),
                "optimizer_state": optimisation.optimizer.state_dict(),
                "scheduler_state": optimisation.scheduler.state_dict(),
                "scaler": optimisation.scaler.state_dict(),
                "random_states": checkpoint.random_states(),
            },
        )

    def _restore(self, path: Path, optimisation: Optimisation) -> Progress:
        """Go on from ``path``: networks, optimiser, schedule and progress."""
        state = self._load_student(path)
        if "identity" not in state:
            raise UserError(
                f"{path}: a published checkpoint can be tested or start a step (--step_ckpt), not be trained further"
            )
        changed = self.options.changed(state["options"])
        now, before = optimisation.iters_per_epoch, state["iters_per_epoch"]
        if now != before:
            changed.append(f"iterations per epoch {now} (was {before}): other data or images?")
        if changed:
            raise UserError(
                f"{path}: cannot go on with other settings: {', '.join(changed)}; change them back or give another --name"
            )
        optimisation.optimizer.load_state_dict(state["optimizer_state"])
        optimisation.scheduler.load_state_dict(state["scheduler_state"])
        optimisation.scaler.load_state_dict(state["scaler"])
        checkpoint.restore_random_states(state["random_states"])
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

    def _set_aside(self) -> None:
        """Keep the checkpoint of an earlier run of this name as ``.bak``: a fresh run takes its place."""
        own = self.options.checkpoint_path(self.options.step)
        if own.is_file() and self.runtime.main:
            kept = own.with_name(own.name + ".bak")
            own.replace(kept)
            self.logger.warning(f"{own} of an earlier run is kept as {kept.name}; --resume auto would go on from it")

    # ---- networks from checkpoints ------------------------------------------------------------------------------------

    def _load_teacher(self, path: Path | None) -> None:
        """Give the teacher, where there is one, the weights of the previous step."""
        if self.networks.teacher is not None and path is not None:
            state = checkpoint.load(path)
            self.networks.teacher.load_state_dict(self._checked_weights(state, path, self.options.step - 1))

    def _load_student(self, path: Path) -> dict[str, Any]:
        """Segmenter and, where both have one, localizer of this step; gives the whole checkpoint."""
        state = checkpoint.load(path)
        self.networks.model.load_state_dict(self._checked_weights(state, path, self.options.step))
        weights = _localizer_weights(state)
        if self.networks.localizer is not None and weights is not None:
            self.networks.localizer.load_state_dict(weights)
        return state

    def _load_previous_step(self, path: Path) -> None:
        """Student and teacher start from the previous step's model; new classifiers are new."""
        step, model = self.options.step, self.networks.model
        state = checkpoint.load(path)
        weights = self._checked_weights(state, path, step - 1)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        missing = [key for key in missing if not key.startswith(f"cls.{step}.")]
        if missing or unexpected:
            self._refuse_keys(path, missing, unexpected)
        if self.networks.teacher is not None:
            self.networks.teacher.load_state_dict(weights)
        if self.options.init_balanced:
            model.init_new_classifier()
        if not state.get("finished", True):
            self.logger.warning(f"{path}: this step was not trained to its end")
        self.logger.info(f"Step {step - 1} loaded from {path}")

    def _load_localizer(self, path: Path) -> None:
        """``--pl_ckpt``: start from the localizer of another checkpoint."""
        weights = _localizer_weights(checkpoint.load(path))
        if weights is None or self.networks.localizer is None:
            raise UserError(f"--pl_ckpt {path}: this checkpoint holds no localizer")
        try:
            self.networks.localizer.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(f"--pl_ckpt {path}: its localizer is of another network or number of classes") from error

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
            UserError: it is not of ``step`` of this task, or of another network.
        """
        identity, wanted = state.get("identity"), self._identity(step)
        if identity is not None and identity != wanted:
            key = next(k for k in wanted if identity.get(k) != wanted[k])
            raise UserError(
                f"{path}: its {key} is {identity.get(key)}, this run's at step {step} is {wanted[key]}; give another checkpoint"
            )
        weights: dict[str, Tensor] = state["model_state"]
        for index, classes in enumerate(self.task.classes_per_step(step)):
            classifier = weights.get(f"cls.{index}.weight")
            if classifier is None or classifier.shape[0] != classes:
                count = "none" if classifier is None else classifier.shape[0]
                raise UserError(
                    f"{path}: classifier {index} should have {classes} channels, it has {count}; is it of another task?"
                )
        # Published files say nothing of their norm: they are in-place ABN.
        saved = arithmetic(state.get("options", {}).get("norm_act", "iabn_sync"))
        own = arithmetic(self.options.norm_act)
        if saved == "iabn" and own == "abn":
            weights = to_batch_norm(weights)
        elif saved != own:
            raise UserError(f"{path}: trained with plain batch norm; use --norm_act abn or abn_sync")
        keys = self._keys(step)
        missing, unexpected = sorted(keys - weights.keys()), sorted(weights.keys() - keys)
        if missing or unexpected:
            self._refuse_keys(path, missing, unexpected)
        return weights

    def _keys(self, step: int) -> set[str]:
        """Keys of the segmenter of ``step``: those of this run's without later classifiers."""
        later = tuple(f"cls.{i}." for i in range(step + 1, len(self.task)))
        return {key for key in checkpoint.bare_keys(self.networks.model.state_dict()) if not key.startswith(later)}

    def _refuse_keys(self, path: Path, missing: list[str], unexpected: list[str]) -> None:
        first = ", ".join([*missing, *unexpected][:3])
        raise UserError(
            f"{path}: made for another network than --backbone {self.options.backbone} and this task "
            f"({len(missing)} weights missing, {len(unexpected)} unexpected: {first} ...)"
        )
