"""What is optimised. A method turns a batch and the networks' outputs into named loss terms; it is found here by its name.

A new method is one file with a class that has ``from_options`` and ``losses``, and one line in ``METHODS``.
"""

from __future__ import annotations

from importlib import import_module

from argparser import Options
from methods.base import Method
from utils.errors import UserError
from utils.normalisation import Normalisation

METHODS = {
    "supervised": "methods.supervised:Supervised",
    "weak": "methods.weak:Weak",
}


def make_method(options: Options, old: int, total: int, normalisation: Normalisation) -> Method:
    """The method that the options name.

    Args:
        options: the run's options.
        old: channels that the teacher knows, background included; 0 at step 0.
        total: channels of the student.
        normalisation: of the images.
    """
    if options.method not in METHODS:
        raise UserError(f"--method {options.method}: unknown; choose one of {', '.join(METHODS)}")
    module, _, name = METHODS[options.method].partition(":")
    method: Method = getattr(import_module(module), name).from_options(options, old, total, normalisation)
    return method
