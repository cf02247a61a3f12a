"""The three views of a data set that a step needs: its training images, its validation images, all test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset import make_source
from dataset.incremental import IncrementalView
from dataset.protocol import load_index_list, select, validation_indices
from dataset.replay import ReplayView, WithReplay
from dataset.transform import train_transform, val_transform
from dataset.web import WebView
from tasks import Task
from utils.errors import UserError
from utils.normalisation import Normalisation

TrainingView = IncrementalView | WebView | WithReplay


@dataclass(frozen=True)
class Web:
    """Web images that a step trains on in place of the data set's: where they are, how many of a class, whose labels."""

    path: Path
    per_class: int
    labels: str


@dataclass(frozen=True)
class Replay:
    """Replay images that a step trains on beside its own: where, how many of an original, whether those of rare classes are repeated."""

    path: Path
    per_original: int
    balance: bool = False


@dataclass(frozen=True)
class Views:
    """Data sets of one step; ``train`` is None where the step is only tested."""

    train: TrainingView | None
    val: IncrementalView
    test: IncrementalView


def make_views(
    task: Task,
    step: int,
    folder: Path,
    *,
    protocol: str,
    mask_old: bool,
    crop_size: int,
    crop_size_val: int | None,
    normalisation: Normalisation,
    unknown: str,
    seed: int,
    train: bool = True,
    train_list: str | None = None,
    val_list: str | None = None,
    pseudo: str | None = None,
    jitter: float = 0.0,
    val_on_trainset: bool = False,
    web: Web | None = None,
    replay: Replay | None = None,
) -> Views:
    """Views of ``step`` of ``task`` on the data in ``folder``.

    Args:
        task: which classes are learned when.
        step: the step.
        folder: the data set's folder.
        protocol: disjoint, overlap or partitioned.
        mask_old: whether training masks and image labels hide the old classes.
        crop_size: side of the training crops, pixels.
        crop_size_val: side of validation and test crops; None for whole images.
        normalisation: what the network wants.
        unknown: what classes not yet learned are in validation and test masks, one of ``TEST_UNKNOWN``.
        seed: seed of the augmentation.
        train: whether the training view is wanted at all.
        train_list: published index list (.npy) in place of the computed one.
        val_list: the same for validation during training.
        pseudo: folder of pseudo-label PNGs in place of the masks.
        jitter: how much the colours of training images change, in [0, 1].
        val_on_trainset: validate on the training images.
        web: web images to train on in place of the data set's.
        replay: replay images to train on beside these or those.

    Raises:
        UserError: the data are missing or wrong, or the step has no images.
    """
    augmentation = train_transform(crop_size, normalisation, jitter)
    evaluation = val_transform(crop_size_val, normalisation)

    def view(split: str, indices: np.ndarray) -> IncrementalView:
        source = sources[split]
        return IncrementalView(
            source, task, step, indices, train=False, mask_old=False, unknown=unknown, transform=evaluation, seed=seed
        )

    sources = {"val": make_source(task.dataset, folder, "val", step)}
    training: IncrementalView | WebView | None = None
    if train and web is not None:
        training = WebView(
            web.path,
            task,
            step,
            sources["val"].class_names,
            per_class=web.per_class,
            labels=web.labels,
            transform=augmentation,
            seed=seed,
        )
    elif train:
        sources["train"] = source = make_source(task.dataset, folder, "train", step)
        if train_list is not None:
            chosen = load_index_list(train_list, len(source))
        else:
            chosen = select(source.image_labels(), task, step, protocol)
        if not len(chosen):
            raise UserError(f"{folder}: no training image for step {step} of task {task.name} ({protocol})")
        training = IncrementalView(
            source,
            task,
            step,
            chosen,
            train=True,
            mask_old=mask_old,
            unknown=unknown,
            transform=augmentation,
            seed=seed,
            pseudo=None if pseudo is None else Path(pseudo),
        )
    if val_on_trainset and isinstance(training, IncrementalView):
        validation = view("train", training.indices)
    elif val_list is not None:
        validation = view("val", load_index_list(val_list, len(sources["val"])))
    else:
        validation = view("val", validation_indices(sources["val"].image_labels(), task, step))
    whole: TrainingView | None = training
    if training is not None and replay is not None:
        whole = WithReplay(
            training,
            ReplayView(
                replay.path,
                task,
                step,
                sources["val"].class_names,
                per_original=replay.per_original,
                balance=replay.balance,
                transform=augmentation,
                seed=seed,
            ),
        )
    return Views(whole, validation, view("val", np.arange(len(sources["val"]))))
