"""What a domain discriminator looks at: a new input is a file with ``make(preprocessing) -> Input``, and one line in ``INPUTS``.

Source: docs/method.md, "Other inputs of the discriminator".
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from utils.errors import UserError

if TYPE_CHECKING:
    from modules.discriminator import Preprocessing
    from modules.inputs.base import Input

INPUTS = {
    "spectrum": "modules.inputs.spectrum",
    "bands": "modules.inputs.bands",
    "pixels": "modules.inputs.pixels",
    "encoder": "modules.inputs.encoder",
}


def make_input(preprocessing: Preprocessing) -> Input:
    """The input that ``preprocessing`` names.

    Raises:
        UserError: there is no such input, or it cannot work as asked.
    """
    if preprocessing.input not in INPUTS:
        raise UserError(f"--input {preprocessing.input}: is not known; choose from {', '.join(INPUTS)}")
    made: Input = import_module(INPUTS[preprocessing.input]).make(preprocessing)
    return made
