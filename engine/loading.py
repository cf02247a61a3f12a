"""What is loaded next: by processes that go ahead, or by whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from engine.stopping import shielded

Key = TypeVar("Key")
Loaded = TypeVar("Loaded")


class _Loads(Dataset[Loaded], Generic[Key, Loaded]):
    def __init__(self, load: Callable[[Key], Loaded], keys: Sequence[Key]) -> None:
        self.load, self.keys = load, keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Loaded:
        return self.load(self.keys[index])


def _same(value: Loaded) -> Loaded:
    return value


def loads(
    load: Callable[[Key], Loaded], keys: Sequence[Key], workers: int, *, pin: bool = False
) -> Iterator[Callable[[], Loaded]]:
    """What gives the loaded value of each key, in their order.

    Args:
        load: loads one.
        keys: of all.
        workers: processes that load ahead; with 0 the call that asks for a value loads it.
        pin: page-locked copies, where processes load for a GPU.
    """
    if not workers:
        return iter([partial(load, key) for key in keys])
    loader = DataLoader(_Loads(load, keys), batch_size=None, collate_fn=_same, num_workers=workers, pin_memory=pin)
    with shielded():
        ready = iter(loader)
    return (partial(_same, value) for value in ready)
