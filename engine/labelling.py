"""Pseudo-labels of replay images: what the frozen model of an earlier step sees in them.

Where they stand in the method: docs/method.md, "Old classes from captions".
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from argparser import Options
from captions.formats import read_class_words
from captions.vocabulary import match_class
from dataset import class_names, default_folder
from dataset.files import shown
from dataset.groups import Decoded, Groups, groups_of
from dataset.replay_tree import BLOCKS, Marker, ReplayImage, images_of, left_out, originals
from engine.state import read_localizer, read_model
from modules.description import Description, own_network
from modules.localizer import make_localizer
from modules.norm import arithmetic, make_norm
from segmentation_module import Output, SegmentationModule, Segmenter
from spread.blocks import Row, Store, Worker, in_blocks
from spread.options import BLOCK_SIZE
from spread.ways import Way
from tasks import BACKGROUND, IGNORE, load_task
from utils import checkpoint, distributed
from utils.distributed import Runtime
from utils.errors import UserError
from utils.images import write_mask
from utils.names import BINARY_METHODS
from utils.texts import composed
from utils.whole import write_whole

LOG = logging.getLogger("webwilss")
# Pixels of a group of images, at most: more at once is no faster on a CPU, where each core has a group of its own in memory.
MOST_PIXELS = 1 << 21


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
        agree: pixels where the checkpoint's localizer sees another class become 255.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    threshold: float = 0.0
    max_side: int = 1024
    precision: str = "fp32"
    words: str | None = None
    agree: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON gives them back; ``agree`` where it is asked for, as trees that were labelled before it came do not know it."""
        values = asdict(self) | {"scales": list(self.scales)}
        return values if self.agree else {key: value for key, value in values.items() if key != "agree"}


class WithLocalizer(nn.Module):
    """A segmenter whose logits have its localizer's behind them, so that every look averages both.

    Args:
        model: the segmenter.
        localizer: features to logits of the same channels.
    """

    def __init__(self, model: SegmentationModule, localizer: nn.Module) -> None:
        super().__init__()
        self.model, self.localizer = model, localizer

    def forward(self, images: Tensor, interpolate: bool = True) -> Output:
        """Logits (B, 2 C, H, W) of ``images`` (B, 3, H, W), or (B, 2 C, h, w) where they were not interpolated."""
        output: Output = self.model(images, interpolate=interpolate)
        masks = self.localizer(output.features["body"])
        if masks.shape[-2:] != output.logits.shape[-2:]:
            masks = F.interpolate(masks, output.logits.shape[-2:], mode="bilinear", align_corners=False)
        return Output(torch.cat([output.logits, masks], dim=1), output.features)


class Labeller:
    """A frozen segmenter that writes class ids.

    Args:
        path: a checkpoint of any task and step.
        settings: how to look.
        runtime: device and precision.
        described: what a published checkpoint does not say of itself; None for those of this project, which do.

    Raises:
        UserError: the checkpoint cannot be read, is of another network than described, or lacks the localizer that is asked for.
    """

    def __init__(self, path: Path, settings: LabelSettings, runtime: Runtime, described: Options | None = None) -> None:
        weights, own = read_model(path)
        description = _description(path, own, described)
        self.path, self.settings, self.runtime = path, settings, runtime
        task = description.task
        localizer = read_localizer(path) if settings.agree else {}
        if localizer is None:
            raise UserError(f"--agree: {path} holds no localizer; give the checkpoint of a weak step")
        seen = weights | {f"localizer.{key}": value for key, value in localizer.items()}
        self.marker = Marker(
            checkpoint=checkpoint.weights_digest(seen),
            dataset=description.dataset,
            task=Path(task).stem if task.endswith(".json") else task,
            step=len(description.steps) - 1,
            classes=tuple(description.names.items()),
            settings=settings.plain(),
        )
        self.segmenter = Segmenter(description, weights, runtime, str(path))
        self.model = self.segmenter.model
        if settings.agree:
            # It answers as a segmenter does, with twice the channels.
            self.segmenter.model = cast(SegmentationModule, self._with_localizer(localizer, description))

    def _with_localizer(self, weights: dict[str, Tensor], description: Description) -> WithLocalizer:
        """The segmenter beside its localizer."""
        norm = make_norm(arithmetic(description.options["norm_act"]))
        localizer = make_localizer(self.model.body.out_channels, len(description.ids), norm)
        try:
            localizer.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                f"--agree: {self.path}: its localizer is of another network or number of classes than its segmenter"
            ) from error
        return WithLocalizer(self.model, localizer.to(self.runtime.device).requires_grad_(False)).eval()

    @torch.inference_mode()
    def label(self, images: Tensor) -> NDArray[np.uint8]:
        """Class ids (B, H, W) of ``images`` (B, 3, H, W) uint8; 255 where the class is less probable than the threshold, or where
        segmenter and localizer have to agree and do not.

        Raises:
            UserError: the network gives no numbers; the greatest of them would be background.
        """
        logits = self.segmenter.logits(images, self.settings.scales, self.settings.flip)
        own, *others = logits.chunk(2, dim=1) if self.settings.agree else [logits]
        labels = self.segmenter.labels(own, self.settings.threshold)
        for masks in others:
            labels = labels.masked_fill(own.argmax(dim=1) != masks.argmax(dim=1), IGNORE)
        label: NDArray[np.uint8] = labels.cpu().numpy()
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
        binary=bool(described.bce or described.icarl or described.method in BINARY_METHODS),
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
    """What a labelling did.

    Attributes:
        images: images of the tree.
        before: those that an earlier, stopped labelling had done.
        labelled: labelled now.
        dropped: dropped now, because they show none of the classes that their original's words name.
        faults: of files that could not be read.
    """

    images: int
    before: int
    labelled: int = 0
    dropped: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Decode:
    """Files of one stated size, decoded.

    Attributes:
        max_side: larger images are looked at with their longer side of so many pixels.
    """

    max_side: int

    def __call__(self, members: Sequence[ReplayImage]) -> tuple[list[ReplayImage], Decoded[ReplayImage]]:
        return list(members), Groups([members], self.max_side)[0]


def label_worker(labeller: Labeller, wanted: Mapping[str, set[int]]) -> Worker[ReplayImage]:
    """Labels groups of images, and writes what it sees; a row is ``labelled``, ``dropped``, or ``fault`` and why.

    Args:
        labeller: the model.
        wanted: ids of which an image must show one, by original; others are not asked.
    """

    def finish(prepared: tuple[list[ReplayImage], Decoded[ReplayImage]]) -> list[Row]:
        members, decoded = prepared
        rows: dict[Path, Row] = {member.image: ["fault", fault] for member, fault in decoded.faults}
        for group in decoded.groups:
            for pair, label in zip(group.members, labeller.label(group.images), strict=True):
                asked = wanted.get(composed(pair.original), set())
                if asked and not asked & set(np.unique(label).tolist()):
                    names = ", ".join(name for number, name in labeller.marker.classes if number in asked)
                    write_dropped(pair, f"the pseudo-label shows none of: {names}")
                    rows[pair.image] = ["dropped", ""]
                else:
                    write_mask(pair.label, label, group.size)
                    rows[pair.image] = ["labelled", ""]
        return [rows[member.image] for member in members]

    return Worker(Decode(labeller.settings.max_side), finish)


@dataclass(frozen=True)
class LabelWork:
    """How a worker elsewhere makes its labeller.

    Attributes:
        path: the checkpoint.
        settings: how to look.
        described: what a published checkpoint does not say of itself.
        wanted: ids of which an image must show one, by original.
        device: as ``--device``.
    """

    path: Path
    settings: LabelSettings
    described: Options | None
    wanted: Mapping[str, set[int]]
    device: str

    def __call__(self) -> Worker[ReplayImage]:
        runtime = distributed.start(self.device, self.settings.precision)
        return label_worker(Labeller(self.path, self.settings, runtime, self.described), self.wanted)


def label_tree(
    tree: Path,
    marker: Marker,
    way: Way,
    make: Callable[[], Worker[ReplayImage]],
    *,
    wanted: Mapping[str, set[int]],
    batch_size: int,
    block_size: int = BLOCK_SIZE,
) -> Labelled:
    """Label every image of a signed tree that has no label yet.

    Args:
        tree: the replay tree.
        marker: whose labels they are.
        way: who does it.
        make: makes what does it.
        wanted: ids of which an image must show one, by original; others are not asked.
        batch_size: images of equal size that are labelled at once.
        block_size: images that a worker takes at once.

    Returns:
        what was done; of ranks the main one alone knows it.

    Raises:
        UserError: the tree holds no image.
    """
    folders = originals(tree)
    pairs = [pair for folder in folders for pair in images_of(folder)]
    if not pairs:
        raise UserError(f"{tree}: holds no image; expected <original>/image/00001.jpg or <original>/00001.jpg")
    unasked = [folder.name for folder in folders if wanted and composed(folder.name) not in wanted]
    if unasked and way.runtime.main:
        LOG.warning(
            "%d originals have no line of class words, and are not asked for them: %s", len(unasked), shown(unasked)
        )
    todo = {pair for pair in pairs if not pair.done}
    result = Labelled(len(pairs), len(pairs) - len(todo))
    if way.runtime.main:
        result.faults += [fault for folder in folders for fault in left_out(folder)]
    # Groups are those of the whole tree, wherever an earlier labelling was stopped.
    groups = [
        [pair for pair in group if pair in todo]
        for group in groups_of(pairs if todo else [], batch_size, most_pixels=MOST_PIXELS)
    ]
    store = Store(tree / BLOCKS, marker.checkpoint)
    # Labels are there or not, whatever a stopped run noted.
    way.runtime.on_main(store.clear)
    blocks = in_blocks(groups, max(1, block_size // batch_size))
    hidden = None if way.runtime.main else True
    with tqdm(total=len(pairs), initial=result.before, desc="Labelling", disable=hidden) as bar:
        for rows in way.results(blocks, make, store):
            result.labelled += sum(kind == "labelled" for kind, _ in rows)
            result.dropped += sum(kind == "dropped" for kind, _ in rows)
            result.faults += [fault for kind, fault in rows if kind == "fault"]
            bar.update(len(rows))
    return result
