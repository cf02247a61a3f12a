"""Tables of the results of many runs, built from their logs alone:

    python -m utils.table --logs logs [more/logs ...] [--baseline WILSON] [--arms ft MiB ...] [--out table.md table.csv table.tex]

One table an experiment and step, one row an arm: runs whose names differ only in the ``-<seed>`` at their end. Joint training stands beside
the steps that end with the same classes. Without --out the tables are printed as Markdown. Exit code 0; 2 for bad input.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError
from utils.script import run
from utils.whole import replacing

if TYPE_CHECKING:
    from results.tables import Table

UNKNOWN = "-"
# So few pairs say little of how an interval would cover.
FEW = 5
LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$"} | {character: f"\\{character}" for character in "&%$#_{}"} | {
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"
}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """A table as text: headings, rows whose first cell is a name, and the sentences below it."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    notes: list[str]


def mean_and_deviation(mean: float, deviation: float = math.nan, scale: float = 1.0, digits: int = 0) -> str:
    """``mean ± deviation``, both times ``scale``; the mean alone where the deviation is NaN, a dash where both are."""
    if math.isnan(mean):
        return UNKNOWN
    return f"{scale * mean:.{digits}f}" + ("" if math.isnan(deviation) else f" ± {scale * deviation:.{digits}f}")


def _percent(mean: float, deviation: float = math.nan) -> str:
    return mean_and_deviation(mean, deviation, scale=100, digits=1)


def score_grid(table: Table) -> Grid:
    """Scores and costs of every arm."""
    from results.rows import SCORES

    rows = []
    seeds = ", ".join(map(str, table.seeds))
    over = f"mean ± standard deviation over seeds {seeds}" if len(table.seeds) > 1 else f"seed {seeds}"
    notes = [
        f"Percent; {over}. Iterations, seconds (both of training) and the highest peak memory are those of one run of this step."
    ]
    for arm in table.arms:
        count, missing = len(table.arms[arm]), table.missing(arm)
        rows.append(
            [
                arm,
                *(_percent(*table.spread(arm, score)) for score in SCORES),
                mean_and_deviation(table.spread(arm, "iterations")[0]),
                mean_and_deviation(*table.spread(arm, "seconds")),
                mean_and_deviation(table.highest(arm, "memory_mib")),
                f"{count} of {count + len(missing)}" if missing else str(count),
            ]
        )
        if missing:
            notes.append(f"Missing: {arm}, seed {', '.join(map(str, missing))}.")
    headings = ["arm", *SCORES, "iterations", "seconds", "memory, MiB", "seeds"]
    return Grid(table.title, headings, rows, [*notes, *table.notes])


def difference_grid(table: Table, baseline: str) -> Grid:
    """Differences of every other arm to the baseline, with their intervals."""
    from results.rows import SCORES
    from results.tables import LEVEL, RESAMPLES, SEED, difference

    rows, counts = [], set()
    for arm in table.arms:
        if arm == baseline:
            continue
        found = {score: difference(table, arm, baseline, score) for score in SCORES}
        seeds = found["all"].seeds
        counts.add(len(seeds))
        cells = []
        for value in found.values():
            interval = "" if math.isnan(value.low) else f" [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"
            cells.append(UNKNOWN if math.isnan(value.mean) else f"{100 * value.mean:+.1f}{interval}")
        rows.append([arm, *cells, str(len(seeds))])
    notes = [
        f"Points of percent, paired by seed; {LEVEL:.0%} interval by the percentile bootstrap over the pairs: {RESAMPLES} draws, random "
        f"seed {SEED}."
    ]
    if 1 in counts:
        notes.append("One pair has no interval.")
    few = [str(count) for count in sorted(counts) if 1 < count <= FEW]
    if few:
        notes.append(f"With {' or '.join(few)} pairs it is hardly more than the range of the differences.")
    return Grid(f"{table.title}: difference to {baseline}", ["arm", *SCORES, "pairs"], rows, notes)


def _grids(tables: Sequence[Table], baseline: str | None) -> list[Grid]:
    grids = []
    for table in tables:
        grids.append(score_grid(table))
        if baseline in table.arms and len(table.arms) > 1:
            grids.append(difference_grid(table, str(baseline)))
    return grids


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> list[str]:
    """The lines of one Markdown table, whose last ``right`` columns are set to the right."""

    def line(cells: Sequence[str]) -> str:
        return "|" + "".join(" " + cell.replace("|", r"\|") + " |" if cell else " |" for cell in cells)

    rule = "|" + "---|" * (len(headings) - right) + "---:|" * right
    return [line(headings), rule, *map(line, rows)]


def markdown(tables: Sequence[Table], baseline: str | None = None) -> str:
    """All tables as Markdown."""
    parts = []
    for grid in _grids(tables, baseline):
        shown = markdown_table(grid.headings, grid.rows, len(grid.headings) - 1)
        lines = [f"## {grid.title}", "", *shown, "", *grid.notes]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex(tables: Sequence[Table], baseline: str | None = None) -> str:
    """All tables as LaTeX, each of its own; they need the package booktabs."""

    def text(cell: str) -> str:
        return "".join(LATEX.get(character, character) for character in cell)

    def row(cells: Sequence[str]) -> str:
        # The minus sign of a number is longer than a hyphen.
        numbers = [re.sub(r"(?<![\w.])-(?=\d)", "$-$", text(cell)) for cell in cells[1:]]
        return "  " + " & ".join([text(cells[0]), *numbers]) + r" \\"

    parts = ["% \\usepackage{booktabs}\n"]
    for grid in _grids(tables, baseline):
        lines = [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{text(grid.title)}. {text(' '.join(grid.notes))}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(grid.headings) - 1)}}}",
            r"  \toprule",
            row(grid.headings),
            r"  \midrule",
            *map(row, grid.rows),
            r"  \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def comma_separated(tables: Sequence[Table], baseline: str | None = None) -> str:
    """All tables as one CSV, a row an arm; scores and differences as shares in [0, 1], what is unknown is empty."""
    from results.rows import SCORES
    from results.tables import difference

    rows = []
    for table in tables:
        for arm in table.arms:
            row: dict[str, object] = {
                "experiment": table.experiment,
                "protocol": table.protocol,
                "step": table.step,
                "arm": arm,
                "seeds": " ".join(map(str, sorted(table.arms[arm]))),
                "missing": " ".join(map(str, table.missing(arm))),
            }
            for score in SCORES:
                row[f"{score}_mean"], row[f"{score}_std"] = table.spread(arm, score)
            row["iterations"], _ = table.spread(arm, "iterations")
            row["seconds_mean"], row["seconds_std"] = table.spread(arm, "seconds")
            row["memory_mib"] = table.highest(arm, "memory_mib")
            if baseline is not None:
                compared = baseline in table.arms and arm != baseline
                row["baseline"] = baseline if compared else ""
                for score in SCORES:
                    found = difference(table, arm, baseline, score) if compared else None
                    for key in ("mean", "low", "high"):
                        row[f"{score}_difference_{key}"] = math.nan if found is None else getattr(found, key)
                    row["pairs"] = "" if found is None else len(found.seeds)
            rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _cell(value: object) -> object:
    """Six digits are all that the logs have."""
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else round(value, 6)


FORMATS: dict[str, Callable[[Sequence[Table], str | None], str]] = {
    ".md": markdown,
    ".csv": comma_separated,
    ".tex": latex,
}


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror})") from error


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="utils.table", description="Tables of the results of many runs, from their logs alone.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--logs", type=Path, nargs="+", required=True, metavar="DIR", help="log folders (run.py --logdir)")
    add("--out", type=Path, nargs="+", default=[], metavar="FILE", help="files to write: .md, .csv or .tex [print .md]")
    add("--baseline", metavar="ARM", help="arm that all others are compared with")
    add("--arms", nargs="+", default=[], metavar="ARM", help="these arms only, in this order [all]")
    return parser


def _run(given: argparse.Namespace) -> None:
    # Imported here, so that --help answers at once.
    from results.rows import read_runs
    from results.tables import make_tables

    for path in given.out:
        if path.suffix not in FORMATS:
            raise UserError(f"--out {path}: the name of a table ends in {', '.join(FORMATS)}")
    tables = make_tables(read_runs(given.logs), given.arms)
    known = sorted({arm for table in tables for arm in table.arms})
    if given.baseline is not None and given.baseline not in known:
        raise UserError(f"--baseline {given.baseline}: no such arm; there are {', '.join(known)}")
    for path in given.out:
        _write(path, FORMATS[path.suffix](tables, given.baseline))
    if not given.out:
        sys.stdout.write(markdown(tables, given.baseline))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 2 for bad input, after one line on stderr."""
    given = get_argparser().parse_args(arguments)
    return run(lambda: _run(given), "utils.table")


if __name__ == "__main__":
    sys.exit(main())
