"""Training a domain discriminator; a run that was stopped goes on after its last whole epoch."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from modules.discriminator import DATASET, WEB, Discriminator, Preprocessing
from modules.pretrained import load_classifier
from spread.blocks import Row, Store, Worker, in_batches, in_blocks
from spread.options import BLOCK_SIZE
from spread.ways import Way, looked_at
from utils import checkpoint, distributed
from utils.cores import split
from utils.distributed import Runtime
from utils.errors import UserError
from utils.schedule import make_scheduler
from utils.whole import clear_leftovers
from web.discriminator import Saved, load, make, read_step_checkpoint, save
from web.examples import Example, ExampleBatch, Examples, batches, is_held_out, shuffled
from web.quality import binary_quality, probabilities, right_by_class
from web.scoring import Prepare, Prepared

LOG = logging.getLogger("webwilss")
MIN_EXAMPLES = 10
# Images that are prepared at once.
STATISTICS_BATCH = 64


@dataclass(frozen=True)
class Recipe:
    """How the discriminator is trained.

    Attributes:
        epochs: passes over the examples.
        batch_size: examples of an iteration.
        lr: highest learning rate of AdamW, which follows one cycle.
        weight_decay: of AdamW.
        pretrained: weights of the network: imagenet, none or a file.
        seed: seed of everything random.
    """

    epochs: int = 10
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 1e-2
    pretrained: str = "none"
    seed: int = 42


# Position and path of each file of a batch.
Files = tuple[tuple[int, str], ...]


def moments_worker(discriminator: Discriminator, runtime: Runtime) -> Worker[Files]:
    """Looks at batches of training images; a row is how many they are, their faults, and the moments of what could be read.

    These are the sum and the sum of squares of each prepared channel, in its band, and the number of values.
    """

    def finish(prepared: Prepared) -> list[Row]:
        size, faults = len(prepared.positions) + len(prepared.faults), [list(fault) for fault in prepared.faults]
        if not prepared.positions:
            return [[size, faults, None]]
        with torch.no_grad():
            images = prepared.values.to(runtime.device, non_blocking=True).float() / 255
            values = discriminator.prepare(images).double()
            mask = discriminator.mask(values)
            sums = (values * mask).sum(dim=(0, 2, 3)).tolist()
            squares = (values**2 * mask).sum(dim=(0, 2, 3)).tolist()
        return [[size, faults, [sums, squares, len(values) * float(mask.sum())]]]

    decode = Prepare(discriminator.preprocessing.size, None)
    return Worker(partial(_decoded, decode), finish)


def _decoded(decode: Prepare, batch: Sequence[Files]) -> Prepared:
    """The one batch of images that a batch of work is."""
    return decode(batch[0])


@dataclass(frozen=True)
class MomentsWork:
    """How a worker elsewhere makes the discriminator that prepares images; its weights do not matter.

    Attributes:
        preprocessing: what becomes of an image.
        step_ckpt: checkpoint of step 0, whose encoder may be asked first.
        device: as ``--device``.
    """

    preprocessing: Preprocessing
    step_ckpt: Path
    device: str

    def __call__(self) -> Worker[Files]:
        runtime = distributed.start(self.device)
        discriminator = make(self.preprocessing, read_step_checkpoint(self.step_ckpt))
        return moments_worker(discriminator.on(runtime.device), runtime)


@dataclass(frozen=True)
class Statistics:
    """Who looks at the training set for its mean and deviation.

    Attributes:
        way: who does it.
        make: makes what does it.
        store: where blocks wait.
        block_size: images that a worker takes at once.
    """

    way: Way
    make: Callable[[], Worker[Files]]
    store: Store
    block_size: int = BLOCK_SIZE

    def of(self, examples: Sequence[Example]) -> Iterator[list[Row]]:
        """Rows of each batch, in order, as ``moments_worker`` says."""
        blocks = in_blocks(statistics_batches(examples), max(1, self.block_size // STATISTICS_BATCH))
        return self.way.results(blocks, self.make, self.store)


def statistics_batches(examples: Sequence[Example]) -> Iterator[list[Files]]:
    """Training images in batches, each of which is one item of work."""
    files = ((position, str(example.path)) for position, example in enumerate(examples))
    return ([tuple(batch)] for batch in in_batches(files, STATISTICS_BATCH))


class Fitting:
    """One training of a discriminator; it can be stopped after every epoch and gone on with.

    Args:
        discriminator: with random weights.
        examples: all of them; those held out are not trained on.
        recipe: how.
        runtime: device and precision.
        workers: processes that decode.

    Raises:
        UserError: too few examples of one domain.
    """

    def __init__(
        self,
        discriminator: Discriminator,
        examples: Sequence[Example],
        recipe: Recipe,
        runtime: Runtime,
        workers: int,
    ) -> None:
        self.discriminator = discriminator.on(runtime.device)
        self.recipe, self.runtime, self.workers = recipe, runtime, workers
        self.train = [e for e in examples if not is_held_out(e)]
        self.held_out = [e for e in examples if is_held_out(e)]
        for part, name in ((self.train, "training"), (self.held_out, "test")):
            for of_dataset, domain in ((True, "training data"), (False, "web")):
                count = sum(e.of_dataset == of_dataset for e in part)
                least = MIN_EXAMPLES if part is self.train else 1
                if count < least:
                    raise UserError(
                        f"the discriminator has {count} images of the {domain} for its {name}, it needs at least {least}"
                    )
        self.data = Examples(self.train, discriminator.preprocessing.size, recipe.seed)
        self.epoch = 0
        self.unreadable: dict[Path, str] = {}
        self.domains = torch.tensor([DATASET if e.of_dataset else WEB for e in self.train])
        self._vectors: tuple[Tensor, Tensor] | None = None
        share = sum(e.of_dataset for e in self.train) / len(self.train)
        # Both domains weigh the same in the loss, so that p_ds / p_web = 1 means "equally likely", whatever their numbers.
        self.weight = torch.tensor([0.5 / share, 0.5 / (1 - share)], device=runtime.device)
        self.optimizer = torch.optim.AdamW(
            discriminator.network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
        )
        self.iterations = -(-len(self.train) // recipe.batch_size)
        self.scheduler = make_scheduler(self.optimizer, "one_cycle", recipe.epochs * self.iterations)

    def start(self, names: str, statistics: Statistics | None = None) -> None:
        """Set initial weights and the training set's statistics.

        Args:
            names: timm's name of the network.
            statistics: who looks at the training set for them; this process, by default.
        """
        if self.discriminator.input.vector:
            LOG.info("--input %s: a small classifier, random weights", self.discriminator.preprocessing.input)
        else:
            LOG.info(load_classifier(self.discriminator.network, names, self.recipe.pretrained))
        if statistics is None:
            worker = moments_worker(self.discriminator, self.runtime)
            cores = split(self.runtime.device.type, self.workers)
            found = looked_at(worker, statistics_batches(self.train), cores, self.runtime)
        else:
            found = statistics.of(self.train)
        total: Tensor | float = 0.0
        squares: Tensor | float = 0.0
        count = 0.0
        hidden = None if self.runtime.main else True
        with tqdm(total=len(self.train), desc="Mean and deviation", disable=hidden) as bar:
            for size, faults, moments in chain.from_iterable(found):
                for position, fault in faults:
                    self._note_fault(self.train[position], fault)
                bar.update(size)
                if moments:
                    sums, own, number = moments
                    # Added in the order of the batches, whoever looked at them.
                    total = total + torch.tensor(sums, dtype=torch.float64)
                    squares = squares + torch.tensor(own, dtype=torch.float64)
                    count += number
        if self.runtime.main:
            assert isinstance(total, Tensor) and isinstance(squares, Tensor)
            device = self.runtime.device
            self.discriminator.fit_statistics((total.to(device), squares.to(device), count))

    def _readable(self, loaded: Iterator[ExampleBatch], desc: str) -> Iterator[ExampleBatch]:
        """Batches of what can be read.

        A web image that cannot be read is left out, an image of the data set is an error.
        """
        with tqdm(total=len(self.train), desc=desc, disable=None) as bar:
            for batch in loaded:
                for index, fault in batch.faults:
                    self._note_fault(self.train[index], fault)
                bar.update(len(batch.indices) + len(batch.faults))
                if len(batch.indices):
                    yield batch

    def _prepared(self, keys: list[list[tuple[int, int]]], desc: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Prepared values (B, C, h, w) of the batches of an epoch, and their positions (B,)."""
        if self.discriminator.input.vector:
            return self._of_vectors(keys)
        return self._of_images(batches(self.data, self.workers, keys=keys), desc)

    def _of_images(self, loaded: Iterator[ExampleBatch], desc: str) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._readable(loaded, desc):
            with torch.no_grad(), self.runtime.autocast():
                values = self.discriminator.prepare(batch.pixels(self.runtime.device))
            yield values, batch.indices

    def _of_vectors(self, keys: list[list[tuple[int, int]]]) -> Iterator[tuple[Tensor, Tensor]]:
        values, known = self._all_vectors()
        for batch in keys:
            positions = torch.tensor([position for _, position in batch])
            positions = positions[known[positions]]
            yield values[positions.to(values.device)], positions

    def _all_vectors(self) -> tuple[Tensor, Tensor]:
        """Vectors (N, C, 1, 1) of all training examples, and which (N,) could be read; taken once."""
        if self._vectors is None:
            middle = Examples(self.train, self.discriminator.preprocessing.size)
            known = torch.zeros(len(self.train), dtype=torch.bool)
            values = torch.zeros(len(self.train), *self.discriminator.mean.shape, device=self.runtime.device)
            for loaded in self._readable(batches(middle, self.workers), "Vectors"):
                with torch.no_grad(), self.runtime.autocast():
                    taken = self.discriminator.prepare(loaded.pixels(self.runtime.device))
                values[loaded.indices.to(values.device)] = taken
                known[loaded.indices] = True
            self._vectors = values, known
        return self._vectors

    def _note_fault(self, example: Example, fault: str) -> None:
        if example.of_dataset:
            raise UserError(f"{example.path}: {fault}")
        if example.path not in self.unreadable:
            LOG.warning("%s: %s; left out", example.path, fault)
            self.unreadable[example.path] = fault

    def run_epoch(self) -> float:
        """One pass over the training examples; the mean loss."""
        self.discriminator.train()
        keys = shuffled(len(self.train), self.recipe.batch_size, self.recipe.seed, self.epoch)
        losses, started = [], time.monotonic()
        desc = f"Discriminator epoch {self.epoch + 1}/{self.recipe.epochs}"
        prepared = self._prepared(keys, desc)
        # Dropout must not depend on how often the training was stopped.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.epoch)
        for values, positions in prepared:
            if len(positions) > 1:
                losses.append(self._update(values, self.domains[positions].to(self.runtime.device)))
            self.scheduler.step()
        self.epoch += 1
        mean = float(np.mean(losses))
        LOG.info("%s done in %.0f s, loss %.4f", desc, time.monotonic() - started, mean)
        return mean

    def _update(self, values: Tensor, targets: Tensor) -> float:
        with self.runtime.autocast():
            logits = self.discriminator.classify(values).float()
        loss = F.cross_entropy(logits, targets, weight=self.weight)
        if not torch.isfinite(loss):
            raise UserError(f"the discriminator's loss is {float(loss)} at epoch {self.epoch + 1}; lower --lr")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            "model_state": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "epoch": self.epoch,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        self.discriminator.load_state_dict(state["model_state"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.epoch = state["epoch"]


def examples_digest(examples: Sequence[Example]) -> str:
    """A key that changes with the list of examples."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{example.path}\0{example.class_name}\0{example.of_dataset}\n".encode())
    return digest.hexdigest()


def fit(fitting: Fitting, path: Path, key: str, statistics: Statistics | None = None) -> None:
    """Train to the last epoch; after each, ``PATH.part`` holds the state, from which a next run goes on. The main rank trains alone.

    Args:
        fitting: the training.
        path: where the finished discriminator will be.
        key: what must be equal for going on: preprocessing, recipe and examples.
        statistics: who looks at the training set for its mean and deviation; this process, by default.
    """
    part = path.with_name(path.name + ".part")
    clear_leftovers(part)
    clear_leftovers(path)
    if part.is_file():
        state = checkpoint.load(part)
        if state.get("key") == key:
            checkpoint.need(state, part, "optimizer", "scheduler", "epoch")
            try:
                checkpoint.need(state["scheduler"], part, "last_epoch")
                fitting.load_state(state)
            except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{part}: damaged: does not fit this training; delete it") from error
            LOG.info("Going on from %s after epoch %d", part, fitting.epoch)
        else:
            LOG.warning("%s is of another training and is left out", part)
    if fitting.epoch == 0:
        fitting.start(fitting.discriminator.preprocessing.network, statistics)
    while fitting.runtime.main and fitting.epoch < fitting.recipe.epochs:
        fitting.run_epoch()
        checkpoint.save(part, fitting.state() | {"key": key})


def train(
    discriminator: Discriminator,
    examples: Sequence[Example],
    recipe: Recipe,
    runtime: Runtime,
    workers: int,
    path: Path,
    state: dict[str, Any],
    statistics: Statistics | None = None,
) -> Saved | None:
    """Train on the examples, test on those held out, and write the result to ``path``.

    The file holds the preprocessing, the scores on held-out images, the classes seen and the identity of the step-0 checkpoint
    whose content is ``state``. A training that was stopped goes on after its last whole epoch. ``statistics`` says who looks at the
    training set for its mean and deviation; ranks that are not the main one do nothing else, and get None.
    """
    fitting = Fitting(discriminator, examples, recipe, runtime, workers)
    key = json.dumps([discriminator.preprocessing.plain(), asdict(recipe), examples_digest(examples)])
    fit(fitting, path, key, statistics)
    if not runtime.main:
        return None
    probability = probabilities(discriminator, fitting.held_out, runtime, workers)
    scores = binary_quality(probability, fitting.held_out)
    by_class = right_by_class(probability, fitting.held_out)
    save(
        path,
        discriminator,
        state,
        recipe=asdict(recipe),
        scores=scores,
        by_class=by_class,
        classes=sorted({e.class_name for e in examples if not e.of_dataset}),
    )
    path.with_name(path.name + ".part").unlink(missing_ok=True)
    return load(path, runtime, state)
