"""Training, testing, saving and loading the domain discriminator (WEB, section A1)."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from modules.bodies import make_body
from modules.norm import make_norm
from modules.pretrained import load_classifier
from modules.spectrum import DATASET, WEB, Discriminator, Preprocessing
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError
from utils.metrics import BinaryScores, binary_scores
from utils.normalisation import Normalisation
from utils.schedule import make_scheduler
from web.examples import Example, ExampleBatch, Examples, batches, is_held_out, shuffled

LOG = logging.getLogger("webwilss")
# Below this area under the ROC curve a discriminator tells the domains apart hardly better than a coin.
CHANCE_AUC = 0.65
MIN_EXAMPLES = 10


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


class Encoder(nn.Module):
    """A segmenter's body on images in [0, 1]; always in evaluation mode, without gradient."""

    def __init__(self, step_checkpoint: dict[str, Any]) -> None:
        super().__init__()
        options = step_checkpoint["options"]
        self.body = make_body(options["backbone"], options["output_stride"], make_norm(options["norm_act"]))
        weights = step_checkpoint["model_state"]
        self.body.load_state_dict({k.removeprefix("body."): v for k, v in weights.items() if k.startswith("body.")})
        self.normalisation = Normalisation.of(self.body, options["image_stats"])
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the body's last feature map (B, C, h, w)."""
        features: Tensor = self.body(self.normalisation.apply(images))[0]
        return features


def read_step_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of step 0 that knows its options.

    Raises:
        UserError: it is of a later step, or a published one that says nothing of its data.
    """
    state = checkpoint.load(path)
    if "options" not in state or "identity" not in state:
        raise UserError(f"{path}: a published checkpoint does not say what it was trained on; give one of this project")
    if state["options"]["step"] != 0:
        raise UserError(f"{path}: of step {state['options']['step']}; the discriminator belongs to step 0")
    return state


def _body_digest(state: dict[str, Any]) -> str:
    body = {key: weights for key, weights in state["model_state"].items() if key.startswith("body.")}
    return checkpoint.weights_digest(body, names=False)


def make(preprocessing: Preprocessing, step_checkpoint: dict[str, Any] | None = None, seed: int = 0) -> Discriminator:
    """A discriminator with the random weights of ``seed``; ``features="encoder"`` takes the body of ``step_checkpoint``."""
    torch.manual_seed(seed)
    if preprocessing.features == "image":
        return Discriminator(preprocessing)
    if step_checkpoint is None:
        raise UserError("--features encoder works on the features of a segmenter: give its checkpoint")
    encoder = Encoder(step_checkpoint)
    return Discriminator(preprocessing, encoder, encoder.body.out_channels)


def to_images(batch: ExampleBatch, device: torch.device) -> Tensor:
    """(B, 3, S, S) in [0, 1] on the device."""
    return batch.images.to(device, non_blocking=True).float() / 255


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
        self.discriminator = discriminator.to(runtime.device)
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
        share = sum(e.of_dataset for e in self.train) / len(self.train)
        # Both domains weigh the same in the loss, so that p_ds / p_web = 1 means "equally likely", whatever their numbers.
        self.weight = torch.tensor([0.5 / share, 0.5 / (1 - share)], device=runtime.device)
        self.optimizer = torch.optim.AdamW(
            discriminator.network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
        )
        self.iterations = -(-len(self.train) // recipe.batch_size)
        self.scheduler = make_scheduler(self.optimizer, "one_cycle", recipe.epochs * self.iterations)

    def start(self, names: str) -> None:
        """Initial weights and the statistics of the training set; ``names`` is timm's name of the network."""
        LOG.info(load_classifier(self.discriminator.network, names, self.recipe.pretrained))
        total: Tensor | float = 0.0
        squares: Tensor | float = 0.0
        count = 0.0
        plain = Examples(self.train, self.discriminator.preprocessing.size)
        for images in self._readable(batches(plain, self.workers), len(self.train), "Statistics of the spectrum"):
            values = self.discriminator.prepare(images).double()
            mask = self.discriminator.mask(values)
            total = total + (values * mask).sum(dim=(0, 2, 3))
            squares = squares + (values**2 * mask).sum(dim=(0, 2, 3))
            count += len(values) * float(mask.sum())
        assert isinstance(total, Tensor) and isinstance(squares, Tensor)
        self.discriminator.fit_statistics((total, squares, count))

    def _readable(self, found: Iterator[ExampleBatch], count: int, desc: str) -> Iterator[Tensor]:
        """Images of each batch; a web image that cannot be read is left out, an image of the data set is an error."""
        with tqdm(total=count, desc=desc, disable=None) as bar:
            for batch in found:
                for index, fault in batch.faults:
                    self._note_fault(self.train[index], fault)
                bar.update(len(batch.indices) + len(batch.faults))
                self.targets = torch.tensor(
                    [DATASET if self.train[i].of_dataset else WEB for i in batch.indices.tolist()], dtype=torch.int64
                ).to(self.runtime.device)
                if len(batch.indices):
                    yield to_images(batch, self.runtime.device)

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
        found = batches(self.data, self.workers, keys=keys)
        # Dropout must not depend on how often the training was stopped.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.epoch)
        losses, started = [], time.monotonic()
        desc = f"Discriminator epoch {self.epoch + 1}/{self.recipe.epochs}"
        for images in self._readable(found, len(self.train), desc):
            if len(images) > 1:
                losses.append(self._update(images))
            self.scheduler.step()
        self.epoch += 1
        mean = float(np.mean(losses))
        LOG.info("%s done in %.0f s, loss %.4f", desc, time.monotonic() - started, mean)
        return mean

    def _update(self, images: Tensor) -> float:
        with self.runtime.autocast():
            logits = self.discriminator(images).float()
        loss = F.cross_entropy(logits, self.targets, weight=self.weight)
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


def fit(fitting: Fitting, path: Path, key: str) -> None:
    """Train to the last epoch; ``path`` with ``.part`` behind it holds the state after each, and is gone on from.

    Args:
        fitting: the training.
        path: where the finished discriminator will be.
        key: what must be equal for going on: preprocessing, recipe and examples.
    """
    part = path.with_name(path.name + ".part")
    if part.is_file():
        state = checkpoint.load(part)
        if state.get("key") == key:
            fitting.load_state(state)
            LOG.info("Going on from %s after epoch %d", part, fitting.epoch)
        else:
            LOG.warning("%s is of another training and is left out", part)
    if fitting.epoch == 0:
        fitting.start(fitting.discriminator.preprocessing.network)
    while fitting.epoch < fitting.recipe.epochs:
        fitting.run_epoch()
        checkpoint.save(part, fitting.state() | {"key": key})


@torch.no_grad()
def probabilities(
    discriminator: Discriminator, examples: Sequence[Example], runtime: Runtime, workers: int
) -> NDArray[np.float64]:
    """(N,) probability of the training data's domain; nan where a file cannot be read."""
    discriminator.eval()
    result = np.full(len(examples), np.nan)
    data = Examples(examples, discriminator.preprocessing.size)
    for batch in tqdm(batches(data, workers), total=-(-len(data) // 64), desc="Testing", disable=None):
        if len(batch.indices):
            with runtime.autocast():
                logits = discriminator(to_images(batch, runtime.device))
            result[batch.indices.numpy()] = logits.double().softmax(dim=1)[:, DATASET].cpu().numpy()
    return result


def quality(probability: NDArray[np.float64], examples: Sequence[Example]) -> BinaryScores:
    """Scores over the examples that could be read."""
    known = ~np.isnan(probability)
    positive = np.array([e.of_dataset for e in examples])
    return binary_scores(probability[known], positive[known])


def at_chance(scores: BinaryScores) -> bool:
    """Whether a discriminator tells the domains apart hardly better than a coin."""
    return not scores.auc >= CHANCE_AUC


@dataclass(frozen=True)
class Saved:
    """A trained discriminator.

    Attributes:
        discriminator: the network, ready to score.
        scores: accuracy, area under the curve and calibration on held-out images.
        by_class: share of the held-out images of each class that it judges rightly, by domain and class name.
        classes: base classes whose web images it has seen.
        digest: hash of its file.
    """

    discriminator: Discriminator
    scores: BinaryScores
    by_class: dict[str, float]
    classes: tuple[str, ...]
    digest: str


def train(
    discriminator: Discriminator,
    examples: Sequence[Example],
    recipe: Recipe,
    runtime: Runtime,
    workers: int,
    path: Path,
    state: dict[str, Any],
) -> Saved:
    """Train on the examples, test on those held out, and write the result to ``path``.

    The file holds the preprocessing, the scores on held-out images, the classes seen and the identity of the step-0 checkpoint
    whose content is ``state``. A training that was stopped goes on after its last whole epoch.
    """
    fitting = Fitting(discriminator, examples, recipe, runtime, workers)
    key = json.dumps([asdict(discriminator.preprocessing), asdict(recipe), examples_digest(examples)])
    fit(fitting, path, key)
    probability = probabilities(discriminator, fitting.held_out, runtime, workers)
    scores = quality(probability, fitting.held_out)
    by_class = right_by_class(probability, fitting.held_out)
    checkpoint.save(
        path,
        {
            "format": checkpoint.FORMAT,
            "kind": "discriminator",
            "preprocessing": asdict(discriminator.preprocessing),
            "recipe": asdict(recipe),
            "scores": asdict(scores),
            "by_class": by_class,
            "classes": sorted({e.class_name for e in examples if not e.of_dataset}),
            "encoder": _body_digest(state) if discriminator.preprocessing.features == "encoder" else None,
            "identity": state["identity"],
            "model_state": discriminator.state_dict(),
        },
    )
    path.with_name(path.name + ".part").unlink(missing_ok=True)
    return load(path, runtime, state)


def right_by_class(probability: NDArray[np.float64], examples: Sequence[Example]) -> dict[str, float]:
    """Share of each class's examples judged rightly, ``dataset cow`` and ``web cow`` apart."""
    groups: dict[str, list[bool]] = {}
    for value, example in zip(probability.tolist(), examples, strict=True):
        if not np.isnan(value):
            name = f"{'dataset' if example.of_dataset else 'web'} {example.class_name}"
            groups.setdefault(name, []).append((value > 0.5) == example.of_dataset)
    return {name: float(np.mean(groups[name])) for name in sorted(groups)}


def table(saved: Saved) -> str:
    """What a discriminator scored on held-out images, to print."""
    scores = saved.scores
    lines = [
        f"Held out: {scores.positives} images of the training data, {scores.negatives} of the web",
        f"accuracy {scores.accuracy:.3f}, area under the curve {scores.auc:.3f}, "
        f"calibration error {scores.calibration_error:.3f}",
    ]
    return "\n".join(lines + [f"  {name:24}{share:6.2f}" for name, share in saved.by_class.items()])


def load(path: Path, runtime: Runtime, step: Path | dict[str, Any] | None = None) -> Saved:
    """Read a discriminator.

    Args:
        path: its file.
        runtime: where it will run.
        step: the segmenter's checkpoint of step 0, or its content, for one that works on an encoder's features; by default
            the file beside it whose name it carries.

    Raises:
        UserError: it is no discriminator, or the encoder is another than it was trained with.
    """
    saved = checkpoint.load(path)
    if saved.get("kind") != "discriminator":
        raise UserError(f"{path}: not a discriminator; train_discriminator.py makes one")
    preprocessing = Preprocessing(**saved["preprocessing"])
    state = None
    if preprocessing.features == "encoder":
        state = step if isinstance(step, dict) else read_step_checkpoint(step or step_checkpoint_beside(path))
        if _body_digest(state) != saved["encoder"]:
            raise UserError(f"{path}: made for the features of another step-0 checkpoint")
    discriminator = make(preprocessing, state)
    try:
        discriminator.load_state_dict(saved["model_state"])
    except RuntimeError as error:
        raise UserError(
            f"{path}: its weights do not fit {preprocessing.network}; is timm of another version?"
        ) from error
    (encoder,) = discriminator._encoder
    if encoder is not None:
        encoder.to(runtime.device)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    discriminator = discriminator.to(runtime.device).eval()
    scores = BinaryScores(**saved["scores"])
    return Saved(discriminator, scores, saved["by_class"], tuple(saved["classes"]), digest)


def discriminator_path(step_ckpt: Path) -> Path:
    """Where the discriminator of a step-0 checkpoint is kept: ``NAME_0.pth`` -> ``NAME_0_discriminator.pth``."""
    return step_ckpt.with_name(f"{step_ckpt.stem}_discriminator.pth")


def step_checkpoint_beside(path: Path) -> Path:
    """The step-0 checkpoint that a discriminator's file is named after."""
    return path.with_name(path.name.replace("_discriminator", ""))


def count_by_class(examples: Sequence[Example]) -> dict[str, int]:
    """Number of examples of each class."""
    return dict(Counter(e.class_name for e in examples))
