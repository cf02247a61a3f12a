"""Data sets by name, and what turns them into batches.

A new data set is one file with ``make(folder, split, step) -> Source`` and ``CLASS_NAMES`` or ``class_names(folder)``, and one line in
``SOURCES``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError

if TYPE_CHECKING:
    from dataset.source import Source

SOURCES = {
    "voc": "dataset.voc",
    "coco": "dataset.coco",
    "coco-voc": "dataset.coco_voc",
    "folder": "dataset.folder",
    "shapes": "dataset.shapes",
}


def default_folder(dataset: str, data_root: str | Path, dataset_dir: str | Path | None = None) -> Path:
    """The folder of ``dataset``: ``dataset_dir`` where given, else ``data_root/dataset``; coco-voc's holds coco and voc."""
    if dataset_dir is not None:
        return Path(dataset_dir)
    return Path(data_root) if dataset == "coco-voc" else Path(data_root) / dataset


def make_source(dataset: str, folder: Path, split: str, step: int = 0) -> Source:
    """Images, masks and image labels of a split.

    Args:
        dataset: a key of ``SOURCES``.
        folder: the data set's folder.
        split: ``train`` or ``val``.
        step: the step that asks (coco-voc trains on other images later than at first).

    Raises:
        UserError: no such data set, or its files are missing or wrong.
    """
    if dataset not in SOURCES:
        raise UserError(f"--dataset {dataset}: unknown; choose one of {', '.join(SOURCES)}")
    source: Source = import_module(SOURCES[dataset]).make(Path(folder), split, step)
    return source


def class_names(dataset: str, folder: Path) -> dict[int, str]:
    """id -> name of every class of a data set, background included."""
    module = import_module(SOURCES[dataset])
    names: dict[int, str] = module.class_names(Path(folder)) if hasattr(module, "class_names") else module.CLASS_NAMES
    return dict(names)
