"""What the arms learned from beside the data set: web images, kept and left out, and captions of
the rehearsal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from captions.formats import read_captions, read_class_words
from experiments.pages.pieces import fold, note
from experiments.pages.study import Study
from utils.html import card, cards
from utils.manifest import is_kept, open_manifest

# Web images of a class and reason; originals, and downloads for one of them.
WEB_SHOWN, ORIGINALS, DOWNLOADS = 6, 4, 6
# Files by the names that their stages give them.
REHEARSAL = ("captions", "nouns", "kept", "class_words", "downloads")


def web_images(study: Study) -> str:
    """Kept and rejected web images by class and reason, of the first seed's selections."""
    manifests: dict[str, Path] = {}
    for stage in study.history.of_kind("select"):
        if "manifest" in stage.outputs:
            manifests.setdefault(stage.rule, stage.outputs["manifest"])
    if not manifests:
        return note("No web image was selected in this experiment.")
    parts = [
        note(
            "The selections by what they go by; the first images of each class and reason, in the order of the manifest."
        )
    ]
    for number, (rule, path) in enumerate(manifests.items()):
        if path.is_file():
            parts.append(fold(f"Selected by {rule}", selection(path), number == 0))
        else:
            parts.append(study.lack(f"The web images selected by {rule} are gone: {path}."))
    return "".join(parts)


def reason_kind(row: Mapping[str, str]) -> str:
    """Why a row was kept or not, without what is its own: its number, its file."""
    return re.split(r"\s*[=:]?\s*\d|:", row.get("reason", ""), maxsplit=1)[0]


def selection(path: Path) -> str:
    """Images of each class and reason of one manifest.

    Raises:
        UserError: it cannot be read as a manifest.
    """
    manifest = open_manifest(path)
    groups: dict[tuple[str, bool, str], list[str]] = {}
    counts: dict[tuple[str, bool, str], int] = {}
    for row in manifest:
        kept = is_kept(row)
        key = row["class"], kept, reason_kind(row)
        counts[key] = counts.get(key, 0) + 1
        if len(groups.setdefault(key, [])) < WEB_SHOWN:
            caption = f"“{row['caption']}”; " if row.get("caption") else ""
            groups[key].append(card(manifest.file(row), caption + row.get("reason", ""), kept=kept))
    parts = []
    for (name, kept, kind), shown in sorted(groups.items(), key=lambda item: (item[0][0], not item[0][1], item[0][2])):
        word = "kept" if kept else "left out"
        title = f"{name}: {counts[name, kept, kind]} {word}" + (f" ({kind})" if kind else "")
        parts.append(f"<h3>{escape(title)}</h3>{cards(shown)}")
    return "".join(parts)


def captions(study: Study) -> str:
    """Some originals with their downloads: captions, nouns, and which were kept."""
    files: dict[str, Path] = {}
    for kind in ("nouns", "filter", "replay"):
        # One stage of each for all seeds; trees share their downloads.
        for stage in study.history.of_kind(kind)[:1]:
            files |= {**stage.inputs, **stage.outputs}
    if not all(name in files for name in REHEARSAL):
        return note("Nothing was rehearsed in this experiment.")
    gone = [str(files[name]) for name in REHEARSAL if not files[name].exists()]
    if gone:
        return study.lack(f"The files of the rehearsal are gone: {', '.join(gone)}.")
    classes = read_class_words(files["class_words"])
    originals = sorted(files["kept"].glob("*.txt"))
    if not originals:
        return note("No download of the rehearsal was kept.")
    # Spread over the originals, so that they show several classes.
    places = np.linspace(0, len(originals) - 1, min(ORIGINALS, len(originals))).astype(int)
    parts = [
        note(
            "Downloads for the captions of step 0's images, which themselves are not stored: each download's caption, its nouns, and "
            "whether they stand for the original's class words."
        )
    ]
    for file in [originals[i] for i in np.unique(places)]:
        kept = set(file.read_text(encoding="utf-8").split())
        nouns = dict(read_captions(files["nouns"] / file.name))
        downloads = sorted(read_captions(files["captions"] / file.name), key=lambda pair: pair[0] not in kept)
        shown = [
            card(
                files["downloads"] / file.stem / name,
                f"“{caption}”; nouns: {nouns.get(name, '').strip() or 'none'}",
                kept=name in kept,
            )
            for name, caption in downloads[:DOWNLOADS]
        ]
        words = ", ".join(classes.get(file.stem, ())) or "no class word"
        parts.append(f"<h3>{escape(f'{file.stem}: {words}; {len(kept)} of {len(downloads)} kept')}</h3>{cards(shown)}")
    return "".join(parts)
