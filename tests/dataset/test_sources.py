"""Sources: trees as they are published, faults named, image labels from masks and their cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import class_names, coco, default_folder, make_source
from tasks import VOC_TO_COCO
from utils.errors import UserError
from utils.images import DecodeError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEBWILSS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(folder: Path, image: str, mask: str, values: list[int], size: tuple[int, int] = (6, 4)) -> None:
    """An image and a mask that holds ``values`` in its first row."""
    for path in (folder / image, folder / mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "green").save(folder / image)
    array = np.zeros((4, 6), np.uint8)
    array[0, : len(values)] = values
    Image.fromarray(array).save(folder / mask)


def voc_tree(folder: Path, splits: bool = True) -> Path:
    rows = {"a": [1, 255], "b": [2, 20], "c": [15], "d": [8, 12]}
    for name, values in rows.items():
        put(folder, f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png", values)
    if splits:
        (folder / "splits").mkdir()
        (folder / "splits/train_aug.txt").write_text(
            "/JPEGImages/a.jpg /SegmentationClassAug/a.png\n/JPEGImages/b.jpg /SegmentationClassAug/b.png\n\nc\n"
        )
        (folder / "splits/val.txt").write_text("/JPEGImages/d.jpg /SegmentationClassAug/d.png\n")
    return folder


def test_voc(tmp_path: Path) -> None:
    source = make_source("voc", voc_tree(tmp_path / "voc"), "train")
    assert source.ids == ["a", "b", "c"] and source.class_names[20] == "tvmonitor"
    labels = source.image_labels()
    assert labels.shape == (3, 20)
    assert [(np.flatnonzero(row) + 1).tolist() for row in labels] == [[1], [2, 20], [15]]
    image, mask = source.pair(0)
    assert image.size == (6, 4) and mask.shape == (4, 6) and mask[0, 1] == 255
    assert make_source("voc", tmp_path / "voc", "val").ids == ["d"]


def test_voc_without_split_files(tmp_path: Path) -> None:
    folder = voc_tree(tmp_path / "voc", splits=False)
    for i in range(60):
        put(folder, f"JPEGImages/i{i}.jpg", f"SegmentationClassAug/i{i}.png", [3])
    train, val = (make_source("voc", folder, split).ids for split in ("train", "val"))
    assert len(train) + len(val) == 64 and not set(train) & set(val) and 0 < len(val) < 20
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Segmentation/val.txt").write_text("a\nd\nnot_here\n")
    assert make_source("voc", folder, "val").ids == ["a", "d"]
    assert len(make_source("voc", folder, "train")) == 62


def test_cache_follows_the_data(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = voc_tree(tmp_path / "voc")
    first = make_source("voc", folder, "train").image_labels()
    files = list(own_cache.iterdir())
    assert len(files) == 1
    source = make_source("voc", folder, "train")
    with monkeypatch.context() as patch:
        patch.setattr("dataset.source.look", lambda *_: pytest.fail("the cache was not used"))
        assert np.array_equal(source.image_labels(), first)
    put(folder, "JPEGImages/a.jpg", "SegmentationClassAug/a.png", [1, 5, 6])
    changed = make_source("voc", folder, "train").image_labels()
    assert changed[0, 4] and not first[0, 4]
    for path in own_cache.iterdir():
        path.write_bytes(b"broken")
    assert np.array_equal(make_source("voc", folder, "train").image_labels(), changed)


def test_faults_are_named(tmp_path: Path) -> None:
    folder = voc_tree(tmp_path / "voc")
    put(folder, "JPEGImages/a.jpg", "SegmentationClassAug/a.png", [1, 77, 99])
    with pytest.raises(DecodeError, match=r"a\.png: values \[77, 99\] are no classes of voc train"):
        make_source("voc", folder, "train").mask(0)
    put(folder, "JPEGImages/b.jpg", "SegmentationClassAug/b.png", [1], size=(5, 4))
    with pytest.raises(DecodeError, match=r"b\.png: is 6 x 4 pixels, its image .*b\.jpg is 5 x 4"):
        make_source("voc", folder, "train").pair(1)
    (folder / "JPEGImages/c.jpg").unlink()
    with pytest.raises(UserError, match=r"train_aug\.txt: lists files that are missing: c$"):
        make_source("voc", folder, "train")
    with pytest.raises(UserError, match=r"JPEGImages: the images are missing .*download_voc\.sh"):
        make_source("voc", tmp_path / "nowhere", "train")


def test_coco_values(tmp_path: Path) -> None:
    """Things are the official id minus one, stuff is background, 255 is ignore."""
    put(tmp_path, "images/train2017/1.jpg", "annotations/train2017/1.png", [0, 89, 91, 180, 255])
    source = make_source("coco", tmp_path, "train")
    assert source.mask(0)[0].tolist() == [1, 90, 0, 0, 255, 1]
    assert (
        len(coco.CLASS_NAMES) == 81 and coco.CLASS_NAMES[90] == "toothbrush" and coco.CLASS_NAMES[67] == "dining table"
    )
    put(tmp_path, "images/train2017/2.jpg", "annotations/train2017/2.png", [11])
    with pytest.raises(DecodeError, match=r"values \[12\]"):
        source = make_source("coco", tmp_path, "train")
        source.mask(1)
    (tmp_path / "images/train2017/1.jpg").unlink()
    with pytest.raises(UserError, match="maps without an image: 1"):
        make_source("coco", tmp_path, "train")


def test_coco_voc_remaps_on_the_fly(tmp_path: Path) -> None:
    put(tmp_path / "coco", "images/train2017/1.jpg", "annotations/train2017/1.png", [0])
    voc_tree(tmp_path / "voc")
    assert make_source("coco-voc", tmp_path, "train", 0).ids == ["1"]
    source = make_source("coco-voc", tmp_path, "train", 1)
    assert source.mask(1)[0, :2].tolist() == [VOC_TO_COCO[2], VOC_TO_COCO[20]]
    assert source.mask(0)[0, 1] == 255
    assert source.image_labels()[0, VOC_TO_COCO[1] - 1]
    put(tmp_path / "voc", "JPEGImages/a.jpg", "SegmentationClassAug/a.png", [33])
    with pytest.raises(DecodeError, match="are no classes"):
        source.mask(0)
    assert default_folder("coco-voc", "data") == Path("data") and default_folder("voc", "data") == Path("data/voc")


@pytest.mark.parametrize("layout", ["folders", "lists", "hash"])
def test_folder_layouts(layout: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("background\n3: cow\n7 sheep\n")
    sub = {"folders": "train/", "lists": "", "hash": ""}[layout]
    for i in range(30):
        put(tmp_path, f"images/{sub}{i}.png", f"masks/{sub}{i}.png", [3, 7])
    if layout == "folders":
        put(tmp_path, "images/val/v.jpg", "masks/val/v.png", [7])
    elif layout == "lists":
        (tmp_path / "splits").mkdir()
        (tmp_path / "splits/train.txt").write_text("1\n2.png\n")
        (tmp_path / "splits/val.txt").write_text("3\n")
    train, val = (make_source("folder", tmp_path, split) for split in ("train", "val"))
    expected = {"folders": (30, 1), "lists": (2, 1)}.get(layout)
    assert expected is None or (len(train), len(val)) == expected
    assert not set(train.ids) & set(val.ids) and len(val) > 0
    assert class_names("folder", tmp_path) == {0: "background", 3: "cow", 7: "sheep"}
    assert train.image_labels().shape[1] == 7


def test_folder_faults(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"classes\.txt: missing"):
        make_source("folder", tmp_path, "train")
    (tmp_path / "classes.txt").write_text("cow\ncow\n")
    with pytest.raises(UserError, match="class cow stands twice"):
        class_names("folder", tmp_path)
    (tmp_path / "classes.txt").write_text("cow\nsheep\n")
    put(tmp_path, "images/train/1.jpg", "masks/train/1.png", [1])
    Image.new("RGB", (4, 4)).save(tmp_path / "images/train/lonely.jpg")
    with pytest.raises(UserError, match="no mask for 1 of 2 images: lonely"):
        make_source("folder", tmp_path, "train")


def test_real_voc_photographs(shared_data: Path) -> None:
    """Labels computed from the masks equal the published image labels, for the images that are there."""
    published = np.load(shared_data / "voc-meta/labels.npz")
    for split in ("train", "val"):
        source = make_source("voc", shared_data / "voc-animals", split)
        rows = {name: i for i, name in enumerate(published[f"{split}_ids"])}
        expected = published[f"{split}_labels"][[rows[name] for name in source.ids]].astype(bool)
        computed = source.image_labels()
        # The masks here were scaled down, so a class of a few pixels may have gone; none may have come.
        assert not (computed & ~expected).any()
        assert (computed == expected).mean() > 0.998


def test_real_coco_images(shared_data: Path) -> None:
    for split in ("train", "val"):
        source = make_source("coco", shared_data / "coco-mini", split)
        assert len(source) == 32
        for index in range(len(source)):
            image, mask = source.pair(index)
            assert mask.shape == image.size[::-1]
        assert source.image_labels().any()
