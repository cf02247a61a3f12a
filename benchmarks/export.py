"""A segmenter in torch, its norms folded, and as files of ONNX and torch.export: ms an image, on one thread and on two.

    python -m benchmarks.export [--model MODEL] [--backbone resnet101] [--size 512] [--compile]

Each gets the same uint8 image and gives class ids. They are timed in turns, several rounds in one
run, so that a slow minute of the machine is everybody's. Without --model the weights are random:
times do not depend on them.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.pages import finish, make_parser, write_page
from results.table import markdown_table
from utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from segmentation_module import Segmenter

TORCH, FOLDED, COMPILED, ONNX, PT2 = "torch", "torch, norms folded", "torch.compile", "ONNX", "torch.export (pt2)"
STRIDE = 16


@dataclass(frozen=True)
class Measurement:
    """Times of one image.

    Attributes:
        network: what the segmenter is, in words.
        norms: what was folded, in words.
        times: (what, threads) -> median seconds of each round.
    """

    network: str
    norms: str
    times: Mapping[tuple[str, int], Sequence[float]]


def make_segmenter(settings: argparse.Namespace) -> Segmenter:
    """The MODEL, or one of VOC's classes with random weights."""
    import segmentation_module
    from modules.description import OWN, Description
    from utils import distributed

    if settings.model is not None:
        return segmentation_module.load_segmenter(settings.model, device="cpu")
    network = {
        "library": OWN, "backbone": settings.backbone, "output_stride": STRIDE, "norm_act": "iabn_sync",
        "pooling": 512 // STRIDE, "image_stats": "auto",
    }  # fmt: skip
    names = ("background", *(f"class {i}" for i in range(1, 21)))
    description = Description(network, (tuple(range(16)), tuple(range(16, 21))), names, binary=True)
    weights = segmentation_module.make_segmenter(description).state_dict()
    return segmentation_module.Segmenter(description, weights, distributed.start("cpu"), settings.backbone)


def runners(segmenter: Segmenter, folder: Path, settings: argparse.Namespace) -> tuple[dict, str]:
    """What is timed -> images (B, H, W, 3) and threads to class ids; and what was folded."""
    import onnxruntime
    import torch

    from release import onnx, pt2
    from release.forms import Form

    drawing, _ = onnx.export(segmenter, folder / "model.onnx", Form())
    pt2.export(segmenter, folder / "model.pt2", Form())
    folded, loaded = drawing.program.module(), torch.export.load(folder / "model.pt2").module()
    sessions = {}
    for threads in settings.threads:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        sessions[threads] = onnxruntime.InferenceSession(folder / "model.onnx", options)

    def eager(images: Tensor, threads: int) -> object:
        return segmenter.labels(segmenter.logits(images.permute(0, 3, 1, 2)))

    made: dict[str, Callable[[Tensor, int], object]] = {
        TORCH: eager,
        FOLDED: lambda images, threads: folded(images),
        ONNX: lambda images, threads: sessions[threads].run(None, {"images": images.numpy()}),
        PT2: lambda images, threads: loaded(images),
    }
    if settings.compile:
        compiled = torch.compile(folded)
        made[COMPILED] = lambda images, threads: compiled(images)
    return made, str(drawing.folding)


def measure(settings: argparse.Namespace) -> Measurement:
    """Time all of them in turns."""
    # Imported here, so that --help answers at once.
    import torch

    segmenter = make_segmenter(settings)
    images = torch.randint(0, 256, (1, settings.size, settings.size, 3), dtype=torch.uint8)
    times: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        made, norms = runners(segmenter, Path(folder), settings)
        turns = itertools.product(range(settings.rounds + 1), settings.threads, made.items())
        for turn, threads, (what, run) in turns:
            torch.set_num_threads(threads)
            seconds = []
            for _ in range(settings.repeats):
                begin = time.perf_counter()
                with torch.inference_mode():
                    run(images, threads)
                seconds.append(time.perf_counter() - begin)
            # The first turn warms up.
            if turn:
                times.setdefault((what, threads), []).append(statistics.median(seconds))
    network = segmenter.description.network
    return Measurement(str(network.get("backbone", network["library"])), norms, times)


def page(measurement: Measurement, settings: argparse.Namespace) -> str:
    """The table, below lines that say what it is of."""
    medians = {key: statistics.median(times) for key, times in measurement.times.items()}
    rows = [
        [
            f"{what}, {threads} thread{'s' * (threads > 1)}",
            f"{1000 * seconds:.1f}",
            f"{medians[TORCH, threads] / seconds:.2f}",
        ]
        for (what, threads), seconds in medians.items()
    ]
    lines = [
        "# Files that run without this project",
        "",
        f"{measurement.network}, one image of {settings.size} x {settings.size} pixels to class ids, CPU; "
        f"{measurement.norms}.",
        "",
        f"Median of {settings.rounds} rounds of {settings.repeats} images, in turns (`python -m benchmarks.export`).",
        "",
        *markdown_table(["what", "ms / image", "times as fast as torch"], rows),
    ]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("export", __doc__)
    add = parser.add_argument
    add(
        "--model",
        metavar="MODEL",
        help="any model that export.py takes and that says itself what it is [random weights]",
    )
    add("--backbone", default="resnet101", help="body of the model with random weights [resnet101]")
    add("--size", type=int, default=512, help="side of the image, pixels [512]")
    add("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads [1 2]")
    add("--rounds", type=int, default=7, help="rounds that count; one before them warms up [7]")
    add("--repeats", type=int, default=3, help="images of each in a round [3]")
    add("--compile", action="store_true", help="torch.compile, too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    settings = get_argparser().parse_args(arguments)
    if min(settings.size, settings.rounds, settings.repeats, *settings.threads) < 1:
        raise UserError("--size, --rounds, --repeats and --threads need at least 1")
    print(write_page(settings.out, page(measure(settings), settings)))
    return 0


if __name__ == "__main__":
    finish("export", main)
