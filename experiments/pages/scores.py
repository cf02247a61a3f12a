"""What came out: the answer, the tables, the classes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

from experiments.arms import BASE, BASE_ALL, JOINT
from experiments.pages.pieces import fold, grid, note, shaded
from experiments.pages.study import Study
from results.rows import Run
from results.table import difference_grid, score_grid
from results.tables import Table, difference
from utils import html

NAMES = {
    "harmonic": "harmonic mean of old and new",
    "all": "all classes, with background",
    "old": "old classes",
    "new": "new classes",
}


def answer(study: Study) -> str:
    """The best arm that learned step by step: its scores against the baseline's, the base model's
    and joint training's.
    """
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
    gain = difference(study.table, arm, study.baseline, score)
    if math.isnan(gain.mean):
        return []
    between = "" if math.isnan(gain.low) else f" [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    pairs = f", {len(gain.seeds)} pair{'s' if len(gain.seeds) > 1 else ''}"
    return [f"{100 * gain.mean:+.1f}{between} to {study.baseline}{pairs}"]


def _shares(study: Study, score: str, mean: float) -> list[str]:
    """Share of the base model's old classes that is left, and of joint training that is reached."""
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
    new = _new_classes(study, table, names)

    def mean(runs: Mapping[int, Run], name: str) -> float:
        known = [run.classes.get(name, math.nan) for run in runs.values()]
        values = [value for value in known if not math.isnan(value)]
        return statistics.fmean(values) if values else math.nan

    rows = ([html.row_name(arm), *(shaded(mean(runs, name)) for name in names)] for arm, runs in arms.items())
    head = [html.heading("arm"), *(html.heading(f"{name} (new)" if name in new else name, "number") for name in names)]
    return html.table(head, rows, kind="shaded", label=f"IoU by class, step {table.step}")


def _new_classes(study: Study, table: Table, names: Sequence[str]) -> set[str]:
    """Classes that a table's step adds to the steps before, none at the base step.

    Args:
        study: the table's experiment.
        table: of one step.
        names: all its classes in channel order, background first.
    """
    # Joint training stands in later tables too, with rows of step 0.
    rows = [run for runs in table.arms.values() for run in runs.values() if run.step == table.step > 0]
    old = next((run.old_classes for run in rows if run.old_classes is not None), None)
    if old is not None:
        return set(names[1:]) - set(old)
    # Rows of version 0.1.0 do not say it: the classes of the step before are old.
    before = [one for one in study.tables if one.step == table.step - 1]
    known = {name for one in before for runs in one.arms.values() for run in runs.values() for name in run.classes}
    return set(names) - known if known else set()
