"""The three views of a data set that a step needs: its training images, its validation images, all test images."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset import make_source
from dataset.incremental import IncrementalView
from dataset.overlap import refuse_shared
from dataset.protocol import load_index_list, select, validation_indices
from dataset.replay import ReplayView, WithReplay
from dataset.source import Source
from dataset.telling import images_of, tell, without_images
from dataset.transform import Transform, train_transform, val_transform
from dataset.web import WebView
from tasks import Task
from utils.errors import UserError

TrainingView = IncrementalView | WebView | WithReplay


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The options of run.py that the images of a step depend on; each field is the option of its name.

    Attributes:
        protocol: disjoint, overlap or partitioned.
        no_mask: training masks and image labels show the old classes, too.
        crop_size: side of the training crops, pixels.
        crop_size_val: side of validation and test crops, pixels.
        crop_val: whether validation and test cut crops out; else images stay whole.
        test_unknown: what classes not yet learned are in validation and test masks, one of
            ``TEST_UNKNOWN``.
        random_seed: seed of the augmentation.
        test: no training view is wanted.
        jitter: how much the colours of training images change, in [0, 1].
        train_list: published index list (.npy) in place of the computed one.
        val_list: the same for validation during training.
        pseudo: folder of pseudo-label PNGs in place of the masks.
        val_on_trainset: validate on the training images.
        web_path: web images to train on in place of the data set's.
        web_num: web images of a class, at most.
        web_labels: whose image labels they have, the ``folder``'s or the ``caption``'s.
        web_masks: tree of the same images with the labels of a model of this step.
        replay_path: tree of replay images to train on beside these or those.
        replay_num: replay images of an original, at most.
        replay_balance: whether replay images of rare classes are repeated.
    """

    protocol: str
    no_mask: bool
    crop_size: int
    crop_size_val: int
    test_unknown: str
    random_seed: int
    crop_val: bool = True
    test: bool = False
    jitter: float = 0.0
    train_list: str | None = None
    val_list: str | None = None
    pseudo: str | None = None
    val_on_trainset: bool = False
    web_path: str | None = None
    web_num: int = 500
    web_labels: str = "folder"
    web_masks: str | None = None
    replay_path: str | None = None
    replay_num: int = 2
    replay_balance: bool = False

    @classmethod
    def of(cls, options: Any) -> DataOptions:
        """Those among all options of a run."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class Views:
    """Data sets of one step; ``train`` is None where the step is only tested."""

    train: TrainingView | None
    val: IncrementalView
    test: IncrementalView


def make_views(task: Task, step: int, folder: Path, options: DataOptions) -> Views:
    """Views of ``step`` of ``task`` on the data in ``folder``.

    Args:
        task: which classes are learned when.
        step: the step.
        folder: the data set's folder.
        options: which images, how they are cut out and what their masks show.

    Raises:
        UserError: the data are missing or wrong, or the step has no images.
    """
    augmentation = train_transform(options.crop_size, options.jitter)
    evaluation = val_transform(options.crop_size_val if options.crop_val else None)

    def evaluated(source: Source, indices: NDArray[np.int64]) -> IncrementalView:
        return IncrementalView(
            source,
            task,
            step,
            indices,
            train=False,
            mask_old=False,
            unknown=options.test_unknown,
            transform=evaluation,
            seed=options.random_seed,
        )

    tested = make_source(task.dataset, folder, "val", step)
    own: IncrementalView | WebView | None = None
    if not options.test:
        own = _own_images(task, step, folder, options, augmentation, tested)
    if options.val_on_trainset and isinstance(own, IncrementalView):
        validation = evaluated(own.source, own.indices)
    elif options.val_list is not None:
        validation = evaluated(tested, load_index_list(options.val_list, len(tested)))
    else:
        validation = evaluated(tested, validation_indices(tested.image_labels(), task, step))
    training: TrainingView | None = own
    if own is not None and options.replay_path:
        replay = ReplayView(
            Path(options.replay_path),
            task,
            step,
            tested.class_names,
            per_original=options.replay_num,
            balance=options.replay_balance,
            transform=augmentation,
            seed=options.random_seed,
        )
        training = WithReplay(own, replay)
    views = Views(training, validation, evaluated(tested, np.arange(len(tested))))
    tell(task, step, [view for view in (own, views.val, views.test) if isinstance(view, IncrementalView)])
    return views


def _own_images(
    task: Task, step: int, folder: Path, options: DataOptions, augmentation: Transform, tested: Source
) -> IncrementalView | WebView:
    """The step's own training images: web images of its classes, or the data set's by the protocol."""
    if options.web_path:
        return WebView(
            Path(options.web_path),
            task,
            step,
            tested.class_names,
            per_class=options.web_num,
            labels=options.web_labels,
            transform=augmentation,
            seed=options.random_seed,
            masks=None if options.web_masks is None else Path(options.web_masks),
        )
    source = make_source(task.dataset, folder, "train", step)
    if options.train_list is not None:
        chosen = load_index_list(options.train_list, len(source))
    else:
        chosen = select(source.image_labels(), task, step, options.protocol)
    if not len(chosen):
        reason = without_images(source, [i for i in task.new(step) if images_of(source).get(i) == 0])
        raise UserError(
            f"{folder}: no training image for step {step} of task {task.name} ({options.protocol})"
            + (f"; {reason}" if reason else "")
        )
    refuse_shared(source, tested, None if options.train_list is None else chosen)
    return IncrementalView(
        source,
        task,
        step,
        chosen,
        train=True,
        mask_old=not options.no_mask,
        unknown=options.test_unknown,
        transform=augmentation,
        seed=options.random_seed,
        pseudo=None if options.pseudo is None else Path(options.pseudo),
    )
