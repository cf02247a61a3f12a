"""The page of ``dataset.check``: what was found, and images under their masks, ten a class, suspects first; it opens offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataset.source import Source
from dataset.telling import Suspicion, foreground, images_of, label
from tasks import BACKGROUND, IGNORE, label_column
from utils import html
from utils.errors import UserError
from utils.visualise import overlay

# Overlays of a class, and of a suspicion.
SHOWN = 10
# The longer side of an image on the page, in pixels.
SIDE = 220
STYLE = """
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: .75rem; }
.grid figure { border: 2px solid var(--line); border-radius: .5rem; overflow: hidden; background: var(--page); }
.grid figure.suspect { border-color: #b4532a; }
.grid figure img { border-radius: 0; }
.grid figcaption { padding: .35rem .5rem .5rem; overflow-wrap: anywhere; }
.grid b { color: var(--ink); }
li { overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Looked:
    """A split that was looked at.

    Attributes:
        title: what the page calls it.
        source: its pairs.
        suspicions: what looks wrong.
        broken: positions of the pairs that cannot be shown.
    """

    title: str
    source: Source
    suspicions: list[Suspicion]
    broken: set[int] = field(default_factory=set)

    def reasons(self, index: int) -> list[str]:
        """The suspicions about an image, in a few words each."""
        return [suspicion.short for suspicion in self.suspicions if index in suspicion.images]


def _spread(images: NDArray[np.int64], count: int) -> list[int]:
    """``count`` of the images, evenly spread over them."""
    if len(images) <= count:
        return [int(i) for i in images]
    return [int(images[i]) for i in np.linspace(0, len(images) - 1, count).round().astype(int)]


def worst_first(looked: Sequence[Looked], class_id: int) -> list[tuple[Looked, int]]:
    """Images to show for a class: those with most suspicions first, the rest spread over all splits."""
    ranked: list[tuple[int, Looked, int]] = []
    plain: list[tuple[Looked, int]] = []
    for split in looked:
        if class_id not in split.source.class_names:
            continue
        holding = np.flatnonzero(split.source.survey([]).labels[:, label_column(class_id)])
        suspects = np.unique(np.concatenate([np.zeros(0, np.int64), *(s.images for s in split.suspicions)]))
        worst = np.intersect1d(holding, suspects)
        ranked += [(len(split.reasons(int(i))), split, int(i)) for i in worst if int(i) not in split.broken]
        others = np.setdiff1d(holding, [*worst, *split.broken])
        plain += [(split, i) for i in _spread(others.astype(np.int64), SHOWN)]
    ranked.sort(key=lambda entry: -entry[0])
    chosen = [(split, i) for _, split, i in ranked[:SHOWN]]
    room = SHOWN - len(chosen)
    return chosen + [plain[i] for i in _spread(np.arange(len(plain)), room)] if room else chosen


def _shares(source: Source, mask: NDArray[np.uint8]) -> str:
    """The classes of a mask with their shares, in HTML."""
    counts = np.bincount(mask.ravel(), minlength=256)
    parts = []
    for value in np.flatnonzero(counts):
        if value == BACKGROUND:
            continue
        name = "255 ignore" if value == IGNORE else label(source, int(value))
        parts.append(f"{html.swatch(int(value))}{escape(name)} {100 * counts[value] / mask.size:.1f} %")
    return ", ".join(parts) or "background alone"


def _card(split: Looked, index: int) -> str:
    """An image beside itself under its mask."""
    name = f"{split.title} {split.source.ids[index]}"
    reasons = split.reasons(index)
    try:
        image, mask = split.source.pair(index)
    except UserError as error:
        return (
            f'<figure class="suspect"><figcaption><b>{escape(name)}</b><br>{escape(str(error))}</figcaption></figure>'
        )
    caption = f"<b>{escape(name)}</b><br>{_shares(split.source, mask)}"
    if reasons:
        caption += f"<br>suspect: {escape('; '.join(reasons))}"
    scale = min(1.0, SIDE / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    small_mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    both = Image.fromarray(np.concatenate([small, overlay(small, small_mask, 0.6)], axis=1))
    kind = ' class="suspect"' if reasons else ""
    picture = f'<img src="{html.jpeg(both)}" width="{both.width}" height="{both.height}" loading="lazy"'
    return f'<figure{kind}>{picture} alt="{escape(name)}, left as it is, right under its mask"><figcaption>{caption}</figcaption></figure>'


def _section(title: str, text: str, cards: Iterable[str]) -> str:
    return f'<section><h2>{title}</h2>\n<p class="soft">{escape(text)}</p>\n{html.cards(cards)}</section>'


def _counts(looked: Sequence[Looked], classes: Sequence[int]) -> str:
    counts = [images_of(split.source) for split in looked]
    headings = [html.heading("class"), *(html.heading(split.title, "number") for split in looked)]
    rows = [
        [
            html.row_name(label(_owner(looked, i), i), html.swatch(i)),
            *(html.cell(str(count[i]) if i in count else "", "number") for count in counts),
        ]
        for i in classes
    ]
    table = html.table(headings, rows, label="images that hold a class")
    return f"<section><h2>Images that hold a class</h2>\n{table}</section>"


def _owner(looked: Sequence[Looked], class_id: int) -> Source:
    """A source that has the class."""
    return next(split.source for split in looked if class_id in split.source.class_names)


def page(title: str, found: Sequence[tuple[str, Sequence[str]]], looked: Sequence[Looked]) -> str:
    """The page.

    Args:
        title: the data set and its folder.
        found: headings and lines of what was found.
        looked: the splits.
    """
    parts = [f"<h1>{escape(title)}</h1>"]
    lists = (
        f"<h3>{escape(heading)}</h3>\n<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines) or '<li>nothing</li>'}</ul>"
        for heading, lines in found
    )
    parts.append(f"<section><h2>Found</h2>\n{''.join(lists)}</section>")
    classes = sorted({i for split in looked for i in foreground(split.source)})
    if looked:
        parts.append(_counts(looked, classes))
    for split in looked:
        for suspicion in split.suspicions:
            chosen = [i for i in suspicion.images.tolist() if i not in split.broken][:SHOWN]
            head = f"Suspects in {escape(split.title)}: {escape(suspicion.short)}"
            parts.append(_section(head, suspicion.text, (_card(split, i) for i in chosen)))
    for class_id in classes:
        chosen = worst_first(looked, class_id)
        total = sum(images_of(split.source).get(class_id, 0) for split in looked)
        head = f"{html.swatch(class_id)}{escape(label(_owner(looked, class_id), class_id))}"
        parts.append(_section(head, f"{len(chosen)} of {total} images", (_card(*one) for one in chosen)))
    return html.document(title, parts, STYLE)
