"""Twenty classes of real photographs at 256 pixels: the papers' own tasks on VOC in hours on a CPU.

DIR holds ``voc20`` (VOC layout), ``web20`` (one folder of web images a class), ``web-captioned`` and
``web-captioned-coco`` (photographs with captions.json) and ``captions/voc_train_captions.json``
(captions by the ids of training images).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from experiments.animals import SIZES as ANIMALS
from experiments.arms import possible_arms
from experiments.plan import Experiment, Rehearsal
from experiments.stage import Stage, line
from tasks import BACKGROUND, load_task

# Iterations of an epoch, the same for every arm: 64 web images of each new class; a step of one
# class gets half as many more.
ITERATIONS = {"15-5": 40, "10-10": 80, "15-5s": 12, "10-10s": 12, "10-2": 20, "10-5-5": 40}
NETWORK = "tf_efficientnet_lite0"
# As for animals, whose steps are of the same size, but for what every run and the base step have.
SIZES = replace(
    ANIMALS,
    common=line(
        "--crop_size 160 --crop_size_val 160 --batch_size 16 --sample_num 0 --val_interval 1000 --ckpt_interval 1"
    ),
    base=line("--bce --lr 0.02 --epochs 5"),
)
CAPTIONS = "captions/voc_train_captions.json"
# Training images of step 0 that are searched for: a hundred a class, or all where there are fewer.
ORIGINALS = 1500


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the user gives."""
    parser.add_argument("task", choices=tuple(ITERATIONS), metavar="TASK", help=", ".join(ITERATIONS))
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR",
        help="folder of voc20, web20, web-captioned, web-captioned-coco and captions",
    )  # fmt: skip
    parser.add_argument("--overlap", action="store_true", help="overlap protocol [disjoint]")
    parser.add_argument("--network", default=NETWORK, help=f"body: one of timm's, or resnet50, resnet101 [{NETWORK}]")
    parser.add_argument(
        "--tune", action="store_true",
        help="leave the test images alone: one in five training images is held out and tested on",
    )  # fmt: skip
    parser.set_defaults(seeds=[0, 1, 2])


def describe(given: argparse.Namespace) -> Experiment:
    """Data and sizes."""
    # Imported here, so that --help answers at once.
    from dataset.voc import CLASS_NAMES

    work, data, task = given.work, given.data.resolve(), load_task("voc", given.task)
    protocol = "overlap" if given.overlap else "disjoint"
    base = [CLASS_NAMES[i] for i in task.new(0) if i != BACKGROUND]
    classes = [CLASS_NAMES[i] for i in task.seen(len(task) - 1) if i != BACKGROUND]
    new = classes[len(base) :]
    photographs = work / "photographs" if given.tune else data / "voc20"
    web, captions, captioned = data / "web20", data / CAPTIONS, [data / "web-captioned", data / "web-captioned-coco"]
    candidates, search, pool = work / "candidates", work / "search", work / "search/pool"
    rehearsal = Rehearsal(search / "downloads", search / "captions", search / "class_words.txt")
    named = line("--new", new, "--base", base)
    held_out: tuple[Stage, ...] = ()
    if given.tune:
        held_out = (
            Stage(
                "hold-out",
                line("-m experiments.hold_out --data", data / "voc20", "--out", photographs),
                needs=(data / "voc20",),
                kind="hold-out",
                outputs={"photographs": photographs},
            ),
        )
    after = tuple(stage.name for stage in held_out)
    prepare = (
        *held_out,
        Stage(
            "candidates",
            line("-m experiments.noisy_web --noisy_base --web", web, "--out", candidates, named),
            needs=(web,),
            kind="candidates",
            outputs={"manifest": candidates / "manifest.csv"},
        ),
        Stage(
            "pool",
            line("-m experiments.imitated_search pool --web", web, "--captioned", *captioned, "--out", pool, named),
            needs=(web, *(folder / "captions.json" for folder in captioned)),
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
            "queries",
            line(
                "-m experiments.imitated_search queries --captions", captions, "--out", search / "originals.csv",
                "--dataset_dir", photographs, f"--task {given.task} --protocol {protocol} --originals {ORIGINALS}",
            ),
            after=after,
            needs=(captions, *(() if after else (photographs,))),
            kind="queries",
            outputs={"manifest": search / "originals.csv"},
        ),
        Stage(
            "query-captions",
            line("generate_caption.py", search / "originals.csv", search / "queries.csv", "--only_missing"),
            after=("queries",),
            kind="captions",
            outputs={"manifest": search / "queries.csv"},
        ),
        Stage(
            "search",
            line("-m experiments.imitated_search find --pool", pool, "--out", search, "--queries", search / "queries.csv"),
            after=("pool-captions", "query-captions"),
            kind="search",
            inputs={"pool": pool, "queries": search / "queries.csv"},
            outputs=rehearsal.named(),
        ),
    )  # fmt: skip
    body = given.network if given.network.startswith("resnet") else f"timm:{given.network}"
    return Experiment(
        work=work,
        dataset="voc",
        task=given.task,
        joint="offline",
        protocol=protocol,
        data=photographs,
        folder="--dataset_dir",
        inputs=() if given.tune else (photographs,),
        seeds=tuple(given.seeds),
        arms=tuple(given.arms or possible_arms(web=True, rehearsal=True)),
        sizes=replace(
            SIZES,
            common=line(f"--backbone {body}", SIZES.common),
            step=line(SIZES.step, f"--iters_per_epoch {ITERATIONS[given.task]}"),
        ),
        classes=tuple(classes),
        web=candidates / "manifest.csv",
        candidates=candidates / "manifest.csv",
        rehearsal=rehearsal,
        prepare=prepare,
    )
