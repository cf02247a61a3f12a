"""Scoring any number of image files: images are decoded and transformed in other processes, the network does nothing but score."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from modules.discriminator import DATASET, WEB, Discriminator
from spread.blocks import Row, Store, Worker, in_batches, in_blocks
from spread.options import BLOCK_SIZE
from spread.ways import Way
from utils import distributed, manifest
from utils.distributed import Runtime
from utils.errors import UserError
from utils.images import DecodeError, load_image
from utils.whole import claimed
from web.discriminator import load
from web.examples import square

COLUMNS = ("position", "log_ratio", "fault")


@dataclass
class DomainScores:
    """What the discriminator says of each of N images.

    Attributes:
        log_ratio: (N,) natural logarithm of p_ds / p_web; nan where the file could not be read.
        faults: position and fault of each image that could not be read.
    """

    log_ratio: NDArray[np.float64]
    faults: dict[int, str] = field(default_factory=dict)

    def p_ds(self) -> NDArray[np.float64]:
        """(N,) probability of the training data's domain."""
        with np.errstate(over="ignore"):
            probability: NDArray[np.float64] = 1 / (1 + np.exp(-self.log_ratio))
        return probability


@dataclass(frozen=True)
class Prepared:
    """A batch that is ready for the network.

    Attributes:
        values: (B, C, h, w) what ``Discriminator.classify`` takes, or images (B, 3, S, S) uint8 where the network's device
            transforms them.
        positions: of the files that they come from.
        faults: position and fault of each image that could not be read.
    """

    values: Tensor
    positions: tuple[int, ...]
    faults: tuple[tuple[int, str], ...]

    def pin_memory(self) -> Prepared:
        """Called by the data loader: page-locked copies."""
        return Prepared(self.values.pin_memory(), self.positions, self.faults)


# Position and path of a file.
File = tuple[int, str]


class Prepare:
    """Decodes a batch of files.

    Args:
        size: side of the square images, pixels.
        discriminator: transforms them too, so that this happens beside the network's work; None where the network's device does.
    """

    def __init__(self, size: int, discriminator: Discriminator | None) -> None:
        self.size, self.discriminator = size, discriminator

    def __call__(self, files: Sequence[File]) -> Prepared:
        images: list[Tensor] = []
        positions: list[int] = []
        faults: list[tuple[int, str]] = []
        for position, path in files:
            try:
                images.append(square(load_image(path), self.size))
                positions.append(position)
            except DecodeError as error:
                faults.append((position, str(error).removeprefix(f"{path}: ")))
        values = torch.stack(images) if images else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
        if self.discriminator is not None and images:
            with torch.no_grad():
                values = self.discriminator.prepare(values.float() / 255)
        return Prepared(values, tuple(positions), tuple(faults))


def in_workers(discriminator: Discriminator, runtime: Runtime) -> bool:
    """Whether workers prepare the images: on the CPU, where no encoder is asked. A GPU does it faster itself."""
    return runtime.device.type == "cpu" and discriminator.preprocessing.features == "image"


def score_worker(discriminator: Discriminator, runtime: Runtime) -> Worker[File]:
    """Scores batches of files; a row is a position, its score or null, and the fault of its file.

    Args:
        discriminator: the network, in evaluation mode.
        runtime: its device and precision.
    """
    helper = discriminator if in_workers(discriminator, runtime) else None

    def finish(batch: Prepared) -> list[Row]:
        scores = score_batch(discriminator, batch, runtime).tolist() if batch.positions else []
        rows: list[Row] = [[position, score, ""] for position, score in zip(batch.positions, scores, strict=True)]
        return sorted(rows + [[position, None, fault] for position, fault in batch.faults])

    return Worker(Prepare(discriminator.preprocessing.size, helper), finish)


@dataclass(frozen=True)
class ScoreWork:
    """How a worker elsewhere makes its discriminator.

    Attributes:
        path: the discriminator's file.
        step: checkpoint of step 0 that it belongs to; None for the one beside it.
        device: as ``--device``.
        precision: as ``--precision``.
    """

    path: Path
    step: Path | None
    device: str
    precision: str

    def __call__(self) -> Worker[File]:
        runtime = distributed.start(self.device, self.precision)
        return score_worker(load(self.path, runtime, self.step).discriminator, runtime)


@torch.inference_mode()
def score_batch(discriminator: Discriminator, batch: Prepared, runtime: Runtime) -> NDArray[np.float64]:
    """(B,) logarithm of p_ds / p_web."""
    values = batch.values.to(runtime.device, non_blocking=True)
    with runtime.autocast():
        if values.dtype == torch.uint8:
            logits = discriminator(values.float() / 255)
        else:
            logits = discriminator.classify(values)
    logits = logits.double()
    ratio: NDArray[np.float64] = (logits[:, DATASET] - logits[:, WEB]).cpu().numpy()
    return ratio


def key_of(files: Iterable[tuple[str, Path]], digest: str) -> str:
    """A key that changes with the files (name, file) and the discriminator."""
    sha = hashlib.sha256(digest.encode())
    for name, path in files:
        try:
            stat = path.stat()
            sha.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        except OSError:
            sha.update(f"{name}\0missing\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()[:16]


def read_scores(path: Path, count: int) -> DomainScores:
    """Scores that an earlier run left in ``path``; nan where it had not come to a file."""
    scores = DomainScores(np.full(count, np.nan))
    if not os.path.isfile(path):
        return scores
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        parts = line.split(",", 2)
        # A process that was killed may have left half a line behind, a full disk worse; such an image is scored anew.
        try:
            position, ratio = int(parts[0]), float(parts[1] or "nan")
        except (ValueError, IndexError):
            continue
        if 0 <= position < count and len(parts) == 3 and (parts[1] or parts[2]):
            if parts[1]:
                scores.log_ratio[position] = ratio
            else:
                scores.faults[position] = parts[2].strip('"')
    return scores


def score(
    files: Sequence[str],
    way: Way,
    make: Callable[[], Worker[File]],
    *,
    cache: Path,
    batch_size: int,
    block_size: int = BLOCK_SIZE,
) -> DomainScores:
    """Score image files; those that an earlier, stopped run scored are not scored again.

    Args:
        files: the images' paths, as text, which a million of takes little memory.
        way: who does it.
        make: makes what does it.
        cache: file to which scores are written as they come, and from which they are read; one run writes it at a time.
        batch_size: images scored at once.
        block_size: images that a worker takes at once.

    Returns:
        the scores; of ranks the main one alone has all of them.

    Raises:
        UserError: another run scores into ``cache``, or it cannot be written.
    """
    with ExitStack() as stack:
        writers: list[manifest.Writer] = []

        def begin() -> None:
            try:
                cache.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"{cache}: cannot be written ({error.strerror})") from error
            stack.enter_context(claimed(cache, "scoring"))
            writers.append(stack.enter_context(manifest.Writer(cache, COLUMNS)))

        way.runtime.on_main(begin)
        scores = read_scores(cache, len(files))
        done = ~np.isnan(scores.log_ratio)
        done[list(scores.faults)] = True
        # Batches are those of all files, wherever an earlier run was stopped.
        batches = ([file for file in batch if not done[file[0]]] for batch in in_batches(enumerate(files), batch_size))
        blocks = in_blocks(batches, max(1, block_size // batch_size))
        store = Store(cache.with_suffix(".blocks"), json.dumps([cache.name, way.runtime.precision]))
        hidden = None if way.runtime.main else True
        bar = stack.enter_context(tqdm(total=len(files), initial=int(done.sum()), desc="Scoring", disable=hidden))
        for rows in way.results(blocks, make, store):
            for position, value, fault in rows:
                if fault:
                    scores.faults[position] = fault
                    writers[0].write({"position": position, "fault": fault})
                else:
                    scores.log_ratio[position] = value
                    writers[0].write({"position": position, "log_ratio": repr(value)})
            bar.update(len(rows))
    return scores
