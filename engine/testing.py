"""What a run ends with: the test on all seen classes, its row of results, sample predictions."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from argparser import Options
from dataset.incremental import IncrementalView
from engine.evaluation import Evaluator, log_scores, tell_absent
from engine.networks import Networks
from engine.state import Progress
from results.confusion import write_confusion
from results.page import Shown, write_report
from results.rows import append_results, names_cell
from tasks import Task
from utils.distributed import Runtime
from utils.errors import reason
from utils.logger import Logger
from utils.metrics import Scores
from utils.visualise import colourise, confusion_figure, panel


class Trained(Protocol):
    """What is asked of a run to test it: ``train.Trainer`` has it all."""

    options: Options
    task: Task
    runtime: Runtime
    logger: Logger
    names: list[str]
    old: int
    networks: Networks
    evaluator: Evaluator
    progress: Progress
    iters_per_epoch: int


@dataclass(frozen=True)
class TestResult:
    """Scores of the step's model and, where it was asked for, of the previous step's on the same images.

    Attributes:
        after: the step's model's.
        matrix: the confusion matrix (C, C) behind them, rows are the true classes.
        before: the previous step's model's; None where they were not asked for.
    """

    after: Scores
    matrix: Tensor
    before: Scores | None


def test(trainer: Trained, view: IncrementalView) -> TestResult:
    """Test on all test images and all seen classes; append it to the results table, then log it.

    Raises:
        UserError: the table or the confusion matrix cannot be written; the scores are in the log all the same.
    """
    options = trainer.options
    networks, evaluator = trainer.networks, trainer.evaluator
    after, matrix = evaluator.evaluate(view, networks.model, "Test")
    try:
        if trainer.runtime.main:
            _write(trainer, after, matrix)
    finally:
        log_scores(trainer.logger, "test", after, options.step)
        tell_absent(trainer.logger, "test", after)
    before = None
    if options.report and networks.teacher is not None:
        before, _ = evaluator.evaluate(view, networks.teacher, "Test of the previous step's model")
        log_scores(trainer.logger, "test_before", before, options.step)
    return TestResult(after, matrix, before)


def _write(trainer: Trained, result: Scores, matrix: Tensor) -> None:
    """The numbers to their files: the row of results, then the confusion matrix."""
    options = trainer.options
    table = Path(options.logdir) / "results" / f"{options.data_name}-{trainer.task.name}.csv"
    try:
        append_results(table, _row(trainer, result))
    finally:
        write_confusion(options.log_folder / f"confusion_{options.step}.csv", matrix.numpy(), trainer.names)


def _row(trainer: Trained, result: Scores) -> dict[str, object]:
    options, progress = trainer.options, trainer.progress
    row: dict[str, object] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": options.name,
        "step": options.step,
        "protocol": options.protocol,
        "method": options.method,
        "seed": options.random_seed,
        "epochs": progress.epoch,
        "iterations": progress.epoch * trainer.iters_per_epoch,
        "seconds": round(progress.seconds, 1),
        "memory_mib": round(progress.memory, 1),
        "dataset": options.data_name,
        "task": trainer.task.name,
        "old_classes": names_cell(trainer.names[1 : trainer.old]),
    }
    row |= {key: round(value, 6) for key, value in result.summary().items()}
    row |= {f"iou {name}": round(value, 6) for name, value in result.by_name().items()}
    return row


def samples(trainer: Trained, view: IncrementalView) -> list[Shown]:
    """Predictions on ``sample_num`` images, spread evenly over the test images that hold a class of the task."""
    count = trainer.options.sample_num
    foreground = view.holding(trainer.task.new(trainer.options.step))
    if not count or not len(foreground):
        return []
    chosen = foreground[np.unique(np.linspace(0, len(foreground) - 1, min(count, len(foreground))).round().astype(int))]
    networks = trainer.networks
    models: list[nn.Module | None] = [networks.teacher if trainer.options.report else None, networks.model]
    shown = []
    for index in chosen:
        sample = view[int(index)]
        image = sample.image[None].to(trainer.runtime.device)
        before, after = (_predict(trainer, model, image) for model in models)
        assert after is not None
        picture = sample.image.permute(1, 2, 0).contiguous().numpy()
        shown.append(Shown(sample.name, picture, sample.mask.numpy(), before, after))
    return shown


def _predict(trainer: Trained, model: nn.Module | None, image: Tensor) -> np.ndarray | None:
    if model is None:
        return None
    model.eval()
    prediction: np.ndarray = trainer.evaluator.predict(model, image)[0].cpu().numpy().astype(np.uint8)
    return prediction


def table(result: TestResult) -> str:
    """The scores as a table to print, in percent; a dash where there is none."""
    rows = _table(result)
    lines = [f"{'':12}" + "".join(f"{key:>10}" for key in rows[0] if key != "model")]
    for row in rows:
        lines.append(
            f"{row['model']:12}" + "".join(f"{_number(value):>10}" for key, value in row.items() if key != "model")
        )
    return "\n".join(lines)


@contextmanager
def _ornament(logger: Logger, what: str) -> Iterator[None]:
    """A picture or page, which takes no number with it: where it fails, one warning says why."""
    try:
        yield
    except Exception as error:
        logger.warning(f"{what} is left out ({reason(error)}); the numbers are written")


def show(trainer: Trained, result: TestResult, view: IncrementalView) -> Path | None:
    """What makes a result pleasant to read: the confusion figure, sample predictions, with ``--report`` the page.

    Whatever fails is left out with a warning.

    Returns:
        the page, where one was written; for the main rank to call.
    """
    options, logger = trainer.options, trainer.logger
    with _ornament(logger, "The confusion matrix's figure"):
        logger.figure("test/confusion", confusion_figure(result.matrix.numpy(), trainer.names), options.step)
    shown: list[Shown] = []
    with _ornament(logger, "The picture of sample predictions"):
        shown = samples(trainer, view)
        if shown:
            columns = [[s.image for s in shown], [colourise(s.truth) for s in shown]]
            if shown[0].before is not None:
                columns.append([colourise(s.before) for s in shown if s.before is not None])
            columns.append([colourise(s.after) for s in shown])
            logger.images("test/samples", panel(columns)[None], options.step)
    if not options.report:
        return None
    page = options.log_folder / f"report_{options.step}.html"
    with _ornament(logger, f"The page {page}"):
        write_report(
            page,
            title=f"{options.name}: step {options.step} of {trainer.task.dataset} {trainer.task.name} ({options.protocol})",
            intro=_intro(trainer),
            table=_table(result),
            per_class=_per_class(trainer, result),
            samples=shown,
            class_names=trainer.names,
            options=options.plain(),
            command=shlex.join(sys.argv),
        )
        return page
    return None


def _number(value: object) -> str:
    return "-" if not isinstance(value, float) or math.isnan(value) else f"{100 * value:.1f}"


def _intro(trainer: Trained) -> str:
    step, names = trainer.options.step, trainer.names
    base = ", ".join(names[1:] if step == 0 else names[1 : trainer.old])
    if step == 0:
        return f"The base step learned {base} from pixel labels."
    source = "image labels" if trainer.networks.method.needs_localizer else "pixel labels"
    return f"The model knew {base}. Step {step} added {', '.join(names[trainer.old :])} from {source}."


def _table(result: TestResult) -> list[dict[str, object]]:
    """mIoU over old, new and all classes, and the harmonic mean of old and new, before and after the step."""
    rows = [("before", result.before), ("after", result.after)]
    return [
        {"model": name, "old": s.old_iou, "new": s.new_iou, "all": s.all_iou, "harmonic": s.harmonic}
        for name, s in rows
        if s is not None
    ]


def _per_class(trainer: Trained, result: TestResult) -> list[dict[str, object]]:
    rows = []
    for channel, name in enumerate(trainer.names):
        row: dict[str, object] = {"class": name}
        if result.before is not None:
            row["before"] = result.before.class_iou[channel]
        row["after"] = result.after.class_iou[channel]
        rows.append(row)
    return rows
