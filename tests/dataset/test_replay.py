"""Replay images as training data."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset.batch import collate
from dataset.replay import ReplayView, WithReplay, repeats
from dataset.replay_tree import (
    TRAIN_FILE,
    Marker,
    images_of,
    originals,
    read_train_file,
    write_marker,
    write_train_file,
)
from dataset.sampler import InterleavedBatchSampler
from dataset.shapes import CLASS_NAMES
from dataset.transform import train_transform, val_transform
from dataset.views import DataOptions, make_views
from tasks import load_task
from tests.replay_trees import images, labelled, marker
from utils.errors import UserError

TASK = load_task("shapes", "5-3")


def view(
    path: Path, *, per_original: int = 2, task: str = "5-3", step: int = 1, whole: bool = False, balance: bool = False
) -> ReplayView:
    transform = val_transform(None) if whole else train_transform(32)
    return ReplayView(
        path,
        load_task("shapes", task),
        step,
        CLASS_NAMES,
        per_original=per_original,
        balance=balance,
        transform=transform,
        seed=3,
    )


def test_a_replay_sample(tmp_path: Path) -> None:
    found = view(labelled(tmp_path / "tree"), whole=True)
    assert [found[i].name for i in range(len(found))] == [
        "circle_0/00001.jpg", "circle_0/00002.jpg", "square_0/00001.jpg", "square_0/00002.jpg"
    ]  # fmt: skip
    sample = found[2]
    assert sample.is_replay and sample.mask.unique().tolist() == [0, 2, 255] and sample.mask.dtype == torch.uint8
    assert sample.image_labels.tolist() == [0, 1, 0, 0, 0, 0, 0, 0], "no new class, and 255 is no label"


def test_labels_are_of_the_crop(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree", ["circle"], 1)
    (pair,) = images_of(tree / "circle_0")
    label = np.zeros(np.array(Image.open(pair.label)).shape, np.uint8)
    label[:4, :4], label[-20:, -20:] = 1, 5
    Image.fromarray(label).save(pair.label)
    found = view(tree)
    seen = set()
    for epoch in range(40):
        sample = found[(epoch, 0)]
        present = {int(c) for c in sample.mask.unique() if c > 0}
        assert {int(c) + 1 for c in sample.image_labels.nonzero()} == present
        seen.add(frozenset(present))
    assert {frozenset(), frozenset({5}), frozenset({1, 5})} & seen and len(seen) > 1, "crops differ in what they hold"
    assert torch.equal(found[(3, 0)].image, found[(3, 0)].image)
    assert not torch.equal(found[(3, 0)].image, found[(4, 0)].image)


def test_ids_become_channels(tmp_path: Path) -> None:
    """A task whose classes come in another order than their ids."""
    file = tmp_path / "mine.json"
    file.write_text('{"0": [5, 2, 1], "1": [3], "2": [4]}')
    tree = labelled(tmp_path / "tree")
    write_marker(tree, marker([0, 5, 2, 1]))
    found = view(tree, task=str(file), step=2, whole=True)
    assert found[0].mask.unique().tolist() == [0, 3, 255], "circle, id 1, is channel 3"
    assert found[0].image_labels.tolist() == [0, 0, 1, 0, 0]


def test_at_most_so_many_of_each_original(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree", per_class=4)
    assert [len(view(tree, per_original=n)) for n in (1, 3, 9)] == [2, 6, 8]


def test_rare_classes_are_repeated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rare = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
    assert repeats(rare).tolist() == [1, 1, 1, 1, 2, 2, 1], "five show the first class, two the second, none the third"
    assert repeats(rare[:, 2:]).tolist() == [1] * 7 and repeats(rare[:0]).tolist() == []

    tree = labelled(tmp_path / "tree", per_class=6)
    write_train_file(tree / "square_0", images_of(tree / "square_0")[:2])
    with caplog.at_level(logging.INFO, logger="webwilss"):
        names = [view(tree, per_original=6, balance=True)[i].name for i in range(12)]
    assert "repeated: 12 in all" in caplog.text
    assert {name: names.count(name) for name in names} == {
        **{f"circle_0/{i:05}.jpg": 1 for i in range(1, 7)},
        **{f"square_0/{i:05}.jpg": 3 for i in (1, 2)},
    }


def test_trees_of_other_classes(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree")
    for step, classes in ((1, [0, 1, 2]), (1, [0, 1, 2, 3, 4, 5])):
        write_marker(tree, marker(classes))
        assert len(view(tree, step=step)) == 4, "an earlier step, or another task that knows no more"
    write_marker(tree, marker(range(9), step=1))
    with pytest.raises(UserError, match=r"labelled by step 1 of shapes 5-3 .* cross \(6\), crescent \(7\), heart"):
        view(tree)
    assert len(view(tree, task="offline", step=1)) == 4


def test_trees_of_other_names(tmp_path: Path) -> None:
    """The ids of another data set mean other things."""
    tree = labelled(tmp_path / "tree")
    names = dict(marker([0, 1, 2]).classes)
    for changed in ({1: "apple"}, {1: names[2], 2: names[1]}):
        write_marker(tree, Marker("c0ffee", "folder", "5-3", 0, tuple((names | changed).items()), {}))
        with pytest.raises(UserError, match=f"class 1 is {changed[1]} there and circle here"):
            view(tree)
    write_marker(tree, Marker("c0ffee", "folder", "5-3", 0, tuple(names.items()), {}))
    assert len(view(tree)) == 4


def test_what_is_passed_over_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = labelled(tmp_path / "tree", per_class=5)
    (tree / "square_0" / TRAIN_FILE).unlink()
    with caplog.at_level(logging.INFO, logger="webwilss"):
        view(tree)
    assert "1 replay originals have no train_fullPath.txt and are left out: square_0" in caplog.text
    assert "Replay images beyond 2 of an original (--replay_num): 3" in caplog.text


def test_a_tree_that_nobody_signed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = labelled(tmp_path / "tree")
    (tree / "labels.json").unlink()
    with caplog.at_level(logging.WARNING, logger="webwilss"):
        assert len(view(tree)) == 4
    assert "nothing says who labelled it" in caplog.text
    (tree / "labels.json").write_text("{")
    with pytest.raises(UserError, match=r"labels\.json: damaged"):
        view(tree)


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": [""]},
        {"step": "0"},
        {"classes": [[1]]},
        {"classes": [["1", "circle"]]},
        {"classes": {"1": 2}},
        {"task": None},
        {"more": 1},
    ],
)
def test_markers_of_another_shape(changed: dict[str, object], tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree")
    content = json.loads((tree / "labels.json").read_text())
    (tree / "labels.json").write_text(json.dumps(content | changed))
    with pytest.raises(UserError, match=r"labels\.json: damaged"):
        view(tree)
    (tree / "labels.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"labels\.json: damaged"):
        view(tree)


def test_what_cannot_be_used_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = labelled(tmp_path / "tree", per_class=5)
    first = images_of(tree / "circle_0")
    first[0].image.write_bytes(b"")
    first[1].label.unlink()
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(first[2].label)
    label = np.array(Image.open(first[3].label))
    Image.fromarray(np.where(label == 1, 8, label).astype(np.uint8)).save(first[3].label)
    with caplog.at_level(logging.WARNING, logger="webwilss"):
        found = view(tree)
    assert [found[i].name for i in range(3)] == ["circle_0/00005.jpg", "square_0/00001.jpg", "square_0/00002.jpg"]
    assert "4 replay images cannot be used" in caplog.text and "is empty" in caplog.text


def test_trees_that_are_not_ready(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        view(tmp_path / "nowhere")
    tree = images(tmp_path / "tree")
    with pytest.raises(UserError, match=r"no train_fullPath.txt in it; run generate_label.py"):
        view(tree)
    labelled(tmp_path / "other")
    for pair in (p for folder in originals(tmp_path / "other") for p in images_of(folder)):
        pair.image.write_bytes(b"<html>")
    with pytest.raises(UserError, match="no usable image"):
        view(tmp_path / "other")


@pytest.mark.parametrize("kind", ["moved", "relative", "blanks"])
def test_train_files_as_others_write_them(kind: str, tmp_path: Path) -> None:
    tree = labelled(tmp_path / "a tree" if kind == "blanks" else tmp_path / "tree")
    if kind == "moved":
        tree = tree.rename(tmp_path / "elsewhere")
    elif kind == "relative":
        for folder in originals(tree):
            names = [pair.image.name for pair in images_of(folder)]
            lines = [f"image/{name} label/{name.replace('.jpg', '.png')}" for name in names]
            (folder / TRAIN_FILE).write_text("\n".join(lines))
    for folder in originals(tree):
        assert [pair.image.resolve() for pair in read_train_file(folder)] == [
            p.image.resolve() for p in images_of(folder)
        ]
    assert len(view(tree)) == 4


def test_a_line_that_is_no_pair(tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree")
    (tree / "circle_0" / TRAIN_FILE).write_text("image/00001.jpg\n")
    with pytest.raises(UserError, match="line 1 is not `image label`"):
        view(tree)


def test_batches_of_new_and_replay(small_shapes: Path, tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree")
    options = DataOptions(
        protocol="overlap", no_mask=False, crop_size=32, crop_size_val=32, test_unknown="ignore", random_seed=1,
        val_on_trainset=True, replay_path=str(tree), replay_num=2,
    )  # fmt: skip
    views = make_views(TASK, 1, small_shapes, options)
    assert isinstance(views.train, WithReplay) and len(views.train.replay) == 4
    assert len(views.val) == len(views.train.new) == len(views.train) - 4
    sampler = InterleavedBatchSampler(len(views.train.new), 4, 4, 0, 1, 1)
    for keys in sampler:
        batch = collate([views.train[key] for key in keys])
        assert batch.is_replay.tolist() == [False, True, False, True]
        assert not batch.image_labels[batch.is_replay][:, 5:].any(), "negatives of the new classes"
        assert batch.image_labels[~batch.is_replay][:, 5:].any(dim=1).all()
