"""Contact sheets: what a selection kept and left of one class, as one HTML page that opens offline."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from utils.html import document, jpeg
from utils.images import DecodeError, load_image
from utils.whole import write_whole
from web.selection import Decision, best_first, format_ratio

THUMB = 176
# Images of each of the three groups.
SHOWN = 18
SHEET_STYLE = """
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem; }
.grid figure { border: 2px solid var(--line); border-radius: .5rem; overflow: hidden; background: var(--page); }
.grid figure.kept { border-color: #2c8a4b; }
.grid figure.left { border-color: #b4532a; }
.grid img { aspect-ratio: 1; object-fit: contain; border-radius: 0; }
.grid figcaption { padding: .35rem .5rem .5rem; overflow-wrap: anywhere; }
.grid b { color: var(--ink); font-variant-numeric: tabular-nums; }
"""


def groups(decisions: Sequence[Decision], threshold: float) -> dict[str, list[Decision]]:
    """The best, the borderline (nearest to ``threshold``, a log ratio) and the worst images of a class, none twice."""
    ordered = best_first(decisions)
    best, rest = ordered[:SHOWN], ordered[SHOWN:]
    rest, worst = rest[: max(0, len(rest) - SHOWN)], rest[max(0, len(rest) - SHOWN) :]
    border = sorted(rest, key=lambda decision: abs(decision.log_ratio - threshold))[:SHOWN]
    return {"Best": best, "Borderline": best_first(border), "Worst": worst}


def thumb(path: Path) -> str:
    """A small JPEG of an image in a data: URI.

    Raises:
        DecodeError: it cannot be read.
    """
    image = load_image(path)
    image.thumbnail((THUMB, THUMB), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return jpeg(image)


def figure(decision: Decision) -> str:
    """A picture in a frame that says whether it was kept; an image that cannot be read is a sentence."""
    image = decision.image
    try:
        picture = f'<img src="{thumb(image.file)}" alt="{escape(image.caption or image.file.name)}">'
    except DecodeError as error:
        picture = f"<p>{escape(str(error))}</p>"
    caption = f"<br>{escape(image.caption[:160])}" if image.caption else ""
    kind, word = ("kept", "kept") if decision.kept else ("left", "left out")
    return (
        f'<figure class="{kind}" title="{escape(image.file.name)}: {escape(decision.reason)}">{picture}'
        f"<figcaption><b>{format_ratio(decision.log_ratio)}</b> {word}{caption}</figcaption></figure>"
    )


def page(class_name: str, intro: str, sections: dict[str, list[Decision]]) -> str:
    """The HTML of one class's sheet."""
    title = f"Web images of {class_name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(intro)}</p>",
        '<p class="soft">The number is p_ds / p_web; a green frame means kept.</p>',
    ]
    for group, decisions in sections.items():
        if decisions:
            figures = "".join(map(figure, decisions))
            parts.append(f'<section><h2>{escape(group)}</h2><div class="grid">{figures}</div></section>')
    return document(title, parts, SHEET_STYLE)


def slug(name: str) -> str:
    """A class name as a file name."""
    return re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_") or "class"


def write_sheets(folder: Path, decisions: Sequence[Decision], threshold: float) -> list[Path]:
    """One page a class into ``folder``.

    Args:
        folder: made if missing.
        decisions: what became of the images of all classes; those without a score are not shown.
        threshold: log ratio around which an image is borderline.

    Raises:
        UserError: a page cannot be written.
    """
    by_class: dict[str, list[Decision]] = {}
    for decision in decisions:
        if not math.isnan(decision.log_ratio):
            by_class.setdefault(decision.image.class_name, []).append(decision)
    written = []
    for name, members in by_class.items():
        kept = sum(decision.kept for decision in members)
        intro = f"{len(members)} images were scored, {kept} of them are kept."
        path = folder / f"{slug(name)}.html"
        write_whole(path, page(name, intro, groups(members, threshold)))
        written.append(path)
    return written
