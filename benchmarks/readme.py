"""README's results, written from the files in ``benchmarks/results``; nothing there is typed by hand.

    python -m benchmarks.readme            # rewrite what stands between the two marks in README.md
    python -m benchmarks.readme --check    # exit code 1 where README.md is not what the files say

A file that is not there leaves its part out.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
BEGIN, END = "<!-- results: written by python -m benchmarks.readme -->", "<!-- end of results -->"
SCORES = ("old", "new", "all", "harmonic")
# Table file -> what it is of, and the command that makes it.
TABLES = {
    "animals-4-2": (
        "cat, dog, horse and person from pixel labels, then cow and sheep in one step",
        "bash run.sh animals --data DIR --jobs 2",
    ),
    "animals-4-1": (
        "the same, but cow and then sheep, each in a step of its own",
        "bash run.sh animals --data DIR --task 4-1 --jobs 2 --arms best best-no-replay raw-web joint",
    ),
    "ablation-4-2": (
        "`best` without one of its parts each",
        "bash run.sh animals --data DIR --jobs 2 --arms best best-no-replay best-no-yielding best-no-folding best-no-balance",
    ),
}
# Page -> what it answers, and a cell to quote: how the row begins, and the columns; or how a sentence begins.
PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "captions.md": ("which similarity of nouns filters downloads best", "default", ("precision", "recall")),
    "web.md": ("does the discriminator transfer, what does selection keep", "captions", ("precision", "recall")),
    "replay.md": (
        "what rehearsal keeps, and what single-class steps learn",
        "kept by the caption filter",
        ("that show a class of their original",),
    ),
    "nouns.md": ("which tagger finds the nouns of captions best", "hanta", ("F1",)),
    "scoring.md": ("how fast web images are scored", "scoring", ("images / s",)),
    "animals.md": ("the pixel-supervised baselines and WILSON on photographs of the data set", "", ()),
    "step.md": ("what an iteration takes, part by part", "", ()),
    "data.md": ("how fast images are loaded", "", ()),
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
    """The last step of a table that ``python -m utils.table`` wrote, as Markdown, with the base step's scores above it."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    last = max(int(row["step"]) for row in rows)
    baseline = next((row["baseline"] for row in rows if row["baseline"]), "")
    shown = [row for row in rows if int(row["step"]) == last or (int(row["step"]) == 0 and row["arm"] == "base")]
    heading = (
        ["arm", *SCORES]
        + ([f"all, against {baseline}", f"harmonic, against {baseline}"] if baseline else [])
        + ["seeds"]
    )
    lines = ["| " + " | ".join(heading) + " |", "|---|" + "---:|" * (len(heading) - 1)]
    for row in shown:
        cells = [row["arm"], *(_share(row, key) for key in SCORES)]
        cells += [_difference(row, key) for key in ("all", "harmonic")] if baseline else []
        lines.append("| " + " | ".join([*cells, str(len(row["seeds"].split()))]) + " |")
    return lines


def section(results: Path) -> str:
    """What stands between the marks."""
    parts: list[str] = []
    for name, (what, command) in TABLES.items():
        path = results / f"{name}.csv"
        if path.is_file():
            parts += [
                f"**{name}**: {what}; mIoU in percent, mean ± standard deviation over seeds. `{command}`",
                "",
                *table(path),
                "",
            ]
    pages = []
    for name, (what, row, columns) in PAGES.items():
        if (results / name).is_file():
            quoted = _quoted((results / name).read_text(encoding="utf-8"), row, columns) if row else ""
            pages.append(f"- [{name}](benchmarks/results/{name}): {what}{quoted}")
    if pages:
        parts += ["More, each page with the command that made it:", "", *pages, ""]
    return "\n".join(["", *parts, ""]) if parts else "\n"


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("*", "") for cell in line.strip().strip("|").split("|")]


def _quoted(text: str, row: str, columns: Sequence[str]) -> str:
    """Cells of the first table row that begins with ``row`` and has these columns: `` (default: wup: precision 0.960)``."""
    heading: list[str] = []
    for line, below in itertools.pairwise(text.splitlines()):
        if line.startswith("|") and below.startswith("|---"):
            heading = _cells(line)
        cells = _cells(line)
        if line.startswith("|") and cells[0].startswith(row) and set(columns) <= set(heading):
            shown = ", ".join(f"{column} {cells[heading.index(column)]}" for column in columns)
            return f" ({cells[0]}: {shown})"
    return ""


def rewritten(readme: str, results: Path) -> str:
    """README's text with its results from the files.

    Raises:
        ValueError: the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md: the marks {BEGIN} and {END} are needed")
    return f"{before}{BEGIN}\n{section(results)}{END}{after}"


def main() -> int:
    """Rewrite, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where README.md is out of date"
    )
    given = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    wanted = rewritten(text, RESULTS)
    if given.check:
        if text != wanted:
            print("README.md: its results are out of date; run python -m benchmarks.readme", file=sys.stderr)
        return int(text != wanted)
    readme.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
