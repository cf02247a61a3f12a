"""The table of ``run.sh adopt``: what segmenters of several makers keep and learn, and whether it is what was expected."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError

# Of ``Scores``, and how a column is called.
COLUMNS = {"old_iou": "old mIoU", "new_iou": "new mIoU", "all_iou": "all mIoU"}
BEFORE, AFTER = "before", "after"
# The arm whose base step is this project's, and what is expected of the others (a share of its new mIoU) and of all (a share of
# their own old mIoU before).
OWN, NEW_SHARE, OLD_SHARE = "own", 0.80, 0.95


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
    """Mean and standard deviation over seeds in percent, and the shares with their bounds."""
    lines = ["| model | " + " | ".join(COLUMNS.values()) + " | seeds |", "|---" * (len(COLUMNS) + 2) + "|"]
    for arm, when in dict.fromkeys((row.arm, row.when) for row in rows):
        own = [row for row in rows if (row.arm, row.when) == (arm, when)]
        cells = [_spread([row.scores[key] for row in own], lambda value: f"{100 * value:.1f}") for key in COLUMNS]
        lines.append(f"| {arm}, {when} | " + " | ".join(cells) + f" | {' '.join(str(row.seed) for row in own)} |")
    lines += ["", "| expected | measured | bound | met |", "|---|---|---|---|"]
    for arm, what, values, bound in shares(rows):
        met = "yes" if statistics.mean(values) >= bound else "no"
        lines.append(f"| {arm}: {what} | {_spread(values, lambda value: f'{value:.3f}')} | at least {bound} | {met} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    known = [value for value in values if value == value]
    if not known:
        return "-"
    mean = shown(statistics.mean(known))
    return f"{mean} ± {shown(statistics.stdev(known))}" if len(known) > 1 else mean


def comma_separated(rows: Sequence[Scored]) -> str:
    """One line a segmenter: its scores, then each class's, in [0, 1]."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes = list(dict.fromkeys(name for row in rows for name in row.iou))
    writer.writerow(["model", "when", "seed", *COLUMNS, *(f"iou {name}" for name in classes)])
    for row in rows:
        numbers = [row.scores[key] for key in COLUMNS] + [row.iou.get(name, float("nan")) for name in classes]
        writer.writerow([row.arm, row.when, row.seed, *("" if value != value else f"{value:.6f}" for value in numbers)])
    return text.getvalue()
