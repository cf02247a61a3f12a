"""Blocks of work, and the folder in which finished ones wait until their turn comes.

What is to be done is cut into batches, and batches into blocks, before anything is spread: the same images are always together in
the network, whoever looks at them. A finished block is one file, written whole, under a key of its images, the model and the
settings; it is deleted when its rows stand where they belong.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from utils.errors import UserError
from utils.whole import clear_leftovers_in, whole_file

LOG = logging.getLogger("webwilss")
Item = TypeVar("Item")
# What becomes of an item, in plain values of JSON.
Row = list[Any]
DONE, TAKEN = ".block", ".taken"


@dataclass(frozen=True)
class Worker(Generic[Item]):
    """What a process needs to do a batch.

    Attributes:
        prepare: decodes a batch; other processes or threads run it ahead, so it can be pickled and holds no network.
        finish: what the network says of the prepared batch: one row for each item, in their order.
    """

    prepare: Callable[[Sequence[Item]], Any]
    finish: Callable[[Any], list[Row]]


@dataclass(frozen=True)
class Block(Generic[Item]):
    """Batches that one worker does in one go.

    Attributes:
        number: from 0 among all blocks.
        batches: their items; a batch whose items are all done is empty.
    """

    number: int
    batches: tuple[tuple[Item, ...], ...]

    @property
    def items(self) -> int:
        """Number of items to do."""
        return sum(map(len, self.batches))


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Items in batches of ``size``, the last one perhaps smaller."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def in_blocks(batches: Iterable[Sequence[Item]], size: int) -> Iterator[Block[Item]]:
    """Batches in blocks of ``size`` batches.

    Batches of which something is done already must still be there, without what is done, so that all others stay in their blocks.
    """
    for number, some in enumerate(in_batches(batches, size)):
        yield Block(number, tuple(map(tuple, some)))


class Store:
    """The folder of finished blocks of a job.

    Args:
        folder: made when the first block is written; only files of its own kind are ever deleted.
        key: all that a row depends on besides its block's items: the model, the settings.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def _path(self, block: Block[Any], suffix: str = DONE) -> Path:
        text = f"{self.key}\0{block.batches!r}".encode("utf-8", "surrogatepass")
        return self.folder / f"{hashlib.sha256(text).hexdigest()[:32]}{suffix}"

    def read(self, block: Block[Any]) -> list[list[Row]] | None:
        """The rows of each batch; None where the block is not done. A damaged file is told and deleted."""
        if not block.items:
            return [[] for _ in block.batches]
        if not self.folder.is_dir():
            return None
        path = self._path(block)
        try:
            digest, _, text = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if hashlib.sha256(text).hexdigest().encode() == digest:
            rows: list[list[Row]] = json.loads(text)
            if list(map(len, rows)) == list(map(len, block.batches)):
                return rows
        LOG.warning("%s: damaged; its %d images are done again", path, block.items)
        path.unlink(missing_ok=True)
        return None

    def write(self, block: Block[Any], rows: Sequence[Sequence[Row]]) -> None:
        """Keep the rows of each batch of a block; UserError where they cannot be written."""
        text = json.dumps(rows).encode()
        with whole_file(self._path(block)) as temporary:
            temporary.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)

    def remove(self, block: Block[Any]) -> None:
        """Forget a block, whose rows stand where they belong."""
        if block.items:
            self._path(block).unlink(missing_ok=True)

    def take(self, block: Block[Any]) -> bool:
        """Take a block, so that no other rank does it; False where another rank has it."""
        path = self._path(block, TAKEN)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("x").close()
        except FileExistsError:
            return False
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        return True

    def release(self) -> None:
        """Forget which blocks were taken; for the one process that begins a job, before others begin it."""
        self._delete(TAKEN)
        clear_leftovers_in(self.folder)

    def clear(self) -> None:
        """Delete all blocks, those of other keys too, and the folder if nothing else is in it."""
        self.release()
        self._delete(DONE)
        with suppress(OSError):
            self.folder.rmdir()

    def _delete(self, suffix: str) -> None:
        if self.folder.is_dir():
            for path in self.folder.glob(f"*{suffix}"):
                path.unlink(missing_ok=True)


def in_turn(waiting: deque[Block[Item]], store: Store) -> Iterator[list[Row]]:
    """Rows of the batches at the head of ``waiting`` that are done; a block is forgotten once its rows are taken."""
    while waiting:
        rows = store.read(waiting[0])
        if rows is None:
            return
        yield from rows
        store.remove(waiting.popleft())
