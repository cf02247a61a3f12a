"""Images of two domains for the discriminator: the training data's own, and the web's."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from captions.vocabulary import match_class
from dataset import class_names, default_folder, make_source
from dataset.epochs import EpochDataset, sample_seed
from dataset.protocol import load_index_list, select
from tasks import BACKGROUND, label_column, load_task
from utils.checks import other_class
from utils.errors import UserError
from utils.images import DecodeError, load_image
from utils.manifest import Manifest

LOG = logging.getLogger("webwilss")
# One image in this many is held out, chosen by its file's name.
HELD_OUT = 5


@dataclass(frozen=True)
class Example:
    """An image file, the class it was taken for, and whether it is of the training data's domain."""

    path: Path
    class_name: str
    of_dataset: bool


class Loaded(NamedTuple):
    """One example as a tensor (3, S, S) uint8, or the fault of its file."""

    position: int
    image: Tensor | None
    fault: str


@dataclass(frozen=True)
class ExampleBatch:
    """Examples that could be read, and the (index, fault) of those that could not.

    Attributes:
        images: (B, 3, S, S) uint8.
        indices: (B,) positions in the list of examples.
        faults: position and fault of each unreadable file.
    """

    images: Tensor
    indices: Tensor
    faults: tuple[tuple[int, str], ...]

    def pixels(self, device: torch.device) -> Tensor:
        """(B, 3, S, S) in [0, 1] on the device."""
        return self.images.to(device, non_blocking=True).float() / 255

    def pin_memory(self) -> ExampleBatch:
        """Called by the data loader: page-locked copies."""
        return ExampleBatch(self.images.pin_memory(), self.indices, self.faults)


def is_held_out(example: Example) -> bool:
    """Whether an example is kept for the test of the discriminator: the same on every machine."""
    name = f"{example.class_name}/{example.path.name}"
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[0] % HELD_OUT == 0


def square(image: Image.Image, size: int, generator: np.random.Generator | None = None) -> Tensor:
    """An image as (3, size, size) uint8: the shorter side scaled to ``size``, the middle of the longer one cut out.

    With a generator the cut is anywhere along the longer side, and the image may be mirrored. The scale never varies: it
    would move the spectrum's frequencies, which are what the discriminator looks at.
    """
    width, height = image.size
    scale = size / min(width, height)
    scaled = max(size, round(width * scale)), max(size, round(height * scale))
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR, reducing_gap=2.0)
    spare = image.width - size, image.height - size
    left, top = (s // 2 if generator is None else int(generator.integers(s + 1)) for s in spare)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))
    if generator is not None and generator.random() < 0.5:
        pixels = pixels[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class Examples(EpochDataset[Loaded]):
    """A list of examples as tensors; with ``seed`` cut and mirrored at random, differently in every epoch."""

    def __init__(self, examples: Sequence[Example], size: int, seed: int | None = None) -> None:
        self.examples, self.size, self.seed = examples, size, seed

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, epoch: int, position: int) -> Loaded:
        """The example at a position, as ``epoch`` sees it."""
        generator = None
        if self.seed is not None:
            generator = np.random.default_rng(sample_seed(self.seed, epoch, position))
        path = self.examples[position].path
        try:
            return Loaded(position, square(load_image(path), self.size, generator), "")
        except DecodeError as error:
            return Loaded(position, None, str(error).removeprefix(f"{path}: "))


def collate(loaded: Sequence[Loaded]) -> ExampleBatch:
    """Stack what could be read."""
    good = [item.image for item in loaded if item.image is not None]
    images = torch.stack(good) if good else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    indices = torch.tensor([item.position for item in loaded if item.image is not None], dtype=torch.int64)
    return ExampleBatch(images, indices, tuple((item.position, item.fault) for item in loaded if item.image is None))


def shuffled(count: int, batch_size: int, seed: int, epoch: int) -> list[list[tuple[int, int]]]:
    """Batches of keys (epoch, position): all examples once, in the order of (seed, epoch)."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator).tolist()
    return [[(epoch, i) for i in order[at : at + batch_size]] for at in range(0, count, batch_size)]


def batches(
    dataset: Examples, workers: int, *, batch_size: int = 64, keys: list[list[tuple[int, int]]] | None = None
) -> Iterator[ExampleBatch]:
    """Batches of ``dataset`` in order, or those of ``keys``."""
    if keys is not None:
        return iter(DataLoader(dataset, batch_sampler=keys, collate_fn=collate, num_workers=workers))
    return iter(DataLoader(dataset, batch_size=batch_size, collate_fn=collate, num_workers=workers))


def dataset_examples(state: dict[str, Any], data_root: str | None, dataset_dir: str | None) -> list[Example]:
    """The training images of step 0, as the options in its checkpoint name them.

    Args:
        state: the checkpoint's content.
        data_root: folder of the data sets, where it is not the one in the checkpoint.
        dataset_dir: the data set's own folder, likewise.

    Raises:
        UserError: the images are missing.
    """
    options = state["options"]
    folder = default_folder(
        options["dataset"], data_root or options["data_root"], dataset_dir or options["dataset_dir"]
    )
    names = class_names(options["dataset"], folder)
    task = load_task(options["dataset"], options["task"], set(names))
    if [list(task.new(0))] != state["identity"]["classes"]:
        raise UserError(f"--task {options['task']}: its step 0 is another than the checkpoint was trained on")
    other = other_class(dict(zip(task.new(0), state["class_names"], strict=True)), names)
    if other:
        raise UserError(f"{folder}: {other} (there: the checkpoint); give the --dataset_dir that it was trained on")
    source = make_source(options["dataset"], folder, "train", 0)
    if options["train_list"] is not None:
        chosen = load_index_list(options["train_list"], len(source))
    else:
        chosen = select(source.image_labels(), task, 0, options["protocol"])
    labels = source.image_labels()
    base = [i for i in task.new(0) if i != BACKGROUND]
    examples = []
    for index in chosen.tolist():
        held = [i for i in base if labels[index, label_column(i)]]
        examples.append(Example(source.image_path(index), names[held[0]] if held else "background", True))
    return examples


def web_examples(manifest: Manifest, classes: Sequence[str]) -> tuple[list[Example], list[str]]:
    """Web images of ``classes``, and the names in the manifest that are none of them.

    A name is matched by what it says, synonyms included (``captions.vocabulary.match_class``), never by its position.
    """
    examples, others = [], set()
    known = tuple(classes)
    for own, row in manifest.matched(lambda name: match_class(name, known)):
        if own is None:
            others.add(row["class"])
        else:
            examples.append(Example(manifest.file(row), own, False))
    return examples, sorted(others)


def count_by_class(examples: Sequence[Example]) -> dict[str, int]:
    """Number of examples of each class."""
    return dict(Counter(e.class_name for e in examples))
