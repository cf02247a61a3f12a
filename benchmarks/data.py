"""Images per second of one core: decoding, augmentation, masks and labels, as in training.

    python -m benchmarks.data [--dataset shapes --dataset_dir DIR] [--crop_size 128] [--enlarge 500 375] [--seconds 1]

Prints the whole path and each part, with its share, and torchvision's transforms on the same files; one process, one thread, all in
turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.pages import finish, make_parser
from results.table import markdown_table

if TYPE_CHECKING:
    from dataset.incremental import IncrementalView
    from dataset.source import Source

WHOLE = "whole path"
# What is compared with the whole path, and is no part of it.
NORMALISED, CHAIN = "whole path, normalised as well", "torchvision's transforms"
TURNS = 4
# Images that are enlarged.
ENLARGED = 64


@dataclass(frozen=True)
class Measurement:
    """Rates of a data set.

    Attributes:
        images: number of training images.
        classes: number of classes, background included.
        rates: ``WHOLE`` and each part that is measured alone -> images per second.
        others: what is no part -> images per second.
    """

    images: int
    classes: int
    rates: Mapping[str, float]
    others: Mapping[str, float] = field(default_factory=dict)

    def share(self, part: str) -> float:
        """Share in [0, 1] of the whole path's time that a part takes."""
        return self.rates[WHOLE] / self.rates[part]

    @property
    def rest(self) -> float:
        """Share in [0, 1] of what is not measured alone."""
        return 1 - sum(self.share(part) for part in self.rates if part != WHOLE)


def rate(call: Callable[[int], object], count: int, seconds: float) -> float:
    """Calls per second of ``call(0), call(1), ...`` modulo ``count``, after one warm-up call."""
    call(0)
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        call(done % count)
        done += 1
    return done / (time.perf_counter() - begin)


def enlarged(source: Source, folder: Path, size: tuple[int, int]) -> Source:
    """The first pairs of a source at another size, as JPEGs of quality 90 and palette PNGs in ``folder``."""
    from PIL import Image

    from dataset.source import Source
    from utils.images import write_mask

    pairs = []
    for index in range(min(ENLARGED, len(source))):
        image, mask = source.pair(index)
        pair = folder / f"{index}.jpg", folder / f"{index}.png"
        image.resize(size, Image.Resampling.BICUBIC).save(pair[0], quality=90)
        write_mask(pair[1], mask, size)
        pairs.append(pair)
    return Source(source.name, source.class_names, pairs, source.ids[: len(pairs)])


def torchvision_chain(source: Source, crop_size: int) -> Callable[[int], object]:
    """Crop, flip, float and normalisation as torchvision's own transforms do them, of image and mask."""
    import numpy as np
    import torch
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    from dataset.transform import CROP_SCALE
    from utils.normalisation import NORMALISATIONS

    stats = NORMALISATIONS["imagenet"]
    both = v2.Compose([v2.RandomResizedCrop(crop_size, scale=CROP_SCALE), v2.RandomHorizontalFlip()])
    alone = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(stats.mean, stats.std)])

    def load(index: int) -> object:
        image, mask = (Image.open(path) for path in source.pairs[index])
        image, labels = both(image.convert("RGB"), tv_tensors.Mask(torch.from_numpy(np.array(mask))))
        return alone(image), labels.long()

    return load


def measure(
    dataset: str, folder: Path, task_name: str, crop_size: int, seconds: float, enlarge: tuple[int, int] | None = None
) -> Measurement:
    """Load images of step 0 as training does, ``TURNS`` times ``seconds`` a part; rates are medians.

    Args:
        dataset: name of the data set.
        folder: its own folder; shapes are drawn into it where it is empty.
        task_name: the task whose step 0 is loaded.
        crop_size: side of a training crop, pixels.
        seconds: time of each measurement.
        enlarge: width and height that the first images are given before.
    """
    # Imported here, so that --help answers at once.
    import numpy as np
    import torch

    from dataset import class_names
    from dataset.incremental import IncrementalView
    from dataset.transform import train_transform
    from dataset.views import DataOptions, make_views
    from tasks import load_task

    torch.set_num_threads(1)
    options = DataOptions(
        protocol="overlap", no_mask=False, crop_size=crop_size, crop_size_val=crop_size, test_unknown="ignore",
        random_seed=0,
    )  # fmt: skip
    task = load_task(dataset, task_name, None)
    view = make_views(task, 0, folder, options).train
    assert isinstance(view, IncrementalView)
    with tempfile.TemporaryDirectory() as temporary:
        if enlarge is not None:
            source = enlarged(view.source, Path(temporary), enlarge)
            view = IncrementalView(
                source, task, 0, np.arange(len(source)), train=True, mask_old=True, unknown="ignore",
                transform=train_transform(crop_size), seed=0,
            )  # fmt: skip
        return _measured(view, crop_size, seconds, len(class_names(dataset, folder)))


def _measured(view: IncrementalView, crop_size: int, seconds: float, classes: int) -> Measurement:
    from utils.normalisation import NORMALISATIONS

    source, count, normalisation = view.source, len(view), NORMALISATIONS["imagenet"]
    chain = torchvision_chain(source, crop_size)
    parts: dict[str, Callable[[int], object]] = {
        WHOLE: lambda i: view[(i // count, i % count)],
        "image decoding": lambda i: source.image(int(view.indices[i])),
        "mask decoding": lambda i: source.mask(int(view.indices[i])),
    }
    others: dict[str, Callable[[int], object]] = {
        NORMALISED: lambda i: normalisation.apply(view[(i // count, i % count)].image),
        CHAIN: lambda i: chain(int(view.indices[i])),
    }
    turns = [{part: rate(call, count, seconds) for part, call in (parts | others).items()} for _ in range(TURNS)]
    rates = {part: statistics.median(turn[part] for turn in turns) for part in turns[0]}
    return Measurement(count, classes, {part: rates[part] for part in parts}, {part: rates[part] for part in others})


def page(measurement: Measurement, dataset: str, crop_size: int) -> str:
    """The table, below a line that says what it is of."""
    rows = [[part, f"{value:.0f}", f"{measurement.share(part):.2f}"] for part, value in measurement.rates.items()]
    rows.append(["augmentation, labels", "-", f"{measurement.rest:.2f}"])
    whole = measurement.rates[WHOLE]
    rows += [[name, f"{value:.0f}", f"{whole / value:.2f}"] for name, value in measurement.others.items()]
    lines = [
        f"{dataset}, {measurement.images} images of {measurement.classes} classes, crop {crop_size}, one core",
        "",
        *markdown_table(["part", "images / s", "share of the whole path's time"], rows),
    ]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("data", __doc__, page=False)
    add = parser.add_argument
    add("--dataset", default="shapes")
    add("--dataset_dir", type=Path, help="the data set's folder [shapes are drawn into a temporary one]")
    add("--task", default="offline")
    add("--crop_size", type=int, default=128)
    add("--enlarge", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="that the first images are given before")
    add("--seconds", type=float, default=1.0, help="of each measurement of a turn")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    given = get_argparser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.dataset_dir or Path(temporary) / given.dataset
        measurement = measure(
            given.dataset, folder, given.task, given.crop_size, given.seconds, given.enlarge and tuple(given.enlarge)
        )
    print(page(measurement, given.dataset, given.crop_size))
    return 0


if __name__ == "__main__":
    finish("data", main)
