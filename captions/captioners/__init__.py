"""Who writes captions. A new captioner is one file with ``make(settings, runtime) -> Captioner``, and one line in ``CAPTIONERS``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from utils.errors import UserError

if TYPE_CHECKING:
    from captions.captioners.base import Captioner, CaptionerSettings
    from utils.distributed import Runtime

CAPTIONERS = {
    "tags": "captions.captioners.tags",
    "transformers": "captions.captioners.image_to_text",
    "file": "captions.captioners.from_file",
}
DEFAULT_CAPTIONER = "tags"


def make_captioner(name: str, settings: CaptionerSettings, runtime: Runtime) -> Captioner:
    """A captioner, ready to write.

    Args:
        name: a key of ``CAPTIONERS``.
        settings: what the user chose.
        runtime: device and precision.

    Raises:
        UserError: there is no such captioner, or it cannot work as asked.
    """
    if name not in CAPTIONERS:
        raise UserError(f"captioner {name}: is not known; choose from {', '.join(CAPTIONERS)}")
    captioner: Captioner = import_module(CAPTIONERS[name]).make(settings, runtime)
    return captioner
