"""Contact sheets: what a selection kept and left of a class, one HTML page that opens offline."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import count
from pathlib import Path

from utils.html import CARD_STYLE, card, cards, document
from utils.whole import write_whole
from web.selection import Decision, best_first, format_ratio

# Images of each of the three groups.
SHOWN = 18
LONGEST_CAPTION = 160
LONGEST_NAME = 100


def groups(decisions: Sequence[Decision], threshold: float) -> dict[str, list[Decision]]:
    """The best, the borderline and the worst images of a class, none twice.

    Args:
        decisions: of the class's images.
        threshold: log ratio; the borderline images are nearest to it.
    """
    ordered = best_first(decisions)
    best, rest = ordered[:SHOWN], ordered[SHOWN:]
    rest, worst = rest[: max(0, len(rest) - SHOWN)], rest[max(0, len(rest) - SHOWN) :]
    border = sorted(rest, key=lambda decision: abs(decision.log_ratio - threshold))[:SHOWN]
    return {"Best": best, "Borderline": best_first(border), "Worst": worst}


def decided_card(decision: Decision) -> str:
    """A web image's card: kept or left out, its score, its caption and, as a hint, the reason."""
    image = decision.image
    return card(
        image.file,
        image.caption[:LONGEST_CAPTION],
        kept=decision.kept,
        alt=image.caption,
        score=format_ratio(decision.log_ratio),
        title=f"{image.file.name}: {decision.reason}",
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
            parts.append(f"<section><h2>{escape(group)}</h2>{cards(map(decided_card, decisions))}</section>")
    return document(title, parts, CARD_STYLE)


def file_names(classes: Iterable[str]) -> dict[str, str]:
    """class -> name of its sheet without suffix, no two the same on any file system; whatever the order of the classes.

    Signs become ``_``; of classes that differ in nothing else (C, C++, C#) the first by letters, or the one that is spelled so, keeps
    the name and the others are numbered.
    """
    by_slug: dict[str, list[str]] = {}
    for name in dict.fromkeys(classes):
        slug = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_")[:LONGEST_NAME] or "class"
        by_slug.setdefault(slug, []).append(name)
    names: dict[str, str] = {}
    taken = set(by_slug)
    for slug, alike in sorted(by_slug.items()):
        first, *others = sorted(alike, key=lambda name: (name != slug, name))
        names[first] = slug
        numbers = count(2)
        for other in others:
            names[other] = next(free for n in numbers if (free := f"{slug}-{n}") not in taken)
            taken.add(names[other])
    return names


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
    names = file_names(by_class)
    for name, members in by_class.items():
        kept = sum(decision.kept for decision in members)
        intro = f"{len(members)} images were scored, {kept} of them are kept."
        path = folder / f"{names[name]}.html"
        write_whole(path, page(name, intro, groups(members, threshold)))
        written.append(path)
    return written
