"""What every captioner is asked for, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image

from utils import cores
from utils.errors import UserError
from utils.images import DecodeError, load_image

# Written by a captioner that sees none of its classes: a caption that is empty would be asked for again.
NOTHING_SEEN = "background"


@dataclass(frozen=True)
class CaptionerSettings:
    """What a user may choose; each captioner reads its own part.

    Attributes:
        model: weights: a folder or a hub's name (transformers), timm's name of a classifier (tags), a checkpoint (segmenter).
        prompt: what a caption begins with, or what a model is asked; None for the captioner's own.
        beams: width of the beam search; 3 in the paper (arXiv 2407.13363).
        new_tokens: most tokens of a caption; 40 in the paper.
        captions: file of captions that came with the images.
        models: ``model`` of each of several captioners, by their names; it goes before ``model``.
    """

    model: str | None = None
    prompt: str | None = None
    beams: int = 3
    new_tokens: int = 40
    captions: Path | None = None
    models: Mapping[str, str] = field(default_factory=dict)


class Captioner(Protocol):
    """Writes one line an image.

    Attributes:
        origin: all that its captions depend on; captions of another origin are not mixed with them.
    """

    origin: Mapping[str, object]

    def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
        """The caption of each file, or why it has none."""
        ...


def _load(path: Path) -> Image.Image | DecodeError:
    try:
        return load_image(path)
    except DecodeError as error:
        return error


def caption_readable(
    paths: Sequence[Path], caption: Callable[[Sequence[Image.Image]], Sequence[str]]
) -> list[str | UserError]:
    """Decode files and caption those that can be read.

    Args:
        paths: image files.
        caption: gives one line for each RGB image; not called without images.

    Returns:
        the caption of each file, or the fault of one that cannot be read.
    """
    with ThreadPoolExecutor(max_workers=min(8, cores.fair_share())) as pool:
        loaded = list(pool.map(_load, paths))
    images = [image for image in loaded if isinstance(image, Image.Image)]
    texts = iter(caption(images) if images else ())
    return [image if isinstance(image, DecodeError) else next(texts) for image in loaded]
