"""A run's result as one HTML page that opens offline: scores, per-class IoU, predictions beside images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks import IGNORE
from utils.html import (
    cell,
    document,
    figure,
    heading,
    mask_image,
    meter,
    percent,
    png,
    row_name,
    swatch,
    table,
)
from utils.whole import write_whole


@dataclass(frozen=True)
class Shown:
    """One image and what was made of it; masks hold channels, 255 is ignore."""

    name: str
    image: np.ndarray
    """(H, W, 3) uint8."""
    truth: np.ndarray
    """(H, W) uint8, as are the next two."""
    before: np.ndarray | None
    """The teacher's prediction; None where there is no teacher."""
    after: np.ndarray
    """The student's prediction."""

    def masks(self) -> dict[str, np.ndarray]:
        """The masks by their caption, in the order of the page."""
        before = {} if self.before is None else {"before": self.before}
        return {"truth": self.truth, **before, "after": self.after}


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _is_share(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Whether a column holds numbers to be shown in percent."""
    return any(isinstance(row.get(column), float) for row in rows)


def _table(rows: Sequence[Mapping[str, Any]], class_of: Mapping[str, int] | None = None) -> str:
    """Rows as a table; with ``class_of`` numbers get bars and class names their colour."""
    columns = _columns(rows)
    shares = [column for column in columns if _is_share(rows, column)]
    bars = class_of is not None

    def made(row: Mapping[str, Any], column: str) -> str:
        value = row.get(column, "")
        if column not in shares:
            return row_name(str(value), swatch(class_of[str(value)]) if class_of and str(value) in class_of else "")
        share = float(value) if isinstance(value, int | float) else math.nan
        # Of several columns the first is what was before, and steps back.
        first = len(shares) > 1 and column == shares[0]
        return meter(share, first) if bars else cell(percent(share), "number")

    return table(
        [heading(column, "number" if column in shares and not bars else "") for column in columns],
        [[made(row, column) for column in columns] for row in rows],
        kind="classes" if bars else "scores",
    )


def _legend(samples: Sequence[Shown], class_names: Sequence[str]) -> str:
    """Colours of the classes that occur in the samples."""
    values = sorted({int(v) for sample in samples for mask in sample.masks().values() for v in np.unique(mask)})
    names = dict(enumerate(class_names)) | {IGNORE: "not judged"}
    items = "".join(f"<li>{swatch(v)}{escape(names.get(v, f'channel {v}'))}</li>" for v in values)
    return f'<ul class="legend">{items}</ul>'


def _pictures(shown: Shown) -> str:
    """One row of pictures with captions."""
    pictures = {"image": ("photo", Image.fromarray(np.ascontiguousarray(shown.image)))}
    pictures |= {caption: ("mask", mask_image(mask)) for caption, mask in shown.masks().items()}
    figures = "".join(
        figure(png(picture), caption, alt=f"{caption} of {shown.name}", kind=kind, size=picture.size)
        for caption, (kind, picture) in pictures.items()
    )
    return f'<div class="sample"><h3>{escape(shown.name)}</h3><div class="row">{figures}</div></div>'


def write_report(
    path: Path,
    *,
    title: str,
    intro: str,
    table: Sequence[Mapping[str, Any]],
    per_class: Sequence[Mapping[str, Any]],
    samples: Sequence[Shown],
    class_names: Sequence[str],
    options: Mapping[str, Any],
    command: str = "",
) -> None:
    """Write the page; the same input gives the same bytes.

    Args:
        path: HTML file to write or replace; its folder is made.
        title: headline.
        intro: one paragraph of plain text.
        table: rows of scores by column; floats are shares in [0, 1] and shown in percent, all else is text:
            ``{"": "before", "old": 0.61, "new": nan, "all": 0.64, "harmonic": nan}``.
        per_class: rows ``{"class": name, "before": IoU, "after": IoU}``, shown with bars.
        samples: images and masks; none leaves the section out.
        class_names: name by channel, background first.
        options: options of the run, for the record.
        command: the command line that made the run.
    """
    class_of = {name: channel for channel, name in enumerate(class_names)}
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(intro)}</p>",
        '<section><h2>Mean intersection over union</h2><p class="soft">Percent. Old classes without background, new '
        "classes, all classes with background, harmonic mean of old and new.</p>",
        _table(table) + "</section>",
    ]
    if per_class:
        parts.append(f"<section><h2>By class</h2>{_table(per_class, class_of)}</section>")
    if samples:
        rows = "\n".join(_pictures(sample) for sample in samples)
        parts.append(f"<section><h2>Predictions</h2>{_legend(samples, class_names)}{rows}</section>")
    record = "\n".join(f"{key} = {value}" for key, value in options.items())
    line = f"<pre><code>{escape(command)}</code></pre>" if command else ""
    parts.append(
        f"<section><details><summary>How this was made</summary>{line}<pre>{escape(record)}</pre></details></section>"
    )
    write_whole(Path(path), document(title, parts))
