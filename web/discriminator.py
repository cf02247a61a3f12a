"""What a domain discriminator is: its network, its file, the step-0 checkpoint it belongs to.

``web/fitting.py`` trains one, ``web/quality.py`` tests it. Source: docs/method.md, "New classes from web images".
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.state import read_state
from modules.bodies import make_body
from modules.discriminator import Discriminator, Preprocessing
from modules.norm import make_norm
from utils import checkpoint
from utils.checks import other_class
from utils.distributed import Runtime
from utils.errors import UserError, printable
from utils.metrics import BinaryScores
from utils.normalisation import Normalisation

LOG = logging.getLogger("webwilss")
KIND = "discriminator"


class Encoder(nn.Module):
    """A segmenter's body on images in [0, 1]; always in evaluation mode, without gradient."""

    def __init__(self, step_checkpoint: dict[str, Any]) -> None:
        super().__init__()
        options = step_checkpoint["options"]
        self.body = make_body(options["backbone"], options["output_stride"], make_norm(options["norm_act"]))
        weights = step_checkpoint["model_state"]
        body = {k.removeprefix("body."): v for k, v in weights.items() if k.startswith("body.")}
        try:
            self.body.load_state_dict(body)
        except RuntimeError as error:
            raise UserError(
                f"the step-0 checkpoint's weights do not fit its {options['backbone']}; give another"
            ) from error
        self.normalisation = Normalisation.of(self.body, options["image_stats"])
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the body's last feature map (B, C, h, w)."""
        features: Tensor = self.body(self.normalisation.apply(images))[0]
        return features


def read_step_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of step 0 that knows its options.

    Raises:
        UserError: it is of a later step, or a published one that says nothing of its data.
    """
    state = read_state(path)
    if "identity" not in state:
        raise UserError(f"{path}: a published checkpoint does not say what it was trained on; give one of this project")
    if state["options"]["step"] != 0:
        raise UserError(f"{path}: of step {state['options']['step']}; the discriminator belongs to step 0")
    return state


def body_digest(state: dict[str, Any]) -> str:
    """Hash of the weights of a checkpoint's body."""
    body = {key: weights for key, weights in state["model_state"].items() if key.startswith("body.")}
    return checkpoint.weights_digest(body, names=False)


def make(preprocessing: Preprocessing, step_checkpoint: dict[str, Any] | None = None, seed: int = 0) -> Discriminator:
    """A discriminator with the random weights of ``seed``.

    Args:
        preprocessing: ``features="encoder"`` needs the step-0 checkpoint.
        step_checkpoint: its content; the body sees the image before the discriminator does.
        seed: of the weights.

    Raises:
        UserError: the checkpoint is needed and missing, or timm has no such network.
    """
    torch.manual_seed(seed)
    if preprocessing.features == "image":
        return Discriminator(preprocessing)
    if step_checkpoint is None:
        raise UserError("--features encoder works on the features of a segmenter: give its checkpoint")
    encoder = Encoder(step_checkpoint)
    return Discriminator(preprocessing, encoder, encoder.body.out_channels)


@dataclass(frozen=True)
class Saved:
    """A trained discriminator.

    Attributes:
        discriminator: the network, ready to score.
        scores: accuracy, area under the curve and calibration on held-out images.
        by_class: share of the held-out images of each class that it judges rightly, by domain and class name.
        classes: base classes whose web images it has seen.
        digest: hash of its file.
    """

    discriminator: Discriminator
    scores: BinaryScores
    by_class: dict[str, float]
    classes: tuple[str, ...]
    digest: str


def save(
    path: Path,
    discriminator: Discriminator,
    step_checkpoint: dict[str, Any],
    *,
    recipe: dict[str, Any],
    scores: BinaryScores,
    by_class: dict[str, float],
    classes: Sequence[str],
) -> None:
    """Write a trained discriminator's file.

    Args:
        path: the file.
        discriminator: the network.
        step_checkpoint: content of the step-0 checkpoint that it belongs to.
        recipe: how it was trained.
        scores: of held-out images.
        by_class: the same by domain and class, as in ``Saved``.
        classes: base classes whose web images it has seen.
    """
    encoder = body_digest(step_checkpoint) if discriminator.preprocessing.features == "encoder" else None
    checkpoint.save(
        path,
        {
            "format": checkpoint.FORMAT,
            "kind": KIND,
            "preprocessing": discriminator.preprocessing.plain(),
            "recipe": recipe,
            "scores": asdict(scores),
            "by_class": by_class,
            "classes": list(classes),
            "encoder": encoder,
            "identity": step_checkpoint["identity"],
            "class_names": step_checkpoint["class_names"],
            "model_state": discriminator.state_dict(),
        },
    )


def load(path: Path, runtime: Runtime, step: Path | dict[str, Any] | None = None) -> Saved:
    """Read a discriminator.

    Args:
        path: its file.
        runtime: where it will run.
        step: the segmenter's checkpoint of step 0, or its content; by default the file beside it whose name it carries. One that
            works on an encoder's features needs it, of others its classes are compared where it is there.

    Raises:
        UserError: it is no discriminator, damaged, of other classes than the checkpoint, or the encoder is another than it was
            trained with.
    """
    saved = checkpoint.load(path)
    if saved.get("kind") != KIND:
        raise UserError(f"{path}: not a discriminator; train_discriminator.py makes one")
    checkpoint.need(saved, path, "preprocessing", "scores", "by_class", "classes", "encoder", "identity")
    try:
        preprocessing, scores = Preprocessing.of(saved["preprocessing"]), BinaryScores(**saved["scores"])
    except TypeError as error:
        raise UserError(f"{path}: damaged, or of another version: {error}; train it again") from error
    state, given = (step, None) if isinstance(step, dict) else (None, step)
    if state is None:
        beside = step_checkpoint_beside(path)
        if given is not None or preprocessing.features == "encoder" or (beside != path and beside.is_file()):
            state = read_step_checkpoint(given or beside)
    if state is not None:
        _check_classes(saved, path, state)
    if preprocessing.features == "encoder":
        assert state is not None
        if body_digest(state) != saved["encoder"]:
            raise UserError(f"{path}: made for the features of another step-0 checkpoint")
    LOG.info(
        "%s: of %s, classes %s", path, saved["identity"].get("dataset"), ", ".join(map(printable, saved["classes"]))
    )
    discriminator = make(preprocessing, state)
    try:
        discriminator.load_state_dict(saved["model_state"])
    except RuntimeError as error:
        raise UserError(
            f"{path}: its weights do not fit {preprocessing.network}; is timm of another version?"
        ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    discriminator = discriminator.on(runtime.device).eval()
    return Saved(discriminator, scores, saved["by_class"], tuple(saved["classes"]), digest)


def _check_classes(saved: dict[str, Any], path: Path, state: dict[str, Any]) -> None:
    """UserError where the discriminator is of another data set's classes than a step-0 checkpoint.

    Those of earlier versions name the classes whose web images they have seen, and no others.
    """
    names, other = state["class_names"], ""
    if "class_names" in saved:
        there, here = (
            dict(zip(one["identity"]["classes"][0], one["class_names"], strict=True)) for one in (saved, state)
        )
        other = other_class(there, here)
    unknown = [name for name in saved["classes"] if name not in names]
    if unknown and not other:
        other = f"it knows {printable(unknown[0])}, which is no class of that"
    if other:
        raise UserError(
            f"{path}: made for another step-0 checkpoint: {other}; train it again, or give its own --step_ckpt"
        )


def discriminator_path(step_ckpt: Path) -> Path:
    """The discriminator's file of a step-0 checkpoint: ``NAME_0.pth`` -> ``NAME_0_discriminator.pth``."""
    return step_ckpt.with_name(f"{step_ckpt.stem}_discriminator.pth")


def step_checkpoint_beside(path: Path) -> Path:
    """The step-0 checkpoint that a discriminator's file is named after."""
    return path.with_name(path.name.replace("_discriminator", ""))
