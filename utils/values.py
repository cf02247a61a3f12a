"""Values of options, read from their texts as argparse asks its types to: what does not fit is refused with what was expected."""

from __future__ import annotations

from argparse import ArgumentTypeError

DEVICES = ("auto", "cpu", "cuda", "mps")


def fraction(text: str) -> float:
    """From 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise ArgumentTypeError(f"{text} is not a positive whole number")
    return value


def count(text: str) -> int:
    """A whole number from 0."""
    value = int(text)
    if value < 0:
        raise ArgumentTypeError(f"{text} is negative")
    return value


def weight(text: str) -> float:
    """A finite number from 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def rate(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text} is not a number above 0")
    return value


def device(text: str) -> str:
    """A device as ``utils.distributed.start`` takes it; a number N is ``cuda:N``."""
    if text in DEVICES:
        return text
    if text.isdigit():
        return f"cuda:{text}"
    raise ArgumentTypeError(f"{text} is none of {', '.join(DEVICES)} or the number of a GPU")
