"""What a domain discriminator looks at: a new input is a file with ``make(preprocessing) -> Input``, and one line in ``INPUTS``.

Source: docs/method.md, "Does the discriminator help?".
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
# What version 0.1.0 called them, on the command line and in files.
EARLIER = {"amplitude": "spectrum"}


def input_name(word: str) -> str:
    """The name of an input that may go by its earlier one."""
    return EARLIER.get(word, word)


def make_input(preprocessing: Preprocessing) -> Input:
    """The input that ``preprocessing`` names.

    Raises:
        UserError: there is no such input, or it cannot work as asked.
    """
    if preprocessing.input not in INPUTS:
        raise UserError(f"--input {preprocessing.input}: is not known; choose from {', '.join(INPUTS)}")
    made: Input = import_module(INPUTS[preprocessing.input]).make(preprocessing)
    return made
