"""Evaluation: images to channels to scores, on one process or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from dataset.batch import Batch, collate
from dataset.files import shown
from dataset.incremental import IncrementalView
from dataset.sampler import evaluation_shard
from engine.stopping import shielded
from utils.distributed import Runtime
from utils.logger import Logger
from utils.metrics import ConfusionMatrix, Scores, scores
from utils.normalisation import Normalisation


class Evaluator:
    """Asks networks what they see, and scores it.

    Args:
        names: class names in channel order, background first.
        old: number of channels of old classes, background included; 0 at step 0.
        runtime: device, precision and ranks.
        normalisation: of the images that the networks want.
        batch_size: images at once over all ranks; 1 for images of different sizes.
        num_workers: processes that load, per rank; 0 loads in this one.
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
        num_workers: int = 0,
        between: Callable[[], None] | None = None,
    ) -> None:
        self.names, self.old, self.runtime, self.normalisation = list(names), old, runtime, normalisation
        self.batch_size, self.num_workers = batch_size, num_workers
        self.between = between

    def batches(self, view: IncrementalView, desc: str) -> Iterator[Batch]:
        """This rank's share of ``view``, once, in order, on the device."""
        runtime = self.runtime
        shard = Subset(view, evaluation_shard(len(view), runtime.rank, runtime.world))
        size = max(1, self.batch_size // runtime.world)
        loader = DataLoader(shard, batch_size=size, collate_fn=collate, num_workers=self.num_workers)
        with shielded():
            batches = iter(loader)
        # The first rank has the most images; the others ask after their last batch, too.
        most = -(-len(evaluation_shard(len(view), 0, runtime.world)) // size)
        with tqdm(total=len(loader), desc=desc, disable=None if runtime.main else True) as bar:
            for _ in range(most):
                if self.between is not None:
                    self.between()
                batch = next(batches, None)
                if batch is not None:
                    yield batch.to(runtime.device)
                    bar.update()

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
        confusion = ConfusionMatrix(len(self.names))
        for batch in self.batches(view, desc):
            prediction, target = self.predict(model, batch.images, localizer), batch.masks
            if localizer is not None:
                target = torch.where(target < self.old, torch.zeros_like(target), target)
            confusion.update(target, prediction)
        matrix = self.runtime.sum(confusion.matrix.to(self.runtime.device)).cpu()
        return scores(matrix, self.old, self.names), matrix

    def validate(
        self, view: IncrementalView, model: nn.Module, localizer: nn.Module | None = None
    ) -> Iterator[tuple[str, Scores]]:
        """Scores of the segmenter (``val``) and, where there is one, of its localizer (``val_localizer``)."""
        yield "val", self.evaluate(view, model, "Validation")[0]
        if localizer is not None:
            yield "val_localizer", self.evaluate(view, model, "Validation of the localizer", localizer)[0]


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
