"""Which web images are kept: the discriminator's rule, the caption's word, and why (WEB, sections A1 and A2)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.manifest import Manifest, Row
from web.scoring import Scores

# What a selection adds to a manifest.
ADDED = ("p_ds", "p_web", "ratio", "kept", "reason")


@dataclass(frozen=True)
class Rule:
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


@dataclass(frozen=True)
class Decision:
    """What became of the rows of a manifest.

    Attributes:
        kept: (N,) whether a row is kept.
        reasons: why, or why not.
        topped_up: number of images of each class that are kept for ``min_keep`` alone.
    """

    kept: NDArray[np.bool_]
    reasons: list[str]
    topped_up: dict[str, int]


def decide(classes: list[str], scores: Scores, rule: Rule, dropped: dict[int, str] | None = None) -> Decision:
    """Apply the rule to each class.

    Args:
        classes: class of each row.
        scores: score of each row.
        rule: the rule.
        dropped: position and reason of rows that are out before the rule is asked (their caption lacks the class).
    """
    dropped = dropped or {}
    kept = np.zeros(len(classes), dtype=bool)
    reasons = [""] * len(classes)
    for position, fault in scores.faults.items():
        reasons[position] = f"cannot be used: {fault}"
    for position, reason in dropped.items():
        reasons[position] = reasons[position] or reason
    topped: dict[str, int] = {}
    members: dict[str, list[int]] = {}
    for position, name in enumerate(classes):
        if not reasons[position]:
            members.setdefault(name, []).append(position)
    threshold = math.log(rule.ratio)
    for name, positions in members.items():
        # Best first; equal scores in the manifest's order.
        ordered = sorted(positions, key=lambda p: -scores.log_ratio[p])
        for rank, position in enumerate(ordered):
            ratio = f"p_ds / p_web = {format_ratio(scores.log_ratio[position])}"
            if np.isposinf(scores.log_ratio[position]):
                kept[position] = rule.keep is None or rank < rule.keep
                reasons[position] = "not scored"
            elif rule.keep is not None:
                kept[position] = rank < rule.keep
                reasons[position] = f"rank {rank + 1} of {len(ordered)}, the best {rule.keep} are kept"
            elif scores.log_ratio[position] > threshold:
                kept[position] = True
                reasons[position] = f"{ratio} > {rule.ratio:g}"
            elif rank < rule.min_keep:
                kept[position] = True
                topped[name] = topped.get(name, 0) + 1
                reasons[position] = f"{ratio}, kept among the best {rule.min_keep} of its class"
            else:
                reasons[position] = f"{ratio}, not above {rule.ratio:g}"
    return Decision(kept, reasons, topped)


def format_ratio(log_ratio: float) -> str:
    """p_ds / p_web with three digits, whatever its size."""
    return f"{math.exp(min(max(log_ratio, -700.0), 700.0)):.3g}"


def decided_rows(source: Manifest, scores: Scores, decision: Decision, labels: list[str] | None) -> Iterator[Row]:
    """The manifest's rows with what the selection adds; ``labels`` is the column of image-level labels."""
    p_ds = scores.p_ds()
    for position, row in enumerate(source):
        known = bool(np.isfinite(scores.log_ratio[position]))
        row["p_ds"] = f"{p_ds[position]:.6g}" if known else ""
        row["p_web"] = f"{1 - p_ds[position]:.6g}" if known else ""
        row["ratio"] = format_ratio(scores.log_ratio[position]) if known else ""
        row["kept"] = str(int(decision.kept[position]))
        row["reason"] = decision.reasons[position]
        if labels is not None:
            row["labels"] = labels[position]
        yield row


def summary(classes: list[str], decision: Decision, faults: dict[int, str]) -> list[tuple[str, int, int, int]]:
    """(class, candidates, kept, unusable files), one for each class."""
    total, good = Counter(classes), Counter(name for name, kept in zip(classes, decision.kept, strict=True) if kept)
    bad = Counter(classes[position] for position in faults)
    return [(name, total[name], good[name], bad[name]) for name in sorted(total)]
