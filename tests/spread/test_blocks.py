"""Blocks are cut the same whatever is done; finished ones wait in files that are whole or done again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from spread.blocks import Block, Store, in_batches, in_blocks, in_turn
from spread.ways import InProcess
from tests.spread.counting import Count, expected
from utils import distributed
from utils.cores import Split

NAMES = [f"i{number}" for number in range(11)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out.blocks", "model and settings")


def plan(names: list[str], done: frozenset[str] = frozenset()) -> list[Block[str]]:
    return list(in_blocks(([n for n in batch if n not in done] for batch in in_batches(names, 2)), 2))


def test_what_is_done_moves_no_border() -> None:
    whole = plan(NAMES)
    assert [block.items for block in whole] == [4, 4, 3] and whole[2].batches == (("i8", "i9"), ("i10",))
    rest = plan(NAMES, frozenset(NAMES[:5]))
    assert rest[0].items == 0 and rest[1].batches == (("i5",), ("i6", "i7")) and rest[2] == whole[2]


def test_a_block_is_known_by_its_items_and_the_settings(store: Store) -> None:
    first, second, _ = plan(NAMES)
    store.write(first, [[["a"], ["b"]], [[1 / 3], [None]]])
    assert store.read(first) == [[["a"], ["b"]], [[1 / 3], [None]]] and store.read(second) is None
    assert Store(store.folder, "others").read(first) is None
    assert store.read(Block(7, first.batches)) is not None, "whatever its number"
    store.remove(first)
    assert store.read(first) is None


@pytest.mark.parametrize("cut", [0, 10, 70, 90])
def test_a_damaged_block_is_told_and_done_again(store: Store, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    first, *_ = plan(NAMES)
    store.write(first, [expected(batch) for batch in first.batches])
    (path,) = store.folder.iterdir()
    path.write_bytes(path.read_bytes()[:cut])
    assert store.read(first) is None and not path.exists()
    assert f"{path}: damaged; its 4 images are done again" in caplog.text


def test_the_right_bytes_of_another_plan_are_no_rows(store: Store) -> None:
    first, *_ = plan(NAMES)
    store.write(first, [[["a"]]])
    assert store.read(first) is None


def test_one_takes_a_block(store: Store) -> None:
    first, *_ = plan(NAMES)
    assert store.take(first) and not store.take(first)
    store.release()
    assert store.take(first)


def test_only_its_own_files_go(store: Store) -> None:
    first, *_ = plan(NAMES)
    store.write(first, [[], []])
    (store.folder / "notes.txt").write_text("mine")
    store.clear()
    assert [path.name for path in store.folder.iterdir()] == ["notes.txt"]


def test_rows_come_in_turn(store: Store) -> None:
    blocks = plan(NAMES)
    waiting = deque(blocks)
    store.write(blocks[1], [expected(batch) for batch in blocks[1].batches])
    assert list(in_turn(waiting, store)) == [] and len(waiting) == 3
    store.write(blocks[0], [expected(batch) for batch in blocks[0].batches])
    assert sum(in_turn(waiting, store), []) == expected(NAMES[:8]) and waiting[0] is blocks[2]
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize("workers", [0, 1])
def test_this_process_takes_over_what_others_left(store: Store, tmp_path: Path, workers: int) -> None:
    blocks = plan(NAMES)
    store.write(blocks[1], [expected(batch) for batch in blocks[1].batches])
    count = Count(tmp_path / "notes")
    rows = InProcess(distributed.start("cpu"), Split(workers, 2, 1)).results(iter(blocks), count, store)
    assert sum(rows, []) == expected(NAMES)
    assert count.noted() == sorted(NAMES[:4] + NAMES[8:]) and not store.folder.exists()


def test_a_plan_is_read_as_it_is_done(store: Store, tmp_path: Path) -> None:
    """Ten million rows are no list of ten million paths."""
    read: list[int] = []

    def blocks() -> Iterator[Block[str]]:
        for block in plan(NAMES):
            read.append(block.number)
            yield block

    rows = InProcess(distributed.start("cpu"), Split(0, 1, 1)).results(blocks(), Count(tmp_path / "notes"), store)
    assert next(rows) == expected(NAMES[:2]) and read == [0]
    assert sum(rows, []) == expected(NAMES[2:])
