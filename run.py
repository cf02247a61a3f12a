"""Train and test one step of class-incremental semantic segmentation: ``python run.py --help``.

One process, or many under torchrun or torch.distributed.launch; base steps, weak and pixel-supervised incremental steps, and
tests alike.
"""

from __future__ import annotations

import sys
from pathlib import Path

import argparser
from argparser import Options
from utils.script import run


def main(options: Options) -> int:
    """Run what the options ask for; the exit code."""
    # Imported here, so that a refused command line answers before torch is loaded.
    from dataset import class_names, default_folder
    from dataset.views import Replay, Web, make_views
    from engine import testing
    from tasks import load_task
    from train import Stopped, Trainer
    from utils import distributed
    from utils.logger import Logger

    runtime = distributed.start(options.device, options.precision, options.local_rank)
    folder = default_folder(options.dataset, options.data_root, options.dataset_dir)
    names = class_names(options.dataset, folder)
    task = load_task(options.dataset, options.task, set(names))
    own_checkpoint = options.checkpoint_path(options.step)
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
        views = make_views(
            task,
            options.step,
            folder,
            protocol=options.protocol,
            mask_old=not options.no_mask,
            crop_size=options.crop_size,
            crop_size_val=options.crop_size_val if options.crop_val else None,
            normalisation=trainer.normalisation,
            unknown=options.test_unknown,
            seed=options.random_seed,
            train=not options.test,
            train_list=options.train_list,
            pseudo=options.pseudo,
            jitter=options.jitter,
            val_list=options.val_list,
            val_on_trainset=options.val_on_trainset,
            web=Web(Path(options.web_path), options.web_num, options.web_labels) if options.web_path else None,
            replay=Replay(Path(options.replay_path), options.replay_num, options.replay_balance)
            if options.replay_path
            else None,
        )
        trainer.begin(views.train)
        if views.train is not None and not trainer.progress.finished:
            trainer.fit(views.train, views.val, own_checkpoint)
        print(testing.show(trainer, testing.test(trainer, views.test), views.test), flush=True)
    except Stopped as stopped:
        logger.warning(str(stopped))
        return 128 + (trainer.stop_requested or 0)
    finally:
        logger.close()
        distributed.stop()
    return 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(argparser.parse()), "run.py"))
