"""Segmenters of other libraries: a new one is a file with ``adopt`` and ``make``, and one line in ``LIBRARIES``.

``adopt(source, settings)`` reads what a user has, ``make(architecture, classes)`` makes the same network again, with random weights,
from the plain values that ``adopt`` noted (docs/method.md, "Adopted segmenters").
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from modules.adopted.settings import AdoptSettings
from utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from modules.adopted.parts import Parts
    from modules.description import Description

# What stands before the colon of a MODEL -> the module that reads what stands behind it.
LIBRARIES = {
    "torchvision": "modules.adopted.torchvision_models",
    "smp": "modules.adopted.smp_models",
    "transformers": "modules.adopted.transformers_models",
}


def is_adopted(model: str) -> bool:
    """Whether a MODEL names another library."""
    library, colon, _ = model.partition(":")
    return bool(colon) and library in LIBRARIES


def adopt(model: str, settings: AdoptSettings) -> tuple[Description, dict[str, Tensor]]:
    """Description and weights of a segmenter of another library: ``torchvision:deeplabv3_resnet50=weights.pth``.

    Args:
        model: library, colon, and what it asks for.
        settings: what its files do not say.

    Raises:
        UserError: no such library, or its package is missing; the file cannot be read or is no segmenter that can be adopted.
    """
    library, _, source = model.partition(":")
    adopted: tuple[Description, dict[str, Tensor]] = _module(library, model).adopt(source, settings)
    return adopted


def make_parts(network: Mapping[str, Any], classes: int) -> Parts:
    """The parts of an adopted network with random weights.

    Args:
        network: of its ``Description``.
        classes: channels of its first classifier.

    Raises:
        UserError: no such library, its package is missing, or it cannot make this network.
    """
    parts: Parts = _module(network["library"], str(network["library"])).make(network["architecture"], classes)
    return parts


def _module(library: str, model: str) -> Any:
    if library not in LIBRARIES:
        raise UserError(f"{model}: no library is called {library}; choose one of {', '.join(LIBRARIES)}")
    return import_module(LIBRARIES[library])
