"""The page of a statement: numbers, what they do not say, images under both models' overlays, web images; it opens offline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from adding.agreement import Row, Statement, Tally, named
from adding.comparing import Measured, Sample
from experiments.pages.pieces import STYLE, fold, note, shaded
from experiments.pages.sources import selection
from tasks import BACKGROUND, IGNORE
from utils.errors import UserError
from utils.html import cell, document, figure, heading, jpeg, meter, percent, row_name, swatch, table
from utils.visualise import overlay

OPACITY = 0.55
SAMPLES = """
.facts { margin: 0 0 1rem; padding-left: 1.2rem; max-width: 46rem; overflow-wrap: anywhere; }
.facts li { margin-bottom: .35rem; }
.limits { border-left: .25rem solid #b4532a; }
.sample .row { grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); max-width: calc(var(--columns) * 21rem); }
@media (max-width: 40rem) { .sample .row { grid-template-columns: repeat(var(--narrow), minmax(0, 1fr)); gap: .3rem; } }
td .track { min-width: 2.5rem; }
"""
# Columns of the table of classes: key of a row, heading, and whether it is what was before.
SHARES = (
    ("agreement_iou", "agreement IoU", False),
    ("still_stands", "still stands", False),
    ("iou_before", "IoU before", True),
    ("iou_after", "IoU after", False),
)


def page(found: Measured, web: Sequence[Path], record: Mapping[str, str]) -> str:
    """The HTML of a statement; the same input gives the same text.

    Args:
        found: the numbers and the images to show.
        web: manifests of web images, with the column ``kept``.
        record: how the statement was made.
    """
    statement = found.statement
    title = f"{named(statement.classes.new)}: what was won and what was lost"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _section("What was measured", _facts(statement.sentences()) or note("Nothing: see below.")),
        _section("What these numbers do not say", _facts(statement.limits()), "limits"),
    ]
    rows = statement.rows()
    if statement.held_back is not None or statement.judged is not None:
        parts.append(_section("Class by class", _classes(rows, statement)))
    if statement.held_back is not None:
        parts.append(_section("Which class has what the old model said", _takeover(statement, statement.held_back)))
    names = statement.classes.names
    if found.held_back:
        parts.append(_section("Held-back images", _samples(found.held_back, names)))
    if found.judged:
        parts.append(_section("Images with masks", _samples(found.judged, names)))
    parts += [_section(f"Web images: {path.parent.name}/{path.name}", _web(path)) for path in web]
    text = "\n".join(f"{key} = {value}" for key, value in record.items())
    parts.append(f"<section>{fold('How this was made', f'<pre>{escape(text)}</pre>')}</section>")
    return document(title, parts, STYLE + SAMPLES)


def _section(title: str, content: str, kind: str = "") -> str:
    return f"<section{f' class={kind}' if kind else ''}><h2>{escape(title)}</h2>{content}</section>"


def _facts(lines: Sequence[str]) -> str:
    return f'<ul class="facts">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>' if lines else ""


def _classes(rows: Sequence[Row], statement: Statement) -> str:
    """A row a class with bars; means at the end."""
    shares = [column for column in SHARES if column[0] in rows[0]]
    counts = [
        (key, text)
        for key, text in (("held_back_images", "held-back images"), ("val_images", "images with masks"))
        if key in rows[0]
    ]
    lines = []
    for row in rows:
        mean = "id" not in row
        if mean and all(math.isnan(row.get(key, math.nan)) for key, *_ in shares):
            continue
        name = f"{row['class']} (new)" if row["kind"] == "new" and not mean else row["class"]
        line = [row_name(name, "" if mean else swatch(row["id"]))]
        line += [meter(row.get(key, math.nan), first) for key, _, first in shares]
        line += [cell("" if mean else f"{row[key]:,}", "number") for key, _ in counts]
        lines.append(line)
    head = [
        heading("class"),
        *(heading(text) for _, text, _ in shares),
        *(heading(text, "number") for _, text in counts),
    ]
    texts = []
    if statement.held_back is not None:
        texts.append(
            "Agreement IoU: of the pixels that the old or the new model gives a class, the share that both do. Still stands: of the "
            "old model's pixels, the share that the new one gives the same class."
        )
    if statement.judged is not None:
        texts.append("IoU: against the masks, both models on the same pixels.")
    texts.append("Percent; a dash where no image shows the class, or the model does not know it.")
    return note(" ".join(texts)) + table(head, lines, label="classes")


def _takeover(statement: Statement, tally: Tally) -> str:
    """Old class -> where its pixels are now: itself, each new class, background, the other old classes together."""
    names, old = list(statement.classes.names.values()), statement.classes.old
    shares = tally.shares()
    lines = []
    for place in range(old):
        row = shares[place]
        others = sum(row[1:old]) - (row[place] if place else 0)
        background = "<td>–</td>" if place == 0 else shaded(row[0])
        targets = [shaded(row[place]), *map(shaded, row[old:]), background, shaded(others)]
        number = statement.classes.ids[place]
        pixels = cell(f"{tally.pixels[place]:,}", "number")
        lines.append([row_name(names[place], swatch(number)), pixels, *targets])
    head = ["pixels", "itself", *names[old:], "background", "other old classes"]
    text = "Percent of the pixels that the old model gave the class. takeover.csv has every pair of classes in pixels."
    return note(text) + table(
        [heading("the old model said"), *(heading(name, "number") for name in head)],
        lines,
        kind="shaded",
        label="old classes and who has their pixels",
    )


def _samples(samples: Sequence[Sample], names: Mapping[int, str]) -> str:
    values = sorted({int(value) for one in samples for mask in one.masks.values() for value in np.unique(mask)})
    known = {**names, IGNORE: "not judged"}
    legend = "".join(f"<li>{swatch(v)}{escape(known[v])}</li>" for v in values if v != BACKGROUND)
    most = sum(one.most for one in samples)
    rule = (
        f"First {most} of the images that changed most, then {len(samples) - most} spread evenly over the list; "
        "nobody chose them. Background is not coloured."
    )
    return f'{note(rule)}<ul class="legend">{legend}</ul>{"".join(map(_sample, samples))}'


def _sample(one: Sample) -> str:
    pictures = {"image": one.image}
    pictures |= {caption: overlay(one.image, mask, OPACITY) for caption, mask in one.masks.items()}
    figures = "".join(
        figure(jpeg(Image.fromarray(pixels)), caption, alt=f"{caption} of {one.name}", kind="photo")
        for caption, pixels in pictures.items()
    )
    title = f"{one.name}: {percent(one.changed)} % of its pixels changed class"
    # Four pictures stand two by two on a narrow screen, three side by side.
    columns = f"--columns:{len(pictures)};--narrow:{2 if len(pictures) == 4 else len(pictures)}"
    return f'<div class="sample"><h3>{escape(title)}</h3><div class="row" style="{columns}">{figures}</div></div>'


def _web(path: Path) -> str:
    """Kept and rejected images; a manifest that is gone is a sentence."""
    try:
        return note("The first images of each class and reason, in the order of the manifest.") + selection(path)
    except UserError as error:
        return note(f"Cannot be shown: {error}")
