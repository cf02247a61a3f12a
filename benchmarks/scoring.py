"""Scoring web images: throughput beside the network's bare forward pass, and memory over a long manifest.

    python benchmarks/scoring.py [--web DIR] [--network efficientnet_b0] [--size 224] [--workers 1] [--rows 100000]

Both are timed in turns in one run, with as many threads for the network as select_web.py gives it, and with all of them. Without
--web the images are drawn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ROUNDS = 3
# The bare pass has no start to wait for: so many images are enough to time it.
BARE = 512


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--web", type=Path, help="folder of one folder a class, or a manifest")
    add("--network", default="efficientnet_b0", help="timm's name")
    add("--size", type=int, default=224, help="side of the images, pixels")
    add("--workers", type=int, default=1, help="processes that decode and transform")
    add("--batch_size", type=int, default=64)
    add("--images", type=int, default=512, help="scored in each round")
    add(
        "--rows",
        type=int,
        default=0,
        help="length of the manifest whose memory is measured (a small network, 32 pixels)",
    )
    add("--device", default="cpu")
    settings = parser.parse_args()

    import torch

    from dataset.shapes import render_web
    from modules.spectrum import Discriminator, Preprocessing
    from utils import distributed, manifest
    from web.scoring import DomainScores, score

    runtime = distributed.start(settings.device)
    cores = os.cpu_count() or 1
    shared = max(1, cores - settings.workers) if runtime.device.type == "cpu" else cores
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        web = settings.web
        if web is None:
            web = folder / "web"
            render_web(web, ["circle", "square"], 64, 0, 0.0, 0.0, size=320)
        source = manifest.open_manifest(web)
        files = [str(source.file(row).resolve()) for row in source]

        def rows_of(count: int) -> manifest.Manifest:
            path = folder / f"{count}.csv"
            manifest.write(
                path, ("path", "class"), ({"path": files[i % len(files)], "class": "x"} for i in range(count))
            )
            return manifest.open_manifest(path)

        def pipeline(rows: manifest.Manifest, discriminator: Discriminator, name: str) -> DomainScores:
            cache = folder / f"{name}.csv"
            return score(
                [str(rows.file(row)) for row in rows],
                discriminator,
                runtime,
                cache=cache,
                workers=settings.workers,
                batch_size=settings.batch_size,
            )

        discriminator = Discriminator(Preprocessing(settings.network, size=settings.size)).to(runtime.device).eval()
        images = torch.rand(settings.batch_size, 3, settings.size, settings.size)
        values = discriminator.prepare(images.to(runtime.device))

        @torch.inference_mode()
        def bare(threads: int) -> float:
            torch.set_num_threads(threads)
            discriminator.classify(values)
            runtime.synchronise()
            rounds = max(1, min(settings.images, BARE) // settings.batch_size)
            started = time.perf_counter()
            for _ in range(rounds):
                discriminator.classify(values)
            runtime.synchronise()
            return rounds * settings.batch_size / (time.perf_counter() - started)

        rates: dict[str, list[float]] = {"bare, same threads": [], "bare, all cores": [], "scoring": []}
        rows = rows_of(settings.images)
        for turn in range(ROUNDS):
            rates["bare, same threads"].append(bare(shared))
            rates["bare, all cores"].append(bare(cores))
            started = time.perf_counter()
            found = pipeline(rows, discriminator, f"turn{turn}")
            rates["scoring"].append(settings.images / (time.perf_counter() - started))
            assert not np.isnan(found.log_ratio).any()
        print(
            f"{settings.network}, {settings.size} pixels, {runtime.device.type}, {settings.workers} worker(s), {cores} cores"
        )
        print(
            f"\nMedian of {ROUNDS} turns.\n\n| what | threads | images / s | scoring relative to it |\n|---|---|---|---|"
        )
        speed = statistics.median(rates["scoring"])
        for name, threads in (("bare, same threads", shared), ("bare, all cores", cores), ("scoring", shared)):
            value = statistics.median(rates[name])
            print(f"| {name} | {threads} | {value:.1f} | {speed / value:.2f} |")

        if settings.rows:
            small = Discriminator(Preprocessing("test_resnet", size=32)).to(runtime.device).eval()
            print("\n| rows | peak memory, MiB |\n|---|---|")
            for count in (settings.rows // 10, settings.rows):
                pipeline(rows_of(count), small, f"rows{count}")
                print(f"| {count} | {runtime.memory():.0f} |", flush=True)


if __name__ == "__main__":
    main()
