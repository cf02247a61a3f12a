"""Train and test one step of class-incremental semantic segmentation: ``python run.py --help``.

One process, or many under torchrun or torch.distributed.launch; base steps, weak and pixel-supervised incremental steps, and
tests alike.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import argparser
from argparser import Options
from utils.script import run

if TYPE_CHECKING:
    from utils.distributed import Runtime


def main(options: Options) -> int:
    """Run what the options ask for; the exit code."""
    # Imported here, so that a refused command line answers before torch is loaded.
    from engine.state import claimed
    from utils import distributed

    runtime = distributed.start(options.device, options.precision, options.local_rank)
    try:
        with claimed(options, main=runtime.main):
            return train_and_test(options, runtime)
    finally:
        distributed.stop()


def train_and_test(options: Options, runtime: Runtime) -> int:
    """One step, from its data to its scores; the exit code."""
    from dataset import class_names, default_folder
    from dataset.views import DataOptions, make_views
    from engine import testing
    from engine.stopping import Stopped
    from tasks import load_task
    from train import Trainer
    from utils.logger import Logger

    folder = default_folder(options.dataset, options.data_root, options.dataset_dir)
    names = class_names(options.dataset, folder)
    task = load_task(options.dataset, options.task, set(names))
    logger = Logger(
        options.log_folder,
        main=runtime.main,
        name=f"{options.experiment}_{options.name}",
        options=options.plain(),
        wandb_mode=options.wandb,
        debug=options.debug,
    )
    try:
        trainer = Trainer(options, task, names, runtime, logger)
        views = make_views(task, options.step, folder, trainer.networks.normalisation, DataOptions.of(options))
        trainer.begin(views.train)
        trainer.fit(views.train, views.val)
        result = testing.test(trainer, views.test)
        print(testing.show(trainer, result, views.test), flush=True)
    except Stopped as stopped:
        logger.warning(str(stopped))
        return stopped.exit_code
    finally:
        logger.close()
    return 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(argparser.parse()), "run.py"))
