"""What is optimised: a method turns a batch and the networks' outputs into named loss terms.

A new method is one file with a class like ``methods.base.Method``, and one line in ``METHODS`` of ``utils/names.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from argparser import Options
from methods.base import Method
from utils.names import METHODS


def make_method(options: Options, old: int, total: int, names: Sequence[str]) -> Method:
    """The method that the options name.

    Args:
        options: the run's options.
        old: channels that the teacher knows, background included; 0 at step 0.
        total: channels of the student.
        names: of those channels, background first; numbers where nobody named the classes.
    """
    module, _, name = METHODS[options.method].partition(":")
    method: Method = getattr(import_module(module), name).from_options(options, old, total, names)
    return method
