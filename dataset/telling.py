"""What a person should know of the data before hours are spent on them: classes with their images, and what looks wrong.

Told at the start of a run and by ``dataset.check``; all of it comes from the pass that makes the image labels
(``dataset/survey.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset.files import shown
from dataset.incremental import IncrementalView
from dataset.source import Source, refuse_clashes
from tasks import BACKGROUND, Task, label_column
from utils.images import FEW_LEVELS, DecodeError

LOG = logging.getLogger("webwilss")
# Classes that live along edges are told from this share of the masks on; real objects that thin are rarer.
OFTEN = 0.01


@dataclass(frozen=True)
class Suspicion:
    """Something that looks wrong.

    Attributes:
        short: what, in a few words.
        text: what, in how many files, the first few names, and what to do.
        images: (M,) positions of these files in the source.
    """

    short: str
    text: str
    images: NDArray[np.int64]


def label(source: Source, class_id: int) -> str:
    """A class as messages name it: ``3 cow``."""
    return f"{class_id} {source.class_names[class_id]}"


def foreground(source: Source) -> list[int]:
    """The ids of a source's classes, ascending, without background."""
    return sorted(i for i in source.class_names if i != BACKGROUND)


def images_of(source: Source, indices: NDArray[np.int64] | None = None) -> dict[int, int]:
    """Class id -> how many images of the source, or of those of ``indices``, hold it."""
    labels = source.survey([]).labels
    counts = (labels if indices is None else labels[indices]).sum(axis=0)
    return {i: int(counts[label_column(i)]) for i in foreground(source)}


def counted(source: Source, counts: dict[int, int]) -> str:
    """``1 red (312 images), 2 green (205)`` of every class."""
    parts = [f"{label(source, i)} ({count})" for i, count in counts.items()]
    return ", ".join([part.replace(")", " images)") if not k else part for k, part in enumerate(parts)])


def without_images(source: Source, empty: Iterable[int]) -> str:
    """``no image of S holds 2 lesion``, and what may be the reason; empty where there is no such class."""
    names = [label(source, i) for i in empty]
    if not names:
        return ""
    text = f"no image of {source.name} holds {shown(names)}"
    whiter = int((source.survey([]).ignored > 0).sum())
    if whiter:
        text += f"; {whiter} of {len(source)} masks hold 255, which is ignore: if it means a class, give it the class's number"
    return text


def _some(source: Source, chosen: NDArray[np.bool_], short: str, text: str) -> list[Suspicion]:
    images = np.flatnonzero(chosen)
    if not len(images):
        return []
    names = shown(source.ids[i] for i in images)
    return [Suspicion(short, f"{len(images)} of {len(source)} {text} ({names})", images)]


def _edges(source: Source) -> list[Suspicion]:
    found = source.survey([])
    images = np.flatnonzero(found.edges.any(axis=1))
    if not len(images) or len(images) < OFTEN * len(source):
        return []
    edges, held = found.edges.sum(axis=0), found.labels.sum(axis=0)
    thin = [i for i in foreground(source) if edges[label_column(i)]]
    thin.sort(key=lambda i: -edges[label_column(i)] / held[label_column(i)])
    columns = [(label(source, i), edges[label_column(i)], held[label_column(i)]) for i in thin]
    classes = shown(f"{name} (in {few} of the {all_} images that hold it)" for name, few, all_ in columns)
    text = (
        f"{len(images)} of {len(source)} masks hold classes only along the edges of others: {classes}; were the masks resized with"
        " interpolation, or saved in a lossy format, once? make them anew with nearest neighbour, from the annotation"
        f" ({shown(source.ids[i] for i in images)})"
    )
    return [Suspicion("classes along edges alone", text, images)]


def suspicions(source: Source) -> list[Suspicion]:
    """What looks wrong in the files of a source, gravest first."""
    found = source.survey([])
    return [
        *_edges(source),
        *_some(
            source,
            found.recoloured,
            "a palette of its own",
            "masks have palettes that differ: an index has another colour than in others, and class numbers must not depend on the file",
        ),
        *_some(source, found.ignored == 1, "all ignore", "masks are 255 (ignore) everywhere and teach nothing"),
        *_some(
            source,
            found.turned,
            "turned by an EXIF tag",
            "images are turned by an EXIF tag that their masks lack: the masks must show the turned image;"
            f" {int((found.turned & ~found.unsure & ~found.unfit).sum())} of them do by their size",
        ),
        *_some(
            source,
            found.dim,
            "hardly any grey levels",
            f"images of more than 8 bits have hardly any grey levels, fewer than {FEW_LEVELS}, once they have 8: their white is not their"
            " format's (65535 for whole numbers, 1 for floats), and they are scaled by no other",
        ),
    ]


def _refuse_bad_pairs(view: IncrementalView) -> None:
    """Raise what training or test would meet after hours: an image that cannot be read or does not fit its mask."""
    found = view.source.survey([])
    chosen = view.indices[(found.unread | found.unfit)[view.indices]]
    for index in chosen:
        try:
            view.pair(int(index))
        except DecodeError as error:
            more = f"; {len(chosen)} images of {view.source.name} cannot be used" if len(chosen) > 1 else ""
            raise DecodeError(f"{error}{more}") from error


def tell(task: Task, step: int, views: Sequence[IncrementalView]) -> None:
    """Log what the data of a step are, warn of what looks wrong, refuse what cannot be right.

    Args:
        task: which classes are learned when.
        step: the step.
        views: the step's views of data sets; those of one source are told once.

    Raises:
        DecodeError: palettes that contradict each other; a pair that a view would fail to read.
    """
    sources = list({id(view.source): view.source for view in views}.values())
    refuse_clashes(sources)
    for view in views:
        _refuse_bad_pairs(view)
    for source in sources:
        LOG.info("%s, %d images: %s", source.name, len(source), counted(source, images_of(source)))
        for suspicion in suspicions(source):
            LOG.warning("%s: %s", source.name, suspicion.text)
    told = set()
    for view in views:
        # Later steps of coco-voc are tested on VOC, which by design shows none of the classes before.
        own = view.train or task.dataset == "coco-voc"
        wanted = task.new(step) if own else task.seen(step)
        counts = images_of(view.source, view.indices if view.train else None)
        empty = [i for i in wanted if counts.get(i) == 0]
        use = "is trained without" if view.train else "is tested without"
        if empty and (use, tuple(empty)) not in told:
            told.add((use, tuple(empty)))
            hidden = [i for i in empty if images_of(view.source)[i]]
            names = shown(label(view.source, i) for i in empty)
            reason = without_images(view.source, [i for i in empty if i not in hidden])
            if hidden:
                reason = "; ".join(
                    [*filter(None, [reason]), "the protocol or the list leaves out all images of the others"]
                )
            LOG.warning("step %d %s %s: %s", step, use, names, reason)
