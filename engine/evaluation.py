"""Evaluation: images to channels to scores, on one process or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dataset.batch import Batch, collate_sizes
from dataset.files import shown
from dataset.groups import positions_of
from dataset.incremental import IncrementalView
from dataset.sampler import evaluation_shard, shared_evenly
from engine.loading import loads
from utils import cores
from utils.distributed import Runtime
from utils.logger import Logger
from utils.metrics import ConfusionMatrix, Scores, scores
from utils.normalisation import Normalisation

# Logits of a batch of whole images, at most: what stays in a CPU's caches (benchmarks/results/testing.md), and what keeps a GPU busy.
MOST_LOGITS, MOST_LOGITS_GPU = 1 << 22, 1 << 27


class Evaluator:
    """Asks networks what they see, and scores it.

    Args:
        names: class names in channel order, background first.
        old: number of channels of old classes, background included; 0 at step 0.
        runtime: device, precision and ranks.
        normalisation: of the images that the networks want.
        batch_size: images at once over all ranks.
        num_workers: processes that load, per rank; 0 loads in this one; None chooses.
        whole: images differ in size: those of one size go together, and on a CPU each core looks at some of its own.
        between: called before each batch, by all ranks equally often; what it raises ends the evaluation.
    """

    def __init__(
        self,
        names: Sequence[str],
        old: int,
        runtime: Runtime,
        normalisation: Normalisation,
        *,
        batch_size: int = 1,
        num_workers: int | None = 0,
        whole: bool = False,
        between: Callable[[], None] | None = None,
    ) -> None:
        self.names, self.old, self.runtime, self.normalisation = list(names), old, runtime, normalisation
        self.batch_size, self.whole = batch_size, whole
        self.cores = cores.split(runtime.device.type, num_workers, alone=not whole)
        self.between = between

    def shares(self, view: IncrementalView) -> list[list[list[int]]]:
        """Each rank's batches of ``view`` as positions, every image in one of them."""
        world = self.runtime.world
        size = max(1, self.batch_size // world)
        if self.whole:
            logits = MOST_LOGITS if self.runtime.device.type == "cpu" else MOST_LOGITS_GPU
            groups = positions_of(view.sizes, size, logits // len(self.names))
            costs = [len(group) * math.prod(view.sizes[group[0]]) for group in groups]
            return shared_evenly(groups, costs, world)
        shards = [evaluation_shard(len(view), rank, world) for rank in range(world)]
        return [[list(shard[at : at + size]) for at in range(0, len(shard), size)] for shard in shards]

    def batches(self, view: IncrementalView, desc: str) -> Iterator[Callable[[], list[Batch]]]:
        """This rank's share of ``view``, once, each batch as what loads it: crops in order, whole images the largest batches first.

        A batch is several where files are not of the size that they state.
        """
        shares = self.shares(view)
        share = shares[self.runtime.rank]
        pin = self.runtime.device.type == "cuda"
        ready = loads(partial(_load, view), share, self.cores.workers, pin=pin)
        # Ranks have unequally many; all ask equally often.
        most = max(map(len, shares))
        with tqdm(total=sum(map(len, share)), desc=desc, disable=None if self.runtime.main else True) as bar:
            for number in range(most):
                if self.between is not None:
                    self.between()
                if number < len(share):
                    yield next(ready)
                    bar.update(len(share[number]))

    @torch.no_grad()
    def predict(self, model: nn.Module, images: Tensor, localizer: nn.Module | None = None) -> Tensor:
        """(B, H, W) channel of each pixel of ``images`` (B, 3, H, W) uint8; with ``localizer`` its masks' channel."""
        pixels = self.normalisation.apply(images)
        with self.runtime.autocast():
            if localizer is None:
                logits = model(pixels).logits
            else:
                body = model(pixels, interpolate=False).features["body"]
                logits = nn.functional.interpolate(
                    localizer(body), images.shape[-2:], mode="bilinear", align_corners=False
                )
        prediction: Tensor = logits.argmax(dim=1)
        return prediction

    @torch.no_grad()
    def evaluate(
        self, view: IncrementalView, model: nn.Module, desc: str, localizer: nn.Module | None = None
    ) -> tuple[Scores, Tensor]:
        """Scores of ``model`` on ``view``, and the confusion matrix (C, C) behind them, over all ranks.

        With ``localizer`` those of its masks, where old classes count as background: image labels
        taught it the new ones.
        """
        model.eval()
        if localizer is not None:
            localizer.eval()

        def look(load: Callable[[], list[Batch]]) -> Tensor:
            confusion = ConfusionMatrix(len(self.names))
            for batch in load():
                batch = batch.to(self.runtime.device)
                prediction, target = self.predict(model, batch.images, localizer), batch.masks
                if localizer is not None:
                    target = torch.where(target < self.old, torch.zeros_like(target), target)
                confusion.update(target, prediction)
            return confusion.matrix

        total = torch.zeros(len(self.names), len(self.names), dtype=torch.int64, device=self.runtime.device)
        # Streams that load at the same time would leave torch's generator in each other's state.
        with torch.random.fork_rng(devices=[]):
            for counts in cores.in_streams(look, self.batches(view, desc), self.cores):
                total += counts.to(total.device)
        matrix = self.runtime.sum(total).cpu()
        return scores(matrix, self.old, self.names), matrix

    def validate(
        self, view: IncrementalView, model: nn.Module, localizer: nn.Module | None = None
    ) -> Iterator[tuple[str, Scores]]:
        """Scores of the segmenter (``val``) and, where there is one, of its localizer (``val_localizer``)."""
        yield "val", self.evaluate(view, model, "Validation")[0]
        if localizer is not None:
            yield "val_localizer", self.evaluate(view, model, "Validation of the localizer", localizer)[0]


def _load(view: IncrementalView, positions: Sequence[int]) -> list[Batch]:
    return collate_sizes([view[position] for position in positions])


def log_scores(logger: Logger, tag: str, result: Scores, step: int) -> None:
    """Scores to the log, the scalars and the tables; ``step`` is the scalars' place on their axis."""
    logger.scalars({f"{tag}/{key}": value for key, value in result.summary().items()}, step)
    logger.class_table(f"{tag}/class_iou", result.by_name(), step)
    logger.info(f"{tag}: " + ", ".join(f"{key} {value:.4f}" for key, value in result.summary().items()))


def tell_absent(logger: Logger, images: str, result: Scores) -> None:
    """Warn of classes that have no pixel in the images: no score speaks of them.

    Args:
        logger: where.
        images: which images were scored: ``test`` or ``validation``.
        result: their scores.
    """
    scored = zip(result.names[1:], result.class_iou[1:], strict=True)
    absent = [name for name, iou in scored if math.isnan(iou)]
    if absent:
        every = len(absent) == len(result.names) - 1
        what = "only background can be scored" if every else "no score speaks of that"
        logger.warning(
            f"No {images} image holds {len(absent)} of {len(result.names) - 1} classes: {shown(absent)}; {what}"
        )
