"""Images per second of one core: decoding, augmentation, masks and labels, as in training.

    python -m benchmarks.data [--dataset shapes --dataset_dir DIR] [--crop_size 128] [--seconds 10]

Prints the whole path and each part, with its share; one process, one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import finish, make_parser
from results.table import markdown_table

WHOLE = "whole path"


@dataclass(frozen=True)
class Measurement:
    """Rates of a data set.

    Attributes:
        images: number of training images.
        classes: number of classes, background included.
        rates: ``WHOLE`` and each part that is measured alone -> images per second.
    """

    images: int
    classes: int
    rates: Mapping[str, float]

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


def measure(dataset: str, folder: Path, task_name: str, crop_size: int, seconds: float) -> Measurement:
    """Load images of step 0 as training does, for ``seconds`` a part.

    Args:
        dataset: name of the data set.
        folder: its own folder; shapes are drawn into it where it is empty.
        task_name: the task whose step 0 is loaded.
        crop_size: side of a training crop, pixels.
        seconds: time of each measurement.
    """
    # Imported here, so that --help answers at once.
    import torch

    from dataset import class_names
    from dataset.incremental import IncrementalView
    from dataset.views import DataOptions, make_views
    from tasks import load_task

    torch.set_num_threads(1)
    options = DataOptions(
        protocol="overlap", no_mask=False, crop_size=crop_size, crop_size_val=crop_size, test_unknown="ignore",
        random_seed=0,
    )  # fmt: skip
    views = make_views(load_task(dataset, task_name, None), 0, folder, options)
    view = views.train
    assert isinstance(view, IncrementalView)
    source, count = view.source, len(view)
    parts: dict[str, Callable[[int], object]] = {
        WHOLE: lambda i: view[(i // count, i % count)],
        "image decoding": lambda i: source.image(int(view.indices[i])),
        "mask decoding": lambda i: source.mask(int(view.indices[i])),
    }
    rates = {part: rate(call, count, seconds) for part, call in parts.items()}
    return Measurement(count, len(class_names(dataset, folder)), rates)


def page(measurement: Measurement, dataset: str, crop_size: int) -> str:
    """The table, below a line that says what it is of."""
    rows = [[part, f"{value:.0f}", f"{measurement.share(part):.2f}"] for part, value in measurement.rates.items()]
    rows.append(["augmentation, labels", "-", f"{measurement.rest:.2f}"])
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
    add("--seconds", type=float, default=5.0, help="of each measurement")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    given = get_argparser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.dataset_dir or Path(temporary) / given.dataset
        measurement = measure(given.dataset, folder, given.task, given.crop_size, given.seconds)
    print(page(measurement, given.dataset, given.crop_size))
    return 0


if __name__ == "__main__":
    finish("data", main)
