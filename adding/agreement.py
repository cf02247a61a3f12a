"""What two segmenters say of the same pixels: how much of the old one's word still stands, and which class has the rest.

Everything is counted by class id, so networks may have their channels in any order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks import BACKGROUND, IGNORE
from utils.checks import other_class
from utils.errors import UserError, shown_text
from utils.html import percent
from utils.metrics import ConfusionMatrix, Scores, scores

# With fewer images than this a statement calls itself one of few images.
FEW = 20
# On fewer images than this a class is called seen on few.
RARE = 5
# Names that a sentence tells one by one.
TOLD = 8
Row = dict[str, Any]


@dataclass(frozen=True)
class Classes:
    """The classes of a model before and after something was added.

    Attributes:
        names: class id -> name of all, old ones first, background first of all.
        old: number of old classes, background included.
    """

    names: Mapping[int, str]
    old: int

    @classmethod
    def of(cls, before: Mapping[int, str], after: Mapping[int, str]) -> Classes:
        """The classes of two models.

        Args:
            before: class id -> name of the old model's classes, background among them.
            after: those of the new one, in any order.

        Raises:
            UserError: an id means another class to each, the new model lacks an old class, or knows nothing new.
        """
        fault = other_class(before, after)
        if fault:
            raise UserError(f"--before and --after are no steps of one model: {fault}")
        lost = [name for number, name in before.items() if number not in after]
        if lost:
            raise UserError(f"--after knows no {named(lost)}, which --before knows; are the two exchanged?")
        ordered = {number: after[number] for number in sorted(before)}
        new = {number: name for number, name in after.items() if number not in before}
        if not new:
            raise UserError("--after knows no class that --before does not know; give the model that learned one")
        return cls({**ordered, **new}, len(ordered))

    @property
    def ids(self) -> tuple[int, ...]:
        """Class ids in the order of ``names``."""
        return tuple(self.names)

    @property
    def new(self) -> list[str]:
        """Names of the new classes."""
        return list(self.names.values())[self.old :]

    def kind(self, place: int) -> str:
        """``background``, ``old`` or ``new``, by the place in ``names``."""
        return "background" if place == 0 else "old" if place < self.old else "new"

    def places(self, mask: NDArray[np.uint8]) -> torch.Tensor:
        """A mask of class ids as places in ``names``, int64 of the same shape; ids of other classes become 255."""
        table = np.full(256, IGNORE, np.int64)
        table[list(self.ids)] = np.arange(len(self.ids))
        return torch.from_numpy(table[mask])


class Tally:
    """Pixels by what one side says of them (row) and what the other does (column), in the order of ``Classes.names``.

    Attributes:
        confusion: the counts; pixels that the first side leaves open (255) are in none.
        images: number of images.
        shown: (C,) number of images on which the first side shows each class.
        open: pixels that the first side leaves open.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.confusion = ConfusionMatrix(len(classes.names))
        self.images = 0
        self.shown = np.zeros(len(classes.names), np.int64)
        self.open = 0

    def add(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
        """Count an image.

        Args:
            first: (H, W) class ids of the old model, or of the truth; 255 and other ids are left out.
            second: (H, W) class ids of the model that is looked at.

        Raises:
            ValueError: the sizes differ, or ``second`` holds what is no class.
        """
        places = self.classes.places(first)
        self.confusion.update(places, self.classes.places(second))
        counts = np.bincount(places.numpy().ravel(), minlength=256)
        self.shown += counts[: len(self.shown)] > 0
        self.open += int(counts[IGNORE])
        self.images += 1

    @property
    def matrix(self) -> NDArray[np.int64]:
        """(C, C) pixels."""
        counts: NDArray[np.int64] = self.confusion.matrix.numpy()
        return counts

    @property
    def pixels(self) -> NDArray[np.int64]:
        """(C,) pixels of each class by the first side."""
        total: NDArray[np.int64] = self.matrix.sum(axis=1)
        return total

    @property
    def scores(self) -> Scores:
        """IoU between both sides by class and their means; NaN where the first side shows none."""
        return scores(self.confusion.matrix, self.classes.old, list(self.classes.names.values()))

    def shares(self) -> NDArray[np.float64]:
        """(C, C) each row divided by its sum: which share of a class each class has now; NaN in rows without pixels."""
        total = self.pixels[:, None]
        return np.divide(self.matrix, total, out=np.full(self.matrix.shape, np.nan), where=total > 0)


@dataclass(frozen=True)
class Judged:
    """What masks say of both models, on the same pixels.

    Attributes:
        before: truth against the old model.
        after: truth against the new one.
        labelled: ids of the models' classes that the masks name; the others may lie in their background.
        unknown: names of the masks' classes that the new model does not know; their pixels are not judged.
    """

    before: Tally
    after: Tally
    labelled: frozenset[int]
    unknown: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether background in the masks is background to the models, too."""
        return self.labelled >= set(self.before.classes.ids) - {BACKGROUND}

    def iou(self, tally: Tally, known: int) -> list[float]:
        """IoU by class in the order of ``Classes.names``.

        NaN where nothing can be said: no pixel in the masks, a class that the masks do not name, background where they do not name
        all, and a class beyond the first ``known``, which the model never heard of.
        """
        ids = tally.classes.ids
        said = [number in self.labelled or (number == BACKGROUND and self.complete) for number in ids]
        return [
            value if can and place < known else math.nan
            for place, (value, can) in enumerate(zip(tally.scores.class_iou, said, strict=True))
        ]


@dataclass(frozen=True)
class Statement:
    """What was lost and won, as far as it was measured.

    Attributes:
        classes: of both models.
        held_back: the old model's word against the new one's, on images without labels; None where there were none.
        judged: both models against masks; None where there were none.
        faults: what could not be read, one line each.
    """

    classes: Classes
    held_back: Tally | None = None
    judged: Judged | None = None
    faults: tuple[str, ...] = field(default=())

    def rows(self) -> list[Row]:
        """One row a class, then the means of ``old``, ``new`` and ``all``; shares in [0, 1], NaN where nothing is known.

        ``agreement_iou``: IoU between what the old model said and what the new one says. ``still_stands``: share of the old
        model's pixels that the new one gives the same class. ``taken_by``: the class that has most of the others.
        """
        rows = [
            {"class": name, "id": number, "kind": self.classes.kind(place)}
            for place, (number, name) in enumerate(self.classes.names.items())
        ]
        if self.held_back is not None:
            self._add_agreement(rows, self.held_back)
        if self.judged is not None:
            self._add_judgement(rows, self.judged)
        return rows + self._means(rows)

    def _add_agreement(self, rows: Sequence[Row], tally: Tally) -> None:
        iou, shares = tally.scores.class_iou, tally.shares()
        for place, row in enumerate(rows):
            row |= {"held_back_images": int(tally.shown[place]), "held_back_pixels": int(tally.pixels[place])}
            row |= {"agreement_iou": iou[place], "still_stands": float(shares[place, place])}
            taken = greatest(shares, place)
            row |= {"taken_by": "", "taken_share": math.nan}
            if taken is not None:
                row |= {"taken_by": rows[taken]["class"], "taken_share": float(shares[place, taken])}

    def _add_judgement(self, rows: Sequence[Row], judged: Judged) -> None:
        before = judged.iou(judged.before, self.classes.old)
        after = judged.iou(judged.after, len(self.classes.names))
        for place, row in enumerate(rows):
            row |= {"val_images": int(judged.before.shown[place]), "val_pixels": int(judged.before.pixels[place])}
            row |= {"iou_before": before[place], "iou_after": after[place]}

    def _means(self, rows: Sequence[Row]) -> list[Row]:
        """Means over classes with a value: background counts for ``all`` alone, which needs another class beside it."""
        columns = [name for name in ("agreement_iou", "iou_before", "iou_after") if name in rows[0]]
        means: list[Row] = []
        for name in ("old", "new", "all"):
            mean: Row = {"class": f"mean of {name}", "kind": name}
            for column in columns:
                known = [row for row in rows if name in (row["kind"], "all") and not math.isnan(row[column])]
                values = [row[column] for row in known] if any(row["kind"] != "background" for row in known) else []
                mean[column] = sum(values) / len(values) if values else math.nan
            means.append(mean)
        return means

    def takeovers(self) -> list[str]:
        """A sentence for each new class: from which old class it took the greatest share, and how much of the background."""
        if self.held_back is None:
            return []
        shares, pixels, names = self.held_back.shares(), self.held_back.matrix, list(self.classes.names.values())
        lines = []
        for new in range(self.classes.old, len(names)):
            taken = np.nan_to_num(shares[: self.classes.old, new])
            greatest_old = [1 + int(taken[1:].argmax())] if self.classes.old > 1 else []
            parts = [
                f"{percent(taken[old])} % of what was {names[old]} ({pixels[old, new]:,} pixels)"
                for old in (*greatest_old, 0)
                if pixels[old, new]
            ]
            lines.append(f"{names[new]} took {' and '.join(parts) or 'no pixel of any old class'}.")
        return lines

    def sentences(self) -> list[str]:
        """What was measured, in words, each with the number of images and pixels behind it."""
        lines = []
        if self.held_back is not None:
            tally, result = self.held_back, self.held_back.scores
            lines.append(
                f"Held back, without labels: {counted(tally.images, 'image')}, {int(tally.pixels.sum()):,} pixels. "
                f"Of these {percent(result.overall_acc)} % keep the class that the old model gave them."
            )
            seen = [place for place in range(1, self.classes.old) if tally.pixels[place]]
            if seen:
                lowest = min(seen, key=lambda place: result.class_iou[place])
                lines.append(
                    f"Agreement IoU of the {counted(len(seen), 'old class', 'old classes')} that the old model shows there: "
                    f"{percent(result.old_iou)} % on average; the lowest is {percent(result.class_iou[lowest])} % for "
                    f"{result.names[lowest]} ({tally.pixels[lowest]:,} pixels on {counted(int(tally.shown[lowest]), 'image')})."
                )
            lines += self.takeovers()
        if self.judged is not None:
            old, new, every = self.rows()[-3:]
            lines.append(
                f"Against masks: {counted(self.judged.before.images, 'image')}, {int(self.judged.before.pixels.sum()):,} pixels. "
                f"mIoU of old classes {percent(old['iou_before'])} % before, {percent(old['iou_after'])} % after; "
                f"of new classes {percent(new['iou_after'])} %; of all {percent(every['iou_after'])} %."
            )
        return lines

    def limits(self) -> list[str]:
        """What was not measured, and what the numbers do not say."""
        lines = []
        news = named(self.classes.new)
        if self.judged is None:
            lines.append(
                f"Not measured, because no masks were given (--val): how well the new model finds {news}, "
                "and whether old classes got better or worse."
            )
        if self.held_back is None:
            lines.append(
                "Not measured, because no image was held back: how much of what the old model said still stands."
            )
        else:
            lines.append(
                "Agreement is not truth: where the old model was wrong, or where a new class stands in its background, "
                "a good new model disagrees with it."
            )
            lines += self._unsure(self.held_back, "held-back", "the old model sees", range(1, self.classes.old))
        if self.judged is not None:
            lines += self._limits_of_masks(self.judged)
        if self.faults:
            lines.append(f"{counted(len(self.faults), 'image')} could not be read and left out: {named(self.faults)}.")
        return lines

    def _limits_of_masks(self, judged: Judged) -> list[str]:
        names = self.classes.names
        lines = [
            "Before, the mean of all is over the classes that the old model knows; its pixels are the same as after, "
            "those of new classes among them."
        ]
        missing = [name for number, name in names.items() if number not in judged.labelled and number != BACKGROUND]
        if missing:
            lines.append(
                f"The masks do not name {named(missing)}: no IoU of these is known, nor of background, where they may lie."
            )
        if judged.unknown:
            lines.append(f"The masks name {named(judged.unknown)}, which the model does not know.")
        if judged.before.open:
            share = judged.before.open / (judged.before.open + int(judged.before.pixels.sum()))
            lines.append(
                f"{percent(share)} % of the pixels of the masks are 255, or of a class that the model does not know: they are not judged."
            )
        labelled = [place for place, number in enumerate(names) if number in judged.labelled and place]
        return lines + self._unsure(judged.before, "judged", "the masks show", labelled)

    def _unsure(self, tally: Tally, what: str, who: str, places: Sequence[int]) -> list[str]:
        """Sentences on classes that no image shows, or few, and on few images: another choice would give other numbers."""
        names, lines = list(self.classes.names.values()), []
        absent = [names[place] for place in places if not tally.shown[place]]
        rare = [names[place] for place in places if 0 < tally.shown[place] < RARE]
        if absent:
            lines.append(f"On no {what} image {who} {named(absent)}: nothing is known of that.")
        if tally.images < FEW:
            lines.append(f"Only {counted(tally.images, f'{what} image')}: other images would give other numbers.")
        elif rare:
            lines.append(
                f"On fewer than {RARE} {what} images {who} {named(rare)}: other images would give other numbers."
            )
        return lines


def greatest(shares: NDArray[np.float64], place: int) -> int | None:
    """The class, other than itself, that has the greatest share of a row; None where none has any."""
    others = np.nan_to_num(shares[place].copy())
    others[place] = 0
    return int(others.argmax()) if others.max(initial=0) > 0 else None


def counted(number: int, one: str, many: str = "") -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def named(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    texts = [shown_text(name) for name in names[:TOLD]]
    if len(names) > TOLD:
        return f"{', '.join(texts)} and {len(names) - TOLD} more"
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
