"""The training loop: one step of a task, from its first image to its last test. It knows no method by name.

Everything random depends only on the seed, the epoch and the iteration, so a run that was killed at any moment and resumed
ends with the same weights, and several ranks see the batches that one process would.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import record_function
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from argparser import Options
from dataset.batch import Batch, collate
from dataset.incremental import IncrementalView
from dataset.replay import WithReplay
from dataset.sampler import BatchSampler, GlobalBatchSampler, InterleavedBatchSampler, evaluation_shard
from dataset.views import TrainingView
from methods import make_method
from methods.base import Moment, Prediction
from modules.localizer import make_localizer
from modules.norm import arithmetic, convert_sync, is_norm, make_norm
from modules.pretrained import load_pretrained, to_batch_norm
from segmentation_module import IncrementalSegmentationModule, make_model
from tasks import Task
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError
from utils.logger import Logger
from utils.metrics import ConfusionMatrix, Scores, scores
from utils.normalisation import Normalisation
from utils.schedule import make_scheduler


class Stopped(Exception):
    """The run was asked to stop (SIGTERM, Ctrl-C) and has saved its state."""


class Learner(nn.Module):
    """What a step trains: the segmenter and, for weak steps, the localizer on its features."""

    def __init__(
        self,
        model: IncrementalSegmentationModule,
        localizer: nn.Module | None,
        frozen_body: bool,
        frozen_norms: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.localizer = localizer
        self.frozen_body = frozen_body
        self.frozen_norms = frozen_norms
        if frozen_body:
            model.body.requires_grad_(False)

    def train(self, mode: bool = True) -> Learner:
        """Training or evaluation mode; a frozen body, or frozen norms, always use their running statistics."""
        super().train(mode)
        if self.frozen_body:
            self.model.body.eval()
        if self.frozen_norms:
            for module in self.model.body.modules():
                if is_norm(module):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Prediction:
        """Outputs at feature size; the localizer's masks in both modes, because the weak step needs both."""
        output = self.model(images, interpolate=False)
        body = output.features["body"]
        if self.localizer is None:
            return Prediction(output.logits, body)
        self.localizer.eval()
        with torch.no_grad():
            fixed = self.localizer(body)
        self.localizer.train()
        return Prediction(output.logits, body, self.localizer(body), fixed)


def _full_precision(prediction: Prediction) -> Prediction:
    """Losses are computed in float32 whatever the networks ran in."""

    def up(value: Tensor | None) -> Any:
        return value.float() if value is not None and value.dtype in (torch.float16, torch.bfloat16) else value

    return Prediction(
        up(prediction.logits), up(prediction.body), up(prediction.localizer), up(prediction.localizer_eval)
    )


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


class Trainer:
    """Trains, validates, tests, saves and loads one step.

    Args:
        options: the run's options.
        task: which classes are learned when.
        class_names: id -> name.
        runtime: device, precision and ranks.
        logger: where scalars, pictures and sentences go.

    The networks exist once it is made; ``begin`` gives them their weights, the optimiser and the schedule.
    """

    def __init__(
        self,
        options: Options,
        task: Task,
        class_names: dict[int, str],
        runtime: Runtime,
        logger: Logger,
    ) -> None:
        self.options, self.task, self.runtime, self.logger = options, task, runtime, logger
        self.iters_per_epoch = 1
        step = options.step
        self.names = [class_names.get(i, str(i)) for i in task.seen(step)]
        self.old = len(task.old(step))
        self.progress = Progress()
        self.stop_requested: int | None = None

        torch.manual_seed(options.random_seed)
        self.model = self._make_model(step)
        self.normalisation = Normalisation.of(self.model.body, options.image_stats)
        self.method = make_method(options, self.old, len(self.names), self.normalisation)
        wants_teacher = options.report or (self.method.needs_teacher and not options.test)
        self.teacher = self._make_teacher(step) if wants_teacher else None
        self.localizer = None
        if self.method.needs_localizer:
            norm = make_norm(options.norm_act)
            self.localizer = make_localizer(self.model.body.out_channels, len(self.names), norm)
        frozen = options.freeze, options.freeze_norm
        self.learner = Learner(self.model, self.localizer, *frozen).to(runtime.device)
        # Channels last is what convolutions like best: 1.1 to 1.6 times as fast on a CPU (benchmarks/results/step.md).
        self.learner.to(memory_format=torch.channels_last)
        self.forward: nn.Module = self.learner

    # ---- construction -------------------------------------------------------------------------------------------------

    def _make_model(self, step: int) -> IncrementalSegmentationModule:
        options = self.options
        model = make_model(
            backbone=options.backbone,
            output_stride=options.output_stride,
            norm_act=options.norm_act,
            classes=self.task.classes_per_step(step),
            pooling=options.pooling,
        )
        if options.norm_act.endswith("_sync"):
            convert_sync(model.body)
        return model

    def _make_teacher(self, step: int) -> IncrementalSegmentationModule | None:
        if step == 0:
            return None
        teacher = self._make_model(step - 1).to(self.runtime.device).to(memory_format=torch.channels_last)
        return teacher.requires_grad_(False).eval()

    def _make_optimizer(self) -> torch.optim.SGD:
        """SGD over body, head, classifiers and localizer, each with its own learning rate (METHOD sections 3 and 4)."""
        options = self.options
        groups: list[dict[str, Any]] = []
        if not options.freeze:
            groups.append({"params": list(self.model.body.parameters()), "lr": options.lr})
        for part in (self.model.head, self.model.cls):
            groups.append({"params": list(part.parameters()), "lr": options.lr * options.lr_head})
        if self.localizer is not None:
            groups.append({"params": list(self.localizer.parameters()), "lr": options.lr_pseudo})
        return torch.optim.SGD(
            groups,
            lr=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            nesterov=options.momentum > 0,
        )

    def build(self, iters_per_epoch: int) -> None:
        """Optimiser, schedule and loss scaling for epochs of ``iters_per_epoch`` iterations."""
        options = self.options
        self.iters_per_epoch = iters_per_epoch
        self.optimizer = self._make_optimizer()
        self.scheduler = make_scheduler(
            self.optimizer,
            options.lr_policy,
            options.epochs * iters_per_epoch,
            power=options.lr_power,
            start_decay=options.pseudo_ep * iters_per_epoch,
            step_size=options.lr_decay_step,
            gamma=options.lr_decay_factor,
        )
        self.scaler = self.runtime.scaler()

    def begin(self, train: TrainingView | None) -> None:
        """Give the run its weights, from wherever the options say, and make it ready to train or test.

        Args:
            train: the training images; None for a run that only tests.
        """
        options = self.options
        own, previous = (
            options.checkpoint_path(options.step),
            Path(options.step_ckpt or options.checkpoint_path(options.step - 1)),
        )
        if train is not None:
            self.build(len(self.sampler(train)))
        if train is None:
            self.load(Path(options.ckpt or own), weights_only=True)
            self.load_teacher(previous)
        elif options.ckpt or options.continue_ckpt or (options.resume == "auto" and own.is_file()):
            self.load(Path(options.ckpt or own))
            self.load_teacher(previous)
        else:
            self._start_fresh(own, previous)
        if options.compile:
            self.learner.model = torch.compile(self.learner.model)  # type: ignore[assignment]
        if train is not None:
            self.forward = self.runtime.wrap(self.learner)

    def _start_fresh(self, own: Path, previous: Path) -> None:
        options = self.options
        if own.is_file() and self.runtime.main:
            kept = own.with_name(own.name + ".bak")
            own.replace(kept)
            self.logger.warning(f"{own} of an earlier run is kept as {kept.name}; --resume auto would go on from it")
        if options.step == 0:
            self.logger.info(load_pretrained(self.model.body, options.backbone, options.pretrained))
        else:
            self.start_from_step(previous)
        if options.pl_ckpt is not None:
            self.load_localizer(Path(options.pl_ckpt))

    def start_from_step(self, path: Path) -> None:
        """Later steps: student and teacher start from the previous step's model; new classifiers are new.

        Raises:
            UserError: a checkpoint of another task, protocol, class order or network.
        """
        state = checkpoint.load(path)
        weights = self._checked_weights(state, path, self.options.step - 1)
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        new_classifier = f"cls.{self.options.step}."
        missing = [key for key in missing if not key.startswith(new_classifier)]
        if missing or unexpected:
            self._refuse_keys(path, missing, unexpected)
        if self.teacher is not None:
            self.teacher.load_state_dict(weights)
        if self.options.init_balanced:
            self.model.init_new_classifier()
        if not state.get("finished", True):
            self.logger.warning(f"{path}: this step was not trained to its end")
        self.logger.info(f"Step {self.options.step - 1} loaded from {path}")

    def load_teacher(self, path: Path) -> None:
        """Give the teacher its weights, where the student's come from a checkpoint of its own."""
        if self.teacher is not None:
            state = checkpoint.load(path)
            self.teacher.load_state_dict(self._checked_weights(state, path, self.options.step - 1))

    def load_localizer(self, path: Path) -> None:
        """``--pl_ckpt``: start from the localizer of another checkpoint."""
        state = checkpoint.load(path)
        weights = state.get("localizer", state.get("pseudolabeler"))
        if weights is None or self.localizer is None:
            raise UserError(f"--pl_ckpt {path}: this checkpoint holds no localizer")
        try:
            self.localizer.load_state_dict(checkpoint.bare_keys(weights))
        except RuntimeError as error:
            raise UserError(f"--pl_ckpt {path}: its localizer is of another network or number of classes") from error

    # ---- checkpoints --------------------------------------------------------------------------------------------------

    def _refuse_keys(self, path: Path, missing: list[str], unexpected: list[str]) -> None:
        first = ", ".join([*missing, *unexpected][:3])
        raise UserError(
            f"{path}: made for another network than --backbone {self.options.backbone} and this task "
            f"({len(missing)} weights missing, {len(unexpected)} unexpected: {first} ...)"
        )

    def _identity(self, step: int) -> dict[str, Any]:
        """What must agree between a checkpoint and the run that goes on from it."""
        return {
            "dataset": self.task.dataset,
            "task": self.task.name,
            "protocol": self.options.protocol,
            "classes": [list(classes) for classes in self.task.steps[: step + 1]],
        }

    def _checked_weights(self, state: dict[str, Any], path: Path, step: int) -> dict[str, Tensor]:
        """The model's weights of a checkpoint, refused unless it belongs to ``step`` of this task and this network."""
        found, wanted = state.get("identity"), self._identity(step)
        if found is not None and found != wanted:
            key = next(k for k in wanted if found.get(k) != wanted[k])
            raise UserError(
                f"{path}: its {key} is {found.get(key)}, this run's at step {step} is {wanted[key]}; give another checkpoint"
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
        wanted_arithmetic = arithmetic(self.options.norm_act)
        if saved == "iabn" and wanted_arithmetic == "abn":
            weights = to_batch_norm(weights)
        elif saved != wanted_arithmetic:
            raise UserError(f"{path}: trained with plain batch norm; use --norm_act abn or abn_sync")
        wanted_keys = self._make_keys(step)
        missing, unexpected = sorted(wanted_keys - weights.keys()), sorted(weights.keys() - wanted_keys)
        if missing or unexpected:
            self._refuse_keys(path, missing, unexpected)
        return weights

    def _make_keys(self, step: int) -> set[str]:
        """Keys of the model of ``step``: those of this step's model without later classifiers."""
        later = tuple(f"cls.{i}." for i in range(step + 1, len(self.task)))
        return {key for key in checkpoint.bare_keys(self.model.state_dict()) if not key.startswith(later)}

    def save(self, path: Path) -> None:
        """Write the whole state of the run to ``path`` (main rank only)."""
        if not self.runtime.main:
            return
        progress = self.progress
        progress.memory = max(progress.memory, self.runtime.memory())
        checkpoint.save(
            path,
            {
                "format": checkpoint.FORMAT,
                "identity": self._identity(self.options.step),
                "class_names": self.names,
                "options": self.options.plain(),
                "epoch": progress.epoch,
                "iteration": progress.iteration,
                "iters_per_epoch": self.iters_per_epoch,
                "finished": progress.finished,
                "best_score": progress.best_score,
                "seconds": progress.seconds,
                "memory_mib": progress.memory,
                "model_state": checkpoint.bare_keys(self.model.state_dict()),
                "localizer": None if self.localizer is None else self.localizer.state_dict(),
                "optimizer_state": self.optimizer.state_dict(),
                "scheduler_state": self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random_states": checkpoint.random_states(),
            },
        )

    def load(self, path: Path, *, weights_only: bool = False) -> None:
        """Go on from ``path``, or with ``weights_only`` take its networks alone (for a test, or a published file).

        Raises:
            UserError: the checkpoint belongs to another run, or to one with other training options.
        """
        state = checkpoint.load(path)
        self.model.load_state_dict(self._checked_weights(state, path, self.options.step))
        localizer = state.get("localizer", state.get("pseudolabeler"))
        if self.localizer is not None and localizer is not None:
            self.localizer.load_state_dict(checkpoint.bare_keys(localizer))
        if weights_only:
            return
        if "identity" not in state:
            raise UserError(
                f"{path}: a published checkpoint can be tested or start a step (--step_ckpt), not be trained further"
            )
        changed = self.options.changed(state["options"])
        if state["iters_per_epoch"] != self.iters_per_epoch:
            changed.append(
                f"iterations per epoch {self.iters_per_epoch} (was {state['iters_per_epoch']}): other data or images?"
            )
        if changed:
            raise UserError(
                f"{path}: cannot go on with other settings: {', '.join(changed)}; change them back or give another --name"
            )
        self.optimizer.load_state_dict(state["optimizer_state"])
        self.scheduler.load_state_dict(state["scheduler_state"])
        self.scaler.load_state_dict(state["scaler"])
        checkpoint.restore_random_states(state["random_states"])
        self.progress = Progress(
            state["epoch"],
            state["iteration"],
            state["best_score"],
            state["finished"],
            # Checkpoints of earlier versions do not say, nor does then the table.
            state.get("seconds", math.nan),
            state.get("memory_mib", math.nan),
        )
        self.logger.info(f"Restored from {path}: epoch {state['epoch']}, iteration {state['iteration']}")

    # ---- training -----------------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch, epoch: int) -> dict[str, float]:
        """One iteration: forward, named losses, backward, update.

        Args:
            batch: this rank's share of the global batch, on the device.
            epoch: epoch, from 0.

        Returns:
            this rank's value of each loss term, and their sum as ``total``.

        Raises:
            UserError: a term is not finite; names it and the batch's images. The weights are left as they were.
        """
        self.optimizer.zero_grad(set_to_none=True)
        teacher = None
        with self.runtime.autocast():
            if self.teacher is not None and self.method.needs_teacher:
                with record_function("part: teacher"), torch.no_grad():
                    output = self.teacher(batch.images, interpolate=False)
                    teacher = _full_precision(Prediction(output.logits, output.features["body"]))
            with record_function("part: student"):
                student = _full_precision(self.forward(batch.images))
        with record_function("part: losses"):
            terms = self.method.losses(batch, student, teacher, Moment(epoch, self.runtime.average, self.runtime.world))
            total = torch.stack(list(terms.values())).sum()
            values = dict(zip([*terms, "total"], torch.stack([*terms.values(), total]).tolist(), strict=True))
        self._check_finite(values, batch, epoch)

        with record_function("part: backward"):
            # Every parameter takes part, so that weight decay acts and ranks agree before the head has a loss of its own.
            self.scaler.scale(total + 0 * student.logits.mean()).backward()
        with record_function("part: update"):
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.scheduler.step()
        return values

    def _check_finite(self, values: dict[str, float], batch: Batch, epoch: int) -> None:
        wrong = [term for term, value in values.items() if term != "total" and not np.isfinite(value)]
        if wrong:
            names = ", ".join(batch.names)
            raise UserError(
                f"loss {', '.join(f'{t} = {values[t]}' for t in wrong)} at epoch {epoch}, iteration {self.progress.iteration}, "
                f"images {names}: training stopped; lower --lr or look at these images"
            )

    def _loader(self, view: TrainingView, sampler: BatchSampler) -> DataLoader:
        workers = self.options.num_workers
        return DataLoader(
            view,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=self.runtime.device.type == "cuda",
            persistent_workers=workers > 0,
        )

    def sampler(self, view: TrainingView) -> BatchSampler:
        """The batches of ``view`` for this rank."""
        options, runtime = self.options, self.runtime
        how = options.batch_size, runtime.rank, runtime.world, options.random_seed, options.iters_per_epoch
        if isinstance(view, WithReplay):
            return InterleavedBatchSampler(len(view.new), len(view.replay), *how, options.replay_share)
        return GlobalBatchSampler(len(view), *how)

    def fit(self, train: TrainingView, val: IncrementalView, path: Path) -> None:
        """Train to the last epoch, validating and saving on the way; the state is in ``path`` afterwards.

        Raises:
            Stopped: a signal asked the run to stop; its state is in ``path``.
        """
        options, progress = self.options, self.progress
        sampler = self.sampler(train)
        loader = self._loader(train, sampler)
        count = f"{len(train)} images"
        if isinstance(train, WithReplay):
            count = f"{len(train.new)} new and {len(train.replay)} replay images, 1:1"
        self.logger.info(
            f"Training step {options.step} on {count}: {options.epochs} epochs of {len(sampler)} iterations, "
            f"{options.epochs * len(sampler)} in all, batch {options.batch_size} on {self.runtime.world} process(es)"
        )
        with self._stoppable():
            for epoch in range(progress.epoch, options.epochs):
                sampler.set_epoch(epoch, progress.iteration)
                self._epoch(loader, epoch, path)
                progress.epoch, progress.iteration = epoch + 1, 0
                if (epoch + 1) % options.val_interval == 0 and epoch + 1 < options.epochs:
                    self._validate(val, epoch)
                if (epoch + 1) % options.ckpt_interval == 0 and epoch + 1 < options.epochs:
                    self.save(path)
        if options.epochs % options.val_interval == 0:
            self._validate(val, options.epochs - 1)
        progress.finished = True
        self.save(path)
        self.runtime.barrier()

    def _epoch(self, loader: DataLoader, epoch: int, path: Path) -> None:
        options, progress = self.options, self.progress
        self.learner.train()
        bar = tqdm(
            total=self.iters_per_epoch,
            initial=progress.iteration,
            desc=f"Step {options.step} epoch {epoch + 1}/{options.epochs}",
            disable=None if self.runtime.main else True,
        )
        sums: dict[str, float] = {}
        count, before, started = 0, progress.seconds, time.monotonic()
        with bar:
            for batch in loader:
                # Dropout must not depend on how often the run was stopped.
                torch.manual_seed(
                    hash((options.random_seed, options.step, epoch, progress.iteration, self.runtime.rank)) % 2**63
                )
                values = self.train_step(batch.to(self.runtime.device), epoch)
                progress.iteration += 1
                progress.seconds = before + time.monotonic() - started
                count += 1
                for term, value in values.items():
                    sums[term] = sums.get(term, 0.0) + value
                bar.update()
                bar.set_postfix(loss=f"{values['total']:.4f}", refresh=False)
                if progress.iteration % options.print_interval == 0:
                    self._log_losses(sums, count, epoch)
                    sums, count = {}, 0
                if self.stop_requested is not None and progress.iteration < self.iters_per_epoch:
                    self._stop(path)
        if count:
            self._log_losses(sums, count, epoch)
        seconds = time.monotonic() - started
        self.logger.info(f"Epoch {epoch + 1}/{options.epochs} done in {seconds:.0f} s, last loss {values['total']:.4f}")
        if self.stop_requested is not None:
            progress.epoch, progress.iteration = epoch + 1, 0
            self._stop(path)

    def _log_losses(self, sums: dict[str, float], count: int, epoch: int) -> None:
        """Means over the iterations since the last line and over the ranks."""
        names = sorted(sums)
        mean = self.runtime.average(torch.tensor([sums[n] / count for n in names], device=self.runtime.device)).tolist()
        where = epoch * self.iters_per_epoch + self.progress.iteration
        scalars = {f"loss/{name}": value for name, value in zip(names, mean, strict=True)}
        scalars["lr"] = self.optimizer.param_groups[0]["lr"]
        self.logger.scalars(scalars, where)
        terms = ", ".join(f"{name} {value:.4f}" for name, value in zip(names, mean, strict=True))
        self.logger.debug(f"Epoch {epoch + 1}, iteration {self.progress.iteration}/{self.iters_per_epoch}: {terms}")

    # ---- stopping -----------------------------------------------------------------------------------------------------

    def _stoppable(self) -> _Signals:
        return _Signals(self)

    def _stop(self, path: Path) -> None:
        self.save(path)
        raise Stopped(
            f"stopped by signal {self.stop_requested} at epoch {self.progress.epoch}, iteration "
            f"{self.progress.iteration}; {path} holds the state, go on with --resume auto"
        )

    # ---- evaluation ---------------------------------------------------------------------------------------------------

    def batches(self, view: IncrementalView, desc: str) -> Iterator[Batch]:
        """This rank's share of ``view``, once, in order."""
        options, runtime = self.options, self.runtime
        shard = Subset(view, evaluation_shard(len(view), runtime.rank, runtime.world))
        size = max(1, options.batch_size // runtime.world) if options.crop_val else 1
        loader = DataLoader(shard, batch_size=size, collate_fn=collate, num_workers=options.num_workers)
        for batch in tqdm(loader, desc=desc, disable=None if runtime.main else True):
            yield batch.to(runtime.device)

    @torch.no_grad()
    def evaluate(
        self, view: IncrementalView, model: nn.Module, desc: str, localizer: nn.Module | None = None
    ) -> tuple[Scores, Tensor]:
        """Scores and confusion matrix of ``model`` on ``view``.

        With ``localizer`` those of its masks, where old classes count as background: image labels taught it the new ones.
        """
        model.eval()
        confusion = ConfusionMatrix(len(self.names))
        for batch in self.batches(view, desc):
            prediction, target = self.predict(model, batch.images, localizer), batch.masks
            if localizer is not None:
                target = torch.where(target < self.old, torch.zeros_like(target), target)
            confusion.update(target, prediction)
        matrix = self.runtime.sum(confusion.matrix.to(self.runtime.device)).cpu()
        return scores(matrix, self.old, self.names), matrix

    @torch.no_grad()
    def predict(self, model: nn.Module, images: Tensor, localizer: nn.Module | None = None) -> Tensor:
        """(B, H, W) channel of each pixel of ``images`` (B, 3, H, W)."""
        with self.runtime.autocast():
            if localizer is None:
                logits = model(images).logits
            else:
                body = model(images, interpolate=False).features["body"]
                logits = nn.functional.interpolate(
                    localizer(body), images.shape[-2:], mode="bilinear", align_corners=False
                )
        prediction: Tensor = logits.argmax(dim=1)
        return prediction

    def _validate(self, view: IncrementalView, epoch: int) -> None:
        """Scores of the step's validation images; the best one is remembered."""
        if not len(view):
            self.logger.info("No validation image for this step")
            return
        result, _ = self.evaluate(view, self.model, "Validation")
        self.log_scores("val", result, epoch + 1)
        self.progress.best_score = max(self.progress.best_score, result.mean_iou)
        if self.localizer is not None:
            self.localizer.eval()
            result, _ = self.evaluate(view, self.model, "Validation of the localizer", self.localizer)
            self.log_scores("val_localizer", result, epoch + 1)

    def log_scores(self, tag: str, result: Scores, where: int) -> None:
        """Scores to the log, the scalars and the tables."""
        self.logger.scalars({f"{tag}/{key}": value for key, value in result.summary().items()}, where)
        self.logger.class_table(f"{tag}/class_iou", result.by_name(), where)
        self.logger.info(f"{tag}: " + ", ".join(f"{key} {value:.4f}" for key, value in result.summary().items()))


class _Signals:
    """While training, the first SIGTERM or Ctrl-C asks the loop to save and stop; a second one ends the program."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.before: dict[int, Any] = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.trainer.stop_requested is not None:
            sys.exit(128 + number)
        self.trainer.stop_requested = number

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.before[number] = signal.signal(number, self._ask)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
