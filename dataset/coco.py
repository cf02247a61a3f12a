"""COCO 2017 with the stuff-thing maps: ``images/{train2017,val2017}`` and ``annotations/{train2017,val2017}``.

The maps hold the official id minus one for things, 91 and more for stuff, 255 where nothing is labelled. Things become 1..91, stuff
becomes background, 255 is ignore.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataset.files import by_key, need_folder, shown, tell
from dataset.source import Source
from tasks import COCO_CLASSES, IGNORE
from utils.errors import UserError

CURE = "bash data/download_coco.sh makes the tree, or --dataset_dir names it"
THINGS = 91

_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,bird,cat,"
    "dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,"
    "sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,"
    "remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")
CLASS_NAMES = {0: "background", **dict(zip(COCO_CLASSES, _NAMES, strict=True))}


def folders(split: str) -> tuple[str, str]:
    """Folders of a split's images and of its stuff-thing maps, from the data set's."""
    return f"images/{split}2017", f"annotations/{split}2017"


def _value_map() -> np.ndarray:
    table = np.zeros(256, dtype=np.uint8)
    table[:THINGS] = np.arange(1, THINGS + 1)
    table[IGNORE] = IGNORE
    return table


def make(folder: Path, split: str, step: int = 0) -> Source:
    """The split ``train`` or ``val``: every image that has a map.

    Raises:
        UserError: a folder is missing, or no image has a map, or a map no image.
    """
    image_folder, map_folder = (folder / part for part in folders(split))
    images = by_key(need_folder(image_folder, "the images", CURE))
    masks = by_key(need_folder(map_folder, "the stuff-thing maps", CURE))
    orphans = sorted(masks.keys() - images.keys())
    if orphans:
        raise UserError(f"{map_folder}: maps without an image: {shown(orphans)}")
    without = sorted(images.keys() - masks.keys())
    if without:
        tell(f"{image_folder}: {len(without)} images are left out, which have no map: {shown(without)}")
    names = sorted(masks)
    if not names:
        raise UserError(f"{map_folder}: no stuff-thing map; {CURE}")
    return Source(f"coco {split}", CLASS_NAMES, [(images[n], masks[n]) for n in names], names, _value_map())
