"""Time and memory of one training iteration, base and weak, split by part.

    python -m benchmarks.step [--backbone resnet101] [--crop_size 512] [--batch_size 24] [--device cuda] [--freeze]

Prints, for each step, seconds per iteration, the share of each part, and peak memory; and the ratio
of the weak iteration to the base iteration, which trains its body with ``--freeze``, too. Weights are
random: times do not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.pages import finish, make_parser
from results.table import markdown_table

if TYPE_CHECKING:
    from dataset.batch import Batch
    from train import Trainer

PARTS = ("body", "teacher", "student", "losses", "backward", "update")
# What the training calls its parts in a profile.
MARK = "part: "


@dataclass(frozen=True)
class Measurement:
    """One kind of iteration.

    Attributes:
        seconds: median of an iteration.
        parts: of ``PARTS``, those that it has -> seconds.
        memory: peak, MiB.
    """

    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)
    memory: float = 0.0

    def share(self, part: str) -> float | None:
        """Share in [0, 1] of the parts' time; None for a part that it has not."""
        return self.parts[part] / sum(self.parts.values()) if part in self.parts else None


def make_trainer(step: int, settings: argparse.Namespace) -> Trainer:
    """A trainer of VOC 15-5 with random weights."""
    # Imported here, so that --help answers at once.
    import argparser
    from tasks import load_task
    from train import Trainer
    from utils import distributed
    from utils.logger import Logger

    line = (
        f"--dataset voc --task 15-5 --overlap --step {step} --backbone {settings.backbone} "
        f"--crop_size {settings.crop_size} --batch_size {settings.batch_size} --device {settings.device} "
        f"--precision {settings.precision}"
    )
    with tempfile.TemporaryDirectory() as folder:
        previous = Path(folder) / "none.pth"
        previous.touch()
        body = "--freeze" if settings.freeze else "--loss_de 1"
        line += " --bce" if step == 0 else f" --weakly --affinity {body} --lr_policy warmup --step_ckpt {previous}"
        line += " --compile" if settings.compile else ""
        options = argparser.parse(line.split())
        runtime = distributed.start(options.device, options.precision)
        logger = Logger(Path(folder), main=False, name="step", options={})
        trainer = Trainer(options, load_task("voc", "15-5"), {}, runtime, logger)
    trainer.build(1)
    networks = trainer.networks
    if networks.teacher is not None:
        # As a step starts: from the teacher's weights.
        networks.model.body.load_state_dict(networks.teacher.body.state_dict())
    networks.settle(runtime, keep_teacher=False)
    if options.compile:
        trainer.networks.compile()
    trainer.networks.student.train()
    return trainer


def make_batch(trainer: Trainer, size: int, count: int) -> Batch:
    """``count`` images of noise, ``size`` pixels a side, that all show the last class."""
    import torch

    from dataset.batch import Batch

    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(count, len(trainer.names) - 1)
    labels[:, -1] = 1
    return Batch(
        images=torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8),
        masks=torch.randint(0, len(trainer.names), (count, size, size), generator=generator),
        image_labels=labels,
        is_replay=torch.zeros(count, dtype=torch.bool),
        names=tuple(map(str, range(count))),
    ).to(trainer.runtime.device)


def measure(step: int, settings: argparse.Namespace) -> Measurement:
    """Time a step's iteration, and the parts of one more of them, in this process."""
    import torch

    trainer = make_trainer(step, settings)
    batch = make_batch(trainer, settings.crop_size, settings.batch_size)
    runtime, epoch = trainer.runtime, trainer.options.pseudo_ep
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
    parts: dict[str, float] = {}
    for event in profile.key_averages():
        if event.key.startswith(MARK):
            micro = max(event.device_time_total, 0) if gpu else event.cpu_time_total
            part = event.key.removeprefix(MARK)
            parts[part] = max(parts.get(part, 0.0), micro / 1e6)
    return Measurement(statistics.median(times), parts, runtime.memory())


def page(base: Measurement, weak: Measurement, settings: argparse.Namespace) -> str:
    """The table, below a line that says what it is of."""
    named = [part for part in PARTS if part in base.parts or part in weak.parts]
    rows = []
    for name, one in (("base", base), ("weak", weak)):
        shares = ["-" if (share := one.share(part)) is None else f"{100 * share:.1f}" for part in named]
        rate = settings.batch_size / one.seconds
        rows.append([name, f"{one.seconds:.3f}", f"{rate:.1f}", *shares, f"{one.memory:.0f}"])
    slower = weak.seconds / base.seconds
    ratios = [f"{slower:.2f}", f"{1 / slower:.2f}", *[""] * len(named), f"{weak.memory / base.memory:.2f}"]
    rows.append(["weak / base", *ratios])
    headings = ["step", "s / iteration", "images / s", *(f"{part} %" for part in named), "peak MiB"]
    lines = [
        f"{settings.backbone}, crop {settings.crop_size}, batch {settings.batch_size}, {settings.precision}, "
        f"device {settings.device}{', weak step with a frozen body' if settings.freeze else ''}",
        "",
        *markdown_table(headings, rows),
    ]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("step", __doc__, page=False)
    add = parser.add_argument
    add("--backbone", default="resnet101")
    add("--crop_size", type=int, default=512)
    add("--batch_size", type=int, default=24)
    add("--device", default="auto")
    add("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    add("--compile", action="store_true")
    add("--freeze", action="store_true", help="the weak step does not train the body")
    add("--warmup", type=int, default=2)
    add("--repeats", type=int, default=5)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both steps, each in a process of its own so that the memory is its own too."""
    settings = get_argparser().parse_args(arguments)
    measured = []
    for step in (0, 1):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            measured.append(pool.submit(measure, step, settings).result())
    base, weak = measured
    print(page(base, weak, settings))
    return 0


if __name__ == "__main__":
    finish("step", main)
