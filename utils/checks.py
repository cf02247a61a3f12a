"""Checks of option values, without anything heavy.

``fraction`` to ``device`` read the text of one option, as argparse asks its types to. The last three are of several options; the
command line makes them before anything is loaded, and what is built from the same values makes them again.
"""

from __future__ import annotations

from argparse import ArgumentTypeError

from utils.errors import UserError

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


def replay_images(batch_size: int, share: float) -> int:
    """Replay images of a batch.

    Raises:
        UserError: ``share`` of the batch is no whole number, or leaves none of one kind.
    """
    images = round(share * batch_size)
    if not 0 < images < batch_size or abs(images - share * batch_size) > 1e-6:
        raise UserError(
            f"--batch_size {batch_size} cannot be divided so that --replay_share {share:g} of it are replay images; "
            "with a half give an even number"
        )
    return images


def images_per_rank(batch_size: int, world: int) -> int:
    """A rank's images of a global batch.

    Raises:
        UserError: ``world`` ranks cannot share it equally.
    """
    if batch_size % world:
        raise UserError(f"--batch_size {batch_size} cannot be shared by {world} processes: give a multiple of {world}")
    return batch_size // world


def need_gpu_for_fp16(precision: str, device: str) -> None:
    """UserError where half precision is asked of a CPU, which has no arithmetic for it.

    Args:
        precision: fp32, bf16 or fp16.
        device: type of the device: cpu, cuda or mps.
    """
    if precision == "fp16" and device == "cpu":
        raise UserError("--precision fp16 needs a GPU; on the CPU use fp32 or bf16")
