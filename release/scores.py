"""The scores of a run, from its row in the results tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from argparser import folder_name
from modules.description import Description
from results.rows import SCORES, read_runs
from utils.errors import UserError


def scores_of(description: Description, logs: Path | None) -> dict[str, Any] | None:
    """The last test of a model's run, by the name, seed, step, task and protocol that its options say.

    Args:
        description: of a model that was trained here.
        logs: folder that run.py got as ``--logdir``; None looks at the one that the model's options name.

    Returns:
        ``time``, ``dataset``, ``protocol``, the scores by name and ``classes`` (IoU by name), in [0, 1], None where there is none; or
        None where there is no row.

    Raises:
        UserError: ``logs`` is given and holds no row of the model's, or cannot be read.
    """
    options = description.options
    try:
        name, seed = options["name"], options["random_seed"]
        folder = Path(options["logdir"]) if logs is None else logs
    except (KeyError, TypeError):
        if logs is not None:
            raise UserError(f"--logs {logs}: the model does not say which run made it; leave --logs out") from None
        return None
    try:
        runs = read_runs([folder])
    except UserError:
        if logs is not None:
            raise
        return None
    own = {
        "experiment": f"{_data_name(description)}-{description.task}",
        "protocol": description.protocol,
        "step": len(description.steps) - 1,
        "arm": str(name).removesuffix(f"-{seed}"),
        "seed": seed,
    }
    rows = [run for run in runs if all(getattr(run, key) == value for key, value in own.items())]
    if not rows:
        if logs is not None:
            raise UserError(f"--logs {logs}: holds no test of {name}, step {own['step']} of {own['experiment']}")
        return None
    last = rows[-1]
    return {
        "time": last.time,
        "dataset": _data_name(description),
        "protocol": last.protocol,
        **_known(last.scores),
        "classes": _known(last.classes),
    }


def kept_scores(scores: Any, where: str) -> dict[str, Any] | None:
    """Scores that ``scores_of`` gave to an earlier release; UserError where they are something else."""
    if scores is None:
        return None

    def number(value: Any) -> bool:
        return value is None or type(value) in (int, float)

    fits = isinstance(scores, dict) and isinstance(scores.get("classes"), dict)
    fits = fits and all(isinstance(scores.get(key), str) for key in ("time", "dataset", "protocol"))
    fits = fits and all(number(scores.get(key)) for key in SCORES) and all(map(number, scores["classes"].values()))
    if not fits:
        raise UserError(f"{where}: damaged: its scores are not what export.py writes; remove them")
    return scores


def _data_name(description: Description) -> str:
    own = description.options.get("dataset_dir")
    name = folder_name(own) if description.dataset == "folder" and isinstance(own, str) else ""
    return f"{description.dataset}-{name}" if name else description.dataset


def _known(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 4) for name, value in scores.items()}
