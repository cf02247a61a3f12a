"""Which web images are kept: the discriminator's rule, the caption's word, and why.

Source: docs/method.md, "New classes from web images".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from captions.labels import caption_labels
from captions.vocabulary import Vocabulary, match_class
from utils.errors import UserError
from utils.manifest import Manifest, Row
from web.scoring import DomainScores

# What a selection adds to a manifest.
ADDED = ("p_ds", "p_web", "ratio", "kept", "reason")


@dataclass(frozen=True)
class SelectionRule:
    """The rule of a selection.

    Attributes:
        ratio: an image is kept where p_ds / p_web is above this (the paper: 1).
        keep: the best so many of each class are kept instead (the paper: 500 of 10,000); None for the ratio.
        min_keep: never fewer of a class than so many, if there are as many that can be read.
    """

    ratio: float = 1.0
    keep: int | None = None
    min_keep: int = 0

    def __post_init__(self) -> None:
        if not self.ratio > 0:
            raise UserError(f"--ratio {self.ratio}: a number above 0 is needed")
        if self.keep is not None and self.keep < 1:
            raise UserError(f"--keep {self.keep}: a number above 0 is needed")
        if self.min_keep < 0:
            raise UserError(f"--min_keep {self.min_keep}: a number of at least 0 is needed")
        if self.keep is not None and self.keep < self.min_keep:
            raise UserError(f"--min_keep {self.min_keep} is more than --keep {self.keep}")

    @property
    def log_ratio(self) -> float:
        """Natural logarithm of ``ratio``."""
        return math.log(self.ratio)


@dataclass(frozen=True, slots=True)
class WebImage:
    """A row of a manifest, as a selection reads it.

    Attributes:
        path: as the manifest has it.
        root: folder that relative paths start from.
        class_name: the class that it was searched for, as the manifest has it.
        caption: empty where there is none.
        labels: classes that the caption names, joined by ``;``; None where captions are not asked.
        dropped: why its caption puts it out; empty where it does not.
    """

    path: str
    root: Path
    class_name: str
    caption: str = ""
    labels: str | None = None
    dropped: str = ""

    @property
    def file(self) -> Path:
        """The image file."""
        return self.root / self.path


def read_web_images(source: Manifest, vocabulary: Vocabulary | None = None) -> list[WebImage]:
    """One pass over a manifest; with a vocabulary the captions are read too.

    Raises:
        UserError: captions are asked for and the manifest has none, a class is not in the vocabulary, or there is no row.
    """
    if vocabulary is not None and "caption" not in source.columns:
        raise UserError(f"{source.path}: has no column caption, which --web_labels caption reads")
    images = [_web_image(source, row, vocabulary) for row in source]
    if not images:
        raise UserError(f"{source.path}: has no row")
    return images


def _web_image(source: Manifest, row: Row, vocabulary: Vocabulary | None) -> WebImage:
    path, name, caption = row["path"], row["class"], row.get("caption", "")
    if vocabulary is None:
        return WebImage(path, source.root, name, caption)
    own = match_class(name, vocabulary.classes)
    if own is None:
        raise UserError(f"{source.path}: class {name} is not in the vocabulary; add it to --classes")
    named = caption_labels(caption, vocabulary)
    lacks = f"the caption does not name {own}" if caption else "has no caption"
    return WebImage(path, source.root, name, caption, ";".join(sorted(named)), "" if own in named else lacks)


@dataclass
class Decision:
    """What became of a web image.

    Attributes:
        image: the image.
        log_ratio: natural logarithm of p_ds / p_web; nan where the file cannot be used, infinite where nobody scored it.
        p_ds: probability of the training data's domain.
        fault: why the file cannot be used; empty where it can.
        kept: whether it is kept.
        topped_up: whether it is kept for ``min_keep`` alone.
        reason: why it is kept, or why not.
    """

    image: WebImage
    log_ratio: float
    p_ds: float
    fault: str = ""
    kept: bool = False
    topped_up: bool = False
    reason: str = ""

    def columns(self) -> Row:
        """What the selection adds to the image's row."""
        known = math.isfinite(self.log_ratio)
        added = {
            "p_ds": f"{self.p_ds:.6g}" if known else "",
            "p_web": f"{1 - self.p_ds:.6g}" if known else "",
            "ratio": format_ratio(self.log_ratio) if known else "",
            "kept": str(int(self.kept)),
            "reason": self.reason,
        }
        return added if self.image.labels is None else added | {"labels": self.image.labels}


def decide(images: Sequence[WebImage], scores: DomainScores, rule: SelectionRule) -> list[Decision]:
    """Apply the rule to each class.

    Args:
        images: rows of a manifest.
        scores: score of each of them.
        rule: the rule; it is asked of images whose file can be used and whose caption does not put them out.

    Returns:
        What became of each image, in their order.
    """
    decisions: list[Decision] = []
    by_class: dict[str, list[Decision]] = {}
    for position, (image, log_ratio, p_ds) in enumerate(
        zip(images, scores.log_ratio.tolist(), scores.p_ds().tolist(), strict=True)
    ):
        fault = scores.faults.get(position, "")
        decision = Decision(
            image, log_ratio, p_ds, fault, reason=f"cannot be used: {fault}" if fault else image.dropped
        )
        decisions.append(decision)
        if not decision.reason:
            by_class.setdefault(image.class_name, []).append(decision)
    for members in by_class.values():
        _decide_class(best_first(members), rule)
    return decisions


def _decide_class(ordered: Sequence[Decision], rule: SelectionRule) -> None:
    """Apply the rule to the images of one class, the best first."""
    for rank, decision in enumerate(ordered):
        ratio = f"p_ds / p_web = {format_ratio(decision.log_ratio)}"
        if decision.log_ratio == math.inf:
            decision.kept = rule.keep is None or rank < rule.keep
            decision.reason = "not scored"
        elif rule.keep is not None:
            decision.kept = rank < rule.keep
            decision.reason = f"rank {rank + 1} of {len(ordered)}, the best {rule.keep} are kept"
        elif decision.log_ratio > rule.log_ratio:
            decision.kept = True
            decision.reason = f"{ratio} > {rule.ratio:g}"
        elif rank < rule.min_keep:
            decision.kept = decision.topped_up = True
            decision.reason = f"{ratio}, kept among the best {rule.min_keep} of its class"
        else:
            decision.reason = f"{ratio}, not above {rule.ratio:g}"


def best_first(decisions: Sequence[Decision]) -> list[Decision]:
    """Sorted by score; equal scores stay in the manifest's order."""
    return sorted(decisions, key=lambda decision: -decision.log_ratio)


def format_ratio(log_ratio: float) -> str:
    """p_ds / p_web with three digits, whatever its size."""
    return f"{math.exp(min(max(log_ratio, -700.0), 700.0)):.3g}"


def decided_rows(source: Manifest, decisions: Sequence[Decision]) -> Iterator[Row]:
    """The manifest's rows with what the selection adds."""
    for row, decision in zip(source, decisions, strict=True):
        yield row | decision.columns()


class ClassSummary(NamedTuple):
    """What became of a class: its candidates, those kept, and the files that cannot be used."""

    name: str
    candidates: int
    kept: int
    unusable: int


def summary(decisions: Sequence[Decision]) -> list[ClassSummary]:
    """The numbers of each class, by name."""
    total = Counter(decision.image.class_name for decision in decisions)
    kept = Counter(decision.image.class_name for decision in decisions if decision.kept)
    unusable = Counter(decision.image.class_name for decision in decisions if decision.fault)
    return [ClassSummary(name, total[name], kept[name], unusable[name]) for name in sorted(total)]
