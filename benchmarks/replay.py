"""Rehearsal judged: is old knowledge kept, do single-class steps learn, and what does it cost the new classes?

    python -m experiments animals --data DIR --task 4-2 --arms caption-labels ours best-no-replay best --jobs 2
    python -m experiments animals --data DIR --task 4-1 --arms best-no-replay best --jobs 2
    python benchmarks/replay.py --works work/animals-4-2 work/animals-4-1

Each pair of arms differs in rehearsal alone, at equal iterations. This script trains nothing: it reads what those commands left,
compares, and tells from the truth that the imitated search knows how clean the replay images are.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.pages import write_page  # noqa: E402
from experiments.history import History, read_history  # noqa: E402
from experiments.imitation.search import find, originals, read_pool  # noqa: E402
from results.rows import Run, read_runs  # noqa: E402
from results.tables import Table, make_tables  # noqa: E402
from utils.errors import UserError  # noqa: E402

# Recipe -> the arms without and with rehearsal.
PAIRS = {"paper": ("caption-labels", "ours"), "best": ("best-no-replay", "best")}
# The better of the two without rehearsal against the better of the two with it; a rate that needs rehearsal is no fair baseline.
STRONGEST = ("best, against paper without", ("caption-labels", "best"))
NEW = ("cow", "sheep")


def found_table(history: History) -> list[str]:
    """How clean the search's result is, before and after the caption filter; the search is drawn again, as it was."""
    files, task = history.stages["search"].inputs, history.runs[0].options["task"]
    wanted = originals("voc", files["originals"], task, "overlap", 300)
    kept = history.work / "rehearsal/kept"
    counts = {"found": [0, 0], "kept by the caption filter": [0, 0]}
    for original, pictures in find(read_pool(files["pool"]), wanted).items():
        names = set((kept / f"{original}.txt").read_text(encoding="utf-8").split())
        for number, picture in enumerate(pictures, 1):
            right = bool(picture.shows & set(wanted[original]))
            for key in ("found", *(["kept by the caption filter"] if f"{number:05}.jpg" in names else [])):
                counts[key][0] += 1
                counts[key][1] += right
    rows = [f"| {name} | {all_} | {right / max(all_, 1):.3f} |" for name, (all_, right) in counts.items()]
    return [
        f"## The search of {len(wanted)} originals, and its filter",
        "",
        "| images | number | that show a class of their original |",
        "|---|---|---|",
        *rows,
    ]


def _spread(values: list[float]) -> str:
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean + (f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else "")


def _values(runs: dict[int, Run], key: str) -> list[float]:
    """A score, or the IoU of a class, of each seed; empty where the arm has none."""
    values = [run.scores[key] if key in run.scores else run.classes.get(key) for run in runs.values()]
    return [value for value in values if value is not None and value == value]


def score_lines(tables: list[Table]) -> list[str]:
    """A row for each arm and step."""
    keys = ("old", "new", *NEW, "all", "harmonic")
    lines = [
        "| task and step | recipe | rehearsal | " + " | ".join(keys) + " | iterations |",
        "|---|---|---|" + "---:|" * (len(keys) + 1),
    ]
    for table in tables:
        where = f"{table.experiment.removeprefix('voc-')}, step {table.step}"
        if "base" in table.arms and table.step == 0:
            cells = [_spread(values) if (values := _values(table.arms["base"], key)) else "-" for key in keys]
            lines.append(f"| {where} | base model | - | " + " | ".join(cells) + " | - |")
        for recipe, pair in PAIRS.items():
            for arm, word in zip(pair, ("no", "yes"), strict=True):
                if table.step and arm in table.arms:
                    runs = table.arms[arm]
                    cells = [_spread(values) if (values := _values(runs, key)) else "-" for key in keys]
                    iterations = f"{next(iter(runs.values())).costs['iterations']:.0f}"
                    lines.append(f"| {where} | {recipe} | {word} | " + " | ".join(cells) + f" | {iterations} |")
    return lines


def expectations(tables: list[Table]) -> list[str]:
    """What rehearsal should give, and what it gives here."""
    lines = ["| expected | measured | met |", "|---|---|---|"]
    for table in tables:
        for recipe, (without, with_) in [*PAIRS.items(), STRONGEST]:
            if not table.step or without not in table.arms or with_ not in table.arms:
                continue
            where = f"{table.experiment.removeprefix('voc-')} step {table.step}, {recipe}"
            learned = NEW[table.step - 1] if table.experiment.endswith("4-1") else None
            wishes = [
                ("old", "old mIoU rises by more than the spread"),
                ("new", "new mIoU is not lower, beyond the spread"),
            ]
            if learned is not None:
                wishes.append((learned, f"{learned} is learned, by more than the spread"))
            for key, wish in wishes:
                seeds = table.arms[without].keys() & table.arms[with_].keys()
                pair = ({seed: table.arms[arm][seed] for seed in seeds} for arm in (without, with_))
                before, after = (_values(runs, key) for runs in pair)
                gain = statistics.fmean(after) - statistics.fmean(before)
                spread = max(statistics.stdev(values) if len(values) > 1 else 0.0 for values in (before, after))
                met = gain >= -spread if key == "new" else gain > spread
                lines.append(
                    f"| {where}: {wish} | {100 * gain:+.1f} (spread {100 * spread:.1f}, {len(after)} seeds) | {'yes' if met else 'no'} |"
                )
    return lines


def main() -> int:
    """Read the work folders and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", type=Path, nargs="+", required=True, help="work folders of experiments animals")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/replay.md")
    given = parser.parse_args()
    histories = [read_history(work.resolve()) for work in given.works]
    wanted = {"base", *(arm for pair in PAIRS.values() for arm in pair)}
    tables: list[Table] = []
    for history in histories:
        for table in make_tables(read_runs([history.work / "logs"])):
            table.arms = {arm: runs for arm, runs in table.arms.items() if arm in wanted}
            if table.arms and not table.experiment.endswith("offline"):
                tables.append(table)
    seeds = sorted({seed for table in tables for seed in table.seeds})
    lines = [
        "# Rehearsal: what is kept, and what single-class steps learn",
        "",
        f"Written by `benchmarks/replay.py` from `python -m experiments animals`; seeds {', '.join(map(str, seeds))}, mean ± standard "
        "deviation, percent. Web images only. Old and new are those of each step: at the second step of 4-1 cow is old.",
        "",
        *found_table(histories[0]),
        "",
        "## Scores",
        "",
        *score_lines(tables),
        "",
        *expectations(tables),
        "",
    ]
    print(write_page(given.out, "\n".join(lines)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"replay.py: {error}", file=sys.stderr)
        sys.exit(2)
