"""A tiny work folder of ``python -m experiments animals``: the records of its run.py commands and rows of its results."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from experiments import animals
from experiments.method import stages
from results.rows import append_results

CLASSES = ("cat", "dog", "horse", "person", "cow", "sheep")


def row(name: str, step: int, ious: Sequence[float], time: str = "2026-01-01T00:00:00+00:00") -> dict[str, object]:
    """A test with an IoU for background and the first classes of the task; those after person are new at step 1."""
    by_name = dict(zip(("background", *CLASSES), ious, strict=False))
    old = [value for class_name, value in by_name.items() if class_name in CLASSES[:4]]
    new = [value for class_name, value in by_name.items() if class_name in CLASSES[4:]] if step else []
    means = [sum(old) / len(old), sum(new) / len(new) if new else float("nan")]
    return {
        "time": time,
        "name": name,
        "step": step,
        "protocol": "overlap",
        "seed": int(name.rpartition("-")[2]),
        "iterations": 200,
        "seconds": 10.0,
        "memory_mib": 100.0,
        "old_iou": round(means[0], 6),
        "new_iou": round(means[1], 6),
        "all_iou": round(sum(ious) / len(ious), 6),
        "harmonic": round(2 * means[0] * means[1] / sum(means), 6) if new else means[1],
    } | {f"iou {class_name}": round(value, 6) for class_name, value in by_name.items()}


def add(work: Path, values: dict[str, object], task: str = "4-2") -> None:
    """Append a test to the results of a task."""
    append_results(work / "logs" / "results" / f"voc-{task}.csv", values)


def end_stages(work: Path, data: Path, arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Leave the record of every stage of the experiment, as the runner writes it down."""
    given = Namespace(work=work, data=data, task="4-2", seeds=list(seeds), arms=list(arms))
    (work / "stages").mkdir(parents=True, exist_ok=True)
    for stage in stages(animals.describe(given)):
        record = {"key": "x", "command": stage.command, "ended": True, "seconds": 1.0}
        (work / "stages" / f"{stage.name}.json").write_text(json.dumps(record))
