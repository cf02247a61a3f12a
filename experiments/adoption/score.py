"""What any segmenter says of a data set's validation images, by names of classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dataset.source import Source
from dataset.transform import val_transform
from segmentation_module import Segmenter
from tasks import IGNORE
from utils.errors import UserError
from utils.metrics import ConfusionMatrix, Scores, scores
from utils.spelling import fits
from utils.whole import write_whole

BATCH = 16


def score(segmenter: Segmenter, source: Source, old: Sequence[str], new: Sequence[str], crop: int) -> Scores:
    """Scores as those of ``run.py --test --crop_size_val``: pixels of other classes are left out.

    A segmenter that does not know a new class yet is judged on its pixels, too.

    Args:
        segmenter: knows background and classes of ``old`` and ``new``.
        source: images and masks.
        old: names of the classes that were there before.
        new: names of the added classes.
        crop: the shorter side is scaled to it and the centre cut out.

    Raises:
        UserError: a class that the data set or the segmenter does not know by this name.
    """
    names = ["background", *old, *new]
    ids = {name: number for number, name in source.class_names.items()}
    lookup = torch.full((256,), IGNORE)
    lookup[[0, *(ids[_only(name, list(ids), source.name)] for name in names[1:])]] = torch.arange(len(names))
    # Background comes first, whatever it is called.
    channels = [
        0,
        *(names.index(_only(name, names, "--old and --new")) for name in segmenter.description.class_names[1:]),
    ]
    confusion = ConfusionMatrix(len(names))
    for images, masks in _batches(source, crop):
        predicted = segmenter.logits(images).argmax(dim=1).cpu()
        confusion.update(lookup[masks], torch.tensor(channels)[predicted])
    return scores(confusion.matrix, 1 + len(old), names)


def _only(name: str, known: Sequence[str], where: str) -> str:
    """The one of ``known`` that is spelled like ``name``."""
    found = fits(name, known)
    if len(found) != 1:
        raise UserError(
            f"{where}: the class {name} is {'none' if not found else 'more than one'} of {', '.join(known)}"
        )
    return found[0]


def _batches(source: Source, crop: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, 3, crop, crop) uint8 and (B, crop, crop) ids of the data set, in order."""
    change = val_transform(crop)
    for first in tqdm(range(0, len(source), BATCH), desc="Scores"):
        pairs = [change(*source.pair(index)) for index in range(first, min(first + BATCH, len(source)))]
        yield torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs]).long()


def write_scores(path: Path, arm: str, when: str, seed: int, found: Scores) -> None:
    """The scores and whose they are, for the table."""
    # NaN is what JSON of Python says where a class has no pixel, or nothing is new.
    row = {"arm": arm, "when": when, "seed": seed, "scores": found.summary(), "iou": found.by_name()}
    write_whole(path, json.dumps(row, indent=1) + "\n")
