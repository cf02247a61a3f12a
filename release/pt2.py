"""Files of torch.export, which torch loads without this project: ``torch.export.load(FILE).module()(images)``."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from release.checking import Check, check, running
from release.forms import Form
from release.metadata import metadata
from release.tracing import Drawing, draw
from segmentation_module import Segmenter
from utils.whole import whole_file

# The file in the file that says what it is; torch.export.load(FILE, extra_files={METADATA: ""}) fills it in.
METADATA = "metadata.json"


def export(segmenter: Segmenter, path: Path, form: Form) -> tuple[Drawing, Check]:
    """Write a file of torch.export.

    Args:
        segmenter: on the CPU, in float32.
        path: the file; it is written only where it computes what the segmenter does.
        form: input, output and size.

    Raises:
        UserError: the network cannot be exported, the file differs from it or cannot be written.
    """
    drawing = draw(segmenter, form)
    said = json.dumps(metadata(segmenter, form, drawing.smallest), ensure_ascii=False)
    with whole_file(path) as temporary, running(path):
        with temporary.open("xb") as file:
            torch.export.save(drawing.program, file, extra_files={METADATA: said})
        with temporary.open("rb") as written:
            module = torch.export.load(written).module()

        def run(images: Tensor) -> dict[str, Tensor]:
            with torch.no_grad():
                return {form.answer: module(images)}

        done = check(run, segmenter, form, drawing.smallest, path)
    return drawing, done
