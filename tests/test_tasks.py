"""Tasks are plain data: ids to channels and back, equal to the reference's mappings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import tasks
from utils.errors import UserError


@pytest.mark.golden
def test_label_maps_equal_the_reference(golden: Path) -> None:
    entries = json.loads((golden / "label_maps.json").read_text())
    assert entries
    for key, expected in entries.items():
        dataset, name, step_text, split, mask = key.split("|")
        task, step, mask_old = tasks.load_task(dataset, name), int(step_text.removeprefix("step")), mask == "mask1"
        table = task.lookup(step, train=split == "train", mask_old=mask_old)
        assert {str(value): channel for value, channel in enumerate(table) if channel} == expected["mapping"], key
        assert task.image_label_columns(step) == expected["one_hot_channels"], key
        assert task.image_label_mask(step, mask_old=mask_old) == expected["one_hot_mask"], key


def test_background_has_no_column() -> None:
    assert tasks.label_column(1) == 0 and tasks.label_columns([0, 15, 8]) == [14, 7]


def test_unknown_classes_can_be_left_out_of_the_test() -> None:
    """docs/method.md, "The task": in test unknown classes are 255; the published mapping calls them background."""
    task = tasks.load_task("voc", "15-5")
    table = task.lookup(0, train=False, mask_old=False, unknown="ignore")
    assert table[:16] == list(range(16)) and set(table[16:]) == {255}
    assert task.lookup(0, train=False, mask_old=False)[16] == 0
    assert task.lookup(0, train=True, mask_old=True, unknown="ignore")[255] == 0, "in training 255 is background"


def test_every_step_judged_on_the_same_pixels() -> None:
    """Cat, dog, horse and person, then cow and sheep: what is learned later is background, a chair is left out at every step."""
    task = tasks.load_task("voc", "4-2")
    cow, sheep, chair = 10, 17, 9
    tables = [task.lookup(step, train=False, mask_old=False, unknown="later") for step in range(2)]
    left_out = [[value for value in range(256) if table[value] == 255] for table in tables]
    assert left_out[0] == left_out[1] and chair in left_out[0]
    assert tables[0][cow] == tables[0][sheep] == 0 and tables[0][chair] == 255
    assert tables[1] == task.lookup(1, train=False, mask_old=False, unknown="ignore"), (
        "after the last step there is no later one"
    )
    with pytest.raises(ValueError, match="none of ignore"):
        task.lookup(0, train=False, mask_old=False, unknown="white")


@pytest.mark.parametrize(("dataset", "name"), [(d, n) for d, names in tasks.TASKS.items() for n in names])
def test_every_task_is_one(dataset: str, name: str) -> None:
    task = tasks.load_task(dataset, name)
    seen = task.seen(len(task) - 1)
    assert seen[0] == 0 and len(set(seen)) == len(seen)
    for step in range(len(task)):
        assert task.old(step) + task.new(step) == task.seen(step)
        assert set(task.seen(step)).isdisjoint(task.future(step))
        assert sum(task.classes_per_step(step)) == len(task.seen(step))


def test_sizes_of_the_published_tasks() -> None:
    sizes = {
        "19-1": [20, 1],
        "15-5": [16, 5],
        "15-5s": [16, 1, 1, 1, 1, 1],
        "10-5-5": [11, 5, 5],
        "10-10s": [11] + [1] * 10,
    }
    for name, expected in sizes.items():
        task = tasks.load_task("voc", name)
        assert task.classes_per_step(len(task) - 1) == expected
    assert tasks.load_task("coco-voc", "voc").classes_per_step(1) == [61, 20]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"0": [1], "2": [3]}', "steps numbered from 0"),
        ('{"0": [1], "1": []}', "no step may be empty"),
        ('{"0": [1], "1": [300]}', r"classes \[300\]"),
        ('{"0": [1], "1": ["cow"]}', "whole numbers"),
        ("[1, 2]", "expected"),
        ('{"0": [1], "1": [9]}', r"classes \[9\] are not in the data set"),
        ('{"0": [], "1": [1]}', "no step may be empty"),
        ("{}", "at least one step"),
        ('{"0": [-1]}', r"classes \[-1\] are not in the data set"),
        ('{"0": [1, 1.0]}', "whole numbers"),
        ('{"0": [true]}', "whole numbers"),
        ('{"0": [NaN]}', "whole numbers"),
        ('{"0": [1, "2"]}', "whole numbers"),
        ('{"0": [[1]]}', "whole numbers"),
        ('{"0": [1], "1": [2], "1": [3]}', "'1' stands twice"),
        ('{"0": [' + "7" * 5000 + "]}", "a number of 5000 digits"),
        ('{"0": ' + "[" * 100_000 + "]" * 100_000 + "}", "cannot be read as JSON"),
        ('{"0": [' + ", ".join(["1", *map(str, range(30_000))]) + "]}", r"classes \[0, 1\] are listed more than once"),
        ('{"0": [' + ", ".join(map(str, range(1, 30_000))) + "]}", r"classes \[4, .*\] and 29986 more are not in the"),
        ('{"0": [1]}' + " " * (1 << 20), "is longer than 1,048,576 bytes"),
        ('{"0": [1], "\x00": [2]}', "save it as UTF-8"),
    ],
    ids=lambda text: text[:30],
)
@pytest.mark.timeout(10)
def test_bad_task_files(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        tasks.load_task("folder", str(path), known={1, 2, 3})
    assert str(refused.value).startswith(f"--task {path}: ") and "\n" not in str(refused.value)
    assert len(str(refused.value)) < len(str(path)) + 200


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_task_files_as_editors_save_them(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "farm.json"
    path.write_bytes('{"0": [1, 2],\r\n "1": [3]}\r\n'.encode(encoding))
    task = tasks.load_task("folder", str(path), known={1, 2, 3})
    assert (task.name, task.steps) == ("farm", ((0, 1, 2), (3,)))


def test_a_task_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "fifo.json")
    for name, message in (("folder", "is no file"), ("fifo", "is no file"), ("missing", "no such file")):
        with pytest.raises(UserError, match=f"--task .*{name}.json: {message}"):
            tasks.load_task("folder", str(tmp_path / f"{name}.json"))


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="--dataset ade: unknown"):
        tasks.load_task("ade", "x")
    with pytest.raises(UserError, match="--task 1-1: unknown for --dataset voc; choose one of offline"):
        tasks.load_task("voc", "1-1")
