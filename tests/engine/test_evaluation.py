"""Images to channels to scores, without a Trainer: a model, a view, names and a runtime are enough."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dataset import make_source
from dataset.incremental import IncrementalView
from dataset.transform import val_transform
from engine.evaluation import Evaluator, tell_absent
from engine.stopping import Stopped
from segmentation_module import Output
from tasks import load_task
from utils.distributed import Runtime
from utils.logger import Logger
from utils.metrics import scores
from utils.normalisation import NORMALISATIONS

TASK = load_task("shapes", "5-3")
HALF = NORMALISATIONS["half"]
NAMES = [str(number) for number in TASK.seen(1)]
CHANNELS = len(NAMES)


class Told(nn.Module):
    """A network that was told the masks, and answers with those of the images that it is shown."""

    def __init__(self, view: IncrementalView, wrong: int | None = None) -> None:
        super().__init__()
        self.answers = [
            (HALF.apply(sample.image), sample.mask.long()) for sample in (view[i] for i in range(len(view)))
        ]
        self.wrong = wrong

    def forward(self, images: Tensor, interpolate: bool = True) -> Output:
        """The masks as logits; of the class ``wrong`` the next channel's."""
        masks = torch.stack([next(mask for known, mask in self.answers if torch.equal(known, im)) for im in images])
        masks = torch.where(masks == 255, 0, masks)
        if self.wrong is not None:
            masks = torch.where(masks == self.wrong, self.wrong + 1, masks)
        logits = nn.functional.one_hot(masks, CHANNELS).permute(0, 3, 1, 2).float()
        return Output(logits, {"body": logits})


@pytest.fixture(scope="module")
def view(small_shapes: Path) -> IncrementalView:
    """All test images as step 1 sees them."""
    source = make_source("shapes", small_shapes, "val", 1)
    return IncrementalView(
        source, TASK, 1, np.arange(len(source)), train=False, mask_old=False, unknown="ignore",
        transform=val_transform(64), seed=0,
    )  # fmt: skip


def evaluator(batch_size: int) -> Evaluator:
    return Evaluator(NAMES, len(TASK.old(1)), Runtime(torch.device("cpu")), HALF, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_scores_of_a_network(view: IncrementalView, batch_size: int) -> None:
    perfect, matrix = evaluator(batch_size).evaluate(view, Told(view), "Test")
    assert [perfect.old_iou, perfect.new_iou, perfect.all_iou] == pytest.approx([1, 1, 1])
    pixels = sum(int((view[i].mask != 255).sum()) for i in range(len(view)))
    assert matrix.shape == (CHANNELS, CHANNELS) and matrix.sum() == pixels == matrix.trace()
    worse, matrix = evaluator(batch_size).evaluate(view, Told(view, wrong=1), "Test")
    assert worse.by_name()["1"] == 0 and worse.by_name()["2"] < 0.9 and worse.new_iou == pytest.approx(1)
    assert matrix[1, 1] == 0 and matrix[1].sum() == matrix[1, 2] > 0


def test_validation_scores_the_localizer_for_new_classes(view: IncrementalView) -> None:
    """Its truth has no old class, so that a network which sees them all is wrong where they are."""
    model = Told(view)
    named = dict(evaluator(4).validate(view, model, nn.Identity()))
    assert list(named) == ["val", "val_localizer"]
    assert named["val"].all_iou == pytest.approx(1)
    assert named["val_localizer"].new_iou == pytest.approx(1) and named["val_localizer"].by_name()["0"] < 0.99
    assert dict(evaluator(4).validate(view, model)).keys() == {"val"}


@pytest.mark.parametrize(("rank", "world"), [(0, 3), (2, 3)])
def test_ranks_share_the_images(view: IncrementalView, rank: int, world: int) -> None:
    own = Evaluator(NAMES, 6, Runtime(torch.device("cpu"), rank=rank, world=world), HALF, batch_size=6)
    batches = list(own.batches(view, "Share"))
    names = [name for batch in batches for name in batch.names]
    assert names == [view[i].name for i in range(rank, len(view), world)]
    assert {len(batch.names) for batch in batches} == {2}, "a batch of 6 over three ranks"


def test_every_rank_is_asked_between_batches_equally_often(view: IncrementalView) -> None:
    """Else ranks that agree on stopping would wait for one that has no batch left; 12 images make 3, 3, 2, 2, 2."""
    asked = []
    for rank in range(5):
        calls: list[int] = []
        runtime = Runtime(torch.device("cpu"), rank=rank, world=5)
        own = Evaluator(NAMES, 6, runtime, HALF, batch_size=5, between=lambda calls=calls: calls.append(1))
        batches = list(own.batches(view, "Share"))
        asked.append((len(calls), len(batches)))
    assert asked == [(3, 3), (3, 3), (3, 2), (3, 2), (3, 2)]


def test_what_is_raised_between_batches_ends_the_evaluation(view: IncrementalView) -> None:
    seen: list[int] = []

    def between() -> None:
        if len(seen) == 2:
            raise Stopped(15, "asked")

    own = Evaluator(NAMES, 6, Runtime(torch.device("cpu")), HALF, batch_size=1, between=between)
    with pytest.raises(Stopped, match="asked"):
        for batch in own.batches(view, "Stop"):
            seen.append(len(batch.names))
    assert seen == [1, 1]


def test_classes_without_a_pixel_are_told(tmp_path: Path) -> None:
    names = ["background", "red", "green", "blue"]
    log = Logger(tmp_path, main=True, name="a", options={}, tensorboard=False)
    matrix = torch.zeros(4, 4, dtype=torch.int64)
    matrix[0, 0] = 100
    alone = scores(matrix, 3, names)
    tell_absent(log, "test", alone)
    matrix[1, 1] = matrix[3, 3] = 1
    tell_absent(log, "validation", scores(matrix, 3, names))
    matrix[2, 2] = 1
    tell_absent(log, "test", scores(matrix, 3, names))
    log.close()
    lines = [line.partition(" W ")[2] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert lines == [
        "No test image holds 3 of 3 classes: red, green, blue; only background can be scored",
        "No validation image holds 1 of 3 classes: green; no score speaks of that",
    ]
    assert math.isnan(alone.all_iou) and alone.by_name()["background"] == pytest.approx(1), (
        "background alone is no score"
    )
