"""Real photographs in hours on a CPU: cat, dog, horse and person first, then cow and sheep from the web.

DIR holds ``voc-animals`` (VOC layout), ``web-animals`` (one folder of web images a class) and ``web-captioned``
(photographs with captions.json).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from experiments.arms import possible_arms
from experiments.plan import Experiment, Rehearsal, Sizes
from experiments.stage import Stage, line

# Classes with web images; of person the captioned photographs have some.
OLD, NEW = ("cat", "dog", "horse"), ("cow", "sheep")
SIZES = Sizes(
    common=line(
        "--backbone timm:tf_efficientnet_lite0 --crop_size 160 --crop_size_val 160 --batch_size 16 --sample_num 0 "
        "--val_interval 1000 --ckpt_interval 2"
    ),
    base=line("--bce --lr 0.02 --epochs 6"),
    step=line("--epochs 8"),
    pixel=line("--lr 0.002"),
    # With small batches their statistics are poor ones, and new classifiers that start at random cover old classes.
    weak=line(
        "--weakly --affinity --alpha 0.5 --loss_de 1 --lr_policy warmup --pseudo_ep 3 --lr 0.001 --lr_head 2 --init_balanced "
        "--freeze_norm"
    ),
    best=line("--weakly --affinity --alpha 0.5 --lr_policy warmup --pseudo_ep 2 --lr 0.001"),
    discriminator=line("--network tf_efficientnet_lite0 --pretrained imagenet --size 160 --epochs 8"),
    selection=line("--ratio 0.01"),
    speed=line("--num_workers 0"),
)
# As many iterations an epoch for every arm: one pass over the photographs of the step's new classes.
ITERATIONS = {"4-2": 25, "4-1": 12}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the user gives."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of voc-animals, web-animals and web-captioned"
    )
    parser.add_argument(
        "--task", choices=("4-2", "4-1"), default="4-2", help="cow and sheep in one step, or in two [4-2]"
    )
    parser.set_defaults(seeds=[0, 1, 2])


def describe(given: argparse.Namespace) -> Experiment:
    """Data and sizes."""
    work, data = given.work, given.data.resolve()
    web, captioned, photographs = data / "web-animals", data / "web-captioned", data / "voc-animals"
    candidates, search = work / "candidates", work / "search"
    rehearsal = Rehearsal(search / "downloads", search / "captions", search / "class_words.txt")
    classes = line("--new", NEW, "--base", OLD)
    pool = search / "pool"
    prepare = (
        Stage(
            "candidates",
            line("-m experiments.noisy_web --web", web, "--out", candidates, classes),
            needs=(web,),
            kind="candidates",
            outputs={"manifest": candidates / "manifest.csv"},
        ),
        Stage(
            "pool",
            line("-m experiments.imitated_search pool --web", web, "--captioned", captioned, "--out", pool, classes),
            needs=(web, captioned / "captions.json"),
            kind="pool",
            outputs={"listing": pool / "pool.json"},
        ),
        Stage(
            "pool-captions",
            line("generate_caption.py", pool / "image", pool / "captions.txt"),
            after=("pool",),
            kind="captions",
            outputs={"captions": pool / "captions.txt"},
        ),
        Stage(
            "search",
            line(
                "-m experiments.imitated_search find --pool",
                pool,
                "--out",
                search,
                "--dataset_dir",
                photographs,
                f"--task {given.task}",
            ),
            after=("pool-captions",),
            needs=(photographs,),
            kind="search",
            inputs={"pool": pool, "originals": photographs},
            outputs=rehearsal.named(),
        ),
    )
    return Experiment(
        work=work,
        dataset="voc",
        task=given.task,
        joint="animals-offline",
        protocol="overlap",
        data=photographs,
        folder="--dataset_dir",
        inputs=(photographs,),
        seeds=tuple(given.seeds),
        arms=tuple(given.arms or possible_arms(web=True, rehearsal=True)),
        sizes=replace(SIZES, step=line(SIZES.step, f"--iters_per_epoch {ITERATIONS[given.task]}")),
        classes=(*OLD, "person", *NEW),
        web=web,
        candidates=candidates / "manifest.csv",
        rehearsal=rehearsal,
        prepare=prepare,
    )
