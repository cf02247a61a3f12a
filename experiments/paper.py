"""The paper's scale: PASCAL VOC with ResNet-101, and COCO to VOC with WiderResNet-38 (METHOD section 3 and 4, WEB section C)."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from experiments.arms import possible_arms
from experiments.plan import Experiment, Rehearsal, Sizes
from experiments.stage import line
from tasks import BACKGROUND, load_task
from utils.errors import UserError

VOC = Sizes(
    common=line("--batch_size 24 --val_interval 2"),
    base=line("--bce --lr 0.01 --epochs 30"),
    step=(),
    pixel=line("--lr 0.001 --epochs 30"),
    weak=line("--weakly --affinity --alpha 0.5 --loss_de 1 --lr_policy warmup --lr 0.001 --epochs 40"),
    best=line("--weakly --affinity --alpha 0.5 --lr_policy warmup --lr 0.001 --epochs 40"),
    discriminator=(),
    # Of 10,000 candidates a class the paper keeps 500.
    selection=line("--keep 500"),
)
COCO = replace(
    VOC,
    weak=line("--weakly --affinity --alpha 0.9 --loss_de 1 --lr_policy warmup --lr 0.001 --epochs 30"),
    best=line("--weakly --affinity --alpha 0.9 --lr_policy warmup --lr 0.001 --epochs 30"),
)


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder of the data sets (run.py --data_root) [data]",
    )
    add(
        "--web",
        type=Path,
        help="web images of all classes: manifest, or one folder a class; adds the arms that learn from them",
    )
    add("--downloads", type=Path, metavar="DIR", help="one folder of images an original of step 0; adds rehearsal")
    add("--class_words", type=Path, metavar="FILE", help="class words of the originals, lines `ID.png word word`")
    add("--captioner", nargs="+", default=[], metavar="WORD", help="captioner and, if it needs one, its model [tags]")
    add("--iterations", type=int, help="iterations of an epoch of later steps, the same for all arms [one pass]")
    parser.set_defaults(seeds=[42])


def add_voc_options(parser: argparse.ArgumentParser) -> None:
    """What the user gives for VOC."""
    parser.add_argument("task", metavar="TASK", help="15-5, 10-10, 15-5s ...")
    parser.add_argument("--overlap", action="store_true", help="overlap protocol [disjoint]")
    _add_common(parser)


def add_coco_options(parser: argparse.ArgumentParser) -> None:
    """What the user gives for COCO to VOC."""
    _add_common(parser)
    parser.set_defaults(task="voc", overlap=False)


def describe_voc(given: argparse.Namespace) -> Experiment:
    """VOC in the steps of a task."""
    return _describe(given, "voc", VOC)


def describe_coco(given: argparse.Namespace) -> Experiment:
    """60 classes of COCO, then the 20 of VOC."""
    return _describe(given, "coco-voc", COCO)


def _describe(given: argparse.Namespace, dataset: str, sizes: Sizes) -> Experiment:
    task = load_task(dataset, given.task)
    if (given.downloads is None) != (given.class_words is None):
        raise UserError("--downloads and --class_words belong together: give both")
    if given.downloads is not None and given.web is None:
        raise UserError("--downloads needs --web: rehearsal stands beside web images of the new classes")
    if len(given.captioner) > 2:
        raise UserError(f"--captioner {' '.join(given.captioner)}: a captioner, and its model")
    words = [word for pair in zip(("--captioner", "--model"), given.captioner, strict=False) for word in pair]
    if given.iterations is not None:
        sizes = replace(sizes, step=line(f"--iters_per_epoch {given.iterations}"))
    web = None if given.web is None else given.web.resolve()
    rehearsal = None
    if given.downloads is not None:
        rehearsal = Rehearsal(given.downloads.resolve(), given.work / "rehearsal/captions", given.class_words.resolve())
    data = given.data.resolve()
    return Experiment(
        work=given.work,
        dataset=dataset,
        task=given.task,
        joint="offline",
        protocol="overlap" if given.overlap else "disjoint",
        data=data,
        folder="--data_root",
        inputs=tuple(data / name for name in dataset.split("-")),
        seeds=tuple(given.seeds),
        arms=tuple(given.arms or possible_arms(web is not None, rehearsal is not None)),
        sizes=replace(sizes, captioner=tuple(words)),
        classes=_names(dataset, data, [i for i in task.seen(len(task) - 1) if i != BACKGROUND]) if web else (),
        web=web,
        candidates=web,
        rehearsal=rehearsal,
    )


def _names(dataset: str, data: Path, ids: list[int]) -> tuple[str, ...]:
    # Imported here, so that --help answers at once.
    from dataset import class_names, default_folder

    names = class_names(dataset, default_folder(dataset, data))
    return tuple(names[i] for i in ids)
