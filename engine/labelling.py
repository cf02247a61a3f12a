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
import torch.nn.functional as F
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
from engine.state import Description, read_model
from modules.norm import arithmetic
from segmentation_module import make_model
from tasks import BACKGROUND, IGNORE, load_task
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError
from utils.images import write_mask
from utils.normalisation import Normalisation
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
        options, steps = description.options, description.steps
        ids = [number for classes in steps for number in classes]
        self.path, self.settings, self.runtime = path, settings, runtime
        self.marker = Marker(
            checkpoint=checkpoint.weights_digest(weights),
            dataset=options["dataset"],
            task=Path(options["task"]).stem if options["task"].endswith(".json") else options["task"],
            step=len(steps) - 1,
            classes=tuple(zip(ids, description.class_names, strict=True)),
            settings=settings.plain(),
        )
        # Methods with binary cross entropy give each class a probability of its own.
        self.binary = bool(options["bce"] or options["icarl"] or options["method"] == "weak")
        model = make_model(
            backbone=options["backbone"],
            output_stride=options["output_stride"],
            # Synchronised or not, of whatever package: a frozen model asks for the arithmetic alone.
            norm_act=arithmetic(options["norm_act"]),
            classes=[len(classes) for classes in steps],
            pooling=options["pooling"],
        )
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                f"{path}: its weights do not fit {options['backbone']} with {len(ids)} classes; is it of another network or step?"
            ) from error
        self.model = model.to(runtime.device).to(memory_format=torch.channels_last).requires_grad_(False).eval()
        self.normalisation = Normalisation.of(model.body, options["image_stats"])
        self.ids = torch.tensor(ids, dtype=torch.uint8, device=runtime.device)

    @torch.inference_mode()
    def label(self, images: Tensor) -> NDArray[np.uint8]:
        """Class ids (B, H, W) of ``images`` (B, 3, H, W) uint8; 255 where the class is less probable than the threshold.

        Raises:
            UserError: the network gives no numbers; the greatest of them would be background.
        """
        pixels = self.normalisation.apply(images.to(self.runtime.device).float() / 255)
        logits = self._logits(pixels)
        top, channel = logits.max(dim=1)
        if not top.isfinite().all():
            raise UserError(f"{self.path}: the network gives no finite numbers with --precision {self.settings.precision}; label by "
                            "another checkpoint, or with --precision fp32")  # fmt: skip
        labels = self.ids[channel]
        if self.settings.threshold > 0:
            confidence = top.sigmoid() if self.binary else (top - logits.logsumexp(dim=1)).exp()
            labels = labels.masked_fill(confidence < self.settings.threshold, IGNORE)
        label: NDArray[np.uint8] = labels.cpu().numpy()
        return label

    def _logits(self, pixels: Tensor) -> Tensor:
        """Mean logits (B, C, H, W) over all looks at the images."""
        size = pixels.shape[-2:]
        total = pixels.new_zeros(())
        for scale in self.settings.scales:
            look = pixels
            if scale != 1:
                small = [max(1, round(side * scale)) for side in size]
                look = F.interpolate(pixels, small, mode="bilinear", align_corners=False, antialias=True)
            logits = self._look(look)
            if self.settings.flip:
                logits = (logits + self._look(look.flip(-1)).flip(-1)) / 2
            total = total + F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return total / len(self.settings.scales)

    def _look(self, pixels: Tensor) -> Tensor:
        with self.runtime.autocast():
            logits = self.model(pixels.contiguous(memory_format=torch.channels_last), interpolate=False).logits
        return logits.float()


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
    return Description(described.plain(), steps, [known[number] for classes in steps for number in classes])


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
