"""Images per second per core that the data path delivers: decoding, augmentation, masks and labels, as in training.

    python benchmarks/data.py [--dataset shapes --dataset_dir DIR] [--crop_size 128] [--seconds 10]

Prints the whole path and each part, with its share; one process, one thread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def rate(call: Callable[[int], object], count: int, seconds: float) -> float:
    """Calls per second of ``call(0), call(1), ...`` modulo ``count``, after one warm-up call."""
    call(0)
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        call(done % count)
        done += 1
    return done / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="shapes")
    parser.add_argument(
        "--dataset_dir", type=Path, default=None, help="the data set's folder [shapes are drawn into a temporary one]"
    )
    parser.add_argument("--task", default="offline")
    parser.add_argument("--crop_size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    settings = parser.parse_args()

    import torch

    from dataset import class_names
    from dataset.incremental import IncrementalView
    from dataset.views import DataOptions, make_views
    from tasks import load_task
    from utils.normalisation import NORMALISATIONS

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = settings.dataset_dir or Path(temporary) / settings.dataset
        task = load_task(settings.dataset, settings.task, None)
        options = DataOptions(
            protocol="overlap", no_mask=False, crop_size=settings.crop_size, crop_size_val=settings.crop_size,
            test_unknown="ignore", random_seed=0,
        )  # fmt: skip
        views = make_views(task, 0, folder, NORMALISATIONS["imagenet"], options)
        view = views.train
        assert isinstance(view, IncrementalView)
        names = class_names(settings.dataset, folder)
        source, count = view.source, len(view)
        parts: dict[str, Callable[[int], object]] = {
            "whole path": lambda i: view[(i // count, i % count)],
            "image decoding": lambda i: source.image(int(view.indices[i])),
            "mask decoding": lambda i: source.mask(int(view.indices[i])),
        }
        rates = {name: rate(call, count, settings.seconds) for name, call in parts.items()}
    print(f"{settings.dataset}, {count} images of {len(names)} classes, crop {settings.crop_size}, one core\n")
    print("| part | images / s | share of the whole path's time |\n|---|---|---|")
    for name, value in rates.items():
        print(f"| {name} | {value:.0f} | {rates['whole path'] / value:.2f} |")
    rest = 1 - sum(rates["whole path"] / rates[name] for name in parts if name != "whole path")
    print(f"| augmentation, labels | - | {rest:.2f} |")


if __name__ == "__main__":
    main()
