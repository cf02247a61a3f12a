"""What rows of version 0.1.0 do not say, guessed: the data set from the file's name, the old classes from the means.

Later rows say both themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from results.rows import Run, mean_iou
from tasks import TASKS

# The results table has six digits.
ROUNDING = 2e-6


def guessed_dataset(experiment: str) -> str:
    """The data set of ``<dataset>-<task>``; a data set's name may hold a dash itself."""
    known = [name for name in TASKS if experiment.startswith(f"{name}-")]
    return max(known, key=len, default=experiment)


def guessed_old_classes(runs: Sequence[Run]) -> list[str] | None:
    """The old foreground classes of a step where no log tells of the step before: the one cut of the runs' classes, which stand in
    channel order, that gives every run its old and its new mIoU. None where there is none, or more than one.
    """
    whole = [run for run in runs if not math.isnan(run.scores["old"]) and not math.isnan(run.scores["new"])]
    if not whole or any(run.classes.keys() != whole[0].classes.keys() for run in whole):
        return None
    # A class that no test image shows is neither.
    names = [name for name in list(whole[0].classes)[1:] if not math.isnan(whole[0].classes[name])]

    def fits(run: Run, count: int) -> bool:
        parts = {"old": names[:count], "new": names[count:]}
        return all(abs(mean_iou(run.classes, part) - run.scores[key]) <= ROUNDING for key, part in parts.items())

    cuts = [count for count in range(1, len(names)) if all(fits(run, count) for run in whole)]
    return names[: cuts[0]] if len(cuts) == 1 else None
