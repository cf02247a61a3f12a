"""What predict.py costs beside the bare forward pass, and how well tiles agree with whole images.

    python -m benchmarks.predict --data DIR [--model MODEL] [--backbone resnet101] [--images 64] [--rounds 3]

DIR holds images. Each round times, one after the other, the network alone on images that are decoded and stacked already (A), and
predict.py's work on the same files: decoding, the network, masks written (B); A B A B, on the same threads. `--agreement` compares the
masks of tiles with those of the whole image, on a sheet of the images; `--large 12000 9000` looks at a drawn image of that size and
says the peak memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.pages import finish, make_parser, write_page
from results.table import markdown_table
from utils.errors import UserError
from utils.suffixes import is_image

if TYPE_CHECKING:
    from segmentation_module import Segmenter

# Classes of the network with random weights.
CLASSES = 21
# Tile and overlap of ``--agreement``, and the width and height of the sheet and of the images on it.
TILES = ((512, 128), (1024, 128), (1024, 256), (1024, 384))
SHEET, CELL = (1640, 1230), (500, 375)


@dataclass(frozen=True)
class Cost:
    """One kind of work on the same images.

    Attributes:
        bare: seconds of the network alone, of each round.
        whole: seconds of predict.py's work, of each round.
    """

    bare: Sequence[float]
    whole: Sequence[float]

    @property
    def share(self) -> float:
        """The bare pass's share of the whole, of the median rounds."""
        return statistics.median(self.bare) / statistics.median(self.whole)


def make_segmenter_of(settings: argparse.Namespace) -> Segmenter:
    """The segmenter of ``--model``; without, one of random weights, on which times do not depend."""
    # Imported here, so that --help answers at once.
    from modules.description import Description, own_network
    from segmentation_module import Segmenter, load_segmenter, make_segmenter
    from utils import distributed

    if settings.model is not None:
        return load_segmenter(settings.model, device=settings.device, precision=settings.precision)
    network = own_network(
        {"backbone": settings.backbone, "output_stride": 16, "norm_act": "iabn", "pooling": 32, "image_stats": "auto"}
    )
    names = ("background", *(f"class {number}" for number in range(1, CLASSES)))
    description = Description(network, (tuple(range(CLASSES)),), names, binary=True)
    weights = make_segmenter(description).state_dict()
    return Segmenter(description, weights, distributed.start(settings.device, settings.precision), "random weights")


def image_files(settings: argparse.Namespace) -> list[Path]:
    """The first ``--images`` images of ``--data``.

    Raises:
        UserError: there is none.
    """
    if not settings.data.is_dir():
        raise UserError(f"--data {settings.data}: no such folder")
    files = sorted(path for path in settings.data.iterdir() if is_image(path))[: settings.images]
    if not files:
        raise UserError(f"--data {settings.data}: holds no image")
    return files


def measure_cost(settings: argparse.Namespace) -> Cost:
    """Time the network alone and predict.py's work in turn; the first round of each warms up and does not count."""
    from dataset.groups import Groups, groups_of
    from prediction.inputs import Item
    from prediction.looking import Looker, LookSettings
    from prediction.results import Marker, Results
    from prediction.work import predict_all

    segmenter = make_segmenter_of(settings)
    files = image_files(settings)
    items = [Item(path, f"{number}") for number, path in enumerate(files)]
    look = LookSettings(precision=settings.precision)
    decoded = Groups(groups_of(items, settings.batch_size, most_pixels=look.most_pixels), 0)
    batches = [group.images for number in range(len(decoded)) for group in decoded[number].groups]
    marker = Marker("", "benchmark", tuple(segmenter.description.names.items()), look.plain())

    def bare() -> None:
        for images in batches:
            segmenter.logits(images)
        segmenter.runtime.synchronise()

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            results = Results(Path(folder), marker)
            with results.open(again=False):
                looker = Looker(segmenter, look)
                predict_all(items, results, looker, batch_size=settings.batch_size, workers=settings.num_workers)

    times: dict[str, list[float]] = {"bare": [], "whole": []}
    for number in range(settings.rounds + 1):
        for name, work in (("bare", bare), ("whole", whole)):
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return Cost(**times)


def measure_agreement(settings: argparse.Namespace) -> list[list[str]]:
    """Tile, overlap, tiles, and the share of pixels whose class is the whole image's."""
    import numpy as np
    import torch
    from PIL import Image

    from prediction.looking import Looker, LookSettings
    from prediction.scratch import ImageOnDisk
    from prediction.tiles import spans
    from utils.images import load_image

    segmenter = make_segmenter_of(settings)
    files = image_files(settings)
    sheet = Image.new("RGB", SHEET)
    cells = [(left, top) for left in range(0, SHEET[0], CELL[0]) for top in range(0, SHEET[1], CELL[1])]
    for number, cell in enumerate(cells):
        sheet.paste(load_image(files[number % len(files)]).resize(CELL), cell)
    images = torch.from_numpy(np.array(sheet)).permute(2, 0, 1)[None]
    (seen,) = Looker(segmenter, LookSettings(tile=0)).look(images)
    rows = []
    for tile, overlap in TILES:
        with tempfile.TemporaryDirectory() as folder, ImageOnDisk(sheet, Path(folder)) as on_disk:
            tiled = Looker(segmenter, LookSettings(tile=tile, overlap=overlap)).look_in_tiles(
                on_disk, Path(folder), None
            )
        count = len(spans(SHEET[0], tile, overlap)) * len(spans(SHEET[1], tile, overlap))
        rows.append([str(tile), str(overlap), str(count), f"{100 * (tiled.mask == seen.mask).mean():.2f}"])
    return rows


def measure_large(settings: argparse.Namespace) -> list[str]:
    """Width, height, seconds and peak memory in MiB of predict.py's work on a drawn image, with overlay and run lengths."""
    import numpy as np
    from PIL import Image

    from prediction.inputs import Item
    from prediction.looking import Looker, LookSettings
    from prediction.results import OVERLAYS, RLE, Marker, Results
    from prediction.work import predict_all

    width, height = settings.large
    segmenter = make_segmenter_of(settings)
    look = LookSettings(precision=settings.precision)
    marker = Marker("", "benchmark", tuple(segmenter.description.names.items()), look.plain())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        # Drawn by a process of its own, whose memory does not count.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(draw, path, width, height).result()
        results = Results(Path(folder) / "out", marker, [OVERLAYS, RLE])
        (Path(folder) / "out").mkdir()
        start = time.perf_counter()
        with results.open(again=False):
            predict_all([Item(path, "large")], results, Looker(segmenter, look), batch_size=1, workers=0)
        seconds = time.perf_counter() - start
        assert Image.open(results.path("masks", "large")).size == (width, height) and np.isfinite(seconds)
    return [str(width), str(height), f"{seconds:.0f}", f"{segmenter.runtime.memory():.0f}"]


def draw(path: Path, width: int, height: int) -> None:
    """An image of coarse noise."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (-(-height // 50), -(-width // 50), 3), dtype=np.uint8)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=85)


def page(
    cost: Cost | None, agreement: Sequence[Sequence[str]], large: Sequence[str] | None, settings: argparse.Namespace
) -> str:
    """The results page."""
    import torch

    workers = "predict.py's choice of" if settings.num_workers is None else settings.num_workers
    lines = [
        "# predict.py beside the bare forward pass",
        "",
        f"Written by `python -m benchmarks.predict`: {settings.model or settings.backbone}, {settings.images} images, "
        f"{settings.precision}, device {settings.device}, {torch.get_num_threads()} threads, "
        f"{workers} decoding processes; medians of {settings.rounds} rounds, A B A B.",
    ]
    if cost is not None:
        seconds = [statistics.median(cost.bare), statistics.median(cost.whole)]
        rows = [
            ["network alone", f"{seconds[0]:.2f}", f"{1000 * seconds[0] / settings.images:.0f}", "100.0"],
            [
                "predict.py",
                f"{seconds[1]:.2f}",
                f"{1000 * seconds[1] / settings.images:.0f}",
                f"{100 * cost.share:.1f}",
            ],
        ]
        lines += ["", *markdown_table(["work", "seconds", "ms / image", "rate, % of the network alone"], rows)]
    if agreement:
        headings = ["tile", "overlap", "tiles", "pixels as in the whole image, %"]
        lines += ["", *markdown_table(headings, [list(row) for row in agreement])]
    if large is not None:
        lines += ["", *markdown_table(["width", "height", "seconds", "peak MiB"], [list(large)])]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("predict", __doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of images")
    add("--model", help="checkpoint or other MODEL; without, random weights of --backbone")
    add("--backbone", default="resnet101")
    add("--images", type=int, default=64)
    add("--rounds", type=int, default=3)
    add("--batch_size", type=int, default=8)
    add("--num_workers", type=int, help="as predict.py's")
    add("--device", default="auto")
    add("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    add("--no_cost", action="store_true", help="leave the times out")
    add("--agreement", action="store_true", help="compare tiles with whole images; of a trained --model")
    add("--large", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="measure the memory of one image of this size")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, each in a process of its own so that the memory is its own too; print and write the page."""
    settings = get_argparser().parse_args(arguments)
    settings.images = len(image_files(settings))

    def apart(work: Callable[[argparse.Namespace], Any]) -> Any:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(work, settings).result()

    cost = None if settings.no_cost else apart(measure_cost)
    agreement = apart(measure_agreement) if settings.agreement else []
    large = apart(measure_large) if settings.large else None
    print(write_page(settings.out, page(cost, agreement, large, settings)))
    return 0


if __name__ == "__main__":
    finish("predict", main)
