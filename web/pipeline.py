"""A selection from beginning to end: read the manifest, score, decide, write, show."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captions.labels import caption_labels
from captions.vocabulary import Vocabulary, match_class
from utils import manifest
from utils.distributed import Runtime
from utils.errors import UserError
from utils.manifest import Manifest
from web.discriminator import Saved
from web.scoring import Scores, key_of, score
from web.selection import ADDED, Rule, decide, decided_rows, summary
from web.sheet import write_sheets

LOG = logging.getLogger("webwilss")
# Names of missing files that are told one by one.
TOLD = 3


@dataclass(frozen=True)
class Candidates:
    """The rows of a manifest, without the images.

    Attributes:
        classes: class of each row.
        dropped: position and reason of rows whose caption lacks the class.
        labels: classes that each caption names, joined by ``;``; None where captions are not asked.
    """

    classes: list[str]
    dropped: dict[int, str]
    labels: list[str] | None


def read_candidates(source: Manifest, vocabulary: Vocabulary | None) -> Candidates:
    """One pass over a manifest; with a vocabulary the captions are read too.

    Raises:
        UserError: captions are asked for and the manifest has none, or a class is not in the vocabulary.
    """
    if vocabulary is not None and "caption" not in source.columns:
        raise UserError(f"{source.path}: has no column caption, which --web_labels caption reads")
    classes: list[str] = []
    dropped: dict[int, str] = {}
    labels: list[str] | None = None if vocabulary is None else []
    known = list(vocabulary.classes) if vocabulary is not None else []
    for position, row in enumerate(source):
        classes.append(row["class"])
        if vocabulary is None or labels is None:
            continue
        own = match_class(row["class"], known)
        if own is None:
            raise UserError(f"{source.path}: class {row['class']} is not in the vocabulary; add it to --classes")
        named = caption_labels(row["caption"], vocabulary)
        labels.append(";".join(sorted(named)))
        if own not in named:
            dropped[position] = f"the caption does not name {own}" if row["caption"] else "has no caption"
    if not classes:
        raise UserError(f"{source.path}: has no row")
    return Candidates(classes, dropped, labels)


@dataclass(frozen=True)
class Selected:
    """What a selection did.

    Attributes:
        counts: (class, candidates, kept, unusable files) of each class.
        troubles: sentences, one for each thing that went wrong though the rest went on.
        sheets: the contact sheets.
    """

    counts: list[tuple[str, int, int, int]]
    troubles: list[str]
    sheets: list[Path]


def select(
    source: Manifest,
    saved: Saved | None,
    rule: Rule,
    out: Path,
    runtime: Runtime,
    *,
    vocabulary: Vocabulary | None = None,
    wanted: Sequence[str] = (),
    workers: int = 1,
    batch_size: int = 64,
) -> Selected:
    """Score every image, apply the rule, write the manifest with scores and reasons, and the contact sheets.

    Args:
        source: the web images.
        saved: the discriminator; None to go by the captions alone.
        rule: which images are kept.
        out: manifest to write; the sheets go into ``sheets`` beside it.
        runtime: device and precision.
        vocabulary: words of the classes, to read the captions by; None to leave them unread.
        wanted: classes that should have candidates.
        workers: processes that decode.
        batch_size: images scored at once.
    """
    candidates = read_candidates(source, vocabulary)
    count = len(candidates.classes)
    if saved is None:
        # Nothing speaks for or against an image but its caption: all are kept that name the class.
        scores = Scores(np.full(count, math.inf), missing_files(source))
    else:
        cache = out.with_name(f"{out.stem}.scores-{key_of(source, saved.digest)}.csv")
        scores = score(source, count, saved.discriminator, runtime, cache=cache, workers=workers, batch_size=batch_size)
    decision = decide(candidates.classes, scores, rule, candidates.dropped)
    columns = [name for name in source.columns if name not in (*ADDED, "labels")]
    # Relative paths start from the manifest's own folder.
    same_root = out.parent.resolve() == source.root.resolve()
    rows = decided_rows(source, scores, decision, candidates.labels)
    if not same_root:
        rows = (row | {"path": str(source.file(row).resolve())} for row in rows)
    added = [*ADDED, "labels"] if candidates.labels is not None else list(ADDED)
    manifest.write(out, [*columns, *added], rows)
    sheets = []
    if saved is not None:
        sheets = write_sheets(out.parent / "sheets", source, candidates.classes, scores, decision, math.log(rule.ratio))
    counts = summary(candidates.classes, decision, scores.faults)
    return Selected(counts, troubles(source, candidates, scores, counts, decision.topped_up, wanted, rule), sheets)


def missing_files(source: Manifest) -> dict[int, str]:
    """Positions of rows whose file is not there."""
    return {position: "no such file" for position, row in enumerate(source) if not source.file(row).is_file()}


def troubles(
    source: Manifest,
    candidates: Candidates,
    scores: Scores,
    counts: list[tuple[str, int, int, int]],
    topped_up: dict[str, int],
    wanted: Sequence[str],
    rule: Rule,
) -> list[str]:
    """One sentence for each thing that a user should know."""
    said = []
    if scores.faults:
        first = sorted(scores.faults)[:TOLD]
        names = {p: row["path"] for p, row in enumerate(source) if p in first}
        shown = "; ".join(f"{names[p]}: {scores.faults[p]}" for p in first)
        said.append(f"{len(scores.faults)} of {len(candidates.classes)} images cannot be used ({shown} ...)")
    have = [name for name, *_ in counts]
    said += [f"no candidate for {name}" for name in wanted if match_class(name, have) is None]
    for name, total, kept, _ in counts:
        if kept == 0:
            said.append(f"nothing is kept of {name} ({total} candidates); give --keep or --min_keep, or collect more")
        elif name in topped_up:
            said.append(
                f"the rule keeps {kept - topped_up[name]} of {name}, fewer than --min_keep {rule.min_keep}: "
                f"{topped_up[name]} more were taken by rank"
            )
    return said
