"""A tiny work folder of ``python -m experiments animals``: records of stages, rows of results."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments import animals
from experiments.plan import stages
from results.rows import append_results

CLASSES = ("cat", "dog", "horse", "person", "cow", "sheep")


def row(
    name: str, step: int, ious: Sequence[float], time: str = "2026-01-01T00:00:00+00:00", old_classes: int = 4
) -> dict[str, object]:
    """A test: IoUs of background and the first classes; those behind the old ones are new."""
    by_name = dict(zip(("background", *CLASSES), ious, strict=False))
    old = [value for class_name, value in by_name.items() if class_name in CLASSES[:old_classes]]
    new = [value for class_name, value in by_name.items() if class_name in CLASSES[old_classes:]] if step else []
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


def end_stages(work: Path, data: Path, arms: Sequence[str], seeds: Sequence[int], task: str = "4-2") -> None:
    """Leave the record of every stage of the experiment, as the runner writes it down."""
    given = Namespace(work=work, data=data, task=task, seeds=list(seeds), arms=list(arms))
    (work / "stages").mkdir(parents=True, exist_ok=True)
    for stage in stages(animals.describe(given)):
        record = {"key": "x", "command": stage.command, "ended": True, "seconds": 1.0}
        (work / "stages" / f"{stage.name}.json").write_text(json.dumps(record))


def write_voc(folder: Path, shown: Mapping[str, Sequence[int]], val: Sequence[str]) -> None:
    """A data set in VOC layout: black images of 40 x 40; a mask has one line of each class id."""
    for name in ("JPEGImages", "SegmentationClassAug", "splits"):
        (folder / name).mkdir(parents=True)
    for name, classes in shown.items():
        Image.new("RGB", (40, 40)).save(folder / "JPEGImages" / f"{name}.jpg")
        mask = np.zeros((40, 40), np.uint8)
        mask[: len(classes)] = np.array(classes)[:, None]
        Image.fromarray(mask).save(folder / "SegmentationClassAug" / f"{name}.png")
    train = [name for name in shown if name not in val]
    for split, names in (("train_aug", train), ("val", val)):
        (folder / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
