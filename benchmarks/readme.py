"""README's results, written from the files in ``benchmarks/results``; nothing there is typed by hand.

    python -m benchmarks.readme            # rewrite what stands between the two marks in README.md
    python -m benchmarks.readme --check    # exit code 1 where README.md is not what the files say

A file that is not there leaves its part out. Tables are those of ``python -m utils.table --out NAME.csv``, pages what the scripts of
``benchmarks`` write. Exit code 2 where the marks are missing, or a file is not what it should be.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.arms import ABLATIONS, ARMS, BASE, BASE_ALL, JOINT
from results.rows import SCORES
from results.table import FEW
from results.tables import LEVEL
from utils.errors import UserError, one_line
from utils.whole import write_whole

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
BEGIN, END = "<!-- results: written by python -m benchmarks.readme -->", "<!-- end of results -->"
COLUMNS = {"step", "arm", "seeds", "missing", *(f"{score}_{part}" for score in SCORES for part in ("mean", "std"))}
# Differences that are shown.
COMPARED = ("all", "harmonic")
INTRODUCTION = (
    "Real photographs at the size of a CPU: 1,140 for training and 231 for the test, of PASCAL VOC, at most 256 pixels a side; 150 web "
    "images a class; EfficientNet-Lite0, crop 160. mIoU in percent, mean ± standard deviation over seeds. `base` is the model of step 0, "
    "whose test leaves out the pixels of classes not yet learned; `base-all-pixels` is the same model on all pixels, as later steps are "
    "tested: what it took for an old class counts there."
)


@dataclass(frozen=True)
class Source:
    """What a table is of.

    Attributes:
        title: its heading.
        what: the task, and which of its scores.
        command: what makes it.
        arms: what that command makes a row of each; README says which of them the file lacks.
    """

    title: str
    what: str
    command: str
    arms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """What a page answers, and the cells of it to quote: those of the first table row that begins with ``row``, in ``columns``."""

    what: str
    row: str
    columns: tuple[str, ...]


COMMAND = "bash run.sh animals --data DIR --jobs 2"
TABLES = {
    "animals-4-2": Source(
        "All methods",
        "Cat, dog, horse and person from pixel labels, then cow and sheep in one step. Half of the web images are what was searched for; "
        "`ours` is the papers' recipe, `best` is `--recipe best`.",
        COMMAND,
        (*ARMS, JOINT),
    ),
    "animals-4-1": Source(
        "Two steps of one class each",
        "Cat, dog, horse and person from pixel labels, then cow, then sheep; after the last step, where sheep alone is new.",
        f"{COMMAND} --task 4-1 --arms best best-no-replay raw-web joint",
    ),
    "ablation-4-2": Source(
        "What each part of the recipe gives",
        "Cow and sheep in one step; `best` is `--recipe best`, the other arms do without one part of it each.",
        f"{COMMAND} --arms best {' '.join(ABLATIONS)}",
        tuple(ABLATIONS),
    ),
}
PAGES = {
    "captions.md": Page("which similarity of nouns filters downloads best", "default", ("precision", "recall")),
    "nouns.md": Page("which tagger finds the nouns of captions best", "hanta", ("F1",)),
    "web.md": Page(
        "does the discriminator transfer, what does selection keep", "captions", ("precision", "recall", "kept")
    ),
    "replay.md": Page(
        "what rehearsal keeps, and what single-class steps learn",
        "kept by the caption filter",
        ("that show a class of their original",),
    ),
    "animals.md": Page(
        "pixel-labelled baselines and WILSON on the data set's own photographs", "WILSON", ("all mIoU",)
    ),
    "scoring.md": Page("how fast web images are scored", "scoring", ("images / s",)),
    "step.md": Page("what an iteration takes, part by part", "weak / base", ("s / iteration",)),
    "data.md": Page("how fast images are loaded", "whole path", ("images / s",)),
}


def _share(row: dict[str, str], key: str) -> str:
    """Mean ± deviation of a score in percent; a dash where there is none."""
    mean, deviation = row[f"{key}_mean"], row[f"{key}_std"]
    if not mean:
        return "-"
    return f"{100 * float(mean):.1f}" + (f" ± {100 * float(deviation):.1f}" if deviation else "")


def _difference(row: dict[str, str], key: str) -> str:
    """Difference to the baseline in points with its interval."""
    mean, low, high = (row.get(f"{key}_difference_{part}", "") for part in ("mean", "low", "high"))
    if not mean:
        return "-"
    interval = f" [{100 * float(low):+.1f}, {100 * float(high):+.1f}]" if low else ""
    return f"{100 * float(mean):+.1f}{interval}"


def table(path: Path) -> list[str]:
    """The last step of a table that ``python -m utils.table`` wrote, as Markdown, with the base step's scores above it.

    Raises:
        UserError: it is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or not set(rows[0]) >= COLUMNS:
            raise UserError(f"{path}: is no table of python -m utils.table --out {path.name}")
        last = max(int(row["step"]) for row in rows)
        shown = [
            row
            for row in rows
            if int(row["step"]) == last or (int(row["step"]) == 0 and row["arm"] in (BASE, BASE_ALL))
        ]
        baseline = next((row["baseline"] for row in shown if row.get("baseline")), "")
        pairs = max((int(row["pairs"]) for row in shown if row.get("pairs")), default=0)
        heading = ["arm", *SCORES, *(f"{score}, against {baseline}" for score in COMPARED if baseline), "seeds"]
        lines = ["| " + " | ".join(heading) + " |", "|---|" + "---:|" * (len(heading) - 1)]
        for row in shown:
            cells = [row["arm"], *(_share(row, score) for score in SCORES)]
            cells += [_difference(row, score) for score in COMPARED if baseline]
            lines.append("| " + " | ".join([*cells, _seeds(row)]) + " |")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error
    if baseline:
        few = ", hardly more than their range with so few pairs" if pairs <= FEW else ""
        lines += ["", f"Differences are paired by seed; in brackets their {LEVEL:.0%} bootstrap interval{few}."]
    return lines


def _seeds(row: dict[str, str]) -> str:
    """How many seeds there are, and of how many where some are missing."""
    count, missing = len(row["seeds"].split()), len(row["missing"].split())
    return f"{count} of {count + missing}" if missing else str(count)


def section(results: Path) -> str:
    """What stands between the marks: tables, then a line a page."""
    parts: list[str] = []
    for name, source in TABLES.items():
        path = results / f"{name}.csv"
        if path.is_file():
            link = f"[{path.name}](benchmarks/results/{path.name})"
            made = f"`{source.command}` makes it ({link})."
            parts += [f"### {source.title}", "", f"{source.what} {made}", "", *table(path), ""]
            shown = path.read_text(encoding="utf-8")
            absent = [arm for arm in source.arms if f",{arm}," not in shown]
            parts += [f"Not run for this table: {', '.join(absent)}.", ""] if absent else []
    if parts:
        parts = [INTRODUCTION, "", *parts]
    pages = [
        f"- [{name}](benchmarks/results/{name}): {page.what} ({quoted(results / name, page)})"
        for name, page in PAGES.items()
        if (results / name).is_file()
    ]
    if pages:
        parts += ["### More", "", "Each page says which command made it.", "", *pages, ""]
    return "\n".join(["", *parts])


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("*", "") for cell in line.strip().strip("|").split("|")]


def quoted(path: Path, page: Page) -> str:
    """The cells of a page that README quotes: ``default: wup: precision 0.960, recall 0.981``.

    Raises:
        UserError: the page has no such row.
    """
    heading: list[str] = []
    for line, below in itertools.pairwise([*path.read_text(encoding="utf-8").splitlines(), ""]):
        if not line.startswith("|"):
            continue
        cells = _cells(line)
        if below.startswith("|---"):
            heading = cells
        elif cells[0].startswith(page.row) and set(page.columns) <= set(heading) and len(cells) == len(heading):
            return f"{cells[0]}: " + ", ".join(f"{column} {cells[heading.index(column)]}" for column in page.columns)
    raise UserError(
        f"{path}: no table row {page.row!r} with {', '.join(page.columns)}; PAGES of benchmarks/readme.py names what is quoted"
    )


def rewritten(readme: str, results: Path) -> str:
    """README's text with its results from the files.

    Raises:
        UserError: the marks are not there, or a file is not what it should be.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"README.md: needs the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{section(results)}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite, or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where README.md is out of date"
    )
    given = parser.parse_args(arguments)
    readme = ROOT / "README.md"
    try:
        text = readme.read_text(encoding="utf-8")
        wanted = rewritten(text, RESULTS)
        if not given.check:
            write_whole(readme, wanted)
    except UserError as error:
        print(f"benchmarks.readme: {one_line(error)}", file=sys.stderr)
        return 2
    if given.check and text != wanted:
        print("README.md: its results are out of date; run python -m benchmarks.readme", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
