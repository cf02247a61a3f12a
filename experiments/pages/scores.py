"""What came out: the answer, the tables, the classes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from html import escape

from experiments.arms import BASE, BASE_ALL, JOINT
from experiments.pages.pieces import fold, grid, note, shaded, wide
from experiments.pages.study import Study
from results.rows import Run
from results.table import difference_grid, score_grid
from results.tables import Table, difference

NAMES = {
    "harmonic": "harmonic mean of old and new",
    "all": "all classes, with background",
    "old": "old classes",
    "new": "new classes",
}


def answer(study: Study) -> str:
    """The best arm that learned step by step: its scores against the baseline's, the base model's and joint training's."""
    best = study.best()
    if best is None:
        return "<p>No arm has been tested on old and new classes yet.</p>"
    table = study.table
    seeds = len(table.arms[best])
    tiles = []
    for score, name in NAMES.items():
        mean, deviation = table.spread(best, score)
        spread = "" if math.isnan(deviation) else f" <small>± {100 * deviation:.1f}</small>"
        lines = [*_gain(study, best, score), *_shares(study, score, mean)]
        rest = "".join(f"<dd>{escape(line)}</dd>" for line in lines)
        tiles.append(f'<div><dt>{escape(name)}</dt><dd class="value">{100 * mean:.1f}{spread}</dd>{rest}</div>')
    return (
        f"<p><b>{escape(best)}</b> has the highest harmonic mean of the arms that learned step by step. Its mIoU in percent after step "
        f'{table.step}, {seeds} seed{"s" if seeds > 1 else ""}:</p><dl class="tiles">{"".join(tiles)}</dl>'
    )


def _gain(study: Study, arm: str, score: str) -> list[str]:
    """The difference to the baseline, where there is one to tell."""
    if study.baseline is None or study.baseline == arm:
        return []
    found = difference(study.table, arm, study.baseline, score)
    if math.isnan(found.mean):
        return []
    between = "" if math.isnan(found.low) else f" [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    pairs = f", {len(found.seeds)} pair{'s' if len(found.seeds) > 1 else ''}"
    return [f"{100 * found.mean:+.1f}{between} to {study.baseline}{pairs}"]


def _shares(study: Study, score: str, mean: float) -> list[str]:
    """What part of the base model's old classes is left, and of joint training's new classes reached."""
    lines = []
    if score == "old" and study.base is not None and study.table.step == 1:
        for arm, pixels in ((BASE, "tested without pixels of new classes"), (BASE_ALL, "the same model on all pixels")):
            before = study.base.spread(arm, "old")[0] if arm in study.base.arms else math.nan
            if before > 0:
                lines.append(f"{mean / before:.0%} of {arm}'s {100 * before:.1f}, {pixels}")
    if score != "harmonic" and JOINT in study.table.arms:
        joint, _ = study.table.spread(JOINT, score)
        if joint > 0:
            lines.append(f"{mean / joint:.0%} of {JOINT}'s {100 * joint:.1f}")
    return lines


def scores(study: Study) -> str:
    """The tables of ``utils.table``, one a step; the last step is open."""
    parts = []
    for table in study.tables:
        grids = [score_grid(table)]
        if study.baseline is not None and study.baseline in table.arms and len(table.arms) > 1:
            grids.append(difference_grid(table, study.baseline))
        content = "".join(
            f"<h3>{escape(one.title)}</h3>{grid(one.headings, one.rows, one.title)}{note(' '.join(one.notes))}"
            for one in grids
        )
        parts.append(fold(f"Step {table.step}", content, table is study.table))
    return "".join(parts)


def classes(study: Study) -> str:
    """Mean IoU of each class and arm over the seeds, shaded; the last step is open."""
    parts = []
    for table in study.tables:
        content = note("IoU in percent, mean over the seeds.") + _class_table(study, table)
        parts.append(fold(f"Step {table.step}", content, table is study.table))
    return "".join(parts)


def _class_table(study: Study, table: Table) -> str:
    """A row an arm; above the later steps' arms the base model."""
    arms: dict[str, Mapping[int, Run]] = dict(table.arms)
    if study.base is not None and table.step > 0:
        before = {f"{arm}, step 0": study.base.arms[arm] for arm in (BASE, BASE_ALL) if arm in study.base.arms}
        arms = {**before, **arms}
    names = max((list(run.classes) for runs in table.arms.values() for run in runs.values()), key=len)
    earlier = next((one for one in study.tables if one.step == table.step - 1), None)
    old = (
        {name for runs in earlier.arms.values() for run in runs.values() for name in run.classes}
        if earlier
        else set(names)
    )

    def mean(runs: Mapping[int, Run], name: str) -> float:
        known = [run.classes.get(name, math.nan) for run in runs.values()]
        values = [value for value in known if not math.isnan(value)]
        return statistics.fmean(values) if values else math.nan

    rows = "".join(
        f'<tr><th scope="row">{escape(arm)}</th>{"".join(shaded(mean(runs, name)) for name in names)}</tr>'
        for arm, runs in arms.items()
    )
    head = "".join(
        f'<th scope="col" class="number">{escape(name)}{"" if name in old else " (new)"}</th>' for name in names
    )
    return wide(
        f'<table class="shaded"><thead><tr><th scope="col">arm</th>{head}</tr></thead><tbody>{rows}</tbody></table>',
        f"IoU by class, step {table.step}",
    )
