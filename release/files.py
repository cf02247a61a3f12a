"""A MODEL as one file that runs without this project."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from modules.adopted.settings import AdoptSettings
from release.checking import Check
from release.folding import Folding
from release.forms import FORMATS, Form
from segmentation_module import load_segmenter
from utils.errors import UserError


@dataclass(frozen=True)
class Written:
    """What a file is.

    Attributes:
        folding: what was done to the network's norms.
        check: how near it is to the model.
        smallest: height and width of images that it takes at least.
        form: what it takes and gives.
    """

    folding: Folding
    check: Check
    smallest: tuple[int, int]
    form: Form

    @property
    def lines(self) -> list[str]:
        """All of it, for people."""
        height, width = self.smallest
        sizes = f"of {height} x {width} pixels" + ("" if self.form.size else " and larger")
        return [
            str(self.folding),
            f"Takes {self.form.pixels} images {sizes}, gives {self.form.answer}",
            f"Was {self.check}",
        ]


def export(model: str, path: Path, format: str, form: Form, settings: AdoptSettings | None = None) -> Written:
    """Write ``path``, unless it would not compute what the model does.

    Args:
        model: a MODEL.
        path: the file.
        format: a key of ``FORMATS``.
        form: what it takes and gives.
        settings: what an adopted model does not say itself.

    Raises:
        UserError: no such model, or it cannot be exported; a package is missing; the file differs or cannot be written.
    """
    if path.is_dir():
        raise UserError(f"--out {path}: is a folder; name a file for --format {format}, as {path / f'model.{format}'}")
    segmenter = load_segmenter(model, device="cpu", settings=settings)
    drawing, check = import_module(FORMATS[format]).export(segmenter, path, form)
    return Written(drawing.folding, check, drawing.smallest, form)
