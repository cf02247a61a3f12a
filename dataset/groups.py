"""Image files in groups of equal size, decoded by workers: what a network that labels whole images is fed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from utils.images import DecodeError, load_image, read_head


class Pictured(Protocol):
    """Something that has an image file."""

    @property
    def image(self) -> Path:
        """The file."""


Member = TypeVar("Member", bound=Pictured)


@dataclass(frozen=True)
class Group(Generic[Member]):
    """Images of one size: (B, 3, h, w) uint8 as the network looks at them, what they are, and their true (width, height)."""

    images: Tensor
    members: list[Member]
    size: tuple[int, int]


@dataclass(frozen=True)
class Decoded(Generic[Member]):
    """A group of files, decoded: usually one group of images; and the files that cannot be read, with their faults."""

    groups: list[Group[Member]]
    faults: list[tuple[Member, str]]


class Groups(Dataset[Decoded[Member]], Generic[Member]):
    """Groups of files that state the same size; a file that is turned upright may turn out to be of another.

    Args:
        groups: of ``groups_of``.
        max_side: larger images are looked at with their longer side of so many pixels; 0 leaves all as they are.
    """

    def __init__(self, groups: Sequence[Sequence[Member]], max_side: int) -> None:
        self.groups, self.max_side = groups, max_side

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Decoded[Member]:
        """The images of a group, by their true size."""
        by_size: dict[tuple[int, int], list[tuple[Tensor, Member]]] = {}
        faults = []
        for member in self.groups[index]:
            try:
                image = load_image(member.image)
            except DecodeError as error:
                faults.append((member, str(error)))
                continue
            by_size.setdefault(image.size, []).append((pixels(shrunk(image, self.max_side)), member))
        groups = [
            Group(torch.stack([seen for seen, _ in members]), [member for _, member in members], size)
            for size, members in by_size.items()
        ]
        return Decoded(groups, faults)


def shrunk(image: Image.Image, max_side: int) -> Image.Image:
    """An image whose longer side has at most ``max_side`` pixels; 0 leaves it as it is."""
    longer = max(image.size)
    if not max_side or longer <= max_side:
        return image
    width, height = (max(1, round(side * max_side / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def pixels(image: Image.Image) -> Tensor:
    """(3, h, w) uint8 of an RGB image."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def stated_size(path: Path) -> tuple[int, int]:
    """The size (width, height) that an image file's head states, 0, 0 where none; decoding may find the file damaged."""
    if not path.is_file():
        return 0, 0
    try:
        return read_head(path).size
    except DecodeError:
        # load_image will say it.
        return 0, 0


def stated_sizes(members: Sequence[Member]) -> list[tuple[int, int]]:
    """``stated_size`` of each."""
    return sizes_of([member.image for member in members])


def sizes_of(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """``stated_size`` of each file."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(stated_size, paths))


def groups_of(
    members: Sequence[Member],
    batch_size: int,
    sizes: Sequence[tuple[int, int]] | None = None,
    most_pixels: int | None = None,
) -> list[list[Member]]:
    """``members`` in groups of the same stated size.

    Args:
        members: what has an image.
        batch_size: images of a group, at most.
        sizes: of ``stated_sizes``, where they have been read.
        most_pixels: of all images of a group together, at most; an image alone may have more.
    """
    positions = positions_of(stated_sizes(members) if sizes is None else sizes, batch_size, most_pixels)
    return [[members[position] for position in group] for group in positions]


def positions_of(sizes: Sequence[tuple[int, int]], batch_size: int, most_pixels: int | None = None) -> list[list[int]]:
    """Positions of images in groups of the same (width, height), as ``groups_of`` has them."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for position, size in enumerate(sizes):
        by_size.setdefault(size, []).append(position)
    groups = []
    for (width, height), alike in sorted(by_size.items()):
        most = batch_size
        if most_pixels is not None:
            most = max(1, min(batch_size, most_pixels // max(1, width * height)))
        groups += [alike[at : at + most] for at in range(0, len(alike), most)]
    return groups
