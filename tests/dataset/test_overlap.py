"""No picture is trained on and validated on, whatever its name, format or folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import make_source, overlap
from dataset.check import check
from dataset.overlap import refuse_shared
from dataset.views import DataOptions, make_views
from tasks import load_task
from utils.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBWILSS_CACHE", str(tmp_path / "cache"))


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 40, 3), np.uint8))


def tree(folder: Path, train: int = 6, val: int = 3) -> Path:
    """images/{train,val} of the same names and other pictures; masks of class 1."""
    folder.mkdir(exist_ok=True)
    (folder / "classes.txt").write_text("red\n")
    for split, count, seed in (("train", train, 0), ("val", val, 1000)):
        for part in ("images", "masks"):
            (folder / part / split).mkdir(parents=True)
        for i in range(count):
            picture(seed + i).save(folder / f"images/{split}/{i}.png")
            Image.fromarray(np.ones((32, 40), np.uint8)).save(folder / f"masks/{split}/{i}.png")
    return folder


def as_other_format(source: Path, target: Path) -> None:
    Image.open(source).save(target.with_suffix(".bmp"))
    target.unlink()


def as_jpeg(source: Path, target: Path) -> None:
    """A JPEG in training, and what it decodes to in validation."""
    Image.open(source).save(source.with_suffix(".jpg"))
    Image.open(source.with_suffix(".jpg")).save(target)
    source.unlink()


def as_link(source: Path, target: Path) -> None:
    target.unlink()
    target.symlink_to(source)


def as_hard_link(source: Path, target: Path) -> None:
    """Also an image of one colour, which is no evidence otherwise."""
    Image.new("RGB", (40, 32), "green").save(source)
    target.unlink()
    os.link(source, target)


SAME: dict[str, Callable[[Path, Path], object]] = {
    "bytes": lambda source, target: target.write_bytes(source.read_bytes()),
    "pixels": as_other_format,
    "JPEG and PNG": as_jpeg,
    "link": as_link,
    "hard link": as_hard_link,
}


def views(folder: Path, **options: str) -> None:
    task = load_task("folder", "offline", {1})
    given = DataOptions(
        protocol="overlap",
        no_mask=False,
        crop_size=32,
        crop_size_val=32,
        test_unknown="ignore",
        random_seed=0,
        **options,
    )
    make_views(task, 0, folder, given)


@pytest.mark.parametrize("how", SAME)
def test_the_same_picture_in_both_splits(how: str, tmp_path: Path) -> None:
    folder = tree(tmp_path / "data")
    views(folder)
    assert check("folder", folder).fine
    SAME[how](folder / "images/train/4.png", folder / "images/val/2.png")
    with pytest.raises(
        UserError, match=r"data val shares 1 images with data train .*val/2\.\w+ is .*train/4\.\w+; take"
    ):
        views(folder)
    (wrong,) = check("folder", folder).wrong
    assert "data val shares 1 images" in wrong


@pytest.mark.parametrize("dataset", ["voc", "coco"])
def test_other_layouts(dataset: str, tmp_path: Path) -> None:
    places = {"voc": ("JPEGImages", "SegmentationClassAug"), "coco": ("images/{}2017", "annotations/{}2017")}[dataset]
    for split, seed in (("train", 0), ("val", 1000), ("val", 2)):
        images, masks = (tmp_path / place.format(split) for place in places)
        for place in (images, masks):
            place.mkdir(parents=True, exist_ok=True)
        for i in range(4) if seed != 2 else [0]:
            picture(seed + i).save(images / f"{seed + i if seed != 2 else 'copy'}.png")
            Image.fromarray(np.ones((32, 40), np.uint8)).save(masks / f"{seed + i if seed != 2 else 'copy'}.png")
    if dataset == "voc":
        (tmp_path / "splits").mkdir()
        (tmp_path / "splits/val.txt").write_text("1000\n1001\n1002\n1003\ncopy\n")
    (wrong,) = check(dataset, tmp_path).wrong
    assert f"{dataset} val shares 1 images with {dataset} train (the same picture)" in wrong and "copy.png" in wrong


def test_index_lists(tmp_path: Path) -> None:
    """With --train_list only the images that it chooses count."""
    folder = tree(tmp_path / "data")
    SAME["bytes"](folder / "images/train/4.png", folder / "images/val/2.png")
    np.save(tmp_path / "apart.npy", np.array([0, 1, 2]))
    np.save(tmp_path / "both.npy", np.array([4, 1]))
    np.save(tmp_path / "val.npy", np.array([0, 1]))
    views(folder, train_list=str(tmp_path / "apart.npy"))
    for given in ({}, {"val_list": str(tmp_path / "val.npy")}):
        with pytest.raises(UserError, match="shares 1 images"):
            views(folder, train_list=str(tmp_path / "both.npy"), **given)


def test_a_few_of_many_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published data sets hold a photograph twice; one in a thousand validation images is no reason to refuse them."""
    folder = tree(tmp_path / "data", val=10)
    monkeypatch.setattr(overlap, "TOLERATED", 10)
    SAME["bytes"](folder / "images/train/4.png", folder / "images/val/2.png")
    views(folder)
    assert "data val shares 1 images with data train (the same picture)" in caplog.text
    SAME["bytes"](folder / "images/train/3.png", folder / "images/val/1.png")
    with pytest.raises(UserError, match="shares 2 images"):
        views(folder)


def test_images_of_one_colour_and_damaged_ones_are_no_evidence(tmp_path: Path) -> None:
    folder = tree(tmp_path / "data")
    for split in ("train", "val"):
        Image.new("RGB", (40, 32), "green").save(folder / f"images/{split}/0.png")
        (folder / f"images/{split}/1.png").write_bytes(b"no image")
    refuse_shared(*(make_source("folder", folder, split) for split in ("train", "val")))


def test_pictures_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree(tmp_path / "data")
    views(folder)
    with monkeypatch.context() as patch:
        patch.setattr(overlap, "load_image", lambda _: pytest.fail("the cache was not used"))
        views(folder)
    for path in (tmp_path / "cache").glob("pixels-*"):
        path.write_bytes(b"broken")
    SAME["bytes"](folder / "images/train/4.png", folder / "images/val/2.png")
    with pytest.raises(UserError, match="shares 1 images"):
        views(folder)
