"""A statement as files: tables for programs and for people, and the page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adding.agreement import Statement
from adding.comparing import Measured
from adding.page import page
from utils.html import percent
from utils.whole import write_whole

CSV, MARKDOWN, TAKEOVER, PAGE = "statement.csv", "statement.md", "takeover.csv", "report.html"
COLUMNS = (
    "class",
    "id",
    "kind",
    "held_back_images",
    "held_back_pixels",
    "agreement_iou",
    "still_stands",
    "taken_by",
    "taken_share",
    "val_images",
    "val_pixels",
    "iou_before",
    "iou_after",
)


def rows_as_csv(statement: Statement) -> str:
    """``Statement.rows`` as CSV; shares in [0, 1], cells empty where nothing is known."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return "" if math.isnan(value) else f"{value:.6f}"
        return str(value)

    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([text(row.get(column, "")) for column in COLUMNS] for row in statement.rows())
    return file.getvalue()


def rows_as_markdown(statement: Statement) -> str:
    """The sentences, what they do not say, and the table in percent."""

    def text(value: Any) -> str:
        shown = percent(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        return shown.replace("|", "\\|")

    rows = statement.rows()
    used = [column for column in COLUMNS if any(column in row for row in rows)]
    lines = ["# What was won and what was lost", ""]
    lines += [f"- {line}" for line in statement.sentences()]
    lines += ["", "What these numbers do not say:", "", *(f"- {line}" for line in statement.limits()), ""]
    lines += [f"| {' | '.join(used)} |", f"|{'---|' * len(used)}"]
    lines += [f"| {' | '.join(text(row.get(column, '')) for column in used)} |" for row in rows]
    return "\n".join(lines) + "\n"


def takeover_as_csv(statement: Statement) -> str:
    """Pixels by the old model's class (row) and the new one's (column); the heading alone where no image was held back."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = list(statement.classes.names.values())
    writer.writerow(["old model", *names])
    if statement.held_back is not None:
        counts = statement.held_back.matrix.tolist()
        writer.writerows([name, *row] for name, row in list(zip(names, counts, strict=True))[: statement.classes.old])
    return file.getvalue()


def write_statement(out: Path, found: Measured, web: Sequence[Path], record: Mapping[str, str]) -> list[Path]:
    """Write tables and page.

    Args:
        out: the folder; made if missing.
        found: the numbers and the images to show.
        web: manifests of web images, with the column ``kept``.
        record: how the statement was made, for the page.

    Returns:
        The files.

    Raises:
        UserError: one cannot be written.
    """
    statement = found.statement
    texts = {
        CSV: rows_as_csv(statement),
        MARKDOWN: rows_as_markdown(statement),
        TAKEOVER: takeover_as_csv(statement),
        PAGE: page(found, web, record),
    }
    for name, text in texts.items():
        write_whole(out / name, text)
    return [out / name for name in texts]
