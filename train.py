"""The training loop: one step of a task, from its first image to its last.

It knows no method by name. Everything random depends only on the seed, the epoch and the
iteration: a run that was killed at any moment and resumed ends with the same weights, and several
ranks see the batches that one process would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from torch.utils.data import DataLoader
from tqdm import tqdm

from argparser import Options
from dataset.batch import Batch, collate
from dataset.files import shown
from dataset.incremental import IncrementalView
from dataset.replay import WithReplay
from dataset.sampler import BatchSampler, GlobalBatchSampler, InterleavedBatchSampler
from dataset.views import TrainingView
from engine.evaluation import Evaluator, log_scores, tell_absent
from engine.networks import Optimisation, check_norms, checksum, full_precision, make_networks, make_optimisation
from engine.state import Origin, Progress, Snapshot, adopted_network, weights_origin
from engine.stopping import Stopped, Stopping, shielded
from engine.watch import Watch
from methods.base import Iteration, Prediction, Surveying
from tasks import Task
from utils import cores
from utils.checks import images_per_rank, replay_images
from utils.distributed import Runtime
from utils.logger import Logger

DIFFER = (
    "every machine reads its own disk and its own command line; give all the same command, and share the folders of data and "
    "checkpoints, or copy them"
)


class Trainer:
    """Trains one step: orders what the networks, the snapshot, the evaluator and the logger do.

    Args:
        options: the run's options.
        task: which classes are learned when.
        class_names: id -> name.
        runtime: device, precision and ranks.
        logger: where scalars, pictures and sentences go.
        stopping: who notes a request to stop; whoever made it enters and leaves it.
        look_every: most iterations between two looks at the losses; 1 on the CPU, where nobody waits for a number, and
            ``--print_interval`` elsewhere, if None.

    The networks exist once it is made; ``begin`` gives them weights, optimiser and schedule.
    """

    optimisation: Optimisation

    def __init__(
        self,
        options: Options,
        task: Task,
        class_names: dict[int, str],
        runtime: Runtime,
        logger: Logger,
        stopping: Stopping | None = None,
        look_every: int | None = None,
    ) -> None:
        self.options, self.task, self.runtime, self.logger = options, task, runtime, logger
        step = options.step
        self.names = [class_names.get(i, str(i)) for i in task.seen(step)]
        self.old = len(task.old(step))
        states: dict[Path, dict[str, Any]] = {}
        self.networks = make_networks(options, task, runtime, adopted_network(options, states), self.names)
        self.snapshot = Snapshot(options, task, self.names, self.networks, runtime, logger, states)
        self.evaluator = Evaluator(
            self.names,
            self.old,
            runtime,
            self.networks.normalisation,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            whole=not options.crop_val,
            between=self._may_stop,
        )
        self.cores = cores.split(runtime.device.type, options.num_workers, alone=True)
        self.stopping = stopping or Stopping()
        at_hand = runtime.device.type == "cpu"
        self.watch = Watch(runtime, look_every or (1 if at_hand else options.print_interval))
        self.progress = Progress()
        self._told_absent = False
        self.iters_per_epoch = 1
        self.forward: nn.Module = self.networks.student

    # ---- before training ----------------------------------------------------------------------------------------------

    def begin(self, train: TrainingView | None) -> None:
        """Give the run its weights, from wherever the options say: it is then ready to train or test.

        Args:
            train: the training images; None for a run that only tests.

        Raises:
            UserError: a checkpoint of another run or network, or no pretrained weights.
        """
        with self.runtime.agreed():
            if train is not None:
                images = images_per_rank(self.options.batch_size, self.runtime.world)
                check_norms(self.networks, self.runtime, images, self.options.crop_size)
            optimisation = None if train is None else self.build(len(self.sampler(train)))
            origin = weights_origin(self.options)
            self.progress = self.snapshot.start(origin, optimisation)
        if self.runtime.world > 1:
            self.runtime.same(self._beginning(origin, train), DIFFER)
        if train is not None:
            thawed = self._thawed(self.progress.epoch)
            for line in self.networks.settle(self.runtime, keep_teacher=self.options.report, thawed=thawed):
                self.logger.info(line)
        if self.options.compile:
            self.networks.compile()
        if train is not None:
            # Libraries keep stages of an encoder that a segmenter does not ask; nor is a body asked that learns later.
            unused = self.networks.network is not None or self.networks.late
            self.forward = self.runtime.wrap(self.networks.student, unused=unused)

    def _beginning(self, origin: Origin, train: TrainingView | None) -> dict[str, object]:
        """What has to be the same on all ranks, which read files of their own machines."""
        progress, networks = self.progress, self.networks
        said = {f"--{key}": value for key, value in self.options.shared().items()}
        said |= {"the start": origin.start.value, "the number of epochs done": progress.epoch}
        said |= {"the iteration": progress.iteration, "whether all is done": progress.finished}
        said["the number of training images"] = 0 if train is None else len(train)
        parts = {"student": networks.student, "teacher": networks.teacher}
        return said | {
            f"the sum of the {name}'s weights": checksum(part) for name, part in parts.items() if part is not None
        }

    def build(self, iters_per_epoch: int) -> Optimisation:
        """Optimiser, schedule and loss scaling for epochs of ``iters_per_epoch`` iterations."""
        self.iters_per_epoch = iters_per_epoch
        self.optimisation = make_optimisation(self.options, self.networks, self.runtime, iters_per_epoch)
        return self.optimisation

    def sampler(self, view: TrainingView) -> BatchSampler:
        """The batches of ``view`` for this rank."""
        options, runtime = self.options, self.runtime
        how = options.batch_size, runtime.rank, runtime.world, options.random_seed, options.iters_per_epoch
        if isinstance(view, WithReplay):
            return InterleavedBatchSampler(len(view.new), len(view.replay), *how, options.replay_share)
        return GlobalBatchSampler(len(view), *how)

    def _loader(self, view: TrainingView, sampler: BatchSampler) -> DataLoader:
        workers = self.cores.workers
        return DataLoader(
            view,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=self.runtime.device.type == "cuda",
            persistent_workers=workers > 0,
        )

    # ---- training -----------------------------------------------------------------------------------------------------

    def fit(self, train: TrainingView | None, val: IncrementalView) -> None:
        """Train to the last epoch, validating and saving on the way; a finished run stays as it is.

        Whatever a validation follows is saved before it: a run that goes on from there begins with the validation.

        Args:
            train: the training images; None for a run that only tests, which is not trained.
            val: images of the validations in between.

        Raises:
            Stopped: a signal asked the run to stop; its state is saved.
            UserError: a loss is not finite, or an image cannot be read.
        """
        options, progress = self.options, self.progress
        if train is None or progress.finished:
            return
        sampler = self.sampler(train)
        loader = self._loader(train, sampler)
        self._announce(train, sampler)
        self._survey(train)
        if progress.epoch and not progress.iteration:
            self._validate(val)
        for epoch in range(progress.epoch, options.epochs):
            if self._thawed(epoch):
                for line in self.networks.thaw(self.runtime, keep_teacher=options.report):
                    self.logger.info(line)
            sampler.set_epoch(epoch, progress.iteration)
            self._epoch(loader, epoch)
            progress.epoch, progress.iteration = epoch + 1, 0
            if self._validates() or ((epoch + 1) % options.ckpt_interval == 0 and epoch + 1 < options.epochs):
                self.save()
            self._validate(val)
        progress.finished = True
        self.save()
        self.runtime.barrier()

    def _survey(self, train: TrainingView) -> None:
        """Show a method that asks for it the images of the first epoch, as the teacher sees them."""
        method = self.networks.method
        if not isinstance(method, Surveying):
            return
        sampler = self.sampler(train)

        def looks() -> Iterator[tuple[Batch, Prediction]]:
            for loaded in tqdm(loader, desc="Survey", disable=None if self.runtime.main else True):
                batch = loaded.to(self.runtime.device)
                pixels = self.networks.normalisation.apply(batch.images)
                with self.runtime.autocast():
                    teacher = self.networks.teach(pixels, self.networks.look(pixels))
                assert teacher is not None
                yield batch, teacher
                asked = self._asked()
                if asked:
                    self._stop(asked)

        # What the loader draws is no part of the training's draws.
        with torch.random.fork_rng(devices=[]), shielded():
            loader = iter(self._loader(train, sampler))
        method.survey(looks(), self.runtime.sum)

    def _thawed(self, epoch: int) -> bool:
        """Whether a frozen body is trained in ``epoch`` (``--unfreeze_ep``)."""
        return self.options.unfreeze_ep is not None and epoch >= self.options.unfreeze_ep

    def _epoch(self, loader: DataLoader, epoch: int) -> None:
        """The iterations of an epoch that are not done yet; stops after the one in which it is asked."""
        options, progress = self.options, self.progress
        self.networks.student.train()
        bar = tqdm(
            total=self.iters_per_epoch,
            initial=progress.iteration,
            desc=f"Step {options.step} epoch {epoch + 1}/{options.epochs}",
            disable=None if self.runtime.main else True,
        )
        sums: dict[str, float] = {}
        count, before, started, asked = 0, progress.seconds, time.monotonic(), 0
        with bar, self.runtime.one_size():
            with shielded():
                batches = iter(loader)
            for batch in batches:
                # Dropout must not depend on how often the run was stopped.
                torch.manual_seed(
                    hash((options.random_seed, options.step, epoch, progress.iteration, self.runtime.rank)) % 2**63
                )
                self.train_step(batch.to(self.runtime.device), epoch)
                progress.iteration += 1
                bar.update()
                asked = self._asked()
                printed = progress.iteration % options.print_interval == 0
                ended = progress.iteration == self.iters_per_epoch
                if not (printed or ended or asked or self.watch.due):
                    continue
                for values in self.watch.look():
                    count += 1
                    for term, value in values.items():
                        sums[term] = sums.get(term, 0.0) + value
                progress.seconds = before + time.monotonic() - started
                bar.set_postfix(loss=f"{values['total']:.4f}", refresh=False)
                if printed or ended:
                    self._log_losses(sums, count, epoch)
                    sums, count = {}, 0
                if asked and not ended:
                    self._stop(asked)
        seconds = time.monotonic() - started
        self.logger.info(f"Epoch {epoch + 1}/{options.epochs} done in {seconds:.0f} s, last loss {values['total']:.4f}")
        if asked:
            progress.epoch, progress.iteration = epoch + 1, 0
            self._stop(asked)

    def train_step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """One iteration: forward, named losses, backward, update. It waits for no number of the device.

        Args:
            batch: this rank's share of the global batch, on the device.
            epoch: epoch, from 0.

        Returns:
            this rank's value of each loss term, and their sum as ``total``: scalars on the device. Where one is not finite
            the weights stay as they are from now on, and the next look at the losses (``watch``) ends the training.
        """
        optimisation, runtime = self.optimisation, self.runtime
        optimisation.optimizer.zero_grad(set_to_none=True)
        pixels = self.networks.normalisation.apply(batch.images)
        iteration = Iteration(epoch, runtime.average, runtime.world, runtime.rank, self.progress.iteration)
        with runtime.autocast():
            maps = self.networks.look(pixels)
            teacher = self.networks.teach(pixels, maps)
            scenes, pasted = self.networks.paste(batch, maps, iteration) or (None, None)
            with record_function("part: student"):
                student = replace(full_precision(self.forward(pixels, maps, scenes)), pasted=pasted)
        with record_function("part: losses"):
            terms = self.networks.method.losses(batch, student, teacher, iteration)
            total = torch.stack(list(terms.values())).sum()
            losses = {name: value.detach() for name, value in (terms | {"total": total}).items()}
            self.watch.keep(losses, epoch, self.progress.iteration, batch.names)

        with record_function("part: backward"):
            # Every parameter takes part, so that weight decay acts and ranks agree before the head
            # has a loss of its own.
            optimisation.scaler.scale(total + 0 * student.logits.mean()).backward()
        with record_function("part: update"):
            optimisation.update(self.watch.failed)
        return losses

    def _validates(self) -> bool:
        """Whether a validation follows the epoch that was done last."""
        return self.progress.epoch % self.options.val_interval == 0

    def _validate(self, view: IncrementalView) -> None:
        """Scores of the step's validation images, where they are due; the best one is remembered."""
        if not self._validates():
            return
        if not len(view):
            if not self._told_absent:
                new = shown(self.names[max(self.old, 1) :])
                self.logger.warning(
                    f"No validation image holds a class of this step: {new}; validations are left out "
                    "(--val_list and --val_on_trainset choose others)"
                )
                self._told_absent = True
            return
        for tag, result in self.evaluator.validate(view, self.networks.model, self.networks.localizer):
            log_scores(self.logger, tag, result, self.progress.epoch)
            if tag == "val":
                if not self._told_absent:
                    tell_absent(self.logger, "validation", result)
                    self._told_absent = True
                self.progress.best_score = max(self.progress.best_score, result.mean_iou)

    # ---- saving and stopping ------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the whole state of the run to its checkpoint.

        Raises:
            UserError: a loss that nobody has looked at yet is not finite, or the checkpoint cannot be written.
        """
        self.watch.look()
        path = self.options.checkpoint_path(self.options.step)
        self.snapshot.save(path, self.progress, self.optimisation)

    def _asked(self) -> int:
        """The signal that asked any of the ranks to stop, the same on all of them; 0 for none."""
        return self.runtime.most(self.stopping.number or 0)

    def _stop(self, number: int) -> None:
        self.save()
        # A launcher ends the main rank, too, as soon as another one ends.
        self.runtime.barrier()
        progress = self.progress
        self._stopped(number, f"at epoch {progress.epoch}, iteration {progress.iteration}")

    def _may_stop(self) -> None:
        """Between the batches of an evaluation: end it where a stop was asked for. What was trained is saved already."""
        number = self._asked()
        if number:
            finished = self.progress.finished or self.options.test
            self._stopped(number, "in the test" if finished else f"in the validation after epoch {self.progress.epoch}")

    def _stopped(self, number: int, where: str) -> NoReturn:
        kept = f"{self.options.checkpoint_path(self.options.step)} holds the state, go on with --resume auto"
        kept = "nothing was changed" if self.options.test else kept
        raise Stopped(number, f"stopped by signal {number} {where}; {kept}")

    # ---- what the log says --------------------------------------------------------------------------------------------

    def _announce(self, train: TrainingView, sampler: BatchSampler) -> None:
        options = self.options
        if self.runtime.why:
            self.logger.info(self.runtime.why)
        count = f"{len(train)} images"
        if isinstance(train, WithReplay):
            size, replayed = options.batch_size, replay_images(options.batch_size, options.replay_share)
            common = math.gcd(size, replayed)
            ratio = f"{(size - replayed) // common}:{replayed // common}"
            count = f"{len(train.new)} new and {len(train.replay)} replay images, {ratio}"
        self.logger.info(
            f"Training step {options.step} on {count}: {options.epochs} epochs of {len(sampler)} iterations, "
            f"{options.epochs * len(sampler)} in all, batch {options.batch_size} on {self.runtime.world} process(es)"
        )
        self.logger.info(str(self.cores))

    def _log_losses(self, sums: dict[str, float], count: int, epoch: int) -> None:
        """Means over the iterations since the last line and over the ranks."""
        names = sorted(sums)
        mean = self.runtime.average(torch.tensor([sums[n] / count for n in names], device=self.runtime.device)).tolist()
        where = epoch * self.iters_per_epoch + self.progress.iteration
        scalars = {f"loss/{name}": value for name, value in zip(names, mean, strict=True)}
        scalars["lr"] = self.optimisation.optimizer.param_groups[0]["lr"]
        self.logger.scalars(scalars, where)
        terms = ", ".join(f"{name} {value:.4f}" for name, value in zip(names, mean, strict=True))
        self.logger.debug(f"Epoch {epoch + 1}, iteration {self.progress.iteration}/{self.iters_per_epoch}: {terms}")
