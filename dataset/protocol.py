"""Which images a step sees, computed from image labels alone (docs/method.md, "The task").

The computed training lists of VOC 15-5 and 10-10, overlap and disjoint, and the validation lists of 15-5 equal the published ones. The
validation lists published for 10-10 are a copy of those for 15-5, not what the rule gives for 10-10; here the rule is followed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset.files import tell
from tasks import BACKGROUND, Task, label_columns
from utils.errors import UserError

# Order in which the partitioned protocol hands out images; one order for everybody.
PARTITION_SEED = 0


def _holds(labels: NDArray[np.bool_], classes: tuple[int, ...]) -> NDArray[np.bool_]:
    """(N,) whether an image holds one of the foreground ``classes``."""
    return np.asarray(labels[:, label_columns(classes)].any(axis=1))


def select(image_labels: NDArray[np.bool_], task: Task, step: int, protocol: str) -> NDArray[np.int64]:
    """Training images of ``step``, ascending.

    - overlap: every image that holds a class of the step;
    - disjoint: of these, the ones that hold no class of a later step;
    - partitioned (arXiv 2405.09858): every image belongs to one class, and with it to one step: images are taken in a fixed random
      order, and each goes to that one of its classes which has fewest so far.

    Args:
        image_labels: (N, K), column k is class k + 1.
        task: which classes are learned when.
        step: the step.
        protocol: overlap, disjoint or partitioned.

    Raises:
        UserError: no such protocol.
    """
    if protocol == "overlap":
        chosen = _holds(image_labels, task.new(step))
    elif protocol == "disjoint":
        chosen = _holds(image_labels, task.new(step)) & ~_holds(image_labels, task.future(step))
    elif protocol == "partitioned":
        chosen = np.isin(_owners(image_labels, task), [i for i in task.new(step) if i != BACKGROUND])
    else:
        raise UserError(f"--protocol {protocol}: choose disjoint, overlap or partitioned")
    return np.flatnonzero(chosen)


def _owners(image_labels: NDArray[np.bool_], task: Task) -> NDArray[np.int64]:
    """(N,) the class that each image belongs to in the partitioned protocol, 0 where it holds none of the task."""
    classes = np.array(sorted(i for i in task.seen(len(task) - 1) if i != BACKGROUND))
    held = image_labels[:, label_columns(classes.tolist())]
    owners = np.zeros(len(image_labels), dtype=np.int64)
    sizes = np.zeros(len(classes), dtype=np.int64)
    for image in np.random.default_rng(PARTITION_SEED).permutation(len(image_labels)):
        present = np.flatnonzero(held[image])
        if len(present):
            owner = present[sizes[present].argmin()]
            owners[image] = classes[owner]
            sizes[owner] += 1
    return owners


def validation_indices(image_labels: NDArray[np.bool_], task: Task, step: int) -> NDArray[np.int64]:
    """Images to validate on during training, ascending: those of the disjoint rule, whatever the protocol.

    coco-voc validates on all images, as its published lists do.
    """
    if task.dataset == "coco-voc":
        return np.arange(len(image_labels))
    return select(image_labels, task, step, "disjoint")


def load_index_list(path: str | Path, length: int) -> NDArray[np.int64]:
    """A published index list (.npy of image numbers).

    Args:
        path: the file.
        length: number of images of the split.

    Raises:
        UserError: the file cannot be read, holds something else, or numbers outside the split.
    """
    try:
        indices = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as an index list (.npy)") from error
    if not isinstance(indices, np.ndarray) or indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise UserError(f"{path}: an index list is one row of whole numbers")
    if len(indices) and (indices.min() < 0 or indices.max() >= length):
        raise UserError(f"{path}: names image {indices.max()}, the split has {length}; is it of another data set?")
    repeated = len(indices) - len(np.unique(indices))
    if repeated:
        tell(f"{path}: {repeated} of {len(indices)} numbers stand there before, and count as often")
    return indices.astype(np.int64)
