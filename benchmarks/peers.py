"""Each job beside what a user would pick instead, the two sides in turn, on the CPU or a GPU.

    python -m benchmarks.peers [--jobs base weak memory affinity augment test scripts filter peak] [--device cuda]
        [--precision fp32 bf16] [--compile] [--crops 512 256] [--batch_size 24] [--small]

Each job runs in a process of its own; one that fails is told, and the others go on. Images are drawn, weights are random: times do not
depend on them. Writes `benchmarks/results/peers-MACHINE.csv` and a page of the same name. `--small` runs every line at the smallest size.

| job | ours | peer |
|---|---|---|
| base | `train_step` of the base step | torchvision's `deeplabv3_resnet101` at our output stride, its references' losses and SGD |
| weak | the weak step, with and without `--freeze` | our base step |
| memory | peak of a base and of a weak step | the same networks with batch norm and leaky ReLU, in place and as separate layers |
| affinity | `modules/affinity.py` | the formula with `unfold` |
| augment | an image and its mask from files to a crop of 512, one core | torchvision's own transforms |
| test | `run.py --test` on whole images | one image at a time |
| scripts | `predict.py`, `generate_label.py`, `select_web.py` | the network's bare forward pass on all cores |
| filter | the caption filter of 10,582 lists, its start included | reading these files |
| peak | operations a second of a base step | a large matrix product on this machine |
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.pages import RESULTS, ROOT, make_parser, write_page
from results.table import markdown_table
from utils.cores import available
from utils.errors import UserError
from utils.script import run
from utils.whole import write_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

    from train import Trainer
    from utils.distributed import Runtime

# Files of a published run of the caption filter, and captions of each.
LISTS, CAPTIONS = 10_582, 17
# Width and height of drawn photographs: those of PASCAL VOC, most of them 500 x 375.
SIZES = ((500, 375), (500, 375), (375, 500), (500, 333), (500, 375), (333, 500))


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        job: what is done.
        peer: what it is compared with.
        precision: arithmetic of our networks.
        ours: our median.
        peers: the peer's.
        unit: of both.
        ratio: how many times as fast we are, or our share of the peer's time or memory; ``wanted`` says which.
        wanted: ``>= 1.25``, ``<= 0.7``, ``<= 1.5 s`` (of ``ours``), or "" where nothing is.
        note: what else a reader should know.
    """

    job: str
    peer: str
    precision: str
    ours: float
    peers: float
    unit: str
    ratio: float
    wanted: str = ""
    note: str = ""

    @property
    def met(self) -> str:
        """``yes``, or by how much it is missed; "" where nothing is wanted."""
        if not self.wanted:
            return ""
        sign, number, *unit = self.wanted.split()
        value, limit = (self.ours if unit else self.ratio), float(number)
        if math.isnan(value):
            return "failed"
        return "yes" if (value >= limit if sign == ">=" else value <= limit) else f"no, by {abs(value / limit - 1):.0%}"


COLUMNS = (*(field.name for field in fields(Row)), "met", "machine", "device", "threads", "torch", "date")


def faster(job: str, peer: str, precision: str, ours: float, peers: float, wanted: str = "", **more: str) -> Row:
    """Of times in seconds: the ratio is how many times as fast we are."""
    return Row(job, peer, precision, ours, peers, "s", peers / ours, wanted, **more)


def share(job: str, peer: str, precision: str, ours: float, peers: float, wanted: str = "", **more: Any) -> Row:
    """Of times or memory: the ratio is our share of the peer's."""
    return Row(job, peer, precision, ours, peers, more.pop("unit", "s"), ours / peers, wanted, **more)


def in_turns(
    ways: Mapping[str, Callable[[], object]], runtime: Runtime, rounds: int, calls: int = 1
) -> dict[str, list[float]]:
    """Seconds of a call of each way, A B A B; the first round warms up and does not count.

    Args:
        ways: by their names.
        runtime: whose device is waited for.
        rounds: that count.
        calls: of each way in a turn, after one that does not count where it is a GPU's turn.
    """
    import torch

    gpu = runtime.device.type == "cuda"
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            if gpu:
                # The memory that another way took is not kept from this one.
                torch.cuda.empty_cache()
                way()
            runtime.synchronise()
            begin = time.perf_counter()
            for _ in range(calls):
                way()
            runtime.synchronise()
            if number:
                times[name].append((time.perf_counter() - begin) / calls)
    return times


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


# ---- training -----------------------------------------------------------------------------------------------------------


def _trainer(step: int, settings: argparse.Namespace, crop: int, precision: str, freeze: bool = False) -> Trainer:
    from benchmarks.step import make_trainer

    values = vars(settings) | {"crop_size": crop, "precision": precision, "freeze": freeze}
    return make_trainer(step, argparse.Namespace(**values))


def _stepper(trainer: Trainer, settings: argparse.Namespace, crop: int) -> Callable[[], object]:
    """One iteration on a batch of noise, from the epoch on in which all losses are there."""
    from benchmarks.step import make_batch

    batch = make_batch(trainer, crop, settings.batch_size)
    return lambda: trainer.train_step(batch, trainer.options.pseudo_ep)


def make_peer(backbone: str, classes: int) -> nn.Module:
    """torchvision's DeepLabV3 with its auxiliary head, random weights, at output stride 16 as ours."""
    from torchvision import models
    from torchvision.models._utils import IntermediateLayerGetter

    network = models.segmentation.__dict__[f"deeplabv3_{backbone}"](
        weights=None, weights_backbone=None, num_classes=classes, aux_loss=True
    )
    body = models.__dict__[backbone](weights=None, replace_stride_with_dilation=[False, False, True])
    network.backbone = IntermediateLayerGetter(body, {"layer4": "out", "layer3": "aux"})
    return network


def peer_stepper(settings: argparse.Namespace, crop: int, runtime: Runtime, last: bool) -> Callable[[], object]:
    """One iteration of torchvision's references (references/segmentation/train.py) on a batch of noise.

    Args:
        settings: backbone, batch and whether it is compiled.
        crop: side of the images.
        runtime: device and precision.
        last: channels last for network and images; the references do not.
    """
    import torch
    from torch.nn import functional as F

    generator = torch.Generator().manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    network: Any = make_peer(settings.peer, 21).to(runtime.device).to(memory_format=layout).train()
    shape = settings.batch_size, 3, crop, crop
    images = torch.randn(shape, generator=generator).to(runtime.device).contiguous(memory_format=layout)
    masks = torch.randint(0, 21, (settings.batch_size, crop, crop), generator=generator).to(runtime.device)
    groups: list[dict[str, Any]] = [
        {"params": [*network.backbone.parameters(), *network.classifier.parameters()]},
        {"params": list(network.aux_classifier.parameters()), "lr": 0.1},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=10_000, power=0.9)
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
    forward = torch.compile(network) if settings.compile else network

    def step() -> float:
        with runtime.autocast():
            said = forward(images)
            terms = {name: F.cross_entropy(value, masks, ignore_index=255) for name, value in said.items()}
            loss = terms["out"] + 0.5 * terms["aux"]
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        # They log the loss of each iteration.
        return loss.item()

    return step


def base(settings: argparse.Namespace, precision: str) -> list[Row]:
    """The base step beside torchvision's."""
    import torch

    rows = []
    for crop in settings.crops:
        trainer = _trainer(0, settings, crop, precision)
        runtime = trainer.runtime
        gpu = runtime.device.type == "cuda"
        # So do the references; crops are of one size.
        torch.backends.cudnn.benchmark = gpu
        single = replace(runtime, precision="fp32")
        ways: dict[str, Callable[[], object]] = {"ours": _stepper(trainer, settings, crop)}
        peers = {("contiguous", precision): False, ("channels last", precision): True}
        if precision != "fp32" and not gpu:
            peers["contiguous", "fp32"] = False
        for (layout, own), last in peers.items():
            ways[f"{layout}, {own}"] = peer_stepper(settings, crop, runtime if own == precision else single, last)
        times = medians(in_turns(ways, runtime, settings.rounds, settings.calls))
        # On a CPU our bf16 is measured against the fp32 that the references train in there.
        wanted = {("contiguous", "fp32"): ">= 1.25" if precision == "fp32" else ">= 2.2"}
        wanted = {(layout, precision): ">= 1.3" for layout in ("contiguous", "channels last")} if gpu else wanted
        rows += [
            faster(
                f"base step, {settings.backbone}, crop {crop}, batch {settings.batch_size}",
                f"torchvision, {layout}, {own}",
                precision,
                times["ours"],
                times[f"{layout}, {own}"],
                wanted.get((layout, own), ""),
            )
            for layout, own in peers
        ]
    return rows


def weak(settings: argparse.Namespace, precision: str) -> list[Row]:
    """The weak step beside our base step."""
    import torch

    rows = []
    for crop in settings.crops:
        made = {"base": (0, False), "weak": (1, False), "frozen": (1, True)}
        trainers = {name: _trainer(step, settings, crop, precision, freeze) for name, (step, freeze) in made.items()}
        runtime = trainers["base"].runtime
        torch.backends.cudnn.benchmark = runtime.device.type == "cuda"
        ways = {name: _stepper(trainer, settings, crop) for name, trainer in trainers.items()}
        times = medians(in_turns(ways, runtime, settings.rounds, settings.calls))
        what = f"{settings.backbone}, crop {crop}, batch {settings.batch_size}"
        rows += [
            share(f"weak step, {what}", "our base step", precision, times["weak"], times["base"], "<= 1.3"),
            share(f"weak step --freeze, {what}", "our base step", precision, times["frozen"], times["base"], "<= 0.7"),
        ]
    return rows


# What norms do in the peers of ``memory``: None, ours; else whether leaky ReLU works in place.
NORMS = {"batch norm and leaky ReLU kept": False, "batch norm, leaky ReLU in place": True}


def _peak(
    step: int, in_place: bool | None, crop: int, precision: str, settings: argparse.Namespace
) -> tuple[float, float]:
    """MiB at most, and the loss of the first iteration."""
    from benchmarks.norm import plain

    trainer = _trainer(step, settings, crop, precision)
    iterate = _stepper(trainer, settings, crop)
    with nullcontext() if in_place is None else plain(in_place):
        first: Any = iterate()
        iterate()
    trainer.runtime.synchronise()
    return trainer.runtime.memory(), float(first["total"]) if isinstance(first, Mapping) else math.nan


def memory(settings: argparse.Namespace, precision: str) -> list[Row]:
    """Peak memory of both steps beside that with norms that keep more, each in a process of its own."""
    rows = []
    crop = settings.crops[0]
    for step, name in enumerate(("base", "weak")):
        ours, loss = _apart(_peak, step, None, crop, precision, settings)
        what = f"peak memory, {name} step, {settings.backbone}, crop {crop}, batch {settings.batch_size}"
        for peer, in_place in NORMS.items():
            theirs, other = _apart(_peak, step, in_place, crop, precision, settings)
            note = f"losses differ by {abs(loss - other):.1e}" if math.isfinite(loss - other) else ""
            rows.append(share(what, peer, precision, ours, theirs, "<= 0.7", unit="MiB", note=note))
    return rows


def peak(settings: argparse.Namespace, precision: str) -> list[Row]:
    """Operations a second of the base step beside those of a large matrix product."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    crop = settings.crops[0]
    eager = argparse.Namespace(**(vars(settings) | {"compile": False}))
    trainer = _trainer(0, eager, crop, precision)
    runtime = trainer.runtime
    torch.backends.cudnn.benchmark = runtime.device.type == "cuda"
    iterate = _stepper(trainer, eager, crop)
    with FlopCounterMode(display=False) as counter:
        iterate()
    if settings.compile:
        trainer = _trainer(0, settings, crop, precision)
        iterate = _stepper(trainer, settings, crop)
    side = settings.matrix
    # Zeros multiply faster than data do.
    one, other = (torch.randn(side, side, device=runtime.device, dtype=runtime.dtype) for _ in range(2))
    ways: dict[str, Callable[[], object]] = {"step": iterate, "product": lambda: one @ other}
    times = medians(in_turns(ways, runtime, settings.rounds, settings.calls))
    done = counter.get_total_flops() / times["step"] / 1e12
    most = 2 * side**3 / times["product"] / 1e12
    what = f"arithmetic, base step, {settings.backbone}, crop {crop}, batch {settings.batch_size}"
    wanted = ">= 0.4" if runtime.device.type == "cuda" and precision == "bf16" else ""
    note = f"{counter.get_total_flops() / 1e12:.3g} Tflop an iteration"
    peer = f"matrix product of {side} x {side}"
    return [Row(what, peer, precision, done, most, "Tflop/s", done / most, wanted, note)]


# ---- parts of it --------------------------------------------------------------------------------------------------------


def unfolded_affinity(image: Tensor, mask: Tensor, iterations: int, dilations: Sequence[int]) -> Tensor:
    """docs/method.md, "One weak iteration": pixel affinity as its formula reads, with ``unfold``.

    Args:
        image: (B, 3, H, W) in [0, 1].
        mask: (B, C, H, W).
        iterations: times that masks are replaced by their mean.
        dilations: distances of the neighbours.
    """
    import torch
    from torch.nn import functional as F

    def nine(values: Tensor, distance: int) -> Tensor:
        padded = F.pad(values, (distance,) * 4, mode="replicate")
        return F.unfold(padded, 3, dilation=distance).view(*values.shape[:2], 9, *values.shape[2:])

    around = [0, 1, 2, 3, 5, 6, 7, 8]
    seen = [nine(image, distance) for distance in dilations]
    sigma = torch.cat(seen, dim=2).std(dim=2, keepdim=True)
    neighbours = torch.cat([values[:, :, around] for values in seen], dim=2)
    weights = (-(neighbours - image.unsqueeze(2)).abs() / (1e-8 + 0.1 * sigma)).mean(1).softmax(1)
    for _ in range(iterations):
        neighbours = torch.cat([nine(mask, distance)[:, :, around] for distance in dilations], dim=2)
        mask = (weights.unsqueeze(1) * neighbours).sum(2)
    return mask


def affinity(settings: argparse.Namespace, precision: str) -> list[Row]:
    """Pixel affinity; it computes in float32 in every precision."""
    import torch

    from modules.affinity import DILATIONS, ITERATIONS, PAMR
    from utils import distributed

    if precision != "fp32":
        return []
    runtime = distributed.start(settings.device, precision)
    ours, rows = PAMR(), []
    gpu = runtime.device.type == "cuda"
    for images, side, wanted in ((2, 64, 17), (1, 128, 34)):
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(images, 3, side, side, generator=generator).to(runtime.device)
        mask = torch.rand(images, 21, side, side, generator=generator).softmax(1).to(runtime.device)
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda image=image, mask=mask: ours(image, mask),  # type: ignore[misc]
            "peer": lambda image=image, mask=mask: unfolded_affinity(image, mask, ITERATIONS, DILATIONS),  # type: ignore[misc]
        }
        with torch.no_grad():
            apart = float((ours(image, mask) - unfolded_affinity(image, mask, ITERATIONS, DILATIONS)).abs().max())
            times = medians(in_turns(ways, runtime, max(3, settings.rounds), settings.calls))
        rows.append(
            faster(
                f"affinity, {images} of {side} x {side}, 21 channels",
                "unfold",
                precision,
                times["ours"],
                times["peer"],
                "" if gpu else f">= {wanted}",
                note=f"they differ by {apart:.1e}",
            )
        )
    return rows


def draw_photographs(folder: Path, count: int, seed: int = 0) -> Path:
    """A data set in VOC's layout, of coarse and fine noise, masks of blocks; all images stand in both splits' lists."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(seed)
    for part in ("JPEGImages", "SegmentationClassAug", "splits"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(2 * count):
        width, height = SIZES[number % len(SIZES)]
        noise = generator.integers(0, 255, (height // 12, width // 12, 3), dtype=np.uint8)
        image = np.array(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        image += generator.integers(-12, 13, image.shape, dtype=np.int16)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"JPEGImages/{number:06d}.jpg", quality=90)
        mask = Image.fromarray(generator.integers(0, 21, (3, 4), dtype=np.uint8))
        mask.resize((width, height), Image.Resampling.NEAREST).save(folder / f"SegmentationClassAug/{number:06d}.png")
        names.append(f"{number:06d}")
    for split, own in (("train_aug", names[:count]), ("val", names[count:])):
        lines = (f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in own)
        (folder / f"splits/{split}.txt").write_text("".join(lines))
    return folder


def augment(settings: argparse.Namespace, precision: str) -> list[Row]:
    """Images a second of one core: from the files to a crop."""
    import numpy as np
    import torch
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    from dataset.incremental import IncrementalView
    from dataset.transform import CROP_SCALE
    from dataset.views import DataOptions, make_views
    from tasks import load_task
    from utils.distributed import Runtime

    if precision != "fp32":
        return []
    torch.set_num_threads(1)
    runtime = Runtime(torch.device("cpu"))
    crop = settings.crops[0]
    options = DataOptions(
        protocol="overlap", no_mask=False, crop_size=crop, crop_size_val=crop, test_unknown="ignore", random_seed=0
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = draw_photographs(Path(temporary), settings.photographs)
        view = make_views(load_task("voc", "offline", None), 0, folder, options).train
        assert isinstance(view, IncrementalView)
        count = len(view)
        files = [folder / f"JPEGImages/{number:06d}.jpg" for number in range(count)]
        chain = v2.Compose(
            [
                v2.RandomResizedCrop(crop, scale=CROP_SCALE, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )
        epochs = iter(range(10**6))

        def ours() -> None:
            epoch = next(epochs)
            for number in range(count):
                view[(epoch, number)]

        def plain() -> None:
            for path in files:
                mask = np.array(Image.open(folder / f"SegmentationClassAug/{path.stem}.png"))
                chain(Image.open(path).convert("RGB"), tv_tensors.Mask(mask))

        times = medians(in_turns({"ours": ours, "peer": plain}, runtime, max(3, settings.rounds)))
    return [
        faster(
            f"file to a crop of {crop}, one core",
            "torchvision's transforms",
            precision,
            times["ours"] / count,
            times["peer"] / count,
            ">= 2",
            note="a GPU normalises ours, not counted",
        )
    ]


# ---- asking a segmenter -------------------------------------------------------------------------------------------------


def test(settings: argparse.Namespace, precision: str) -> list[Row]:
    """``run.py --test`` on whole images."""
    from benchmarks.testing import BOTH, WORKER, measure

    with tempfile.TemporaryDirectory() as temporary:
        folder = draw_photographs(Path(temporary), settings.photographs)
        values = vars(settings) | {"dataset_dir": folder, "precision": precision}
        measured = measure(settings.backbone, settings.photographs, 0, argparse.Namespace(**values))
    times = medians(measured.seconds)
    return [
        faster(
            f"run.py --test, {settings.backbone}, {settings.photographs} whole images of {measured.sizes} sizes",
            "one image at a time",
            precision,
            times[BOTH],
            times[WORKER],
            ">= 4" if _gpu(settings) else ">= 1.5",
            note=f"{measured.moved[BOTH]} of {measured.pixels} pixels elsewhere in the confusion matrix",
        )
    ]


def scripts(settings: argparse.Namespace, precision: str) -> list[Row]:
    """``predict.py``, ``generate_label.py`` and ``select_web.py`` beside the bare forward pass."""
    from benchmarks import predict, scoring

    wanted = ">= 0.85" if _gpu(settings) else ""
    with tempfile.TemporaryDirectory() as temporary:
        folder = draw_photographs(Path(temporary) / "voc", settings.photographs)
        values = vars(settings) | {
            "precision": precision, "model": None, "data": folder / "JPEGImages", "images": settings.photographs,
            "num_workers": None, "batch_size": 8,
        }  # fmt: skip
        cost = predict.measure_cost(argparse.Namespace(**values))
        images = f"{settings.photographs} images"
        bare, whole = statistics.median(cost.bare), statistics.median(cost.whole)
        rows = [faster(f"predict.py, {settings.backbone}, {images}", "bare pass", precision, whole, bare, wanted)]
        rows.append(_labelling(settings, precision, folder, Path(temporary), wanted))
    if precision == "fp32":
        values |= {
            "web": None,
            "workers": None,
            "rows": 0,
            "network": settings.network,
            "size": 224,
            "images": settings.scored,
        }
        values["batch_size"] = min(64, settings.scored)
        rates = scoring.measure(argparse.Namespace(**values)).rates
        own, all_cores = (1 / statistics.median(rates[what]) for what in (scoring.SCORING, scoring.BARE_ALL))
        rows.append(
            faster(f"select_web.py, {settings.network}, an image", "bare pass", precision, own, all_cores, wanted)
        )
    return rows


def _labelling(settings: argparse.Namespace, precision: str, photographs: Path, folder: Path, wanted: str) -> Row:
    """``generate_label.py``'s work on a replay tree beside the bare pass on the same images, decoded and stacked."""
    from functools import partial

    from dataset.groups import Groups, groups_of
    from dataset.replay_tree import images_of, originals
    from engine.labelling import Labeller, LabelSettings, label_tree, label_worker
    from engine.state import Progress
    from spread.ways import make_way

    trainer = _trainer(0, settings, settings.crops[0], precision)
    path = folder / "base_0.pth"
    trainer.snapshot.save(path, Progress(), trainer.optimisation)
    labeller = Labeller(path, LabelSettings(precision=precision), trainer.runtime)
    tree = folder / "tree"
    files = sorted((photographs / "JPEGImages").iterdir())[: settings.photographs]
    (tree / "one" / "image").mkdir(parents=True)
    for number, file in enumerate(files):
        os.link(file, tree / f"one/image/{number + 1:05d}.jpg")
    pairs = [pair for original in originals(tree) for pair in images_of(original)]
    grouped = Groups(groups_of(pairs, 8), labeller.settings.max_side)
    stacked = [group.images for number in range(len(grouped)) for group in grouped[number].groups]
    way = make_way(trainer.runtime, None, None)

    def whole() -> None:
        for label in tree.glob("*/label/*"):
            label.unlink()
        label_tree(tree, labeller.marker, way, partial(label_worker, labeller, {}), wanted={}, batch_size=8)

    def bare() -> None:
        for images in stacked:
            labeller.segmenter.logits(images)

    times = medians(in_turns({"bare": bare, "whole": whole}, trainer.runtime, settings.rounds))
    what = f"generate_label.py, {settings.backbone}, {len(pairs)} images"
    return faster(what, "bare pass", precision, times["whole"], times["bare"], wanted)


def caption_filter(settings: argparse.Namespace, precision: str) -> list[Row]:
    """The filter of downloads by captions, as a command, beside a process that reads the same files."""
    import random

    from utils.distributed import Runtime

    if precision != "fp32":
        return []
    import torch

    words = "dog cat horse sheep cow person car bus train boat bird chair table sofa bottle plant tree house man woman child street".split()
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "nouns").mkdir()
        lines = []
        for number in range(settings.lists):
            nouns = (" ".join(draw.sample(words, 4)) for _ in range(CAPTIONS))
            text = "".join(f"{image + 1:05d}.jpg {line}\n" for image, line in enumerate(nouns))
            (folder / f"nouns/{number:06d}.txt").write_text(text)
            lines.append(f"{number:06d}.png {draw.choice(words)}\n")
        (folder / "classes.txt").write_text("".join(lines))
        runs = iter(range(10**6))
        program = (
            "import pathlib, sys\nprint(sum(len(path.read_text()) for path in pathlib.Path(sys.argv[1]).iterdir()))"
        )

        def ours() -> None:
            out = folder / f"kept{next(runs)}"
            command = f"-m utils.measure_noun filter_replay_with_NN --nouns {folder}/nouns --classes {folder}/classes.txt --out {out}"
            subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True, capture_output=True, env=one)

        def reading() -> None:
            command = [sys.executable, "-c", program, str(folder / "nouns")]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=one)

        one = os.environ | {"OMP_NUM_THREADS": "1"}
        times = medians(in_turns({"ours": ours, "peer": reading}, Runtime(torch.device("cpu")), settings.rounds))
    return [
        share(f"caption filter, {settings.lists} lists", "reading the files", precision, times["ours"], times["peer"], "<= 1.5 s")
    ]  # fmt: skip


JOBS: dict[str, Callable[[argparse.Namespace, str], list[Row]]] = {
    "base": base, "weak": weak, "memory": memory, "affinity": affinity, "augment": augment, "test": test, "scripts": scripts,
    "filter": caption_filter, "peak": peak,
}  # fmt: skip


# ---- all of them --------------------------------------------------------------------------------------------------------


def _gpu(settings: argparse.Namespace) -> bool:
    import torch

    return settings.device.startswith("cuda") or (settings.device == "auto" and torch.cuda.is_available())


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """What ``work`` gives in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def run_job(name: str, precision: str, settings: argparse.Namespace) -> list[Row]:
    """The rows of one job, on as many threads as ``settings`` say."""
    import torch

    torch.set_num_threads(settings.threads)
    return JOBS[name](settings, precision)


def run_all(settings: argparse.Namespace, keep: Callable[[list[Row]], object]) -> list[Row]:
    """The rows of all jobs in every precision; of one that fails a row that says so.

    Args:
        settings: the command line.
        keep: given all rows so far after each job, so that none is lost to a stop.
    """
    rows: list[Row] = []
    begin = time.monotonic()
    for name in settings.jobs:
        for precision in settings.precision:
            try:
                found = _apart(run_job, name, precision, settings)
            except Exception as error:  # Whatever it is: the other jobs are worth their time.
                text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                print(f"{name}, {precision}: failed: {type(error).__name__}: {text}", file=sys.stderr, flush=True)
                found = [Row(name, "", precision, math.nan, math.nan, "", math.nan, "", f"failed: {text}")]
            rows += found
            keep(rows)
            print(
                f"{time.monotonic() - begin:.0f} s: {name}, {precision}: {len(found)} rows", file=sys.stderr, flush=True
            )
    return rows


def machine() -> str:
    """This machine in words: its GPU, else its processor."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    return f"{named[1].strip() if named else platform.machine()}, {available()} cores"


def slug(name: str) -> str:
    """A machine's name as part of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def table(rows: Sequence[Row], settings: argparse.Namespace) -> str:
    """The rows as CSV."""
    import torch

    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    where = {
        "machine": settings.machine,
        "device": "cuda" if _gpu(settings) else settings.device.replace("auto", "cpu"),
        "threads": settings.threads,
        "torch": torch.__version__ + (", compiled" if settings.compile else ""),
        "date": datetime.now(UTC).date().isoformat(),
    }
    for row in rows:
        numbers = {name: f"{getattr(row, name):.6g}" for name in ("ours", "peers", "ratio")}
        writer.writerow(vars(row) | numbers | {"met": row.met} | where)
    return file.getvalue()


def shown_number(value: float) -> str:
    """Three digits, a dash for none."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def page(rows: Sequence[Row], settings: argparse.Namespace) -> str:
    """The page."""
    import torch

    compiled = ", compiled" if settings.compile else ""
    lines = [
        "# Beside what a user would pick instead",
        "",
        f"Written by `python -m benchmarks.peers` on {settings.machine}, device {settings.device}, {settings.threads} threads, torch "
        f"{torch.__version__}{compiled}; medians of {settings.rounds} rounds, the sides in turns.",
        "",
        *markdown_table(
            ["job", "peer", "precision", "ours", "peer's", "unit", "ratio", "wanted", "met", "note"],
            [
                [
                    row.job, row.peer, row.precision, shown_number(row.ours), shown_number(row.peers), row.unit,
                    shown_number(row.ratio), row.wanted, row.met, row.note,
                ]
                for row in rows
            ],
        ),
    ]  # fmt: skip
    return "\n".join(lines)


# What --small sets.
SMALL = {
    "crops": [64], "batch_size": 2, "rounds": 1, "calls": 1, "backbone": "timm:resnet10t", "peer": "resnet50", "photographs": 6,
    "lists": 50, "matrix": 256, "network": "test_resnet", "scored": 16,
}  # fmt: skip


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("peers", __doc__, page=False)
    add = parser.add_argument
    add("--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB", help=f"of {', '.join(JOBS)} [all]")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--precision", nargs="+", default=["fp32", "bf16"], choices=("fp32", "tf32", "bf16", "fp16"))
    add("--compile", action="store_true", help="networks that are trained are compiled, the peer's too")
    add("--threads", type=int, default=available(), help="of the networks on a CPU [all cores]")
    add("--rounds", type=int, default=3, help="turns that count")
    add("--calls", type=int, help="iterations in a turn [5 on a GPU, 1 on a CPU]")
    add("--crops", nargs="+", type=int, default=[512, 256], help="the first is that of memory, peak and augmentation")
    add("--batch_size", type=int, help="[24 on a GPU, 4 on a CPU]")
    add("--backbone", default="resnet101")
    add("--peer", default="resnet101", help="body of torchvision's DeepLabV3")
    add("--network", default="efficientnet_b0", help="timm's name of the discriminator's network")
    add("--photographs", type=int, default=24, help="drawn for augmentation, test and scripts")
    add("--scored", type=int, default=128, help="web images that are scored")
    add("--lists", type=int, default=LISTS, help="noun files of the caption filter")
    add("--matrix", type=int, help="side of the matrices of the peak [8192 on a GPU, 2048 on a CPU]")
    add("--machine", help="what the machine is called [its GPU's or processor's name]")
    add("--small", action="store_true", help="every line once, at the smallest size: no measurement")
    add(
        "--out", type=Path, help="page to write, and a table of that name in .csv [benchmarks/results/peers-MACHINE.md]"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; print, and write page and table. 1 where a job failed."""
    settings = get_argparser().parse_args(arguments)
    if settings.threads < 1 or settings.rounds < 1:
        raise UserError("--threads and --rounds need at least 1")
    if settings.small:
        vars(settings).update(SMALL)
        settings.threads = 1
    gpu = _gpu(settings)
    settings.batch_size = settings.batch_size or (24 if gpu else 4)
    settings.calls = settings.calls or (5 if gpu else 1)
    settings.matrix = settings.matrix or (8192 if gpu else 2048)
    settings.machine = settings.machine or machine()
    # Before torch is loaded by the jobs' processes.
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    out = settings.out or RESULTS / f"peers-{slug(settings.machine)}.md"

    def keep(rows: list[Row]) -> None:
        write_page(out, page(rows, settings))
        write_whole(out.with_suffix(".csv"), table(rows, settings))

    rows = run_all(settings, keep)
    print(page(rows, settings))
    return int(any(row.note.startswith("failed") for row in rows))


if __name__ == "__main__":
    sys.exit(run(main, "benchmarks.peers", stopped="the page holds the jobs that were done"))
