"""Scoring any number of image files: images are decoded and transformed in other processes, the network does nothing but score."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from modules.spectrum import DATASET, WEB, Discriminator
from utils import manifest
from utils.distributed import Runtime
from utils.images import DecodeError, load_image
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


Item = tuple[int, Tensor | None, str]


class Unscored(IterableDataset[Item]):
    """Files that are not ``done`` as (position, (3, S, S) uint8 or None, fault); each worker takes its share of them."""

    def __init__(self, files: Sequence[str], size: int, done: NDArray[np.bool_]) -> None:
        self.files, self.size, self.done = files, size, done

    def __iter__(self) -> Iterator[Item]:
        info = get_worker_info()
        first, every = (0, 1) if info is None else (info.id, info.num_workers)
        for position in range(first, len(self.files), every):
            if self.done[position]:
                continue
            path = self.files[position]
            try:
                yield position, square(load_image(path), self.size), ""
            except DecodeError as error:
                yield position, None, str(error).removeprefix(f"{path}: ")


class Collate:
    """Stacks items; with a discriminator it transforms them too, so that this happens in the worker."""

    def __init__(self, discriminator: Discriminator | None) -> None:
        self.discriminator = discriminator

    def __call__(self, items: Sequence[Item]) -> Prepared:
        images = [image for _, image, _ in items if image is not None]
        values = torch.stack(images) if images else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
        if self.discriminator is not None and images:
            values = self.discriminator.prepare(values.float() / 255)
        positions = tuple(position for position, image, _ in items if image is not None)
        return Prepared(values, positions, tuple((p, fault) for p, image, fault in items if image is None))


def in_workers(discriminator: Discriminator, runtime: Runtime) -> bool:
    """Whether the spectrum is taken by the workers: on the CPU, for spectra of images. A GPU takes it faster itself."""
    return runtime.device.type == "cpu" and discriminator.preprocessing.features == "image"


def prepared_batches(
    files: Sequence[str],
    discriminator: Discriminator,
    runtime: Runtime,
    *,
    workers: int,
    batch_size: int,
    done: NDArray[np.bool_],
) -> DataLoader:
    """Batches of the files that are not ``done``."""
    helper = Collate(discriminator if in_workers(discriminator, runtime) else None)
    return DataLoader(
        Unscored(files, discriminator.preprocessing.size, done),
        batch_size=batch_size,
        collate_fn=helper,
        num_workers=workers,
        pin_memory=runtime.device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )


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
    discriminator: Discriminator,
    runtime: Runtime,
    *,
    cache: Path,
    workers: int,
    batch_size: int,
) -> DomainScores:
    """Score image files; those that an earlier, stopped run scored are not scored again.

    Args:
        files: the images' paths, as text, which a million of takes little memory.
        discriminator: the network, in evaluation mode.
        runtime: its device and precision.
        cache: file to which scores are written as they come, and from which they are read.
        workers: processes that decode and transform.
        batch_size: images scored at once.
    """
    scores = read_scores(cache, len(files))
    done = ~np.isnan(scores.log_ratio)
    done[list(scores.faults)] = True
    if done.all():
        return scores
    if runtime.device.type == "cpu" and workers:
        # The workers' cores are theirs.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - workers))
    loader = prepared_batches(files, discriminator, runtime, workers=workers, batch_size=batch_size, done=done)
    with (
        manifest.Writer(cache, COLUMNS) as writer,
        tqdm(total=len(files), initial=int(done.sum()), desc="Scoring", disable=None) as bar,
    ):
        for batch in loader:
            for position, fault in batch.faults:
                scores.faults[position] = fault
                writer.write({"position": position, "fault": fault})
            if batch.positions:
                ratio = score_batch(discriminator, batch, runtime)
                scores.log_ratio[list(batch.positions)] = ratio
                for position, value in zip(batch.positions, ratio.tolist(), strict=True):
                    writer.write({"position": position, "log_ratio": repr(value)})
            bar.update(len(batch.positions) + len(batch.faults))
    return scores
