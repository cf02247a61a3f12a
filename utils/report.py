"""A run's result as one HTML page that opens offline: scores, per-class IoU, predictions beside images."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks import IGNORE
from utils.visualise import palette
from utils.whole import write_whole

# Of JPEGs.
QUALITY = 82


@dataclass(frozen=True)
class Sample:
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


STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b1f24; --soft: #5b6570; --line: #dfe3e8;
  --track: #e9edf1; --bar: #2f6fdb; --bar-first: #9aa7b5; }
@media (prefers-color-scheme: dark) {
  :root { --page: #111418; --card: #1a1f25; --ink: #e8ebef; --soft: #9aa5b1; --line: #2d343c;
    --track: #2a3139; --bar: #6ea3ff; --bar-first: #75808c; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 0 0 .75rem; }
p { margin: 0 0 1rem; max-width: 46rem; }
.soft { color: var(--soft); font-size: .875rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem;
  margin-top: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-size: .8rem; font-weight: 600; }
tbody th { font-weight: 500; }
.scores td { font-size: 1.25rem; font-weight: 600; }
.number { text-align: right; }
.meter { display: flex; align-items: center; gap: .6rem; }
.meter b { font-weight: 500; min-width: 2.8rem; text-align: right; }
.track { flex: 1; min-width: 4rem; height: .5rem; border-radius: .25rem; background: var(--track); overflow: hidden; }
.track i { display: block; height: 100%; border-radius: .25rem; background: var(--bar); }
.first .track i { background: var(--bar-first); }
.swatch { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .4rem;
  vertical-align: -.08rem; border: 1px solid rgb(128 128 128 / .6); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1rem; list-style: none; margin: 0 0 1rem; padding: 0; }
.sample { border-top: 1px solid var(--line); padding: .8rem 0; }
.sample h3 { font: 500 .8rem ui-monospace, monospace; color: var(--soft); margin: 0 0 .4rem; overflow-wrap: anywhere; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(9rem, 45%), 1fr)); gap: .5rem; }
figure { margin: 0; min-width: 0; }
figure img { width: 100%; height: auto; display: block; border-radius: .35rem; }
figure .mask { image-rendering: pixelated; border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: .8rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; margin: .75rem 0 0; }
summary { cursor: pointer; font-weight: 600; }
"""


def _number(value: float) -> str:
    """A share in [0, 1] in percent; a dash where nothing is known."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def png(image: Image.Image) -> str:
    """A picture as a PNG in a data: URI."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def jpeg(image: Image.Image) -> str:
    """A picture as a JPEG in a data: URI."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def mask_image(mask: np.ndarray) -> Image.Image:
    """The mask as a palette image: the colours of ``colourise`` at a third of the bytes."""
    image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    image.putpalette(palette().tobytes())
    return image


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

    def cell(row: Mapping[str, Any], column: str) -> str:
        value = row.get(column, "")
        if column not in shares:
            colour = swatch(class_of[str(value)]) if class_of and str(value) in class_of else ""
            return f'<th scope="row">{colour}{escape(str(value))}</th>'
        share = float(value) if isinstance(value, int | float) else math.nan
        if not bars:
            return f'<td class="number">{_number(share)}</td>'
        # Of several columns the first is what was before, and steps back.
        kind = "meter first" if len(shares) > 1 and column == shares[0] else "meter"
        width = 0 if math.isnan(share) else 100 * min(max(share, 0), 1)
        return (
            f'<td><div class="{kind}"><b>{_number(share)}</b>'
            f'<span class="track"><i style="width:{width:.1f}%"></i></span></div></td>'
        )

    def heading(column: str) -> str:
        kind = ' class="number"' if column in shares and not bars else ""
        return f'<th scope="col"{kind}>{escape(column)}</th>'

    head = "".join(heading(column) for column in columns)
    body = "\n".join("<tr>" + "".join(cell(row, column) for column in columns) + "</tr>" for row in rows)
    kind = "classes" if bars else "scores"
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def swatch(channel: int) -> str:
    """A small square in the colour of a mask value."""
    red, green, blue = (int(value) for value in palette()[channel])
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'


def _legend(samples: Sequence[Sample], class_names: Sequence[str]) -> str:
    """Colours of the classes that occur in the samples."""
    values = sorted({int(v) for sample in samples for mask in sample.masks().values() for v in np.unique(mask)})
    names = dict(enumerate(class_names)) | {IGNORE: "not judged"}
    items = "".join(f"<li>{swatch(v)}{escape(names.get(v, f'channel {v}'))}</li>" for v in values)
    return f'<ul class="legend">{items}</ul>'


def _sample(sample: Sample) -> str:
    """One row of pictures with captions."""

    def figure(picture: Image.Image, caption: str, kind: str) -> str:
        width, height = picture.size
        source = f'<img class="{kind}" src="{png(picture)}" width="{width}" height="{height}" loading="lazy" '
        return f'<figure>{source}alt="{caption} of {name}"><figcaption>{caption}</figcaption></figure>'

    name = escape(sample.name)
    pictures = [figure(Image.fromarray(np.ascontiguousarray(sample.image)), "image", "photo")]
    pictures += [figure(mask_image(mask), caption, "mask") for caption, mask in sample.masks().items()]
    return f'<div class="sample"><h3>{name}</h3><div class="row">{"".join(pictures)}</div></div>'


def document(title: str, parts: Sequence[str], style: str = "") -> str:
    """A whole page that opens offline: parts of HTML under the project's style, and ``style`` behind it."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def write_report(
    path: Path,
    *,
    title: str,
    intro: str,
    table: Sequence[Mapping[str, Any]],
    per_class: Sequence[Mapping[str, Any]],
    samples: Sequence[Sample],
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
        rows = "\n".join(_sample(sample) for sample in samples)
        parts.append(f"<section><h2>Predictions</h2>{_legend(samples, class_names)}{rows}</section>")
    record = "\n".join(f"{key} = {value}" for key, value in options.items())
    line = f"<pre><code>{escape(command)}</code></pre>" if command else ""
    parts.append(
        f"<section><details><summary>How this was made</summary>{line}<pre>{escape(record)}</pre></details></section>"
    )
    write_whole(Path(path), document(title, parts))
