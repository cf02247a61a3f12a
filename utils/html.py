"""What every page is made of: the style, the shell, tables, figures and cards, pictures inside the file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from utils.images import DecodeError, load_image
from utils.visualise import palette

# Of JPEGs.
QUALITY = 82
# The longer side of a card's picture, in pixels.
THUMB = 176

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
# For pages with ``cards``, behind ``STYLE``.
CARD_STYLE = """
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem; }
.grid figure { border: 2px solid var(--line); border-radius: .5rem; overflow: hidden; background: var(--page); }
.grid figure.kept { border-color: #2c8a4b; }
.grid figure.left { border-color: #b4532a; }
.grid img { aspect-ratio: 1; object-fit: contain; border-radius: 0; }
.grid figcaption { padding: .35rem .5rem .5rem; overflow-wrap: anywhere; }
.grid b { color: var(--ink); font-variant-numeric: tabular-nums; }
"""


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


def swatch(channel: int) -> str:
    """A small square in the colour of a mask value."""
    red, green, blue = (int(value) for value in palette()[channel])
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'


def _attribute(name: str, value: str) -> str:
    return f' {name}="{escape(value)}"' if value else ""


def figure(source: str, caption: str = "", *, alt: str, kind: str = "", size: tuple[int, int] | None = None) -> str:
    """A picture with its caption.

    Args:
        source: its data: URI, as ``png`` and ``jpeg`` give it.
        caption: the text below it; none where it is empty.
        alt: what it shows, for those who do not see it.
        kind: its class in the style: ``photo`` or ``mask``.
        size: width and height in pixels; with it the page keeps its place while the picture loads.
    """
    place = "" if size is None else f' width="{size[0]}" height="{size[1]}" loading="lazy"'
    picture = f'<img{_attribute("class", kind)} src="{source}"{place} alt="{escape(alt)}">'
    return f"<figure>{picture}{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}</figure>"


def thumb(path: Path) -> str:
    """An image, its longer side no longer than ``THUMB``, as a JPEG in a data: URI.

    Raises:
        DecodeError: it cannot be read.
    """
    image = load_image(path)
    image.thumbnail((THUMB, THUMB), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return jpeg(image)


def card(path: Path, text: str, *, kept: bool, alt: str = "", score: str = "", title: str = "") -> str:
    """An image in a frame that says whether it was kept; one that cannot be read is a sentence.

    Args:
        path: the image file.
        text: what stands below it, empty for nothing.
        kept: whether its frame is that of kept images.
        alt: what it shows; ``text``, or else its file name, where it is empty.
        score: a number before the word "kept" or "left out".
        title: the text of the hint.
    """
    try:
        picture = f'<img src="{thumb(path)}" alt="{escape(alt or text or path.name)}">'
    except DecodeError as error:
        picture = f"<p>{escape(str(error))}</p>"
    kind, word = ("kept", "kept") if kept else ("left", "left out")
    head = f"<b>{escape(score)}</b> {word}" if score else f"<b>{word}</b>"
    below = f"<br>{escape(text)}" if text else ""
    return (
        f'<figure class="{kind}"{_attribute("title", title)}>{picture}<figcaption>{head}{below}</figcaption></figure>'
    )


def cards(parts: Iterable[str]) -> str:
    """Cards side by side; the page needs ``CARD_STYLE``."""
    return f'<div class="grid">{"".join(parts)}</div>'


def heading(text: str, kind: str = "") -> str:
    """A cell of a table's first row; ``kind`` is its class in the style, ``number`` for instance."""
    return f'<th scope="col"{_attribute("class", kind)}>{escape(text)}</th>'


def row_name(text: str, before: str = "") -> str:
    """The first cell of a table's row; ``before`` is HTML that stands before the name."""
    return f'<th scope="row">{before}{escape(text)}</th>'


def cell(text: str, kind: str = "") -> str:
    """A cell of a table; ``kind`` is its class in the style."""
    return f"<td{_attribute('class', kind)}>{escape(text)}</td>"


def percent(share: float) -> str:
    """A share in [0, 1] in percent; a dash where nothing is known."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def meter(share: float, first: bool = False) -> str:
    """A cell of a share in percent and its bar; ``first`` is what was before, and steps back."""
    width = 0 if math.isnan(share) else 100 * min(max(share, 0), 1)
    return (
        f'<td><div class="meter{" first" if first else ""}"><b>{percent(share)}</b>'
        f'<span class="track"><i style="width:{width:.1f}%"></i></span></div></td>'
    )


def table(headings: Iterable[str], rows: Iterable[Iterable[str]], *, kind: str = "", label: str = "") -> str:
    """A table that scrolls sideways where the screen is narrow.

    Args:
        headings: HTML of the first row's cells, of ``heading``.
        rows: HTML of the cells of each row, of ``row_name``, ``cell`` or the caller's own.
        kind: its class in the style.
        label: what it is a table of; with it, the keyboard scrolls it too.
    """
    region = f' tabindex="0" role="region" aria-label="{escape(label)}"' if label else ""
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        f'<div class="wide"{region}><table{_attribute("class", kind)}><thead><tr>{"".join(headings)}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def document(title: str, parts: Sequence[str], style: str = "") -> str:
    """A whole page that opens offline: parts of HTML under the project's style, and ``style`` behind it."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )
