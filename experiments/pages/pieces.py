"""Pieces of HTML that the sections of an experiment's page share."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Container, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from utils.html import CARD_STYLE, cell, figure, heading, jpeg, png, row_name, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Shading of the highest share; stronger, the number in the cell could not be read.
STRONGEST = 55
STYLE = (
    CARD_STYLE
    + """
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .875rem; }
a { color: var(--bar); }
section { scroll-margin-top: 1rem; }
section h3 { font-size: .95rem; margin: 1rem 0 .5rem; }
section details { margin-top: 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(10rem, 100%), 1fr)); gap: .75rem; margin: 0 0 1rem; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: .75rem 1rem; }
.tiles dt, .tiles dd { margin: 0; color: var(--soft); font-size: .8rem; }
.tiles dd.value { color: var(--ink); font-size: 1.7rem; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles small { font-size: .9rem; font-weight: 400; color: var(--soft); }
.wide + .soft { margin-top: .75rem; }
tbody th { position: sticky; left: 0; background: var(--card); }
.shaded td { text-align: right; }
td.text, th.text { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
.changed { font-weight: 600; background: var(--track); }
.curves, .matrices { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem; }
.curves img, .matrices img { border-radius: .35rem; background: #fff; }
.matrices figure { max-width: 36rem; }
.predictions { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(6rem, 30%), 1fr)); gap: .5rem; }
@media (min-width: 60rem) { .predictions { grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); } }
.command { font: .75rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
.grid + .soft { margin-top: 1rem; }
@media (prefers-color-scheme: dark) { .lines .swatch, .curves img, .matrices img { filter: invert(.88) hue-rotate(180deg); } }
"""
)


def note(text: str) -> str:
    """A sentence in small, soft letters."""
    return f'<p class="soft">{escape(text)}</p>'


def fold(title: str, content: str, opened: bool = False) -> str:
    """Content that a reader can open and close, without a script."""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{content}</details>"


def grid(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    label: str,
    kind: str = "number",
    marked: Container[tuple[str, str]] = (),
) -> str:
    """A table of text; the first cell of a row names it.

    Args:
        headings: one a column.
        rows: as many cells.
        label: what it is a table of.
        kind: how cells look: ``number`` or ``text``.
        marked: cells that are highlighted, by the name of their row and their heading.
    """
    first, *columns = headings

    def cells(name: str, *texts: str) -> list[str]:
        kinds = [f"{kind} changed" if (name, column) in marked else kind for column in columns]
        return [row_name(name), *(cell(text, own) for text, own in zip(texts, kinds, strict=True))]

    head = [heading(first), *(heading(column, kind) for column in columns)]
    return table(head, (cells(*row) for row in rows), label=label)


def shaded(share: float) -> str:
    """A cell in percent, the deeper its colour the higher; a dash where nothing is known."""
    if math.isnan(share):
        return "<td>–</td>"
    colour = f"color-mix(in srgb, var(--bar) {STRONGEST * min(max(share, 0), 1):.0f}%, transparent)"
    return f'<td style="background:{colour}">{100 * share:.1f}</td>'


def svg(drawn: Figure) -> str:
    """A drawing as an SVG in a data: URI; the same figure gives the same text."""
    import matplotlib as mpl

    file = io.BytesIO()
    # Without a fixed salt the ids in the file differ each time.
    with mpl.rc_context({"svg.hashsalt": "report", "svg.fonttype": "path"}):
        drawn.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def drawing(drawn: Figure, alt: str, caption: str = "") -> str:
    """A drawing with its caption."""
    return figure(svg(drawn), caption, alt=alt)


def picture(image: Image.Image, caption: str, of: str) -> str:
    """A photo, or a mask of palette colours, with its caption."""
    kind, source = ("mask", png(image)) if image.mode == "P" else ("photo", jpeg(image))
    return figure(source, caption, alt=f"{caption} of {of}", kind=kind)
