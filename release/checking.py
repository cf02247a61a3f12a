"""Whether a file that was written computes what its segmenter does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from release.forms import IDS, LOGITS, UINT8, Form
from segmentation_module import Segmenter
from utils.errors import UserError, reason

# Of the greatest logit, where it is above 1.
TOLERANCE = 1e-4
# Share of the pixels whose class has to be the same.
AGREEMENT = 0.999
# Side of the images around which sizes are chosen for networks that have no window.
SIDE = 192


@dataclass(frozen=True)
class Check:
    """What a file's outputs were beside its segmenter's.

    Attributes:
        images: (B, H, W) of each comparison.
        agreement: smallest share of pixels of one class.
        error: greatest difference of logits, relative to the greatest logit where that is above 1; None where the file gave none.
    """

    images: tuple[tuple[int, int, int], ...]
    agreement: float
    error: float | None

    def __str__(self) -> str:
        sizes = ", ".join(f"{b} of {h} x {w}" for b, h, w in self.images)
        logits = "" if self.error is None else f", logits within {self.error:.1e}"
        return (
            f"checked on images ({sizes}): the class of {100 * self.agreement:.2f} % of the pixels is the same{logits}"
        )


@contextmanager
def running(path: Path) -> Iterator[None]:
    """UserError where what is done to a file that was just written cannot be done, so that the file goes."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:  # Those of the libraries have no common class.
        raise UserError(f"{path}: not written, since it would not run ({reason(error)})") from error


def check(
    run: Callable[[Tensor], dict[str, Tensor]], segmenter: Segmenter, form: Form, smallest: tuple[int, int], path: Path
) -> Check:
    """Compare a file with its segmenter, on images of three sizes, or on three numbers of images of the one size that it takes.

    Args:
        run: images as the form says -> ``ids`` (B, H, W), ``logits`` (B, C, H, W) or both.
        segmenter: on the CPU, in float32.
        form: of the file.
        smallest: height and width that it takes at least.
        path: its name, for the message.

    Raises:
        UserError: they differ.
    """
    images = tuple(_sizes(segmenter, form, smallest))
    agreement, error = 1.0, None
    for number, (count, height, width) in enumerate(images):
        pixels = _pictures(number, count, height, width)
        expected = segmenter.logits(pixels).cpu()
        given = run(pixels.permute(0, 2, 3, 1).contiguous() if form.pixels == UINT8 else pixels.float() / 255)
        if LOGITS in given:
            difference = (given[LOGITS] - expected).abs().max() / expected.abs().max().clamp(min=1)
            # A maximum with NaN says nothing.
            error = max(error or 0.0, float(difference.nan_to_num(torch.inf)))
        ids = given[IDS] if IDS in given else segmenter.ids.cpu()[given[LOGITS].argmax(dim=1)]
        agreement = min(agreement, float((ids == segmenter.labels(expected).cpu()).float().mean()))
    if agreement < AGREEMENT or (error is not None and error > TOLERANCE):
        far = (
            "" if error is None else f", logits differ by {error:.1e} of the greatest (at most {TOLERANCE} is allowed)"
        )
        raise UserError(
            f"{path}: not written, since it would not compute what {segmenter.where} does: {100 * agreement:.2f} % of the "
            f"pixels have the same class ({100 * AGREEMENT} % are needed){far}"
        )
    return Check(images, agreement, error)


def _sizes(segmenter: Segmenter, form: Form, smallest: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Images (B, H, W): odd sizes, smaller and larger than the head's window."""
    if form.size is not None:
        return [(count, *form.size) for count in (1, 2, 3)]
    network = segmenter.description.network
    window = network["pooling"] * network["output_stride"] if "pooling" in network else SIDE
    sizes = [(2, 97, 131), (1, window // 2 | 1, window * 3 // 4), (1, window + 33, window + 64)]
    return [(count, max(height, smallest[0]), max(width, smallest[1])) for count, height, width in sizes]


def _pictures(seed: int, count: int, height: int, width: int) -> Tensor:
    """Coloured clouds with a little noise (B, 3, H, W) uint8: what a network sees in them changes from place to place."""
    generator = torch.Generator().manual_seed(seed)
    clouds = torch.rand(count, 3, height // 24 + 2, width // 24 + 2, generator=generator)
    clouds = F.interpolate(clouds, (height, width), mode="bicubic", align_corners=False)
    noise = torch.randn(count, 3, height, width, generator=generator)
    return (255 * clouds + 12 * noise).round().clamp(0, 255).to(torch.uint8)
