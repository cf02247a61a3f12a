"""How the scripts that ask a network split a CPU's cores: the program's choice beside every fixed split and the bare forward pass.

    python -m benchmarks.cores --data DIR [--jobs generate_label.py select_web.py predict.py] [--images 64]

DIR holds images. Each round times, one after the other, the network alone on decoded images with all threads, each split of decoding
processes and threads, and the split that the program finds; A B C A B C. Weights are random: times do not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from benchmarks.pages import finish, make_parser, write_page
from benchmarks.predict import image_files, make_segmenter_of
from results.table import markdown_table

if TYPE_CHECKING:
    from utils.cores import Split

BARE, CHOSEN = "the network alone", "the program's choice"
# Decoding processes and threads.
FIXED = [(workers, threads) for workers in (0, 1, 2) for threads in (1, 2)]
# What times a job: the network alone, and all of it with a split.
Ways = tuple[Callable[[], None], Callable[["Split"], None]]


def labelling(settings: argparse.Namespace, folder: Path) -> Ways:
    """generate_label.py's work on a replay tree of the images."""
    from dataset.groups import groups_of
    from dataset.replay_tree import images_of
    from engine.labelling import Labeller, LabelSettings, label_worker
    from spread.ways import looked_at

    tree = folder / "tree" / "one" / "image"
    tree.mkdir(parents=True)
    for number, file in enumerate(image_files(settings)):
        (tree / f"{number:05}{file.suffix}").symlink_to(file.resolve())
    # Without a checkpoint, which its own constructor reads.
    labeller = Labeller.__new__(Labeller)
    labeller.segmenter, labeller.settings = make_segmenter_of(settings), LabelSettings()
    groups = groups_of(images_of(tree.parent), settings.batch_size)
    worker = label_worker(labeller, {})
    stacked = [group.images for members in groups for group in worker.prepare(members)[1].groups]

    def bare() -> None:
        for images in stacked:
            labeller.segmenter.logits(images)

    def whole(cores: Split) -> None:
        rows = list(looked_at(worker, groups, cores, labeller.segmenter.runtime))
        assert sum(map(len, rows)) == settings.images

    return bare, whole


def scoring(settings: argparse.Namespace, folder: Path) -> Ways:
    """select_web.py's scoring of the images."""
    import torch

    from modules.spectrum import Discriminator, Preprocessing
    from spread.blocks import in_batches
    from spread.ways import looked_at
    from utils import distributed
    from web.scoring import score_worker

    runtime = distributed.start(settings.device)
    network = Discriminator(Preprocessing(settings.network, size=settings.size)).to(runtime.device).eval()
    worker = score_worker(network, runtime)
    batches = list(in_batches(enumerate(map(str, image_files(settings))), settings.batch_size))
    prepared = [worker.prepare(batch).values for batch in batches]

    @torch.inference_mode()
    def bare() -> None:
        for values in prepared:
            network.classify(values)

    return bare, lambda cores: [*looked_at(worker, batches, cores, runtime)].clear()


def predicting(settings: argparse.Namespace, folder: Path) -> Ways:
    """predict.py's work on the images: decoding, the network, masks written."""
    from dataset.groups import Groups, groups_of
    from prediction.inputs import Item
    from prediction.looking import Looker, LookSettings
    from prediction.results import Marker, Results
    from prediction.work import predict_all

    segmenter = make_segmenter_of(settings)
    items = [Item(path, f"{number}") for number, path in enumerate(image_files(settings))]
    look = LookSettings()
    decoded = Groups(groups_of(items, settings.batch_size, most_pixels=look.most_pixels), 0)
    stacked = [group.images for number in range(len(decoded)) for group in decoded[number].groups]
    marker = Marker("", "benchmark", tuple(segmenter.description.names.items()), look.plain())

    def bare() -> None:
        for images in stacked:
            segmenter.logits(images)

    def whole(cores: Split) -> None:
        # Its own choice is what is compared.
        with tempfile.TemporaryDirectory() as out, patch("utils.cores.split", lambda *_: cores):
            results = Results(Path(out), marker)
            with results.open(again=False):
                predict_all(items, results, Looker(segmenter, look), batch_size=settings.batch_size)

    return bare, whole


JOBS: dict[str, Callable[[argparse.Namespace, Path], Ways]] = {
    "generate_label.py": labelling,
    "select_web.py": scoring,
    "predict.py": predicting,
}


def named(cores: Split) -> str:
    """A split in words."""
    return f"{cores.workers} processes decode, {cores.streams} x {cores.threads} threads"


def measure(job: str, settings: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each round; the first of each warms up and does not count."""
    import torch

    from utils import cores

    with tempfile.TemporaryDirectory() as folder:
        bare, whole = JOBS[job](settings, Path(folder))
        threads, chosen = torch.get_num_threads(), cores.split(settings.device)
        ways: dict[str, Callable[[], None]] = {BARE: bare}
        for workers, few in FIXED:
            ways[named(cores.Split(workers, 1, few))] = partial(whole, cores.Split(workers, 1, few))
        ways[f"{CHOSEN}: {named(chosen)}"] = partial(whole, chosen)
        times: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(settings.rounds + 1):
            for way, work in ways.items():
                torch.set_num_threads(threads)
                for label in Path(folder).rglob("label"):
                    for file in label.iterdir():
                        file.unlink()
                start = time.perf_counter()
                work()
                if number:
                    times[way].append(time.perf_counter() - start)
    return times


def page(measured: Mapping[str, Mapping[str, Sequence[float]]], settings: argparse.Namespace) -> str:
    """The results page."""
    import os

    lines = [
        "# Cores of a CPU, split between decoding and computing",
        "",
        f"Written by `python -m benchmarks.cores`: {settings.backbone}, and {settings.network} at {settings.size} pixels for "
        f"select_web.py; {settings.images} images, batch {settings.batch_size}, {os.cpu_count()} cores; medians of {settings.rounds} "
        "rounds, in turns.",
    ]
    for job, times in measured.items():
        medians = {way: statistics.median(seconds) for way, seconds in times.items()}
        rows = [
            [way, f"{settings.images / median:.1f}", f"{100 * medians[BARE] / median:.0f}"]
            for way, median in medians.items()
        ]
        lines += ["", f"{job}:", "", *markdown_table(["way", "images / s", "% of the network alone"], rows)]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("cores", __doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of images")
    add("--jobs", nargs="+", choices=tuple(JOBS), default=list(JOBS))
    add("--backbone", default="timm:tf_efficientnet_lite0", help="of the segmenter")
    add("--network", default="efficientnet_b0", help="timm's name of the discriminator's")
    add("--size", type=int, default=224, help="side of the discriminator's images, pixels")
    add("--images", type=int, default=64)
    add("--batch_size", type=int, default=8)
    add("--rounds", type=int, default=2)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each job in a process of its own; print and write the page."""
    settings = get_argparser().parse_args(arguments)
    settings.model, settings.device, settings.precision = None, "cpu", "fp32"
    settings.images = len(image_files(settings))
    measured = {}
    for job in settings.jobs:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            measured[job] = pool.submit(measure, job, settings).result()
    print(write_page(settings.out, page(measured, settings)))
    return 0


if __name__ == "__main__":
    finish("cores", main)
