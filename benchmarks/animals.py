"""Real photographs on a CPU: base step, fine-tuning, MiB, WILSON and joint training, compared.

    python -m experiments animals --data DIR --arms fine-tuning MiB WILSON joint --jobs 2
    python -m benchmarks.animals [--work work/animals-4-2] [--out benchmarks/results/animals.md]

The first command makes the runs, and goes on where it was stopped. The second one trains nothing:
it reads what the first one left in its work folder.
"""

from __future__ import annotations

import argparse
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import finish, make_parser, spread, write_page
from experiments.arms import BASE, JOINT
from experiments.history import read_history
from results.rows import SCORES, Run, read_runs
from results.table import markdown_table
from results.tables import Table, make_tables
from utils.errors import UserError

ARMS = ("fine-tuning", "MiB", "WILSON", JOINT)
EXPERIMENT, PROTOCOL, STEP = "voc-4-2", "overlap", 1
MAKE = f"python -m experiments animals --data DIR --arms {' '.join(ARMS)}"

# Arm -> score -> a value in [0, 1] for each seed.
Scores = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Expectation:
    """What a right implementation should show, and what this one shows."""

    name: str
    value: float
    bound: float
    above: bool

    @property
    def met(self) -> bool:
        """Whether the value is on the right side of its bound."""
        return self.value > self.bound if self.above else self.value < self.bound


@dataclass(frozen=True)
class Measurement:
    """What the experiment left.

    Attributes:
        scores: of the base step and of ``ARMS``; the base step has no new classes.
        seeds: those that all of them have.
        commands: arm -> its command line of the first seed; DIR is the folder of data, WORK the
            work folder.
    """

    scores: Scores
    seeds: tuple[int, ...]
    commands: Mapping[str, str]


def of_step(tables: Sequence[Table], step: int, arms: Sequence[str], make: str) -> dict[str, dict[int, Run]]:
    """Runs of the 4-2 protocol: arm -> seed -> run, in the order of ``arms``.

    Raises:
        UserError: an arm was not tested; ``make`` is the command that makes it.
    """
    tested: dict[str, dict[int, Run]] = {}
    for table in tables:
        if (table.experiment, table.protocol, table.step) == (EXPERIMENT, PROTOCOL, step):
            tested = table.arms
    for arm in arms:
        if arm not in tested:
            raise UserError(f"--work: its logs hold no test of {arm} at step {step} of {EXPERIMENT}; {make} makes it")
    return {arm: tested[arm] for arm in arms}


def score_values(runs: Mapping[int, Run], seeds: Sequence[int]) -> dict[str, list[float]]:
    """Score -> a value in [0, 1] for each of the seeds."""
    return {score: [runs[seed].scores[score] for seed in seeds] for score in SCORES}


def measure(work: Path) -> Measurement:
    """Read a work folder of ``python -m experiments animals``.

    Raises:
        UserError: a run is missing there.
    """
    history = read_history(work)
    tables = make_tables(read_runs([work / "logs"]))
    runs = of_step(tables, 0, [BASE], MAKE) | of_step(tables, STEP, ARMS, MAKE)
    seeds = tuple(sorted(set.intersection(*(set(by_seed) for by_seed in runs.values()))))
    if not seeds:
        raise UserError(f"--work {work}: no seed has {', '.join(runs)}; {MAKE} makes them")
    commands = {}
    for arm in runs:
        step = 0 if arm in (BASE, JOINT) else STEP
        run = next((run for run in history.of(arm, step) if run.seed == seeds[0]), None)
        if run is None:
            raise UserError(f"--work {work}: {arm}, seed {seeds[0]}, has not ended; {MAKE} goes on with it")
        data = str(Path(run.options["dataset_dir"]).parent)
        commands[arm] = shlex.join(["python", *run.command]).replace(str(work), "WORK").replace(data, "DIR")
    return Measurement({arm: score_values(runs[arm], seeds) for arm in runs}, seeds, commands)


def expectations(scores: Scores) -> list[Expectation]:
    """The four things to look at first."""

    def mean(arm: str, score: str) -> float:
        return statistics.fmean(scores[arm][score])

    def share(value: float, of: float) -> float:
        return value / of if of else math.nan

    old = mean(BASE, "old")
    kept = {arm: share(mean(arm, "old"), old) for arm in ("fine-tuning", "WILSON")}
    return [
        Expectation("base all-class mIoU", mean(BASE, "all"), 0.55, True),
        Expectation("fine-tuning: old mIoU kept, share of base", kept["fine-tuning"], 0.5, False),
        Expectation("WILSON: old mIoU kept, share of base", kept["WILSON"], 0.85, True),
        Expectation("WILSON: new mIoU, share of MiB's", share(mean("WILSON", "new"), mean("MiB", "new")), 0.5, True),
    ]


def page(measurement: Measurement) -> str:
    """The results page."""
    scores, seeds = measurement.scores, measurement.seeds
    rows = []
    for arm, by_score in scores.items():
        unknown = ("new", "harmonic") if arm == BASE else ()
        rows.append([arm, *("-" if key in unknown else spread(values) for key, values in by_score.items())])
    checks = [
        [check.name, f"{check.value:.3f}", f"{'above' if check.above else 'below'} {check.bound}",
         "yes" if check.met else "no"]
        for check in expectations(scores)
    ]  # fmt: skip
    lines = [
        "# Animals: real photographs, task 4-2, overlap",
        "",
        f"Written by `python -m benchmarks.animals`; seeds {', '.join(map(str, seeds))}, mean ± standard deviation, "
        "percent.",
        f"`{MAKE}` makes the runs.",
        "Tested on the validation photographs, crop 160; pixels of classes not in the task are left out.",
        "",
        *markdown_table(["run", "old mIoU", "new mIoU", "all mIoU", "harmonic"], rows),
        "",
        *markdown_table(["expected", "measured", "bound", "met"], checks),
        "",
        f"Command lines (seed {seeds[0]}; DIR is the folder of data, WORK the work folder):",
        "",
        "```",
        *(f"# {arm}\n{command}" for arm, command in measurement.commands.items()),
        "```",
    ]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("animals", __doc__)
    parser.add_argument(
        "--work", type=Path, default=Path("work/animals-4-2"), help="work folder of experiments [work/animals-4-2]"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the work folder, print and write the page."""
    given = get_argparser().parse_args(arguments)
    print(write_page(given.out, page(measure(given.work.resolve()))))
    return 0


if __name__ == "__main__":
    finish("animals", main)
