"""The whole chain on drawn pictures, in minutes on a CPU: four shapes first, then twice two from noisy web images; nothing to download."""

from __future__ import annotations

import argparse
from pathlib import Path

from dataset.shapes_drawing import SHAPES
from experiments.plan import Experiment, Rehearsal, Sizes
from experiments.stage import Stage, line
from tasks import load_task

TASK = "4-2"
# What all parts give together, the discriminator among them.
ARMS = ("raw-web", "best-discriminator")
SIZES = Sizes(
    common=line("--batch_size 16 --val_interval 6"),
    base=line("--bce --lr 0.02 --epochs 12"),
    step=line("--epochs 8 --iters_per_epoch 15"),
    pixel=line("--lr 0.002"),
    weak=line("--weakly --affinity --alpha 0.5 --loss_de 1 --lr_policy warmup --pseudo_ep 3 --lr 0.002"),
    best=line("--weakly --affinity --alpha 0.5 --lr_policy warmup --pseudo_ep 2 --lr 0.001"),
    discriminator=line("--network tf_efficientnet_lite0 --pretrained imagenet --size 128 --epochs 2"),
    selection=line("--keep 60"),
    speed=line("--num_workers 1"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Nothing is to be given."""
    parser.set_defaults(seeds=[42], task=TASK, work=Path("demo"))


def describe(given: argparse.Namespace) -> Experiment:
    """Data, which is drawn, and sizes."""
    work = given.work
    data, web, pool, search = (work / name for name in ("data", "web-images", "pool", "search"))
    rehearsal = Rehearsal(search / "downloads", search / "captions", search / "class_words.txt")
    base = [SHAPES[i - 1] for i in load_task("shapes", TASK).new(0) if i]
    manifest, draw = pool / "manifest.csv", "-m dataset.shapes --out"
    prepare = (
        Stage("draw", line(draw, data), kind="draw", outputs={"data": data}),
        Stage(
            "draw-web",
            line(draw, web, "--web --per_class 100"),
            kind="draw",
            outputs={"images": web, "manifest": web / "manifest.csv"},
        ),
        Stage(
            "draw-pool",
            line(draw, pool, "--web --seed 1 --per_class 60 --classes", base),
            kind="draw",
            outputs={"manifest": manifest},
        ),
        Stage(
            "search",
            line(
                "-m experiments.imitated_search find --pool", manifest, "--out", search, "--dataset shapes --dataset_dir",
                data, f"--task {TASK} --originals 100",
            ),
            after=("draw", "draw-pool"),
            kind="search",
            inputs={"pool": manifest, "originals": data},
            outputs=rehearsal.named(),
        ),
    )  # fmt: skip
    return Experiment(
        work=work,
        dataset="shapes",
        task=TASK,
        joint="offline",
        protocol="overlap",
        data=data,
        folder="--dataset_dir",
        inputs=(),
        seeds=tuple(given.seeds),
        arms=tuple(given.arms or ARMS),
        sizes=SIZES,
        classes=tuple(SHAPES),
        web=web,
        candidates=web / "manifest.csv",
        rehearsal=rehearsal,
        prepare=prepare,
    )
