"""An adopted network as the parts that a step needs, and what its last convolution becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from modules.adopted.settings import NO_BACKGROUND, AdoptSettings, normalisation_of, read_class_names
from modules.description import ADDED_BACKGROUND, OWN_BACKGROUND, SIGMOID, SOFTMAX, Description
from utils.errors import UserError
from utils.normalisation import Normalisation

BACKGROUND_NAME = "background"
# Names that libraries give to background.
BACKGROUND_NAMES = {BACKGROUND_NAME, "__background__", "bg", "unlabeled", "unlabelled", "void", "other"}
# A background that never wins and takes no share of softmax.
NEVER = -100.0


class Parts(NamedTuple):
    """A network up to its logits.

    Attributes:
        body: images (B, 3, H, W) to feature maps, fine ones first.
        head: the maps to (B, D, h, w), what the last convolution sees.
        classifier: the last convolution.
        out_channels: of the deepest map.
        align_corners: of the library's bilinear upsampling of its logits.
    """

    body: nn.Module
    head: nn.Module
    classifier: nn.Conv2d
    out_channels: int
    align_corners: bool = False


@dataclass(frozen=True)
class Found:
    """What a library's file says.

    Attributes:
        library: its name.
        architecture: what ``make`` needs.
        parts: with the file's weights.
        names: of the channels; None where the file does not know them.
        normalisation: of the images.
        bgr: whether the network wants blue first.
        multiple: what the sides of images must be multiples of.
        least: the smallest side that the network takes, itself such a multiple.
        size: the only size (H, W) that the network takes; None for any.
        outputs: what turns logits into probabilities; None where the file does not say.
    """

    library: str
    architecture: Mapping[str, Any]
    parts: Parts
    names: Sequence[str] | None = None
    normalisation: Normalisation | None = None
    bgr: bool = False
    multiple: int = 1
    least: int = 1
    size: tuple[int, int] | None = None
    outputs: str | None = None
    history: Mapping[str, Any] = field(default_factory=dict)


def adopted(found: Found, settings: AdoptSettings, where: str) -> tuple[Description, dict[str, Tensor]]:
    """Description and weights of a found network: background is its first channel, the others keep their order.

    Args:
        found: what the library's file says.
        settings: what the user says, which counts more.
        where: the MODEL, for messages.

    Raises:
        UserError: names or background are missing, or do not fit.
    """
    classifier = found.parts.classifier
    outputs = settings.outputs or found.outputs or SOFTMAX
    names = _names(found, settings, where)
    position = _background(names, settings, outputs, where)
    weight = classifier.weight.detach()
    bias = torch.zeros(len(weight)) if classifier.bias is None else classifier.bias.detach()
    if position is None:
        # Softmax: a background that never wins. Sigmoid: background is where no class is, see ``log_odds`` there.
        weight = torch.cat([torch.zeros_like(weight[:1]), weight])
        bias = torch.cat([bias.new_full((1,), NEVER if outputs == SOFTMAX else 0.0), bias])
        names = [BACKGROUND_NAME, *names]
    else:
        order = [position, *(i for i in range(len(names)) if i != position)]
        weight, bias = weight[order], bias[order]
        names = [BACKGROUND_NAME, *(names[i] for i in order[1:])]
    if len(names) > 255:
        raise UserError(f"{where}: has {len(names)} channels; masks hold 255 classes at most")
    normalisation = found.normalisation if settings.image_stats is None else normalisation_of(settings.image_stats)
    if normalisation is None:
        raise UserError(f"{where}: does not say how its images are normalised; give --image_stats")
    network = {
        "library": found.library,
        "architecture": dict(found.architecture),
        "outputs": outputs,
        "background": OWN_BACKGROUND if position is not None else ADDED_BACKGROUND,
        "bgr": found.bgr if settings.bgr is None else settings.bgr,
        "multiple": found.multiple,
        "least": found.least,
        "size": None if found.size is None else list(found.size),
        "mean": list(normalisation.mean),
        "std": list(normalisation.std),
    }
    description = Description(
        network=network,
        steps=(tuple(range(len(names))),),
        class_names=tuple(names),
        binary=True,
        history=({"step": 0, "classes": list(names[1:]), "from": where, **found.history},),
    )
    weights = {f"body.net.{key}": value.detach() for key, value in found.parts.body.state_dict().items()}
    weights |= {f"head.{key}": value.detach() for key, value in found.parts.head.state_dict().items()}
    return description, weights | {"cls.0.weight": weight.clone(), "cls.0.bias": bias.clone()}


def _names(found: Found, settings: AdoptSettings, where: str) -> list[str]:
    """The names of the channels."""
    channels = found.parts.classifier.out_channels
    if settings.class_names is not None:
        names = read_class_names(settings.class_names)
        if len(names) == channels + 1 and _is_background(names[0]):
            names = names[1:] if channels == 1 else names
        if len(names) != channels:
            raise UserError(
                f"--class_names {settings.class_names}: {len(names)} names, and {where} has {channels} channels; "
                "one name a channel is needed, background too where it is one"
            )
    elif found.names is None:
        raise UserError(f"{where}: does not name its {channels} classes; give --class_names FILE, one a line")
    else:
        names = list(found.names)
    return names


def _is_background(name: str) -> bool:
    return name.strip().lower() in BACKGROUND_NAMES


def _background(names: Sequence[str], settings: AdoptSettings, outputs: str, where: str) -> int | None:
    """The channel of background; None where there is none."""
    asked = settings.background
    if asked == NO_BACKGROUND:
        return None
    if asked is not None:
        positions = [i for i, name in enumerate(names) if asked in (name, str(i))]
        if len(positions) != 1:
            raise UserError(f"--background {asked}: no class of {where}; one of {', '.join(names)}, or {NO_BACKGROUND}")
        return positions[0]
    if len(names) == 1 and outputs == SIGMOID:
        return None
    if len(names) == 1:
        raise UserError(f"{where}: has one channel, of which softmax says nothing; give --outputs sigmoid")
    positions = [i for i, name in enumerate(names) if _is_background(name)]
    if len(positions) != 1:
        raise UserError(
            f"{where}: {'no' if not positions else 'more than one'} class of its {len(names)} is called {BACKGROUND_NAME} "
            f"({', '.join(names[:5])} ...); give --background NAME, or --background {NO_BACKGROUND}"
        )
    return positions[0]


def log_odds(logits: Tensor) -> Tensor:
    """Softmax's logits as log-odds of each channel against all others: o_c = z_c - logsumexp over the others.

    sigmoid(o) is softmax(z), and the greatest channel stays the greatest, for numbers that are nearly equal too
    (docs/method.md, "Adopted segmenters").

    Args:
        logits: (B, C, ...), C at least 2.

    Returns:
        (B, C, ...) float32 or float64.
    """
    z = logits if logits.dtype == torch.float64 else logits.float()
    first = z.argmax(dim=1, keepdim=True)
    is_first = torch.zeros_like(z, dtype=torch.bool).scatter(1, first, True)
    distance = z - z.amax(dim=1, keepdim=True)
    # exp of the first's is 1, so that nothing cancels in what is left when another one is taken away.
    share = distance.exp().masked_fill(is_first, 0)
    rest = share.sum(dim=1, keepdim=True)
    top = -distance.masked_fill(is_first, -torch.inf).logsumexp(dim=1, keepdim=True)
    others = distance - torch.log1p((rest - share).clamp(min=0))
    # Rounding may not turn their order round.
    below = (top - top.abs() * 2**-22 - 1e-30).detach()
    return torch.where(is_first, top, torch.minimum(others, below))


def absence(log_odds_of_classes: Tensor) -> Tensor:
    """Channel 0 of sigmoid networks without background (B, C, ...): where the most probable class is less probable than 1/2."""
    classes = log_odds_of_classes[:, 1:]
    return torch.cat([-classes.amax(dim=1, keepdim=True), classes], dim=1)
