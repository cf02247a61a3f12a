"""`run.py --test` on whole images of mixed sizes: one at a time, and as it does it, in groups of one size and a stream a core.

    python -m benchmarks.testing --dataset_dir DIR [--backbones resnet101 timm:tf_efficientnet_lite0] [--images 120 240] [--longer 0 500]

The ways are timed in turns, A B C A B C, in one process for each network and size, on the same files; weights are random. Each way's
confusion matrix is compared with that of the first, in pixels that moved. `--longer 500` enlarges the images, so that their longer side
is that long.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.pages import finish, make_parser, write_page
from results.table import markdown_table
from utils.cores import available
from utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from dataset.incremental import IncrementalView

# One image at a time with a process that loads, which was the default; then one thing changed after the other.
WORKER, ONE, GROUPS, STREAMS, BOTH = (
    "one at a time, a process loads",
    "one at a time, loaded in the process",
    "groups of one size",
    "one at a time, a stream a core",
    "groups of one size, a stream a core (run.py)",
)


@dataclass(frozen=True)
class Measurement:
    """One network on images of one kind.

    Attributes:
        sizes: different ones among the images.
        threads: cores.
        seconds: way -> seconds of each round.
        moved: way -> pixels that the confusion matrix has elsewhere than the first way's.
        pixels: of all images.
    """

    sizes: int
    threads: int
    seconds: Mapping[str, Sequence[float]]
    moved: Mapping[str, int]
    pixels: int


def enlarged(folder: Path, view: IncrementalView, longer: int) -> Path:
    """A data set of the same photographs whose longer side has so many pixels."""
    from PIL import Image

    for part in ("JPEGImages", "SegmentationClassAug", "splits"):
        (folder / part).mkdir()
    for index in map(int, view.indices):
        image, mask = view.source.image(index), Image.fromarray(view.source.mask(index))
        width, height = (round(side * longer / max(image.size)) for side in image.size)
        image.resize((width, height), Image.Resampling.BICUBIC).save(
            folder / f"JPEGImages/{view.source.ids[index]}.jpg", quality=90
        )
        mask = mask.resize((width, height), Image.Resampling.NEAREST)
        mask.save(folder / f"SegmentationClassAug/{view.source.ids[index]}.png")
    lines = "".join(
        f"/JPEGImages/{view.source.ids[i]}.jpg /SegmentationClassAug/{view.source.ids[i]}.png\n"
        for i in map(int, view.indices)
    )
    (folder / "splits/val.txt").write_text(lines)
    return folder


def make_view(folder: Path, images: int) -> IncrementalView:
    """Whole test images of all classes of VOC, ``images`` of them, spread over the split."""
    import numpy as np

    from dataset.views import DataOptions, make_views
    from tasks import load_task

    options = DataOptions(
        protocol="overlap", no_mask=False, crop_size=512, crop_size_val=512, test_unknown="ignore", random_seed=0,
        crop_val=False, test=True,
    )  # fmt: skip
    view = make_views(load_task("voc", "offline", None), 0, folder, options).test
    chosen = np.unique(np.linspace(0, len(view) - 1, min(images, len(view))).round().astype(int))
    view.indices, view.image_labels = view.indices[chosen], view.image_labels[chosen]
    return view


def measure(backbone: str, images: int, longer: int, settings: argparse.Namespace) -> Measurement:
    """Time the ways in turns; the first round of each warms up and does not count."""
    import torch
    from torch.utils.data import DataLoader

    from dataset.batch import collate
    from engine.evaluation import Evaluator
    from segmentation_module import make_model
    from utils import distributed
    from utils.cores import Split
    from utils.metrics import ConfusionMatrix
    from utils.normalisation import Normalisation

    runtime = distributed.start(settings.device, settings.precision)
    torch.manual_seed(0)
    model = make_model(backbone=backbone, output_stride=16, norm_act="iabn", classes=[21], pooling=32).eval()
    model.to(runtime.device).to(memory_format=torch.channels_last)
    names, normalisation = [str(number) for number in range(21)], Normalisation.of(model.body, "auto")
    threads = torch.get_num_threads()

    with tempfile.TemporaryDirectory() as temporary:
        view = make_view(settings.dataset_dir, images)
        if longer:
            view = make_view(enlarged(Path(temporary), view, longer), images)

        def single(workers: int) -> Tensor:
            asked = Evaluator(names, 0, runtime, normalisation)
            confusion = ConfusionMatrix(len(names))
            for batch in DataLoader(view, batch_size=1, collate_fn=collate, num_workers=workers):
                batch = batch.to(runtime.device)
                confusion.update(batch.masks, asked.predict(model, batch.images))
            return confusion.matrix.cpu()

        def grouped(batch_size: int, cores: Split | None) -> Tensor:
            asked = Evaluator(names, 0, runtime, normalisation, batch_size=batch_size, num_workers=None, whole=True)
            asked.cores = cores or asked.cores
            return asked.evaluate(view, model, "Test")[1]

        ways: dict[str, Callable[[], Tensor]] = {
            WORKER: lambda: single(1),
            ONE: lambda: single(0),
            GROUPS: lambda: grouped(settings.batch_size, Split(0, 1, threads)),
            STREAMS: lambda: grouped(1, None),
            BOTH: lambda: grouped(settings.batch_size, None),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        matrices: dict[str, Tensor] = {}
        for number in range(settings.rounds + 1):
            for way, work in ways.items():
                start = time.perf_counter()
                matrices[way] = work()
                if number:
                    times[way].append(time.perf_counter() - start)
        moved = {way: int((matrix - matrices[WORKER]).abs().sum()) // 2 for way, matrix in matrices.items()}
        return Measurement(len(set(view.sizes)), threads, times, moved, int(matrices[WORKER].sum()))


def page(measured: Mapping[tuple[str, int, int], Measurement], settings: argparse.Namespace) -> str:
    """The results page."""
    lines = [
        "# run.py --test on whole images",
        "",
        f"Written by `python -m benchmarks.testing`: {settings.precision}, device {settings.device}, "
        f"{available()} cores; medians of {settings.rounds} rounds, A B C D E in turns.",
    ]
    for (backbone, images, longer), one in measured.items():
        medians = {way: statistics.median(seconds) for way, seconds in one.seconds.items()}
        rows = [
            [
                way,
                f"{median:.2f}",
                f"{1000 * median / images:.1f}",
                f"{medians[WORKER] / median:.2f}",
                str(one.moved[way]),
            ]
            for way, median in medians.items()
        ]
        kind = f"longer side {longer}" if longer else "as they are"
        lines += [
            "",
            f"{backbone}, {images} images {kind}, {one.sizes} sizes, {one.threads} threads, {one.pixels} pixels:",
            "",
            *markdown_table(["way", "seconds", "ms / image", "times as fast", "pixels moved"], rows),
        ]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("testing", __doc__)
    add = parser.add_argument
    add("--dataset_dir", type=Path, required=True, help="folder of VOC")
    add("--backbones", nargs="+", default=["resnet101", "timm:tf_efficientnet_lite0"])
    add("--images", type=int, nargs="+", default=[120, 240], help="of each backbone")
    add("--longer", type=int, nargs="+", default=[0], help="longer side of the images; 0 leaves them as they are")
    add("--batch_size", type=int, default=24, help="images at once, at most")
    add("--rounds", type=int, default=3)
    add("--device", default="cpu")
    add("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each network in a process of its own; print and write the page."""
    settings = get_argparser().parse_args(arguments)
    if len(settings.images) != len(settings.backbones):
        raise UserError("--images: a number for each of --backbones is needed")
    measured = {}
    for backbone, images in zip(settings.backbones, settings.images, strict=True):
        for longer in settings.longer:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                measured[backbone, images, longer] = pool.submit(measure, backbone, images, longer, settings).result()
    print(write_page(settings.out, page(measured, settings)))
    return 0


if __name__ == "__main__":
    finish("testing", main)
