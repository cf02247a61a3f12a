"""Pseudo-labels of replay images: what the frozen model of an earlier step sees in them.

Where they stand in the method: docs/method.md, "Old classes from captions".
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from argparser import Options
from captions.formats import read_class_words
from captions.vocabulary import match_class
from dataset import class_names, default_folder
from dataset.files import shown
from dataset.groups import Groups, groups_of
from dataset.replay_tree import Marker, ReplayImage, images_of, left_out, originals
from engine.state import read_model
from modules.description import Description, own_network
from segmentation_module import Segmenter
from tasks import BACKGROUND, load_task
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError
from utils.images import write_mask
from utils.texts import composed
from utils.whole import write_whole

LOG = logging.getLogger("webwilss")


@dataclass(frozen=True)
class LabelSettings:
    """What labels depend on besides the checkpoint.

    Attributes:
        flip: also look at the mirrored image.
        scales: sizes at which to look, as factors; the logits of all looks are averaged.
        threshold: pixels whose class is less probable than this become 255.
        max_side: larger images are looked at with their longer side of so many pixels.
        precision: arithmetic of the network.
        words: hash of the class words that images are dropped by; None where none are.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    threshold: float = 0.0
    max_side: int = 1024
    precision: str = "fp32"
    words: str | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON gives them back."""
        return asdict(self) | {"scales": list(self.scales)}


class Labeller:
    """A frozen segmenter that writes class ids.

    Args:
        path: a checkpoint of any task and step.
        settings: how to look.
        runtime: device and precision.
        described: what a published checkpoint does not say of itself; None for those of this project, which do.

    Raises:
        UserError: the checkpoint cannot be read, or is of another network than described.
    """

    def __init__(self, path: Path, settings: LabelSettings, runtime: Runtime, described: Options | None = None) -> None:
        weights, own = read_model(path)
        description = _description(path, own, described)
        self.path, self.settings, self.runtime = path, settings, runtime
        task = description.task
        self.marker = Marker(
            checkpoint=checkpoint.weights_digest(weights),
            dataset=description.dataset,
            task=Path(task).stem if task.endswith(".json") else task,
            step=len(description.steps) - 1,
            classes=tuple(description.names.items()),
            settings=settings.plain(),
        )
        self.segmenter = Segmenter(description, weights, runtime, str(path))
        self.model = self.segmenter.model

    @torch.inference_mode()
    def label(self, images: Tensor) -> NDArray[np.uint8]:
        """Class ids (B, H, W) of ``images`` (B, 3, H, W) uint8; 255 where the class is less probable than the threshold.

        Raises:
            UserError: the network gives no numbers; the greatest of them would be background.
        """
        logits = self.segmenter.logits(images, self.settings.scales, self.settings.flip)
        label: NDArray[np.uint8] = self.segmenter.labels(logits, self.settings.threshold).cpu().numpy()
        return label


def _description(path: Path, own: Description | None, described: Options | None) -> Description:
    """What a checkpoint says of itself or, of a published one, what the user says."""
    if own is not None:
        if described is not None:
            raise UserError(f"{path}: says itself what it is; leave out --dataset, --task, --step and --backbone")
        return own
    if described is None:
        raise UserError(f"{path}: a published checkpoint does not say what it knows; give --dataset, --task and --step")
    folder = default_folder(described.dataset, described.data_root, described.dataset_dir)
    known = class_names(described.dataset, folder)
    task = load_task(described.dataset, described.task, set(known))
    steps = [list(classes) for classes in task.steps[: described.step + 1]]
    return Description(
        network=own_network(described.plain()),
        steps=tuple(map(tuple, steps)),
        class_names=tuple(known[number] for classes in steps for number in classes),
        # The published models are trained with binary cross entropy.
        binary=bool(described.bce or described.icarl or described.method == "weak"),
        dataset=described.dataset,
        task=described.task,
        options=described.plain(),
    )


def words_digest(path: Path) -> str:
    """Hash of a file of class words; UserError where there is no such file."""
    if not path.is_file():
        raise UserError(f"--drop_without_words {path}: no such file")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wanted_ids(path: Path, classes: Sequence[tuple[int, str]]) -> dict[str, set[int]]:
    """Class ids that each original's class words name; words of classes that the model does not know say nothing.

    Args:
        path: lines ``<original>.png word word``, as the published ``pascal_classes.txt``.
        classes: id and name of the model's classes.

    Returns:
        ids by the original's name, its letters with their accents as one character (``utils.texts.composed``).

    Raises:
        UserError: the file cannot be read, or a word may mean two classes.
    """
    known = {name: number for number, name in classes if number != BACKGROUND}
    wanted: dict[str, set[int]] = {}
    unknown: dict[str, None] = {}
    for name, words in read_class_words(path).items():
        matched = {word: match_class(word, list(known)) for word in words}
        wanted[composed(name)] = {known[own] for own in matched.values() if own is not None}
        unknown.update(dict.fromkeys(word for word, own in matched.items() if own is None))
    if unknown:
        LOG.info("%s: %d words are no class of the model and say nothing: %s", path, len(unknown), shown(unknown))
    return wanted


def write_dropped(pair: ReplayImage, reason: str) -> None:
    """Say that an image is not to be used, in place of its label."""
    write_whole(pair.dropped, f"{reason}\n")


@dataclass
class Labelled:
    """What a labelling did, over all ranks.

    Attributes:
        images: images of the tree.
        before: those that an earlier, stopped labelling had done.
        labelled: labelled now.
        dropped: dropped now, because they show none of the classes that their original's words name.
        faults: of files that this rank could not read.
        unreadable: number of these on all ranks.
    """

    images: int
    before: int
    labelled: int = 0
    dropped: int = 0
    unreadable: int = 0
    faults: list[str] = field(default_factory=list)


def label_tree(
    tree: Path, labeller: Labeller, runtime: Runtime, *, wanted: Mapping[str, set[int]], batch_size: int, workers: int
) -> Labelled:
    """Label every image of a signed tree that has no label yet; each rank does its share.

    Args:
        tree: the replay tree.
        labeller: the model.
        runtime: the ranks.
        wanted: ids of which an image must show one, by original; others are not asked.
        batch_size: images of equal size that are labelled at once.
        workers: processes that decode.

    Raises:
        UserError: the tree holds no image.
    """
    folders = originals(tree)
    pairs = [pair for folder in folders for pair in images_of(folder)]
    if not pairs:
        raise UserError(f"{tree}: holds no image; expected <original>/image/00001.jpg or <original>/00001.jpg")
    unasked = [folder.name for folder in folders if wanted and composed(folder.name) not in wanted]
    if unasked and runtime.main:
        LOG.warning(
            "%d originals have no line of class words, and are not asked for them: %s", len(unasked), shown(unasked)
        )
    todo = [pair for pair in pairs if not pair.done]
    # Every rank has seen what is to do before one of them does any of it.
    runtime.barrier()
    result = Labelled(len(pairs), len(pairs) - len(todo))
    if runtime.main:
        result.faults += [fault for folder in folders for fault in left_out(folder)]
    share = groups_of(todo, batch_size)[runtime.rank :: runtime.world]
    loader = DataLoader(Groups(share, labeller.settings.max_side), batch_size=None, num_workers=workers)
    with tqdm(total=sum(map(len, share)), desc="Labelling", disable=None if runtime.main else True) as bar:
        for decoded in loader:
            for group in decoded.groups:
                for pair, label in zip(group.members, labeller.label(group.images), strict=True):
                    asked = wanted.get(composed(pair.original), set())
                    if asked and not asked & set(np.unique(label).tolist()):
                        names = ", ".join(name for number, name in labeller.marker.classes if number in asked)
                        write_dropped(pair, f"the pseudo-label shows none of: {names}")
                        result.dropped += 1
                    else:
                        write_mask(pair.label, label, group.size)
                        result.labelled += 1
                bar.update(len(group.members))
            result.faults += [fault for _, fault in decoded.faults]
            bar.update(len(decoded.faults))
    counts = torch.tensor([result.labelled, result.dropped, len(result.faults)], device=runtime.device)
    result.labelled, result.dropped, result.unreadable = runtime.sum(counts).tolist()
    return result
