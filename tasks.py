"""Protocols: which classes a segmenter learns at which step, as plain data.

A task is a list of steps. Step 0 lists background (0) and the base classes, each later step the classes that it adds. Class
ids are the data set's own ids (COCO: 1..91); the network's channel of a class is its position in the concatenation of the
steps. This file is the only place where ids become channels and back.

Sources: MiB (arXiv 2002.00718, section 5) for the VOC tasks, WILSON (arXiv 2112.01882, section 4) for coco and coco-voc.
A new task is one line in ``TASKS`` or a JSON file ``{"0": [0, ...], "1": [...]}``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError
from utils.json_files import once
from utils.texts import read_text

BACKGROUND = 0
IGNORE = 255
# A task's file has a few ids of three digits: bytes and digits beyond these are another file's.
LONGEST_FILE, LONGEST_ID = 1 << 20, 9
# What becomes of classes not yet learned in test masks: all left out, those of later steps background, all background.
TEST_UNKNOWN = ("ignore", "later", "background")

# VOC class id -> COCO id in the numbering 1..91 (stuff-thing map value plus one).
VOC_TO_COCO = {
    1: 5, 2: 2, 3: 16, 4: 9, 5: 44, 6: 6, 7: 3, 8: 17, 9: 62, 10: 21,
    11: 67, 12: 18, 13: 19, 14: 4, 15: 1, 16: 64, 17: 20, 18: 63, 19: 7, 20: 72,
}  # fmt: skip
# Ids of 1..91 that COCO's annotation never uses.
COCO_UNUSED = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
COCO_CLASSES = tuple(i for i in range(1, 92) if i not in COCO_UNUSED)
_COCO_OLD = tuple(i for i in COCO_CLASSES if i not in VOC_TO_COCO.values())
_COCO_NEW = tuple(sorted(VOC_TO_COCO.values()))


def _split(base: int, last: int, per_step: int) -> list[list[int]]:
    """Classes 0..base first, then ``per_step`` at a time up to ``last``."""
    return [list(range(base + 1))] + [list(range(i, i + per_step)) for i in range(base + 1, last + 1, per_step)]


_VOC = {
    "offline": _split(20, 20, 1),
    "19-1": _split(19, 20, 1),
    "19-1b": [[i for i in range(21) if i != 5], [5]],
    "15-5": _split(15, 20, 5),
    "15-5s": _split(15, 20, 1),
    "10-10": _split(10, 20, 10),
    "10-10s": _split(10, 20, 1),
    "10-5-5": _split(10, 20, 5),
    "10-2": _split(10, 20, 2),
    # Seven classes of VOC that small photographs can teach: cat, dog, horse, person; then cow and sheep.
    "4-2": [[0, 8, 12, 13, 15], [10, 17]],
    "4-1": [[0, 8, 12, 13, 15], [10], [17]],
    "animals-offline": [[0, 8, 12, 13, 15, 10, 17]],
}

TASKS: dict[str, dict[str, list[list[int]]]] = {
    "voc": _VOC,
    "coco": {"offline": [[0, *COCO_CLASSES]], "voc": [[0, *_COCO_OLD], list(_COCO_NEW)]},
    "coco-voc": {"offline": [[0, *_COCO_OLD, *_COCO_NEW]], "voc": [[0, *_COCO_OLD], list(_COCO_NEW)]},
    "shapes": {
        "offline": _split(8, 8, 1),
        "5-3": _split(5, 8, 3),
        "5-1": _split(5, 8, 1),
        "4-2": _split(4, 8, 2),
        "6-2": _split(6, 8, 2),
    },
    # A folder's classes are its user's own: every task of it is a JSON file, or `offline`, which load_task makes from classes.txt.
    "folder": {},
}


def label_column(class_id: int) -> int:
    """Column of a class in an image's label vector (C - 1,), which has none for background."""
    return class_id - 1


def label_columns(class_ids: Iterable[int]) -> list[int]:
    """Columns of the foreground classes among ``class_ids``, in their order; background is left out."""
    return [label_column(class_id) for class_id in class_ids if class_id != BACKGROUND]


@dataclass(frozen=True)
class Task:
    """Which classes are learned when, in data set ids; ``steps[0]`` starts with background."""

    dataset: str
    name: str
    steps: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.steps)

    def new(self, step: int) -> tuple[int, ...]:
        """Ids that ``step`` adds (step 0: background and the base classes)."""
        return self.steps[step]

    def old(self, step: int) -> tuple[int, ...]:
        """Ids learned before ``step``, in channel order, background first; empty at step 0."""
        return tuple(i for classes in self.steps[:step] for i in classes)

    def seen(self, step: int) -> tuple[int, ...]:
        """Ids learned up to and including ``step``: position = channel of the network."""
        return self.old(step + 1)

    def future(self, step: int) -> tuple[int, ...]:
        """Ids that only later steps learn."""
        return tuple(i for classes in self.steps[step + 1 :] for i in classes)

    def classes_per_step(self, step: int) -> list[int]:
        """Channels of each classifier up to ``step``: [16, 5] for VOC 15-5 at step 1."""
        return [len(classes) for classes in self.steps[: step + 1]]

    def lookup(self, step: int, *, train: bool, mask_old: bool, unknown: str = "background") -> list[int]:
        """Channel of each of the 256 possible mask values (docs/method.md, "The task"; MiB, section 5).

        Kept are the classes of the step and, with ``mask_old=False``, the old ones too. In training everything else is
        background, 255 included. In test 255 stays 255, and ``unknown`` says what every other value becomes.

        Args:
            step: the step whose view of the data is asked for.
            train: training masks (255 becomes background) or test masks (255 stays).
            mask_old: whether old classes lose their label (a step's training) or keep it (test, ``--no_mask``).
            unknown: one of ``TEST_UNKNOWN``, what a test mask's unknown classes become: ``background`` is the published code's
                mapping; ``ignore`` leaves them out of the score; ``later`` makes those of later steps background and leaves out what
                no step learns, so that every step is judged on the same pixels.

        Returns:
            256 channel numbers, 255 for pixels that must not count.

        Raises:
            ValueError: ``unknown`` is none of these.
        """
        if unknown not in TEST_UNKNOWN:
            raise ValueError(f"unknown={unknown!r}: none of {', '.join(TEST_UNKNOWN)}")
        table = [BACKGROUND if train or unknown == "background" else IGNORE] * 256
        table[BACKGROUND] = BACKGROUND
        if unknown == "later":
            for class_id in self.future(step):
                table[class_id] = BACKGROUND
        if not train:
            table[IGNORE] = IGNORE
        kept = set(self.new(step) if mask_old else self.seen(step))
        for channel, class_id in enumerate(self.seen(step)):
            if class_id in kept:
                table[class_id] = channel
        return table

    def image_label_columns(self, step: int) -> list[int]:
        """Columns of a data set's image labels in the network's channel order, background left out."""
        return label_columns(self.seen(step))

    def image_label_mask(self, step: int, *, mask_old: bool) -> list[int]:
        """1 where an image label may be shown at ``step``, in the order of ``image_label_columns``."""
        kept = set(self.new(step) if mask_old else self.seen(step))
        return [int(class_id in kept) for class_id in self.seen(step) if class_id != BACKGROUND]


def check_steps(steps: Sequence[Sequence[int]], known: set[int] | None, where: str) -> None:
    """Raise UserError unless ``steps`` is a task: background first in step 0, no class twice, none unknown or empty."""
    if not steps or not all(steps):
        raise UserError(f"{where}: a task needs at least one step and no step may be empty")
    flat = [i for classes in steps for i in classes]
    if flat[0] != BACKGROUND:
        raise UserError(f"{where}: step 0 must start with background, class 0")
    repeated = sorted(i for i, count in Counter(flat).items() if count > 1)
    if repeated:
        raise UserError(f"{where}: classes {_few(repeated)} are listed more than once")
    wrong = sorted(i for i in flat if not 0 <= i < IGNORE or (known is not None and i not in known))
    if wrong:
        raise UserError(f"{where}: classes {_few(wrong)} are not in the data set")


def _few(ids: Sequence[int], most: int = 10) -> str:
    return f"{list(ids[:most])}" + (f" and {len(ids) - most} more" if len(ids) > most else "")


def _number(text: str) -> int:
    if len(text) > LONGEST_ID:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _read_json(path: Path) -> list[list[int]]:
    try:
        raw = json.loads(read_text(path, LONGEST_FILE), object_pairs_hook=once, parse_int=_number)
    except UserError as error:
        raise UserError(f"--task {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"--task {path}: cannot be read as JSON ({error})") from error
    if not isinstance(raw, dict) or raw.keys() != {str(i) for i in range(len(raw))}:
        raise UserError(f'--task {path}: expected {{"0": [0, ...], "1": [...], ...}}, steps numbered from 0')
    steps = [raw[str(i)] for i in range(len(raw))]
    if not all(isinstance(s, list) and all(type(i) is int for i in s) for s in steps):
        raise UserError(f"--task {path}: every step must be a list of class ids (whole numbers)")
    return [s if i or not s or s[0] == BACKGROUND else [BACKGROUND, *s] for i, s in enumerate(steps)]


def load_task(dataset: str, name: str, known: set[int] | None = None) -> Task:
    """The task ``name`` of ``dataset``, or of a JSON file ``{"0": [...], "1": [...]}`` (background may be left out there).

    Args:
        dataset: a key of ``TASKS``.
        name: a task's name or a path that ends in ``.json``; the file's stem becomes the task's name.
        known: the data set's class ids, where they are known already; others are refused.

    Raises:
        UserError: unknown data set or task, or a file that is not a task.
    """
    if dataset not in TASKS:
        raise UserError(f"--dataset {dataset}: unknown; choose one of {', '.join(TASKS)}")
    if name.endswith(".json"):
        steps, label, where = _read_json(Path(name)), Path(name).stem, f"--task {name}"
    elif name in TASKS[dataset]:
        steps, label, where = TASKS[dataset][name], name, f"--task {name}"
    elif name == "offline" and known is not None:
        steps, label, where = [sorted(known | {BACKGROUND})], name, "--task offline"
    else:
        names = ", ".join(TASKS[dataset]) or "offline"
        raise UserError(f"--task {name}: unknown for --dataset {dataset}; choose one of {names}, or give a JSON file")
    check_steps(steps, None if known is None else known | {BACKGROUND}, where)
    return Task(dataset, label, tuple(tuple(s) for s in steps))
