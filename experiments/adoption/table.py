"""The table of ``run.sh adopt``: what segmenters of several makers keep and learn, and whether it is what was expected."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.table import markdown_table, mean_and_deviation
from utils.errors import UserError

# Of ``Scores``, and how a column is called.
COLUMNS = {"old_iou": "old mIoU", "new_iou": "new mIoU", "all_iou": "all mIoU"}
BEFORE, AFTER = "before", "after"
# The arm whose base step is this project's, and what is expected of the others (a share of its new mIoU) and of all (a share of
# their own old mIoU before).
OWN, NEW_SHARE, OLD_SHARE = "own", 0.80, 0.95
TITLE = """# Segmenters that were trained elsewhere learn cow and sheep

Written by `bash run.sh adopt --data DIR`; mean ± standard deviation over seeds, percent. Each model
learned cat, dog, horse and person from the masks of the same photographs: `own` is this project's
base step, the others come from the scripts of `examples/`; then `add_class.py` added cow and sheep
from web images. Tested on the validation photographs, crop 160; pixels of other classes are left
out, those of cow and sheep count before, too.
"""


@dataclass(frozen=True)
class Scored:
    """A segmenter's scores.

    Attributes:
        arm: who made it.
        when: ``before`` or ``after`` the new classes.
        seed: of its training.
        scores: by the names of ``COLUMNS``.
        iou: by class.
    """

    arm: str
    when: str
    seed: int
    scores: dict[str, float]
    iou: dict[str, float]


def read_scores(paths: Sequence[Path]) -> list[Scored]:
    """The files that ``write_scores`` wrote.

    Raises:
        UserError: a file cannot be read as one.
    """
    found = []
    for path in paths:
        try:
            read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found.append(Scored(read["arm"], read["when"], int(read["seed"]), read["scores"], read["iou"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: cannot be read as scores ({error}); remove it and run the experiment again"
            ) from error
    return found


def shares(rows: Sequence[Scored]) -> list[tuple[str, str, list[float], float]]:
    """Arm, what is measured, its value for each seed, and what is expected at least.

    A seed that one of both lacks is left out.
    """
    by = {(row.arm, row.when, row.seed): row.scores for row in rows}
    arms, seeds = list(dict.fromkeys(row.arm for row in rows)), sorted({row.seed for row in rows})

    def divided(arm: str, score: str, other: tuple[str, str]) -> list[float]:
        pairs = [(by.get((arm, AFTER, seed)), by.get((*other, seed))) for seed in seeds]
        return [one[score] / two[score] for one, two in pairs if one and two and two[score]]

    found = [(arm, "old mIoU kept", divided(arm, "old_iou", (arm, BEFORE)), OLD_SHARE) for arm in arms]
    found += [
        (arm, "new mIoU, share of best's", divided(arm, "new_iou", (OWN, AFTER)), NEW_SHARE)
        for arm in arms
        if arm != OWN
    ]
    return [row for row in found if row[2]]


def markdown(rows: Sequence[Scored]) -> str:
    """A page: mean and standard deviation over seeds in percent, the shares with their bounds, and each class's IoU."""
    groups: dict[str, list[Scored]] = {}
    for row in rows:
        groups.setdefault(f"{row.arm}, {row.when}", []).append(row)
    classes = list(dict.fromkeys(name for row in rows for name in row.iou))
    scores, measured, by_class = [], [], []
    for name, own in groups.items():
        seeds = " ".join(str(row.seed) for row in own)
        scores.append([name, *(_percent(row.scores[key] for row in own) for key in COLUMNS), seeds])
        by_class.append([name, *(_percent(row.iou.get(label, math.nan) for row in own) for label in classes)])
    for arm, what, values, bound in shares(rows):
        met = "yes" if statistics.mean(values) >= bound else "no"
        shown = mean_and_deviation(*_spread(values), digits=3)
        measured.append([f"{arm}: {what}", shown, f"at least {bound}", met, str(len(values))])
    tables = [
        markdown_table(["model", *COLUMNS.values(), "seeds"], scores),
        markdown_table(["expected", "measured", "bound", "met", "seeds"], measured),
        markdown_table(["IoU", *classes], by_class),
    ]
    return "\n".join([TITLE, *("\n".join([*table, ""]) for table in tables)])


def _percent(values: Iterable[float]) -> str:
    return mean_and_deviation(*_spread(values), scale=100, digits=1)


def _spread(values: Iterable[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) of the numbers among them; NaN where there are too few."""
    known = [value for value in values if not math.isnan(value)]
    return (
        statistics.mean(known) if known else math.nan,
        statistics.stdev(known) if len(known) > 1 else math.nan,
    )


def comma_separated(rows: Sequence[Scored]) -> str:
    """One line a segmenter: its scores, then each class's, in [0, 1]."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes = list(dict.fromkeys(name for row in rows for name in row.iou))
    writer.writerow(["model", "when", "seed", *COLUMNS, *(f"iou {name}" for name in classes)])
    for row in rows:
        numbers = [row.scores[key] for key in COLUMNS] + [row.iou.get(name, math.nan) for name in classes]
        writer.writerow(
            [row.arm, row.when, row.seed, *("" if math.isnan(value) else f"{value:.6f}" for value in numbers)]
        )
    return text.getvalue()
