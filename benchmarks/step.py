"""Time and memory of one training iteration, base and weak, split by part.

    python benchmarks/step.py [--backbone resnet101] [--crop_size 512] [--batch_size 24] [--device cuda] [--precision bf16]

Prints, for each step, seconds per iteration, the share of each part, and peak memory; and the ratio of the weak iteration to the
base iteration. Weights are random: times do not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PARTS = ("teacher", "student", "losses", "backward", "update")


def measure(step: int, settings: argparse.Namespace) -> dict[str, float]:
    """Median seconds of an iteration, seconds by part, and peak memory in MiB, in this process."""
    import torch

    import argparser
    from dataset.batch import Batch
    from tasks import load_task
    from train import Trainer
    from utils import distributed
    from utils.logger import Logger

    line = (
        f"--dataset voc --task 15-5 --overlap --step {step} --backbone {settings.backbone} --crop_size {settings.crop_size} "
        f"--batch_size {settings.batch_size} --device {settings.device} --precision {settings.precision}"
    )
    with tempfile.TemporaryDirectory() as folder:
        previous = Path(folder) / "none.pth"
        previous.touch()
        line += " --bce" if step == 0 else f" --weakly --affinity --loss_de 1 --lr_policy warmup --step_ckpt {previous}"
        line += " --compile" if settings.compile else ""
        options = argparser.parse(line.split())
        runtime = distributed.start(options.device, options.precision)
        logger = Logger(Path(folder), main=False, name="step", options={})
        trainer = Trainer(options, load_task("voc", "15-5"), {}, runtime, logger)
    trainer.build(1)
    if options.compile:
        trainer.networks.compile()
    trainer.networks.student.train()
    size, count = settings.crop_size, settings.batch_size
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(count, len(trainer.names) - 1)
    labels[:, -1] = 1
    batch = Batch(
        images=torch.randn(count, 3, size, size, generator=generator),
        masks=torch.randint(0, len(trainer.names), (count, size, size), generator=generator),
        image_labels=labels,
        is_replay=torch.zeros(count, dtype=torch.bool),
        names=tuple(map(str, range(count))),
    ).to(runtime.device)

    epoch = options.pseudo_ep
    for _ in range(settings.warmup):
        trainer.train_step(batch, epoch)
    times = []
    for _ in range(settings.repeats):
        runtime.synchronise()
        begin = time.perf_counter()
        trainer.train_step(batch, epoch)
        runtime.synchronise()
        times.append(time.perf_counter() - begin)

    gpu = runtime.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU] + ([torch.profiler.ProfilerActivity.CUDA] if gpu else [])
    with torch.profiler.profile(activities=activities) as profile:
        trainer.train_step(batch, epoch)
        runtime.synchronise()
    found = {"seconds": statistics.median(times)}
    for event in profile.key_averages():
        if event.key.startswith("part: "):
            micro = max(event.device_time_total, 0) if gpu else event.cpu_time_total
            found[event.key[6:]] = max(found.get(event.key[6:], 0.0), micro / 1e6)
    found["memory"] = runtime.memory()
    return found


def main() -> None:
    """Measure both steps, each in a process of its own so that the memory is its own too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--crop_size", type=int, default=512)
    parser.add_argument("--batch_size", type=int, default=24)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    settings = parser.parse_args()
    results = []
    for step in (0, 1):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            results.append(pool.submit(measure, step, settings).result())
    print(
        f"{settings.backbone}, crop {settings.crop_size}, batch {settings.batch_size}, {settings.precision}, device {settings.device}\n"
    )
    print("| step | s / iteration | images / s | " + " | ".join(f"{p} %" for p in PARTS) + " | peak MiB |")
    print("|---" * (len(PARTS) + 4) + "|")
    for name, row in zip(("base", "weak"), results, strict=True):
        parts = sum(row.get(p, 0.0) for p in PARTS)
        shares = " | ".join(f"{100 * row[p] / parts:.1f}" if p in row else "-" for p in PARTS)
        print(
            f"| {name} | {row['seconds']:.3f} | {settings.batch_size / row['seconds']:.1f} | {shares} | {row['memory']:.0f} |"
        )
    base, weak = results
    print(f"| weak / base | {weak['seconds'] / base['seconds']:.2f} | {base['seconds'] / weak['seconds']:.2f} "
          + "| " * len(PARTS) + f"| {weak['memory'] / base['memory']:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
