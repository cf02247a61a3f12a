"""The command line of every script that an experiment calls, run.py's and dataset.shapes's aside."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import add_class
import generate_caption
import generate_label
import generate_train_file
import select_web
import train_discriminator
from experiments import adopt_steps, hold_out, imitated_search, noisy_web, report
from utils import measure_noun, table

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "train_discriminator.py": train_discriminator.get_argparser,
    "select_web.py": select_web.get_argparser,
    "generate_caption.py": generate_caption.get_argparser,
    "generate_label.py": generate_label.get_argparser,
    "generate_train_file.py": generate_train_file.get_argparser,
    "utils.measure_noun": measure_noun.get_argparser,
    "utils.table": table.get_argparser,
    "add_class.py": add_class.get_argparser,
    "experiments.adopt_steps": adopt_steps.get_argparser,
    "experiments.report": report.get_argparser,
    "experiments.hold_out": hold_out.get_argparser,
    "experiments.noisy_web": noisy_web.get_argparser,
    "experiments.imitated_search": imitated_search.get_argparser,
}
