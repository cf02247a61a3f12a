"""What all benchmarks share: their command line, their pages, and how they end."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from results.table import mean_and_deviation
from utils.errors import UserError
from utils.script import run
from utils.whole import write_whole

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
READING = "## How to read this"


def make_parser(name: str, description: str | None, page: bool = True) -> argparse.ArgumentParser:
    """The parser of ``python -m benchmarks.NAME``; with ``page`` it has the option ``--out``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if page:
        parser.add_argument(
            "--out",
            type=Path,
            default=RESULTS / f"{name}.md",
            help=f"page to write [benchmarks/results/{name}.md]",
        )
    return parser


def finish(name: str, main: Callable[[], int]) -> None:
    """Run a benchmark and exit with its code: 2 for bad input, told in one line, 130 if stopped."""
    sys.exit(run(main, f"benchmarks.{name}", stopped="no page was written"))


def spread(values: Sequence[float], scale: float = 100.0, digits: int = 1) -> str:
    """Mean ± standard deviation (n - 1), times ``scale``; of one value the mean, of none a dash."""
    mean = statistics.fmean(values) if values else math.nan
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return mean_and_deviation(mean, deviation, scale, digits)


def between_marks(name: str, text: str, begin: str, end: str, content: Callable[[], Sequence[str]]) -> str:
    """A page's text with the lines of ``content`` between its two marks, which are looked for first.

    Raises:
        UserError: the marks are not there; names the page.
    """
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UserError(f"{name}: needs the marks {begin} and {end}")
    part = "\n".join(content()).strip("\n")
    return f"{before}{begin}\n\n{part}\n\n{end}{after}" if part else f"{before}{begin}\n\n{end}{after}"


def write_page(path: Path, text: str) -> str:
    """Write a results page whole; what a person wrote, from the heading ``READING`` on, is kept.

    Args:
        path: Markdown file; its folder is made.
        text: what the script has to say.

    Returns:
        The whole page.

    Raises:
        UserError: the page that is there cannot be read, or the new one not be written; the old one
            is left as it is.
    """
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); move it away") from error
    lines = before.splitlines(keepends=True)
    start = next((number for number, line in enumerate(lines) if line.rstrip() == READING), len(lines))
    kept = "".join(lines[start:])
    page = text.rstrip("\n") + "\n" + (f"\n{kept}" if kept else "")
    write_whole(path, page)
    return page
