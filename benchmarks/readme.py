"""README's table of results and docs/results.md, written from the files in ``benchmarks/results``; no number is typed by hand.

    python -m benchmarks.readme            # rewrite what stands between the two marks of each page
    python -m benchmarks.readme --check    # exit code 1 where a page is not what the files say

A file that is not there leaves its part out. Tables are those of ``python -m utils.table --out NAME.csv``, pages what the scripts of
``benchmarks`` write. Exit code 2 where the marks are missing, or a file is not what it should be.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.pages import RESULTS, ROOT, between_marks
from benchmarks.studies import BASE_MODEL, DIFFERENCES, EXPLAINED, PAGES, SHOWN, TABLES, Page
from experiments.arms import BASE, BASE_ALL, JOINT
from results.rows import SCORES
from results.table import FEW, markdown_table, mean_and_deviation
from results.tables import LEVEL
from utils.errors import UserError
from utils.script import run
from utils.whole import write_whole

BEGIN, END = "<!-- results: written by python -m benchmarks.readme -->", "<!-- end of results -->"
COLUMNS = {"step", "arm", "seeds", "missing", *(f"{score}_{part}" for score in SCORES for part in ("mean", "std"))}
# Differences that are shown.
COMPARED = ("all", "harmonic")
# Prose of the pages is wrapped here; tables are not.
WIDTH = 100
# Arms that stand beside what papers report, with what they learn new classes from.
BESIDE = {"raw-web": "raw web images", "ours": "web images", "best": "web images"}


def _share(row: dict[str, str], key: str) -> str:
    """Mean ± deviation of a score in percent; a dash where there is none."""
    mean, deviation = (float(row[f"{key}_{part}"] or "nan") for part in ("mean", "std"))
    return mean_and_deviation(mean, deviation, scale=100, digits=1)


def _difference(row: dict[str, str], key: str) -> str:
    """Difference to the baseline in points with its interval."""
    mean, low, high = (row.get(f"{key}_difference_{part}", "") for part in ("mean", "low", "high"))
    if not mean:
        return "-"
    interval = f" [{100 * float(low):+.1f}, {100 * float(high):+.1f}]" if low else ""
    return f"{100 * float(mean):+.1f}{interval}"


def _shown(path: Path) -> list[dict[str, str]]:
    """Rows of the last step of a table that ``python -m utils.table`` wrote, those of the base step before them.

    Raises:
        UserError: it is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or not set(rows[0]) >= COLUMNS:
            raise UserError(f"{path}: is no table of python -m utils.table --out {path.name}")
        last = max(int(row["step"]) for row in rows)
        return [
            row
            for row in rows
            if int(row["step"]) == last or (int(row["step"]) == 0 and row["arm"] in (BASE, BASE_ALL))
        ]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error


def table(path: Path) -> list[str]:
    """The last step of a table as Markdown: scores, differences to the baseline, seeds.

    Raises:
        UserError: it is no table of ``python -m utils.table``.
    """
    rows = _shown(path)
    try:
        baseline = next((row["baseline"] for row in rows if row.get("baseline")), "")
        pairs = max((int(row["pairs"]) for row in rows if row.get("pairs")), default=0)
        heading = ["arm", *SCORES, *(f"{score}, against {baseline}" for score in COMPARED if baseline), "seeds"]
        cells = [
            [
                row["arm"],
                *(_share(row, score) for score in SCORES),
                *(_difference(row, score) for score in COMPARED if baseline),
                _seeds(row),
            ]
            for row in rows
        ]
        lines = markdown_table(heading, cells, right=len(heading) - 1)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error
    if baseline:
        few = ", hardly more than their range with so few pairs" if pairs <= FEW else ""
        lines += [
            "",
            *_wrapped(f"Differences are paired by seed; in brackets their {LEVEL:.0%} bootstrap interval{few}."),
        ]
    return lines


def short_table(path: Path) -> list[str]:
    """The last step of a table as Markdown: what each arm is, and its scores.

    Raises:
        UserError: it is no table of ``python -m utils.table``, or an arm is not explained.
    """
    rows = _shown(path)
    for row in rows:
        if row["arm"] not in EXPLAINED:
            raise UserError(f"{path}: EXPLAINED of benchmarks/readme.py does not say what arm {row['arm']} is")
    try:
        cells = [
            [row["arm"], EXPLAINED[row["arm"]], *(_share(row, score) for score in SCORES), _seeds(row)] for row in rows
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error
    return markdown_table(["arm", "what it is", *SCORES, "seeds"], cells, right=len(SCORES) + 1)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _command(text: str) -> list[str]:
    """A command as a block, its lines not too long to read."""
    lines = textwrap.wrap(text, WIDTH - 6, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return ["```bash", *" \\\n".join(lines).splitlines(), "```"]


def _seeds(row: dict[str, str]) -> str:
    """How many seeds there are, and of how many where some are missing."""
    count, missing = len(row["seeds"].split()), len(row["missing"].split())
    return f"{count} of {count + missing}" if missing else str(count)


def summary(results: Path) -> list[str]:
    """README's part: one table."""
    path = results / f"{SHOWN}.csv"
    if not path.is_file():
        return []
    text = f"{TABLES[SHOWN].what} {TABLES[SHOWN].data} Differences with their intervals, single-class steps and what each part gives: "
    return [*_wrapped(f"{text}[docs/results.md](docs/results.md)."), "", *short_table(path)]


def full(results: Path) -> list[str]:
    """The part of docs/results.md: every table, then a line for each page of ``benchmarks/results``."""
    parts: list[str] = []
    data = ""
    for name, source in TABLES.items():
        path = results / f"{name}.csv"
        if not path.is_file():
            continue
        if source.data != data:
            parts += [*_wrapped(source.data if data else f"{source.data} {BASE_MODEL}"), ""]
            data = source.data
        text = f"{source.what} [{path.name}](../benchmarks/results/{path.name}) is made by"
        parts += [f"## {source.title}", "", *_wrapped(text), "", *_command(source.command), "", *table(path), ""]
        content = path.read_text(encoding="utf-8")
        absent = [arm for arm in source.arms if f",{arm}," not in content]
        parts += [*_wrapped(f"Not run for this table: {', '.join(absent)}."), ""] if absent else []
    parts += beside(results)
    pages = [
        line
        for name, page in PAGES.items()
        if (results / name).is_file()
        for line in _wrapped(
            f"- [{name}](../benchmarks/results/{name}): {page.what} ({quoted(results / name, page)})", indent="  "
        )
    ]
    if pages:
        parts += ["## More measurements", "", "Each page says which command made it.", "", *pages]
    return parts


def beside(results: Path) -> list[str]:
    """What papers report of the tasks of the tables, and our arms beside it, as shares of joint training."""
    rows: list[list[str]] = []
    for name, source in TABLES.items():
        path = results / f"{name}.csv"
        if not source.published or not path.is_file():
            continue
        task = name.partition("-")[2]
        rows += [
            [task, f"{paper.method} [published]", paper.images, paper.network, f"{paper.share:.1f}"]
            for paper in source.published
        ]
        shown = {row["arm"]: row for row in _shown(path)}
        joint = shown.get(JOINT)
        for arm, images in BESIDE.items():
            if joint is not None and arm in shown:
                share = 100 * float(shown[arm]["all_mean"]) / float(joint["all_mean"])
                seeds = len(shown[arm]["seeds"].split())
                what = f"EfficientNet-Lite0, crop 160, {seeds} seed{'s' if seeds > 1 else ''}"
                rows.append([task, arm, images, what, f"{share:.1f}"])
    if not rows:
        return []
    heading = ["task", "method", "new classes from", "network", "% of joint"]
    return ["## Beside the papers", "", *_wrapped(DIFFERENCES), "", *markdown_table(heading, rows, right=1), ""]


# Page -> what stands between its marks.
WRITTEN: dict[str, Callable[[Path], list[str]]] = {"README.md": summary, "docs/results.md": full}


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("*", "") for cell in line.strip().strip("|").split("|")]


def quoted(path: Path, page: Page) -> str:
    """The cells of a page that docs/results.md quotes: ``default: wup: precision 0.960, recall 0.981``.

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


def rewritten(name: str, text: str, results: Path) -> str:
    """A page's text with its results from the files.

    Args:
        name: a key of ``WRITTEN``.
        text: the page as it is.
        results: folder of the files.

    Raises:
        UserError: the marks are not there, or a file is not what it should be.
    """
    return between_marks(name, text, BEGIN, END, lambda: WRITTEN[name](results))


def _write(*, check: bool) -> int:
    """Rewrite the pages, or see whether they would change; the exit code."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in WRITTEN}
    wanted = {name: rewritten(name, text, RESULTS) for name, text in texts.items()}
    stale = [name for name in WRITTEN if texts[name] != wanted[name]]
    if not check:
        for name in stale:
            write_whole(ROOT / name, wanted[name])
    elif stale:
        print(f"{', '.join(stale)}: results are out of date; run python -m benchmarks.readme", file=sys.stderr)
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is out of date")
    given = parser.parse_args(arguments)
    return run(lambda: _write(check=given.check), "benchmarks.readme")


if __name__ == "__main__":
    sys.exit(main())
