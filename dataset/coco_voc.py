"""COCO to VOC: the base step learns COCO's other 60 classes on COCO, later steps the 20 VOC classes on VOC, under COCO ids.

VOC's masks are remapped as they are read; there is no second mask tree. The folder holds both data sets: ``coco/`` and ``voc/``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataset import coco, voc
from dataset.source import Source
from tasks import IGNORE, VOC_TO_COCO

CLASS_NAMES = coco.CLASS_NAMES


def _value_map() -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    # Values that VOC does not have must stay visible as wrong: no COCO class has this number.
    table[len(voc.CLASS_NAMES) : IGNORE] = 254
    for voc_id, coco_id in VOC_TO_COCO.items():
        table[voc_id] = coco_id
    return table


def make(folder: Path, split: str, step: int = 0) -> Source:
    """COCO at step 0, VOC with COCO ids later."""
    if step == 0:
        return coco.make(folder / "coco", split)
    return voc.make(folder / "voc", split, value_map=_value_map(), names=CLASS_NAMES)
