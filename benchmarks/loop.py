"""What an iteration costs beside its arithmetic: how the weights are updated, who waits for whom, in which precision.

    python -m benchmarks.loop [--device cuda] [--compile]

Writes benchmarks/results/loop.md. Each pair of ways is measured in turn, A B A B, and compared by the ratio of medians. Weights are
random: times do not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.pages import finish, make_parser, write_page
from results.table import markdown_table

if TYPE_CHECKING:
    import torch

    from train import Trainer

# Body, crop and batch of an experiment on photographs of 256 pixels, and of the papers' body.
SIZES = (("timm:tf_efficientnet_lite0", 160, 16), ("resnet101", 256, 4))
PIXELS = 512 * 512


def in_turn(ways: Mapping[str, Callable[[], None]], repeats: int, wait: Callable[[], None]) -> dict[str, float]:
    """Median seconds of each way, measured A B A B after one round that does not count.

    Args:
        ways: name -> what is timed.
        repeats: rounds.
        wait: ends when the device is done.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            wait()
            begin = time.perf_counter()
            way()
            wait()
            if turn:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def rows(medians: Mapping[str, float]) -> list[list[str]]:
    """Table rows: name, milliseconds, and how many times as fast as the first."""
    first = next(iter(medians.values()))
    return [[name, f"{1000 * value:.2f}", f"{first / value:.2f}"] for name, value in medians.items()]


def updates(trainer: Trainer, repeats: int) -> dict[str, float]:
    """One SGD update of a body's weights: torch's ways, and the guarded one of the training."""
    import torch

    from engine.guarded import GuardedSGD

    settings: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}

    def way(kind: Callable[..., torch.optim.SGD], **how: Any) -> Callable[[], None]:
        weights = [torch.nn.Parameter(weight.detach().clone()) for weight in trainer.networks.model.parameters()]
        for weight in weights:
            weight.grad = torch.full_like(weight, 1e-3)
        optimizer = kind([{"params": weights}], **settings, **how)
        if isinstance(optimizer, GuardedSGD):
            optimizer.blocked = torch.zeros((), device=trainer.runtime.device)

        def step() -> None:
            optimizer.step()

        return step

    ways = {
        "a loop over weights": way(torch.optim.SGD, foreach=False),
        "foreach": way(torch.optim.SGD, foreach=True),
        "fused": way(torch.optim.SGD, fused=True),
        "fused and guarded": way(GuardedSGD),
    }
    return in_turn(ways, repeats, trainer.runtime.synchronise)


def looks(trainer: Trainer, window: int, repeats: int) -> dict[str, float]:
    """The host's share of an iteration's losses: kept and looked at each time, or a window at a time; of one iteration."""
    import torch

    from engine.watch import Watch

    device = trainer.runtime.device
    losses = {name: torch.ones((), device=device) for name in ("cls", "loc", "de", "ref", "seg", "total")}

    def way(every: int) -> Callable[[], None]:
        watch = Watch(trainer.runtime, every)

        def iterations() -> None:
            for iteration in range(window):
                watch.keep(losses, 0, iteration, ())
                if watch.due:
                    watch.look()

        return iterations

    named = {"looked at in each iteration": way(1), f"looked at every {window} iterations": way(window)}
    measured = in_turn(named, repeats, trainer.runtime.synchronise)
    return {name: value / window for name, value in measured.items()}


def counts(trainer: Trainer, repeats: int) -> dict[str, float]:
    """A confusion matrix of one image of 512 x 512: picked pixels and ``bincount``, which wait for a GPU, against the one used."""
    import torch

    from utils.metrics import ConfusionMatrix

    generator = torch.Generator().manual_seed(0)
    target, prediction = (
        torch.randint(0, 21, (PIXELS,), generator=generator).to(trainer.runtime.device) for _ in range(2)
    )
    confusion = ConfusionMatrix(21)

    def picked() -> None:
        valid = (target >= 0) & (target < 21)
        kept, seen = target[valid], prediction[valid]
        if bool(((seen < 0) | (seen >= 21)).any()):
            raise ValueError
        torch.bincount(kept * 21 + seen, minlength=441).cpu()

    ways = {"picked and counted": picked, "added up in place": lambda: confusion.update(target, prediction)}
    return in_turn(ways, repeats, trainer.runtime.synchronise)


def iterations(body: str, crop: int, batch: int, settings: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """A base iteration of each precision, compiled too if asked for: median seconds, and the loss of the third one.

    The weights of all are the same at the start.
    """
    from benchmarks.step import make_batch, make_trainer

    ways: dict[str, Callable[[], None]] = {}
    losses: dict[str, list[float]] = {}
    runtime = None
    kinds = [(precision, False) for precision in settings.precision] + ([("fp32", True)] if settings.compile else [])
    for precision, compiled in kinds:
        given = argparse.Namespace(
            backbone=body,
            crop_size=crop,
            batch_size=batch,
            device=settings.device,
            precision=precision,
            compile=compiled,
            freeze=False,
        )
        trainer = make_trainer(0, given)
        runtime = trainer.runtime
        images = make_batch(trainer, crop, batch)
        name = precision + (", compiled" if compiled else "")
        losses[name] = []

        def step(trainer: Trainer = trainer, images: Any = images, seen: list[float] = losses[name]) -> None:
            with trainer.runtime.one_size():
                trainer.train_step(images, 0)
            seen += [one["total"] for one in trainer.watch.look()]

        ways[name] = step
    assert runtime is not None
    medians = in_turn(ways, settings.repeats, runtime.synchronise)
    return {name: (medians[name], losses[name][2]) for name in ways}


def page(
    parts: Mapping[str, Mapping[str, float]], steps: Mapping[str, Mapping[str, tuple[float, float]]], about: str
) -> str:
    """The tables: parts of an iteration, and whole ones."""
    lines = ["# What an iteration costs beside its arithmetic", "", about, ""]
    for title, medians in parts.items():
        lines += [f"## {title}", "", *markdown_table(["way", "ms", "times as fast as the first"], rows(medians)), ""]
    for title, found in steps.items():
        table = rows({name: seconds for name, (seconds, _) in found.items()})
        table = [[*row, f"{loss:.4f}"] for row, (_, loss) in zip(table, found.values(), strict=True)]
        headings = ["arithmetic", "ms", "times as fast as the first", "loss, third iteration"]
        lines += [f"## {title}", "", *markdown_table(headings, table), ""]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("loop", __doc__)
    add = parser.add_argument
    add("--device", default="auto")
    add("--precision", nargs="+", default=["fp32", "bf16"], help="precisions to compare; tf32 needs a GPU [fp32 bf16]")
    add("--compile", action="store_true", help="measure the compiled fp32 iteration, too")
    add("--sizes", type=int, nargs="+", default=list(range(len(SIZES))), help=f"which of {SIZES} [all]")
    add("--repeats", type=int, default=5, help="rounds of whole iterations; parts get ten times as many")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    settings = get_argparser().parse_args(arguments)
    import torch

    from benchmarks.step import make_trainer

    name, crop, batch = SIZES[0]
    given = argparse.Namespace(
        backbone="resnet101",
        crop_size=crop,
        batch_size=batch,
        device=settings.device,
        precision="fp32",
        compile=False,
        freeze=False,
    )
    trainer = make_trainer(0, given)
    many = 10 * settings.repeats
    parts = {
        "Update of ResNet-101": updates(trainer, 2 * settings.repeats),
        "Losses, of one iteration": looks(trainer, trainer.options.print_interval, many),
        "Confusion matrix of 512 x 512 pixels": counts(trainer, many),
    }
    about = f"`python -m benchmarks.loop`: device {trainer.runtime.device}, {torch.get_num_threads()} threads, torch {torch.__version__}."
    del trainer
    steps = {}
    for number in settings.sizes:
        name, crop, batch = SIZES[number]
        steps[f"Base iteration: {name}, crop {crop}, batch {batch}"] = iterations(name, crop, batch, settings)
    print(write_page(settings.out, page(parts, steps, about)))
    return 0


if __name__ == "__main__":
    finish("loop", main)
