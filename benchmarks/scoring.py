"""Scoring of web images: speed beside the network's bare forward pass, memory of a long manifest.

    python -m benchmarks.scoring [--web DIR] [--network efficientnet_b0] [--size 224] [--rows 100000]

Both are timed in turns in one run, with as many threads for the network as select_web.py gives it,
and with all of them. Without --web the images are drawn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.pages import finish, make_parser
from results.table import markdown_table

if TYPE_CHECKING:
    from modules.discriminator import Discriminator
    from utils.distributed import Runtime
    from utils.manifest import Manifest

ROUNDS = 3
# The bare pass has no start to wait for: so many images are enough to time it.
BARE = 512
SCORING, BARE_SHARED, BARE_ALL = "scoring", "bare, same threads", "bare, all cores"


@dataclass(frozen=True)
class Measurement:
    """Rates, and memory.

    Attributes:
        device: kind of the network's device.
        cores: of this machine.
        threads: what is timed -> threads of the network.
        rates: what is timed -> images per second in each turn.
        memory: rows of a manifest -> peak memory, MiB, in the order of measurement.
    """

    device: str
    cores: int
    threads: Mapping[str, int]
    rates: Mapping[str, Sequence[float]]
    memory: Mapping[int, float] = field(default_factory=dict)


def make_manifest(folder: Path, files: Sequence[str], count: int) -> Manifest:
    """A manifest of ``count`` rows, which name the files again and again."""
    from utils import manifest

    path = folder / f"{count}.csv"
    rows = ({"path": files[i % len(files)], "class": "x"} for i in range(count))
    manifest.write(path, ("path", "class"), rows)
    return manifest.open_manifest(path)


def time_bare(discriminator: Discriminator, runtime: Runtime, settings: argparse.Namespace, threads: int) -> float:
    """Images per second of the network's forward pass alone."""
    import torch

    images = torch.rand(settings.batch_size, 3, settings.size, settings.size)
    torch.set_num_threads(threads)
    with torch.inference_mode():
        values = discriminator.prepare(images.to(runtime.device))
        discriminator.classify(values)
        runtime.synchronise()
        rounds = max(1, min(settings.images, BARE) // settings.batch_size)
        started = time.perf_counter()
        for _ in range(rounds):
            discriminator.classify(values)
        runtime.synchronise()
        return rounds * settings.batch_size / (time.perf_counter() - started)


def measure(settings: argparse.Namespace) -> Measurement:
    """Score in turns with the bare pass; then a manifest of ``rows`` and one of a tenth of it."""
    # Imported here, so that --help answers at once.
    from dataset.shapes import render_web
    from modules.discriminator import Discriminator, Preprocessing
    from spread.ways import InProcess
    from utils import distributed, manifest
    from utils.cores import available, split
    from web.scoring import score, score_worker

    runtime = distributed.start(settings.device)
    way = InProcess(runtime, split(runtime.device.type, settings.workers))
    settings.workers = way.cores.workers
    cores = available()
    shared = way.cores.streams * way.cores.threads
    threads = {BARE_SHARED: shared, BARE_ALL: cores, SCORING: shared}
    rates: dict[str, list[float]] = {what: [] for what in threads}
    memory: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        web = settings.web
        if web is None:
            web = folder / "web"
            render_web(web, ["circle", "square"], 64, 0, 0.0, 0.0, size=320)
        source = manifest.open_manifest(web)
        files = [str(source.file(row).resolve()) for row in source]

        def run(discriminator: Discriminator, count: int, name: str) -> float:
            rows, cache = make_manifest(folder, files, count), folder / f"{name}.scores.csv"
            started = time.perf_counter()
            scores = score(
                [str(rows.file(row)) for row in rows], way, partial(score_worker, discriminator, runtime),
                cache=cache, batch_size=settings.batch_size,
            )  # fmt: skip
            assert not np.isnan(scores.log_ratio).any()
            return count / (time.perf_counter() - started)

        network = Discriminator(Preprocessing(settings.network, size=settings.size)).to(runtime.device).eval()
        for turn in range(ROUNDS):
            for what in (BARE_SHARED, BARE_ALL):
                rates[what].append(time_bare(network, runtime, settings, threads[what]))
            rates[SCORING].append(run(network, settings.images, f"turn{turn}"))
        if settings.rows:
            small = Discriminator(Preprocessing("test_resnet", size=32)).to(runtime.device).eval()
            for count in (settings.rows // 10, settings.rows):
                run(small, count, f"rows{count}")
                memory[count] = runtime.memory()
    return Measurement(runtime.device.type, cores, threads, rates, memory)


def page(measurement: Measurement, settings: argparse.Namespace) -> str:
    """The tables, below a line that says what they are of."""
    medians = {what: statistics.median(rates) for what, rates in measurement.rates.items()}
    rows = [
        [what, str(measurement.threads[what]), f"{rate:.1f}", f"{medians[SCORING] / rate:.2f}"]
        for what, rate in medians.items()
    ]
    lines = [
        f"{settings.network}, {settings.size} pixels, {measurement.device}, {settings.workers} worker(s), "
        f"{measurement.cores} cores",
        "",
        f"Median of {ROUNDS} turns.",
        "",
        *markdown_table(["what", "threads", "images / s", "scoring relative to it"], rows),
    ]
    if measurement.memory:
        peaks = [[str(count), f"{peak:.0f}"] for count, peak in measurement.memory.items()]
        lines += ["", *markdown_table(["rows", "peak memory, MiB"], peaks)]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("scoring", __doc__, page=False)
    add = parser.add_argument
    add("--web", type=Path, help="folder of one folder a class, or a manifest")
    add("--network", default="efficientnet_b0", help="timm's name")
    add("--size", type=int, default=224, help="side of the images, pixels")
    add("--workers", type=int, help="processes that decode and transform [as select_web.py chooses]")
    add("--batch_size", type=int, default=64)
    add("--images", type=int, default=512, help="scored in each round")
    add("--rows", type=int, default=0,
        help="length of the manifest whose memory is measured (a small network, 32 pixels)")  # fmt: skip
    add("--device", default="cpu")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    settings = get_argparser().parse_args(arguments)
    print(page(measure(settings), settings))
    return 0


if __name__ == "__main__":
    finish("scoring", main)
