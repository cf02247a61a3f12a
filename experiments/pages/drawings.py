"""Learning curves and confusion matrices."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.arms import BASE
from experiments.history import Curve, RunFiles
from experiments.pages.pieces import drawing, fold, note
from experiments.pages.study import Study
from results.confusion import read_confusion
from utils.visualise import confusion_figure

# Validation scores whose curves are drawn, behind all losses.
SCORES = ("val/old_iou", "val/new_iou", "val/all_iou")


def curves(study: Study) -> str:
    """One drawing for each step, loss and validation score: a line an arm, the mean over its seeds, the seeds behind it, thin."""
    colours = _colours([BASE, *study.arms])
    parts = []
    for group in study.groups():
        by_tag: dict[str, dict[str, list[Curve]]] = {}
        lost: dict[str, list[str]] = {}
        for arm, runs in group.arms.items():
            for run in runs:
                found = {tag: curve for tag, curve in run.curves().items() if tag.startswith("loss/") or tag in SCORES}
                if not found:
                    lost.setdefault(arm, []).append(str(run.seed))
                for tag, curve in found.items():
                    by_tag.setdefault(tag, {}).setdefault(arm, []).append(curve)
        drawings = "".join(
            drawing(_curve_figure(tag, by_tag[tag], colours), f"{tag}, {group.title}: {', '.join(by_tag[tag])}")
            for tag in sorted(by_tag)
        )
        for arm, seeds in lost.items():
            parts.append(study.lack(f"No curves are left of {arm}, seed {', '.join(seeds)}, of {group.title}."))
        if drawings:
            legend = "".join(
                f'<li><span class="swatch" style="background:{colours[arm]}"></span>{escape(arm)}</li>'
                for arm in group.arms
            )
            content = f'<ul class="legend lines">{legend}</ul><div class="curves">{drawings}</div>'
            parts.append(fold(group.title, content, group.last))
    return note("The mean over the seeds of an arm, single seeds thin; losses as they were logged.") + "".join(parts)


def _colours(arms: Sequence[str]) -> dict[str, str]:
    """A colour for each arm."""
    palette = colormaps["tab10" if len(arms) <= 10 else "tab20"]
    return {arm: to_hex(palette(i % palette.N)) for i, arm in enumerate(dict.fromkeys(arms))}


def _curve_figure(tag: str, arms: Mapping[str, Sequence[Curve]], colours: Mapping[str, str]) -> Figure:
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for arm, runs in arms.items():
        if len(runs) > 1:
            for curve in runs:
                axes.plot(list(curve), list(curve.values()), color=colours[arm], alpha=0.3, linewidth=0.7)
        common = sorted(set.intersection(*(set(curve) for curve in runs)))
        mean = [statistics.fmean(curve[i] for curve in runs) for i in common]
        # One point makes no line.
        axes.plot(common, mean, color=colours[arm], linewidth=1.6, marker="o" if len(common) == 1 else None)
    axes.set_title(tag, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("iteration" if tag.startswith("loss") else "epoch", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    return figure


def confusions(study: Study) -> str:
    """Confusion matrices of each step and arm, summed over the seeds, rows in shares."""
    parts = [note("Percent of the pixels of each true class (row), summed over the seeds.")]
    for group in study.groups():
        drawings, missing = zip(*(_matrix(study, arm, runs) for arm, runs in group.arms.items()), strict=True)
        content = f'<div class="matrices">{"".join(drawings)}</div>{"".join(missing)}'
        parts.append(fold(group.title, content, group.last))
    return "".join(parts)


def _matrix(study: Study, arm: str, runs: Sequence[RunFiles]) -> tuple[str, str]:
    """An arm's matrix, and a sentence on its seeds that have none."""
    files = {run.seed: run.folder / f"confusion_{run.step}.csv" for run in runs}
    kept = [path for path in files.values() if path.is_file()]
    lost = [str(seed) for seed, path in files.items() if not path.is_file()]
    missing = ""
    if lost:
        missing = study.lack(
            f"No confusion matrix was kept of {arm}, seed {', '.join(lost)}, step {runs[0].step}: "
            "its command with --test at the end writes it."
        )
    if not kept:
        return "", missing
    matrices, names = zip(*map(read_confusion, kept), strict=True)
    caption = f"{arm}, {len(kept)} seed{'s' if len(kept) > 1 else ''}"
    drawn = drawing(confusion_figure(np.sum(matrices, axis=0), names[0]), f"confusion matrix of {caption}", caption)
    return drawn, missing
