"""Contact sheets: what a selection kept and left of one class, as one HTML page that opens offline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from utils.html import document, jpeg
from utils.images import DecodeError, load_image
from utils.manifest import Manifest
from utils.whole import write_whole
from web.scoring import Scores
from web.selection import Decision

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


@dataclass(frozen=True)
class Shown:
    """One picture of a sheet."""

    path: Path
    kept: bool
    score: str
    reason: str
    caption: str


def groups(positions: Sequence[int], scores: Scores, threshold: float) -> dict[str, list[int]]:
    """Positions of the best, the borderline (nearest to ``threshold``, a log ratio) and the worst of a class, none twice."""
    ordered = sorted(positions, key=lambda p: -scores.log_ratio[p])
    best = ordered[:SHOWN]
    worst = [p for p in ordered[::-1][:SHOWN] if p not in best]
    rest = [p for p in ordered if p not in best and p not in worst]
    border = sorted(rest, key=lambda p: abs(scores.log_ratio[p] - threshold))[:SHOWN]
    return {"Best": best, "Borderline": sorted(border, key=lambda p: -scores.log_ratio[p]), "Worst": worst[::-1]}


def thumb(path: Path) -> str:
    """A small JPEG of an image in a data: URI.

    Raises:
        DecodeError: it cannot be read.
    """
    image = load_image(path)
    image.thumbnail((THUMB, THUMB), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return jpeg(image)


def figure(shown: Shown) -> str:
    """A picture in a frame that says whether it was kept; an image that cannot be read is a sentence."""
    try:
        picture = f'<img src="{thumb(shown.path)}" alt="{escape(shown.caption or shown.path.name)}">'
    except DecodeError as error:
        picture = f"<p>{escape(str(error))}</p>"
    caption = f"<br>{escape(shown.caption[:160])}" if shown.caption else ""
    kind, word = ("kept", "kept") if shown.kept else ("left", "left out")
    return (
        f'<figure class="{kind}" title="{escape(shown.path.name)}: {escape(shown.reason)}">{picture}'
        f"<figcaption><b>{escape(shown.score)}</b> {word}{caption}</figcaption></figure>"
    )


def page(class_name: str, intro: str, sections: dict[str, list[Shown]]) -> str:
    """The HTML of one class's sheet."""
    title = f"Web images of {class_name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(intro)}</p>",
        '<p class="soft">The number is p_ds / p_web; a green frame means kept.</p>',
    ]
    for group, pictures in sections.items():
        if pictures:
            figures = "".join(figure(shown) for shown in pictures)
            parts.append(f'<section><h2>{escape(group)}</h2><div class="grid">{figures}</div></section>')
    return document(title, parts, SHEET_STYLE)


def slug(name: str) -> str:
    """A class name as a file name."""
    return re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_") or "class"


def write_sheets(
    folder: Path, source: Manifest, classes: list[str], scores: Scores, decision: Decision, threshold: float
) -> list[Path]:
    """One page a class into ``folder``.

    Args:
        folder: made if missing.
        source: the manifest.
        classes: class of each row.
        scores: score of each row.
        decision: what became of it.
        threshold: log ratio around which an image is borderline.

    Raises:
        UserError: a page cannot be written.
    """
    by_class: dict[str, list[int]] = {}
    for position, name in enumerate(classes):
        if not np.isnan(scores.log_ratio[position]):
            by_class.setdefault(name, []).append(position)
    chosen = {name: groups(positions, scores, threshold) for name, positions in by_class.items()}
    wanted = {p for sections in chosen.values() for positions in sections.values() for p in positions}
    pictures: dict[int, Shown] = {}
    for position, row in enumerate(source):
        if position in wanted:
            ratio = np.exp(np.clip(scores.log_ratio[position], -700, 700))
            pictures[position] = Shown(
                source.file(row),
                bool(decision.kept[position]),
                f"{ratio:.3g}",
                decision.reasons[position],
                row.get("caption", ""),
            )
    written = []
    for name, sections in chosen.items():
        positions = by_class[name]
        kept = int(decision.kept[positions].sum())
        intro = f"{len(positions)} images were scored, {kept} of them are kept."
        path = folder / f"{slug(name)}.html"
        shown = {title: [pictures[p] for p in group] for title, group in sections.items()}
        write_whole(path, page(name, intro, shown))
        written.append(path)
    return written
