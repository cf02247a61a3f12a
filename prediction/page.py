"""A contact sheet of results: each image under its mask, how sure the model is and what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from prediction.results import PAGE, SHARE, THUMBS, UNREADABLE, Results, Row
from tasks import BACKGROUND
from utils.html import CARD_STYLE, cards, document, swatch
from utils.whole import write_whole

# Cards of a page; a browser does not take any number.
MOST = 2000
# Classes that a card names, and the least share of an image that counts.
NAMED, LEAST = 3, 0.001
STYLE = """
.grid { grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.grid img { width: 100%; background: var(--track); }
"""


def write_page(results: Results, unreadable: int) -> None:
    """Write ``page.html`` of all images that have a small picture, beside which it has to lie.

    Raises:
        UserError: it cannot be written.
    """
    rows = [row for row in results.rows.values() if results.path(THUMBS, row["name"]).is_file()]
    names = [name for number, name in results.marker.classes if number != BACKGROUND]
    shown = [name for name in names if any(float(row[f"{SHARE}{name}"] or 0) >= LEAST for row in rows)]
    number_of = {name: number for number, name in results.marker.classes}
    colours = "".join(f"<li>{swatch(number_of[name])}{escape(name)}</li>" for name in shown)
    told = f"{len(rows)} images and videos by {results.marker.origin}."
    if len(rows) > MOST:
        told += f" The first {MOST} are shown; the table has all."
    if unreadable:
        told += f" {unreadable} could not be read: {UNREADABLE} says why."
    parts = [
        "<h1>What the model sees</h1>",
        f"<p>{escape(told)}</p>",
        '<p class="soft">The percentage in bold is the mean probability of the most probable class; behind each class stands its '
        "share of the pixels.</p>",
        f'<ul class="legend">{colours}</ul>' if colours else "<p>No class but background was seen.</p>",
        f"<section>{cards(_card(row, names) for row in rows[:MOST])}</section>",
    ]
    write_whole(results.root / PAGE, document("What the model sees", parts, CARD_STYLE + STYLE))


def _card(row: Row, names: Sequence[str]) -> str:
    shares = sorted(((float(row[f"{SHARE}{name}"] or 0), name) for name in names), reverse=True)
    seen = ", ".join(f"{name} {100 * share:.0f} %" for share, name in shares[:NAMED] if share >= LEAST) or "background"
    source = quote(f"{THUMBS}/{row['name']}.jpg")
    return (
        f'<figure title="{escape(row["file"])}"><img src="{source}" loading="lazy" alt="{escape(row["name"])}: {escape(seen)}">'
        f"<figcaption><b>{100 * float(row['confidence']):.0f} %</b> {escape(seen)}<br>{escape(row['name'])}</figcaption></figure>"
    )
