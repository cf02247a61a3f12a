"""A selection from beginning to end: read the manifest, score, decide, write, show."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captions.captioning import captioner_of
from captions.vocabulary import Vocabulary, class_fits
from spread.blocks import Worker
from spread.options import BLOCK_SIZE
from spread.ways import Way
from utils import manifest
from utils.manifest import Manifest
from utils.whole import clear_leftovers, clear_leftovers_in
from web.discriminator import Saved
from web.scoring import DomainScores, File, key_of, score
from web.selection import (
    ADDED,
    ClassSummary,
    Decision,
    SelectionRule,
    WebImage,
    decide,
    decided_rows,
    read_web_images,
    summary,
)
from web.sheet import write_sheets
from web.unnamed import lost_classes

# Names of missing files that are told one by one.
TOLD = 3


@dataclass(frozen=True)
class Selected:
    """What a selection did.

    Attributes:
        counts: numbers of each class.
        troubles: sentences, one for each thing that went wrong though the rest went on.
        sheets: the contact sheets.
    """

    counts: list[ClassSummary]
    troubles: list[str]
    sheets: list[Path]


def select(
    source: Manifest,
    saved: Saved | None,
    rule: SelectionRule,
    out: Path,
    way: Way,
    make: Callable[[], Worker[File]] | None = None,
    *,
    vocabulary: Vocabulary | None = None,
    wanted: Sequence[str] = (),
    batch_size: int = 64,
    block_size: int = BLOCK_SIZE,
) -> Selected:
    """Score every image, apply the rule, write the manifest and the contact sheets.

    The manifest is read twice: to decide, and to write what was decided behind its rows.

    Args:
        source: the web images.
        saved: the discriminator; None to go by the captions alone.
        rule: which images are kept.
        out: manifest to write; the sheets go into ``sheets`` beside it.
        way: who scores.
        make: makes what scores; needed with a discriminator.
        vocabulary: words of the classes, to read the captions by; None to leave them unread.
        wanted: classes that should have candidates.
        batch_size: images scored at once.
        block_size: images that a worker takes at once.

    Returns:
        what was done; nothing, of ranks that are not the main one.
    """
    if way.runtime.main:
        clear_leftovers(out)
        clear_leftovers_in(out.parent / "sheets")
    images = read_web_images(source, vocabulary)
    if saved is None:
        # Nothing speaks for or against an image but its caption: all are kept that name the class.
        scores = DomainScores(np.full(len(images), math.inf), missing_files(images))
    else:
        assert make is not None
        key = key_of(((image.path, image.file) for image in images), saved.digest)
        scores = score(
            [str(image.file) for image in images],
            way,
            make,
            cache=out.with_name(f"{out.stem}.scores-{key}.csv"),
            batch_size=batch_size,
            block_size=block_size,
        )
    if not way.runtime.main:
        return Selected([], [], [])
    decisions = decide(images, scores, rule)
    added = ADDED if vocabulary is None else (*ADDED, "labels")
    columns = [name for name in source.columns if name not in (*ADDED, "labels")]
    rows = decided_rows(source, decisions)
    # Relative paths start from the manifest's own folder.
    if out.parent.resolve() != source.root.resolve():
        rows = (row | {"path": os.path.realpath(source.file(row))} for row in rows)
    manifest.write(out, [*columns, *added], rows)
    sheets = [] if saved is None else write_sheets(out.parent / "sheets", decisions, rule.log_ratio)
    counts = summary(decisions)
    lost = {} if vocabulary is None else lost_classes(images, captioner_of(source.path))
    return Selected(counts, troubles(decisions, counts, wanted, rule, lost), sheets)


def missing_files(images: Sequence[WebImage]) -> dict[int, str]:
    """Position and fault of each image whose file is not there."""
    return {position: "no such file" for position, image in enumerate(images) if not os.path.isfile(image.file)}


def troubles(
    decisions: Sequence[Decision],
    counts: Sequence[ClassSummary],
    wanted: Sequence[str],
    rule: SelectionRule,
    lost: Mapping[str, str],
) -> list[str]:
    """One sentence for each thing that a user should know; ``lost`` holds those of classes that captions do not name."""
    said = []
    unusable = [decision for decision in decisions if decision.fault]
    if unusable:
        told = "; ".join(f"{decision.image.path}: {decision.fault}" for decision in unusable[:TOLD])
        more = "; ..." if len(unusable) > TOLD else ""
        said.append(f"{len(unusable)} of {len(decisions)} images cannot be used ({told}{more})")
    have = [count.name for count in counts]
    said += [f"no candidate for {name}" for name in wanted if not class_fits(name, have)]
    topped_up = Counter(decision.image.class_name for decision in decisions if decision.topped_up)
    said += lost.values()
    for name, total, kept, _ in counts:
        if kept == 0 and name not in lost:
            said.append(f"nothing is kept of {name} ({total} candidates); give --keep or --min_keep, or collect more")
        elif name in topped_up:
            said.append(
                f"the rule keeps {kept - topped_up[name]} of {name}, fewer than --min_keep {rule.min_keep}: "
                f"{topped_up[name]} more were taken by rank"
            )
    return said
