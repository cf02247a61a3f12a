"""What every page is made of: the style, the shell, pictures inside the file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from utils.visualise import palette

# Of JPEGs.
QUALITY = 82

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


def document(title: str, parts: Sequence[str], style: str = "") -> str:
    """A whole page that opens offline: parts of HTML under the project's style, and ``style`` behind it."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )
