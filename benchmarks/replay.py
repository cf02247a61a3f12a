"""Rehearsal judged: is old knowledge kept, do single-class steps learn, what do new classes pay?

    python -m experiments animals --data DIR --arms caption-labels ours best-no-replay best
    python -m experiments animals --data DIR --task 4-1 --arms best-no-replay best
    python -m benchmarks.replay --works work/animals-4-2 work/animals-4-1

Each pair of arms differs in rehearsal alone, at equal iterations. This script trains nothing: it
reads what those commands left, compares, and tells from the truth that the imitated search knows
how clean the replay images are.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import finish, make_parser, spread, write_page
from experiments.arms import BASE
from experiments.history import History, read_history
from results.rows import Run, read_runs
from results.table import markdown_table
from results.tables import Table, make_tables
from utils.errors import UserError

# Recipe -> the arms without and with rehearsal.
PAIRS = {"paper": ("caption-labels", "ours"), "best": ("best-no-replay", "best")}
# The better of the two without rehearsal against the better of the two with it; a rate that needs
# rehearsal is no fair baseline.
STRONGEST = ("best, against paper without", ("caption-labels", "best"))
NEW = ("cow", "sheep")
KEYS = ("old", "new", *NEW, "all", "harmonic")
ORIGINALS = 300


@dataclass(frozen=True)
class Count:
    """Images of the search.

    Attributes:
        number: how many.
        right: how many of them show a class of their original.
    """

    number: int
    right: int


@dataclass(frozen=True)
class Search:
    """How clean the search's result is.

    Attributes:
        originals: number of images that were searched for.
        images: which ones -> their count.
    """

    originals: int
    images: Mapping[str, Count]


@dataclass(frozen=True)
class Row:
    """An arm at a step.

    Attributes:
        where: task and step.
        recipe: of ``PAIRS``, or the base model.
        rehearsal: yes, no, or a dash.
        values: of ``KEYS``, each in [0, 1] for each seed; empty where the arm has none.
        iterations: of the step; None for the base model.
    """

    where: str
    recipe: str
    rehearsal: str
    values: Mapping[str, Sequence[float]]
    iterations: int | None


@dataclass(frozen=True)
class Expectation:
    """What rehearsal should give, and what it gives here.

    Attributes:
        wish: task, step, recipe and what is wished for.
        gain: mean difference that rehearsal makes, of shares in [0, 1].
        spread: the larger standard deviation of both arms.
        seeds: those that both arms have.
        met: whether the wish came true.
    """

    wish: str
    gain: float
    spread: float
    seeds: int
    met: bool


def measure_search(history: History) -> Search:
    """The search before and after the caption filter; it is drawn again, as it was.

    Raises:
        UserError: there was no search.
    """
    # Imported here, so that --help answers at once.
    from experiments.imitation.originals import originals, read_originals
    from experiments.imitation.pool import read_pool
    from experiments.imitation.search import find, find_by_caption

    searches = history.of_kind("search")
    if not searches:
        raise UserError(f"--works {history.work}: no search has ended there; name a folder whose arms rehearse")
    files = searches[0].inputs
    # The last run is of the last step; joint training has another task.
    pool = read_pool(files["pool"])
    if "queries" in files:
        wanted = read_originals(files["queries"])
        found = find_by_caption(pool, wanted)
    else:
        wanted = originals("voc", files["originals"], history.runs[-1].options["task"], "overlap", ORIGINALS)
        found = find(pool, wanted)
    classes = {original.name: set(original.classes) for original in wanted}
    kept = history.work / "rehearsal" / "kept"
    right: dict[str, list[bool]] = {"found": [], "kept by the caption filter": []}
    for original, images in found.items():
        names = set((kept / f"{original}.txt").read_text(encoding="utf-8").split())
        for number, image in enumerate(images, 1):
            shows = bool(image.shows & classes[original])
            right["found"].append(shows)
            if f"{number:05}.jpg" in names:
                right["kept by the caption filter"].append(shows)
    return Search(len(wanted), {name: Count(len(shown), sum(shown)) for name, shown in right.items()})


def read_tables(histories: Sequence[History]) -> list[Table]:
    """The tables of the base step and of all arms of ``PAIRS``."""
    wanted = {BASE, *(arm for pair in PAIRS.values() for arm in pair)}
    tables: list[Table] = []
    for history in histories:
        for table in make_tables(read_runs([history.work / "logs"])):
            table.arms = {arm: runs for arm, runs in table.arms.items() if arm in wanted}
            if table.arms and not table.experiment.endswith("offline"):
                tables.append(table)
    return tables


def _values(runs: Mapping[int, Run], key: str) -> list[float]:
    """A score, or the IoU of a class, of each seed; empty where the arm has none."""
    values = [run.scores[key] if key in run.scores else run.classes.get(key) for run in runs.values()]
    return [value for value in values if value is not None and value == value]


def _row(table: Table, arm: str, recipe: str, rehearsal: str) -> Row:
    runs = table.arms[arm]
    iterations = None if arm == BASE else round(next(iter(runs.values())).costs["iterations"])
    return Row(
        f"{table.experiment.removeprefix('voc-')}, step {table.step}",
        recipe,
        rehearsal,
        {key: _values(runs, key) for key in KEYS},
        iterations,
    )


def score_rows(tables: Sequence[Table]) -> list[Row]:
    """Each arm at each step; the base model at step 0 alone."""
    rows = []
    for table in tables:
        if table.step == 0:
            rows += [_row(table, BASE, "base model", "-")] if BASE in table.arms else []
            continue
        rows += [
            _row(table, arm, recipe, word)
            for recipe, pair in PAIRS.items()
            for arm, word in zip(pair, ("no", "yes"), strict=True)
            if arm in table.arms
        ]
    return rows


def expectations(tables: Sequence[Table]) -> list[Expectation]:
    """Every wish for every pair of arms at every step."""
    made = []
    for table in tables:
        for recipe, (without, with_) in [*PAIRS.items(), STRONGEST]:
            if not table.step or without not in table.arms or with_ not in table.arms:
                continue
            where = f"{table.experiment.removeprefix('voc-')} step {table.step}, {recipe}"
            wishes = {
                "old": "old mIoU rises by more than the spread",
                "new": "new mIoU is not lower, beyond the spread",
            }
            if table.experiment.endswith("4-1"):
                learned = NEW[table.step - 1]
                wishes[learned] = f"{learned} is learned, by more than the spread"
            for key, wish in wishes.items():
                seeds = table.arms[without].keys() & table.arms[with_].keys()
                pair = ({seed: table.arms[arm][seed] for seed in seeds} for arm in (without, with_))
                before, after = (_values(runs, key) for runs in pair)
                gain = statistics.fmean(after) - statistics.fmean(before)
                noise = max(statistics.stdev(values) if len(values) > 1 else 0.0 for values in (before, after))
                met = gain >= -noise if key == "new" else gain > noise
                made.append(Expectation(f"{where}: {wish}", gain, noise, len(after), met))
    return made


def page(search: Search, rows: Sequence[Row], wishes: Sequence[Expectation], seeds: Sequence[int]) -> str:
    """The results page."""
    images = [
        [name, str(count.number), f"{count.right / max(count.number, 1):.3f}"] for name, count in search.images.items()
    ]
    scores = [
        [row.where, row.recipe, row.rehearsal, *(spread(row.values[key]) for key in KEYS),
         "-" if row.iterations is None else str(row.iterations)]
        for row in rows
    ]  # fmt: skip
    checks = [
        [one.wish, f"{100 * one.gain:+.1f} (spread {100 * one.spread:.1f}, {one.seeds} seeds)",
         "yes" if one.met else "no"]
        for one in wishes
    ]  # fmt: skip
    headings = ["task and step", "recipe", "rehearsal", *KEYS, "iterations"]
    lines = [
        "# Rehearsal: what is kept, and what single-class steps learn",
        "",
        f"Written by `python -m benchmarks.replay` from `python -m experiments animals`; seeds "
        f"{', '.join(map(str, seeds))}, mean ± standard deviation, percent. Web images only. Old and new are those of "
        "each step: at the second step of 4-1 cow is old.",
        "",
        f"## The search of {search.originals} originals, and its filter",
        "",
        *markdown_table(["images", "number", "that show a class of their original"], images),
        "",
        "## Scores",
        "",
        *markdown_table(headings, scores, len(KEYS) + 1),
        "",
        *markdown_table(["expected", "measured", "met"], checks),
    ]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("replay", __doc__)
    parser.add_argument("--works", type=Path, nargs="+", required=True, help="work folders of experiments animals")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the work folders, print and write the page."""
    given = get_argparser().parse_args(arguments)
    histories = [read_history(work.resolve()) for work in given.works]
    tables = read_tables(histories)
    seeds = sorted({seed for table in tables for seed in table.seeds})
    text = page(measure_search(histories[0]), score_rows(tables), expectations(tables), seeds)
    print(write_page(given.out, text))
    return 0


if __name__ == "__main__":
    finish("replay", main)
