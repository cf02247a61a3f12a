"""Train and test one step of class-incremental semantic segmentation: ``python run.py --help``.

One process, or many under torchrun or torch.distributed.launch; base steps, weak and pixel-supervised incremental steps, and
tests alike.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import argparser
from argparser import Options
from engine.stopping import Stopped, Stopping, echo_seconds, shielded
from utils.errors import UserError
from utils.script import run

if TYPE_CHECKING:
    from utils.distributed import Runtime

# What a signal says that comes before the training.
NOTHING_DONE = "before the first iteration; nothing was trained"
LOST = "rank {rank} lost another rank: its process or machine is gone ({why}); go on with --resume auto"


def parsed() -> Options:
    """The options of the command line.

    Raises:
        UserError: it is refused; where a launcher started several processes, the others hear of it.
    """
    try:
        return argparser.parse()
    except UserError as error:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            from utils import distributed

            distributed.refuse(error)
        raise


def main(options: Options) -> int:
    """Run what the options ask for; the exit code, 128 + n where signal n stopped it."""
    with Stopping(echo=echo_seconds()) as stopping:
        try:
            return step(options, stopping)
        except Stopped as stopped:
            logging.getLogger("webwilss").warning(str(stopped))
            return stopped.exit_code


def step(options: Options, stopping: Stopping) -> int:
    """One step, which no other run of its name does meanwhile; the exit code.

    Raises:
        Stopped: a signal came before the log was open.
    """
    with stopping.at_once(NOTHING_DONE):
        # Imported here, so that a refused command line answers before torch is loaded.
        from engine.state import claimed
        from utils import distributed

        runtime = distributed.start(options.device, options.precision, options.local_rank)
        # What auto chose stands in checkpoints: a run does not go on in another arithmetic.
        options = replace(options, precision=runtime.precision)
    try:
        with ExitStack() as held:
            with runtime.agreed():
                held.enter_context(claimed(options, main=runtime.main))
            return train_and_test(options, runtime, stopping)
    except RuntimeError as error:
        if not runtime.lost(error):
            raise
        raise UserError(LOST.format(rank=runtime.rank, why=str(error).splitlines()[0])) from error
    finally:
        distributed.stop()


def train_and_test(options: Options, runtime: Runtime, stopping: Stopping) -> int:
    """From data to scores; the exit code.

    Raises:
        Stopped: a signal came before the log was open.
    """
    with stopping.at_once(NOTHING_DONE), runtime.agreed():
        from dataset import class_names, default_folder
        from dataset.views import DataOptions, make_views
        from engine import testing
        from tasks import load_task
        from train import Trainer
        from utils.logger import Logger

        folder = default_folder(options.dataset, options.data_root, options.dataset_dir)
        names = class_names(options.dataset, folder)
        task = load_task(options.dataset, options.task, set(names))
        # A signal to the whole group is not for the process that wandb starts.
        with shielded():
            logger = Logger(
                options.log_folder,
                main=runtime.main,
                name=f"{options.experiment}_{options.name}",
                options=options.plain(),
                wandb_mode=options.wandb,
                debug=options.debug,
            )
    try:
        with stopping.at_once(NOTHING_DONE):
            with runtime.agreed():
                trainer = Trainer(options, task, names, runtime, logger, stopping)
                views = make_views(task, options.step, folder, DataOptions.of(options))
            trainer.begin(views.train)
        trainer.fit(views.train, views.val)
        result = testing.test(trainer, views.test)
        if runtime.main:
            print(testing.table(result), flush=True)
            page = testing.show(trainer, result, views.test)
            if page is not None:
                print(f"Page with predictions: {page}", flush=True)
    except Stopped as stopped:
        logger.warning(str(stopped))
        return stopped.exit_code
    finally:
        logger.close()
    return 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(parsed()), "run.py", stopped="nothing was trained"))
