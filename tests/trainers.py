"""Trainers as run.py makes them, without its data."""

from __future__ import annotations

from pathlib import Path

import argparser
from tasks import load_task
from train import Trainer
from utils import distributed
from utils.logger import Logger


def make_trainer(line: str, folder: Path, class_names: dict[int, str] | None = None) -> Trainer:
    """The trainer of a command line on the CPU, with random weights.

    Args:
        line: options of run.py.
        folder: where it would log.
        class_names: class id -> name; a number stands for one that has none.
    """
    options = argparser.parse(line.split())
    logger = Logger(folder, main=False, name=options.name, options={})
    task = load_task(options.dataset, options.task)
    return Trainer(options, task, class_names or {}, distributed.start("cpu"), logger)
