"""One page of a whole experiment, which opens offline: scores, classes, predictions, curves, confusions, web images, captions, options.

    python -m experiments.report --work work/animals-4-2 [--arms raw-web best] [--out report.html]

All of it comes from what the experiment left in its work folder. Exit code 0; 1 where something of it is gone, which the page says too; 2
for bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="experiments.report",
        description="One page of a whole experiment, from its work folder.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--work", type=Path, required=True, help="work folder of the experiment")
    add("--arms", nargs="+", default=[], metavar="ARM", help="arms to show, in this order [all that were tested]")
    add("--baseline", metavar="ARM", help="arm that differences are taken to [raw-web, else WILSON]")
    add("--out", type=Path, help="the page [WORK/report.html]")
    return parser


def _run(given: argparse.Namespace) -> int:
    out: Path = given.out or given.work / "report.html"
    # Imported here, so that --help answers at once.
    from experiments.history import read_history

    history = read_history(given.work)
    from experiments.pages.page import page
    from experiments.pages.study import study
    from utils.whole import write_whole

    shown = study(history, given.arms, given.baseline)
    write_whole(out, page(shown))
    for sentence in shown.lacking:
        sys.stderr.write(f"experiments.report: {sentence}\n")
    print(f"{out}: open it in a browser")
    return 1 if shown.lacking else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 where something is missing on the page, 2 for bad input."""
    given = get_argparser().parse_args(arguments)
    return run(lambda: _run(given), "experiments.report")


if __name__ == "__main__":
    sys.exit(main())
