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
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import RESULTS, ROOT, between_marks
from experiments.arms import ABLATIONS, ARMS, BASE, BASE_ALL, JOINT
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
DATA = (
    "Real photographs at the size of a CPU: 1,140 for training and 231 for the test, of PASCAL VOC, at most 256 pixels a side; 150 web "
    "images a class; EfficientNet-Lite0, crop 160. mIoU in percent, mean ± standard deviation over seeds."
)
BASE_MODEL = (
    "`base` is the model of step 0, whose test leaves out the pixels of classes not yet learned; `base-all-pixels` is the same model on "
    "all pixels, as later steps are tested: what it took for an old class counts there."
)
# The table of README, and what its arms are.
SHOWN = "animals-4-2"
EXPLAINED = {
    BASE: "step 0: pixel labels of the old classes; tested without the pixels of new ones",
    BASE_ALL: "the same model on all pixels, as the arms below are tested",
    "fine-tuning": "pixel labels of the new classes, nothing against forgetting",
    "LwF": "fine-tuning; the old model's outputs are targets too",
    "ILT": "LwF; the old model's features are targets too",
    "MiB": "pixel labels; losses that expect old classes in the background",
    "WILSON": "image labels of the data set's photographs; a localizer finds the masks",
    "raw-web": "WILSON on web images as found, labelled by the search word",
    "discriminator": "raw-web without images unlike the data set's",
    "caption-labels": "discriminator, and labels from captions",
    "ours": "caption-labels, and rehearsal of old classes: the papers' recipe",
    "best": "selection by captions alone, rehearsal, `--recipe best`",
    JOINT: "pixel labels of all classes at once, without steps",
}


@dataclass(frozen=True)
class Source:
    """What a table is of.

    Attributes:
        title: its heading.
        what: the task, and which of its scores.
        command: what makes it.
        arms: what that command makes a row of each; the page says which of them the file lacks.
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
        "Cow and sheep in one step; `best` is `--recipe best`, the other arms do without one part of it each "
        "([method.md](method.md#improvements---recipe-best)).",
        f"{COMMAND} --arms best {' '.join(ABLATIONS)}",
        tuple(ABLATIONS),
    ),
}
PAGES = {
    "captions.md": Page("which similarity of nouns filters downloads best", "default", ("precision", "recall")),
    "nouns.md": Page("which tagger finds the nouns of captions best", "hanta", ("F1",)),
    "tags.md": Page(
        "which classes the captioner of ImageNet's tags names, class by class",
        "least",
        ("now: kept", "now: precision"),
    ),
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
    "export.md": Page("how fast exported files are", "ONNX, 1 thread", ("ms / image", "times as fast as torch")),
    "adopt.md": Page(
        "what segmenters of other libraries keep and learn, against this project's own",
        "smp, after",
        ("old mIoU", "new mIoU"),
    ),
    "predict.md": Page(
        "what predict.py costs beside the network alone", "predict.py", ("rate, % of the network alone",)
    ),
    "testing.md": Page(
        "how fast whole images are tested",
        "groups of one size, a stream a core (run.py)",
        ("times as fast",),
    ),
    "scale.md": Page(
        "how time and memory of each script grow with the number of images",
        "`predict.py`",
        ("ms / image", "KiB / image"),
    ),
    "scoring.md": Page("how fast web images are scored", "scoring", ("images / s",)),
    "loop.md": Page(
        "what an iteration costs beside its arithmetic", "fused and guarded", ("times as fast as the first",)
    ),
    "norm.md": Page("what the activated norm keeps for the backward pass", "resnet101", ("kept ratio", "peak ratio")),
    "step.md": Page("what an iteration takes, part by part", "weak / base", ("s / iteration",)),
    "data.md": Page("how fast images are loaded", "whole path", ("images / s",)),
}


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
    text = (
        f"{TABLES[SHOWN].what} {DATA} Differences with their intervals, single-class steps and what each part gives: "
    )
    return [*_wrapped(f"{text}[docs/results.md](docs/results.md)."), "", *short_table(path)]


def full(results: Path) -> list[str]:
    """The part of docs/results.md: every table, then a line for each page of ``benchmarks/results``."""
    parts: list[str] = []
    for name, source in TABLES.items():
        path = results / f"{name}.csv"
        if path.is_file():
            text = f"{source.what} [{path.name}](../benchmarks/results/{path.name}) is made by"
            parts += [f"## {source.title}", "", *_wrapped(text), "", *_command(source.command), "", *table(path), ""]
            content = path.read_text(encoding="utf-8")
            absent = [arm for arm in source.arms if f",{arm}," not in content]
            parts += [*_wrapped(f"Not run for this table: {', '.join(absent)}."), ""] if absent else []
    if parts:
        parts = [*_wrapped(f"{DATA} {BASE_MODEL}"), "", *parts]
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
