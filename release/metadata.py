"""What a file that runs without this project says of itself."""

from __future__ import annotations

import json

from release.forms import UINT8, Form
from segmentation_module import Segmenter
from utils.visualise import palette


def metadata(segmenter: Segmenter, form: Form, smallest: tuple[int, int]) -> dict[str, str]:
    """Name -> text; all but ``input`` and ``output`` are JSON.

    ``class_names`` and ``class_ids`` are in the order of the logits' channels; ``palette`` has a colour [R, G, B] for each class id;
    ``mean`` and ``std`` are what the file itself subtracts and divides by; ``sizes`` are the heights and widths that it takes.
    """
    description, normalisation = segmenter.description, segmenter.normalisation
    ids = list(description.ids)
    height, width = smallest
    values = {
        "class_names": list(description.class_names),
        "class_ids": ids,
        "steps": [list(step) for step in description.steps],
        "palette": {str(number): palette()[number].tolist() for number in ids},
        "mean": list(normalisation.mean),
        "std": list(normalisation.std),
        "sizes": {"height": height, "width": width, "exactly": form.size is not None},
    }
    scale = "uint8 (B, H, W, 3)" if form.pixels == UINT8 else "float32 (B, 3, H, W) in [0, 1]"
    return {
        **{name: json.dumps(value, ensure_ascii=False) for name, value in values.items()},
        "input": f"images: RGB, {scale}; normalised inside",
        "output": form.answer,
    }
