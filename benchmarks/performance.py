"""docs/performance.md, written from the files in ``benchmarks/results``; no number is typed by hand.

    python -m benchmarks.performance            # rewrite what stands between the two marks of the page
    python -m benchmarks.performance --check    # exit code 1 where the page is not what the files say

- ``peers-MACHINE.csv`` is what ``python -m benchmarks.peers`` writes;
- ``tried.csv`` is written by hand, a row for each thing that was tried: area, what, where it was measured, number, verdict (kept,
  dropped or open);
- ``missed.csv`` is written by hand, too: job, the beginning of a job's name in the tables of peers, and why its target is missed;
- ``gpu-CARD.md`` is what ``benchmarks/gpu.sh`` writes.

A file that is not there leaves its part out.
"""

from __future__ import annotations

import argparse
import csv
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pages import RESULTS, ROOT, between_marks
from results.table import markdown_table
from utils.errors import UserError
from utils.script import run
from utils.whole import write_whole

PAGE = "docs/performance.md"
BEGIN, END = "<!-- performance: written by python -m benchmarks.performance -->", "<!-- end of performance -->"
PEERS = (
    "job", "peer", "precision", "ours", "peers", "unit", "ratio", "wanted", "note", "met", "machine", "device", "threads",
    "torch", "date",
)  # fmt: skip
TRIED, MISSED = ("area", "what", "where", "number", "verdict"), ("job", "why")
VERDICTS = ("kept", "dropped", "open")
WIDTH = 100


def read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a table; none where there is no file.

    Raises:
        UserError: it has other columns, or a row has too many or too few cells.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error
    if list(reader.fieldnames or ()) != list(columns):
        raise UserError(f"{path}: its first line has to be {','.join(columns)}")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise UserError(f"{path}: row {number} has not {len(columns)} cells")
    return rows


def _number(text: str, path: Path) -> str:
    """Three digits; a dash for none."""
    try:
        value = float(text)
    except ValueError as error:
        raise UserError(f"{path}: {text!r} is no number; python -m benchmarks.peers writes this file") from error
    if value != value:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _missed(row: dict[str, str], reasons: list[dict[str, str]]) -> list[str]:
    """A target that is missed, by how much, and why where that is known."""
    why = next((reason["why"] for reason in reasons if row["job"].startswith(reason["job"])), "")
    by = row["met"].removeprefix("no, by ")
    text = f"- {row['job']}, {row['precision']}, beside {row['peer']}: wanted {row['wanted']}, missed by {by}"
    return _wrapped(f"{text}: {why}" if why else f"{text}.", indent="  ")


def _machine(path: Path, reasons: list[dict[str, str]]) -> list[str]:
    """The part of one table of peers."""
    rows = read(path, PEERS)
    if not rows:
        return []
    first = rows[0]
    asked = [row for row in rows if row["met"]]
    met = sum(row["met"] == "yes" for row in asked)
    head = (
        f"Device {first['device']}, {first['threads']} threads, torch {first['torch']}, {first['date']}; "
        f"{met} of {len(asked)} targets met. [{path.name}](../benchmarks/results/{path.name})"
    )
    cells = [
        [
            row["job"], row["peer"], row["precision"], _number(row["ours"], path), _number(row["peers"], path), row["unit"],
            _number(row["ratio"], path), row["wanted"], row["met"], row["note"],
        ]
        for row in rows
    ]  # fmt: skip
    headings = ["job", "peer", "precision", "ours", "peer's", "unit", "ratio", "wanted", "met", "note"]
    lines = [f"### {first['machine']}", "", *_wrapped(head), "", *markdown_table(headings, cells), ""]
    missed = [line for row in asked if row["met"] != "yes" for line in _missed(row, reasons)]
    return [*lines, *(["Not met:", "", *missed, ""] if missed else [])]


def _tried(path: Path) -> list[str]:
    """What was tried, those things first that gave nothing."""
    rows = read(path, TRIED)
    wrong = next((row["verdict"] for row in rows if row["verdict"] not in VERDICTS), None)
    if wrong is not None:
        raise UserError(f"{path}: verdict {wrong!r} is none of {', '.join(VERDICTS)}")
    order = {"dropped": 0, "open": 1, "kept": 2}
    rows.sort(key=lambda row: (order[row["verdict"]], row["area"]))
    return markdown_table(list(TRIED), [[row[name] for name in TRIED] for row in rows]) if rows else []


def content(results: Path) -> list[str]:
    """What stands between the marks.

    Args:
        results: folder of the files.

    Raises:
        UserError: a file is not what it should be.
    """
    reasons = read(results / "missed.csv", MISSED)
    lines: list[str] = []
    machines = [part for path in sorted(results.glob("peers-*.csv")) if (part := _machine(path, reasons))]
    if machines:
        text = (
            "A ratio is how many times as fast we are where a target says `>=`, and our share of the peer's time or memory where it "
            "says `<=`; `s` behind a target means our time itself. Both sides ran in turns in one process."
        )
        lines += ["## Beside what a user would pick instead", "", *_wrapped(text), "", *sum(machines, [])]
    tried = _tried(results / "tried.csv")
    if tried:
        lines += ["## What was tried", "", *tried, ""]
    cards = sorted(results.glob("gpu-*.md"))
    lines += ["## On a card", ""]
    lines += [f"- [{path.name}](../benchmarks/results/{path.name})" for path in cards] or _wrapped(
        "Nothing has been measured on a GPU yet. `bash benchmarks/gpu.sh` does it within eight minutes, without network where "
        "`bash benchmarks/pack.sh` was run before the tree was copied there."
    )
    return lines


def rewritten(text: str, results: Path) -> str:
    """The page with its numbers from the files.

    Raises:
        UserError: the marks are not there, or a file is not what it should be.
    """
    return between_marks(PAGE, text, BEGIN, END, lambda: content(results))


def _write(*, check: bool) -> int:
    """Rewrite the page, or see whether it would change; the exit code."""
    path = ROOT / PAGE
    text = path.read_text(encoding="utf-8")
    wanted = rewritten(text, RESULTS)
    if text == wanted:
        return 0
    if check:
        print(f"{PAGE}: is out of date; run python -m benchmarks.performance", file=sys.stderr)
        return 1
    write_whole(path, wanted)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.performance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the page is out of date")
    given = parser.parse_args(arguments)
    return run(lambda: _write(check=given.check), "benchmarks.performance")


if __name__ == "__main__":
    sys.exit(main())
