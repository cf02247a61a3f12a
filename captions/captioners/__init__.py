"""Who writes captions. A new captioner is one file with ``make(settings, runtime) -> Captioner``, and one line in ``CAPTIONERS``.

``a+b`` is both of them, each with its own model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from utils.errors import UserError

if TYPE_CHECKING:
    from captions.captioners.base import Captioner, CaptionerSettings
    from utils.distributed import Runtime

CAPTIONERS = {
    "tags": "captions.captioners.tags",
    "segmenter": "captions.captioners.segmenter",
    "transformers": "captions.captioners.image_to_text",
    "file": "captions.captioners.from_file",
}
DEFAULT_CAPTIONER = "tags"
JOIN = "+"


def parts_of(name: str) -> list[str]:
    """The captioners of ``tags`` or ``tags+segmenter``.

    Raises:
        UserError: one of them is not known, or stands twice.
    """
    parts = name.split(JOIN)
    for part in parts:
        if part not in CAPTIONERS:
            raise UserError(
                f"captioner {name}: {part or 'an empty name'} is not known; choose from {', '.join(CAPTIONERS)}, or join "
                f"two with {JOIN}"
            )
        if parts.count(part) > 1:
            raise UserError(f"captioner {name}: {part} stands twice; leave it out once")
    return parts


def model_of_each(name: str, models: Sequence[str]) -> dict[str, str]:
    """Whose model each ``--model`` is: the only captioner's, or of several that of ``segmenter=CKPT``.

    Args:
        name: as ``--captioner``.
        models: what was given as ``--model``.

    Raises:
        UserError: it is not said whose a model is, or a captioner is given two.
    """
    parts = parts_of(name)
    found: dict[str, str] = {}
    for model in models:
        owner, sign, rest = model.partition("=")
        if sign and owner in parts and rest:
            own, value = owner, rest
        elif len(parts) == 1:
            own, value = parts[0], model
        else:
            raise UserError(f"--model {model}: say whose it is: {' or '.join(f'{part}={model}' for part in parts)}")
        if own in found:
            raise UserError(f"--model {model}: {own} has {found[own]} already; give one of them")
        found[own] = value
    return found


def make_captioner(name: str, settings: CaptionerSettings, runtime: Runtime) -> Captioner:
    """A captioner, ready to write.

    Args:
        name: a key of ``CAPTIONERS``, or several joined with ``+``.
        settings: what the user chose.
        runtime: device and precision.

    Raises:
        UserError: there is no such captioner, or it cannot work as asked.
    """
    made: dict[str, Captioner] = {}
    for part in parts_of(name):
        own = replace(settings, model=settings.models.get(part, settings.model))
        made[part] = import_module(CAPTIONERS[part]).make(own, runtime)
    if len(made) == 1:
        return made[name]
    from captions.captioners.joined import JoinedCaptioner

    return JoinedCaptioner(made)
