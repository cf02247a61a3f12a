"""Index lists from image labels equal the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataset.protocol import load_index_list, select, validation_indices
from tasks import load_task
from utils.errors import UserError


def published(shared_data: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    labels = np.load(shared_data / "voc-meta/labels.npz")
    lists = dict(np.load(shared_data / "voc-meta/published_index_lists.npz"))
    return lists, labels["train_labels"].astype(bool), labels["val_labels"].astype(bool)


def test_all_published_lists(shared_data: Path) -> None:
    lists, train, val = published(shared_data)
    checked = set()
    for key, expected in lists.items():
        name, _, rest = key.partition("__")
        kind, _, step_text = rest.rpartition("-")
        step = int(step_text)
        if name == "coco-voc":
            task = load_task("coco-voc", "voc")
            if kind == "train" and step == 0:
                # COCO's 118,287 masks are not here; what a list of the disjoint rule must be can be said all the same.
                assert (
                    len(expected) == 23274
                    and (np.diff(expected) > 0).all()
                    and 0 <= expected[0] <= expected[-1] < 118287
                )
                continue
            size = 118287 if step == 0 else len(train if kind == "train" else val)
            if kind == "train":
                found = select(_as_coco(train), task, step, "disjoint")
            elif kind == "val":
                found = validation_indices(np.zeros((size, 91), bool), task, step)
            else:
                found = np.arange(size)
        else:
            task = load_task("voc", name.removesuffix("-ov"))
            if kind == "train":
                found = select(train, task, step, "overlap" if name.endswith("-ov") else "disjoint")
            elif kind == "val":
                # The lists published for 10-10 are those of 15-5.
                found = validation_indices(val, load_task("voc", "15-5"), step)
                if task.name == "10-10":
                    assert not np.array_equal(validation_indices(val, task, step), expected)
            else:
                found = np.arange(len(val))
        np.testing.assert_array_equal(found, expected, err_msg=key)
        checked.add(key)
    assert len(checked) == len(lists) - 1


def _as_coco(voc_labels: np.ndarray) -> np.ndarray:
    from tasks import VOC_TO_COCO

    labels = np.zeros((len(voc_labels), 91), bool)
    for voc_id, coco_id in VOC_TO_COCO.items():
        labels[:, coco_id - 1] = voc_labels[:, voc_id - 1]
    return labels


LABELS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1], [0, 0, 1]], bool)


def test_rules_on_a_small_table(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{"0": [1], "1": [2], "2": [3]}')
    task = load_task("folder", str(path))

    def lists(protocol: str) -> list[list[int]]:
        return [select(LABELS, task, step, protocol).tolist() for step in range(3)]

    assert lists("overlap") == [[0, 2, 5], [1, 2, 3], [3, 5, 6]]
    assert lists("disjoint") == [[0], [1, 2], [3, 5, 6]]
    parts = lists("partitioned")
    assert sorted(sum(parts, [])) == [0, 1, 2, 3, 5, 6], "every image that holds a class belongs to exactly one step"
    assert parts == lists("partitioned")
    for step, part in enumerate(parts):
        assert set(part) <= set(lists("overlap")[step])
    with pytest.raises(UserError, match="--protocol mixed"):
        select(LABELS, task, 0, "mixed")


def test_partition_of_voc_is_balanced(shared_data: Path) -> None:
    _, train, _ = published(shared_data)
    task = load_task("voc", "10-10s")
    parts = [select(train, task, step, "partitioned") for step in range(len(task))]
    together = np.concatenate(parts)
    assert len(together) == len(np.unique(together)) == int(train.any(axis=1).sum())
    assert min(map(len, parts[1:])) > 0.5 * len(together) / 20


def test_published_list_files(tmp_path: Path) -> None:
    path = tmp_path / "train-1.npy"
    np.save(path, np.array([3, 1], np.int32))
    assert load_index_list(path, 4).tolist() == [3, 1]
    with pytest.raises(UserError, match="names image 3, the split has 3"):
        load_index_list(path, 3)
    np.save(path, np.array([0.5]))
    with pytest.raises(UserError, match="one row of whole numbers"):
        load_index_list(path, 3)
    path.write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be read as an index list"):
        load_index_list(path, 3)
