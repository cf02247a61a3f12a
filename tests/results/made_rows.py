"""Small results tables, as run.py writes them: cat and dog first, then cow, and joint training of the three."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from results.rows import append_results, names_cell

WILSON = [
    {"background": 0.9, "cat": 0.6, "dog": 0.4, "cow": 0.2},
    {"background": 0.9, "cat": 0.5, "dog": 0.3, "cow": 0.3},
    {"background": 0.9, "cat": 0.7, "dog": 0.5, "cow": 0.4},
]
OURS = [
    {"background": 0.9, "cat": 0.8, "dog": 0.6, "cow": 0.5},
    {"background": 0.9, "cat": 0.7, "dog": 0.5, "cow": 0.5},
    {"background": 0.9, "cat": 0.9, "dog": 0.5, "cow": 0.6},
]
JOINT = {"background": 0.95, "cow": 0.4, "cat": 0.9, "dog": 0.7}


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def _row(arm: str, seed: int, step: int, classes: Mapping[str, float], new: tuple[str, ...]) -> dict[str, object]:
    old = _mean([value for name, value in classes.items() if name not in ("background", *new)])
    fresh = _mean([classes[name] for name in new])
    return {
        "time": f"2026-01-01T00:00:0{seed % 10}+00:00",
        "name": f"{arm}-{seed}",
        "step": step,
        "protocol": "overlap",
        "seed": seed,
        "iterations": 200,
        "seconds": 10.0 * (seed + 1),
        "memory_mib": 100.0 + seed,
        "old_iou": round(old, 6),
        "new_iou": round(fresh, 6),
        "all_iou": round(_mean(list(classes.values())), 6),
        "harmonic": round(2 * old * fresh / (old + fresh), 6) if fresh else fresh,
    } | {f"iou {name}": value for name, value in classes.items()}


def step_row(arm: str, seed: int, classes: Mapping[str, float]) -> dict[str, object]:
    """A row of step 1, where cow is new."""
    return _row(arm, seed, 1, classes, ("cow",))


def joint_row(arm: str, seed: int, classes: Mapping[str, float]) -> dict[str, object]:
    """A row of step 0, where no class is new."""
    return _row(arm, seed, 0, classes, ())


def saying(row: dict[str, object], task: str, old: Sequence[str]) -> dict[str, object]:
    """A row as later versions write it: with data set, task and old classes behind the costs."""
    keys = list(row)
    place = keys.index("memory_mib") + 1
    said: dict[str, object] = {"dataset": "voc", "task": task, "old_classes": names_cell(old)}
    return {key: row[key] for key in keys[:place]} | said | {key: row[key] for key in keys[place:]}


def add(folder: Path, experiment: str, row: Mapping[str, object]) -> None:
    """Append a row to the table of an experiment in a log folder."""
    append_results(folder / "results" / f"{experiment}.csv", row)


def logs(folder: Path) -> Path:
    """A log folder of a base step, two arms of three seeds, and joint training of one."""
    for seed in range(3):
        add(folder, "voc-3-1", joint_row("base", seed, {"background": 0.9, "cat": 0.6, "dog": 0.5}))
    for seed in range(3):
        add(folder, "voc-3-1", step_row("WILSON", seed, WILSON[seed]))
        add(folder, "voc-3-1", step_row("ours", seed, OURS[seed]))
    add(folder, "voc-animals-offline", joint_row("joint", 0, JOINT))
    return folder
