"""Memory and time of a training iteration, our activated norm against batch norm and leaky ReLU that keep both.

    python -m benchmarks.norm [--crop_size 256] [--batch_size 4] [--precision fp32] [--step 0]

The same network, the same images, the same weights; "plain" keeps each norm's input and output for the backward pass, "ours" the
output, "recompute" the inputs of the body's blocks (``--recompute``). Bytes kept are counted where backward keeps them, peak memory is
the process's. Times are of iterations in turn, plain and ours, in one process. Rows are added to the page.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.pages import finish, make_parser, write_page
from benchmarks.step import make_batch, make_trainer
from results.table import markdown_table

if TYPE_CHECKING:
    from torch import Tensor

    from train import Trainer

HEADINGS = (
    "backbone", "crop", "batch", "precision", "step", "threads", "kept plain", "kept ours", "kept ratio",
    "peak plain", "peak ours", "peak ratio", "peak recompute", "s plain", "s ours", "s ratio", "loss plain", "loss ours",
)  # fmt: skip
KEYS = 6
INTRODUCTION = """# What the activated norm keeps

Written by `python -m benchmarks.norm`: one training iteration (step 0 base, 1 weak), MiB kept for backward beside the weights, peak MiB
of the process, seconds of an iteration (median, plain and ours in turn), the loss of the second iteration."""


@contextmanager
def plain(in_place: bool = True) -> Iterator[None]:
    """Inside, activated norms are batch norm and leaky ReLU, which keep input and output, on one rank.

    Args:
        in_place: of leaky ReLU; else what stands between the two is kept besides, as by separate layers.
    """
    from torch.nn import functional as F

    from modules.norm import ActivatedNorm

    def normalise(self: ActivatedNorm, x: Tensor, shortcut: Tensor | None, slope: float) -> Tensor:
        scale = self.weight.abs() + self.eps if self.absolute else self.weight
        y = F.batch_norm(
            x, self.running_mean, self.running_var, scale, self.bias, self.training, self.momentum, self.eps
        )
        y = y if shortcut is None else y + shortcut
        return y if slope == 1 else F.leaky_relu(y, slope, in_place)

    own = ActivatedNorm._normalise
    ActivatedNorm._normalise = normalise  # type: ignore[method-assign]
    try:
        yield
    finally:
        ActivatedNorm._normalise = own  # type: ignore[method-assign]


@contextmanager
def counted(trainer: Trainer) -> Iterator[list[float]]:
    """Inside, MiB that autograd keeps beside the student's weights are summed up in the list's only number."""
    import torch

    own = {weight.untyped_storage().data_ptr() for weight in trainer.networks.student.parameters()}
    kept: dict[int, Any] = {}
    total = [0.0]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and storage.data_ptr() not in kept:
            # Held, so that no address comes twice.
            kept[storage.data_ptr()] = storage
            total[0] += storage.nbytes() / 2**20
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total


def _trainer(settings: argparse.Namespace, recomputes: bool = False) -> tuple[Trainer, Callable[[], float]]:
    """A trainer, and what does an iteration and gives its loss."""
    from modules.recompute import recompute

    trainer = make_trainer(settings.step, settings)
    if recomputes:
        recompute(trainer.networks.model.body, settings.backbone)
    batch = make_batch(trainer, settings.crop_size, settings.batch_size)
    return trainer, lambda: trainer.train_step(batch, trainer.options.pseudo_ep)["total"].item()


def memory(way: str, settings: argparse.Namespace) -> tuple[float, float, float]:
    """MiB kept for backward, peak MiB, and the loss of the second iteration."""
    from contextlib import nullcontext

    trainer, iterate = _trainer(settings, way == "recompute")
    with plain() if way == "plain" else nullcontext():
        iterate()
        loss = iterate()
        peak = trainer.runtime.memory()
        # Blocks that run again keep their inputs where autograd does not see them.
        with counted(trainer) as kept:
            iterate()
    return kept[0], peak, loss


def seconds(settings: argparse.Namespace) -> tuple[float, float]:
    """Median seconds of an iteration, plain and ours."""
    trainer, iterate = _trainer(settings)
    times: tuple[list[float], list[float]] = ([], [])

    def one(values: list[float]) -> None:
        trainer.runtime.synchronise()
        begin = time.perf_counter()
        iterate()
        trainer.runtime.synchronise()
        values.append(time.perf_counter() - begin)

    for _ in range(settings.repeats + 1):
        with plain():
            one(times[0])
        one(times[1])
    # The first of each warms up.
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What ``function`` gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def memories(settings: argparse.Namespace) -> list[tuple[float, float, float]]:
    """``memory`` of each way."""
    return [apart(memory, way, settings) for way in ("plain", "ours", "recompute")]


def row(settings: argparse.Namespace, found: list[tuple[float, float, float]], times: tuple[float, float]) -> list[str]:
    """A row of the table."""
    import torch

    kept, peaks, losses = zip(*found, strict=True)
    slow, fast = times
    key = [settings.backbone, settings.crop_size, settings.batch_size, settings.precision, settings.step]
    return [
        *map(str, key), str(torch.get_num_threads()),
        f"{kept[0]:.0f}", f"{kept[1]:.0f}", f"{kept[1] / kept[0]:.2f}",
        f"{peaks[0]:.0f}", f"{peaks[1]:.0f}", f"{peaks[1] / peaks[0]:.2f}", f"{peaks[2]:.0f}",
        f"{slow:.3f}", f"{fast:.3f}", f"{fast / slow:.3f}", f"{losses[0]:.7f}", f"{losses[1]:.7f}",
    ]  # fmt: skip


def rows_of(page: Path) -> dict[tuple[str, ...], list[str]]:
    """The rows of an earlier page by what they are of."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]
    return {tuple(one[:KEYS]): one for one in cells if len(one) == len(HEADINGS) and one[1].isdigit()}


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("norm", __doc__)
    add = parser.add_argument
    add("--backbone", default="resnet101")
    add("--step", type=int, default=0, choices=(0, 1))
    add("--crop_size", type=int, default=256)
    add("--batch_size", type=int, default=4)
    add("--device", default="auto")
    add("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    add("--repeats", type=int, default=4)
    parser.set_defaults(compile=False, freeze=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one setting and write its row."""
    settings = get_argparser().parse_args(arguments)
    new = row(settings, memories(settings), apart(seconds, settings))
    rows = rows_of(settings.out) | {tuple(new[:KEYS]): new}
    table = markdown_table(HEADINGS, [rows[key] for key in sorted(rows)])
    write_page(settings.out, "\n".join([INTRODUCTION, "", *table]))
    return 0


if __name__ == "__main__":
    finish("norm", main)
