"""What a person is told of the data before a run: classes with counts, and files that are not what they seem."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import make_source
from dataset.source import Source
from dataset.survey import only_edges
from dataset.telling import suspicions
from dataset.views import DataOptions, Views, make_views
from tasks import load_task
from utils.errors import UserError
from utils.images import DecodeError

NAMES = ("red", "green", "blue")
SIZE = (24, 16)
COLOURS = [0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200]
Save = Callable[[Path, np.ndarray], None]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBWILSS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("webwilss"), "propagate", True)


def blocks(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask (H, W) of two of the three classes, in blocks."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[2:9, 2:9], mask[6:14, 12:21] = number % 3 + 1, (number + 1) % 3 + 1
    return mask


def plain(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


def tree(folder: Path, mask: Save = plain, image: Save = plain, count: int = 6, size: tuple[int, int] = SIZE) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for part in ("images", "masks"):
            (folder / part / split).mkdir(parents=True)
        for i in range(count):
            image(folder / f"images/{split}/{i}.png", rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
            mask(folder / f"masks/{split}/{i}.png", blocks(i, size))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return folder


def views(folder: Path, **changes: object) -> Views:
    settings = {"protocol": "overlap", "no_mask": False, "crop_size": 16, "crop_size_val": 16, "test_unknown": "ignore"}
    options = DataOptions(**(settings | {"random_seed": 0} | changes))
    task = load_task("folder", "offline", {0, 1, 2, 3})
    return make_views(task, 0, folder, options)


def number(path: Path) -> int:
    return int(path.stem)


def doubts(folder: Path, split: str = "train") -> list[str]:
    return [suspicion.text for suspicion in suspicions(make_source("folder", folder, split))]


def test_sound_data_raise_no_doubt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "webwilss"):
        views(tree(tmp_path / "my"))
    lines = [record.getMessage() for record in caplog.records if record.name == "webwilss"]
    assert "my train, 6 images: 1 red (4 images), 2 green (4), 3 blue (4)" in lines
    assert "my val, 6 images: 1 red (4 images), 2 green (4), 3 blue (4)" in lines
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_class_stored_as_ignore(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tree(
        tmp_path / "my", lambda path, values: plain(path, np.where(values == 3, 255, values).astype(np.uint8))
    )
    views(folder)
    hint = "4 of 6 masks hold 255, which is ignore: if it means a class, give it the class's number"
    assert f"step 0 is trained without 3 blue: no image of my train holds 3 blue; {hint}" in caplog.text
    assert f"step 0 is tested without 3 blue: no image of my val holds 3 blue; {hint}" in caplog.text
    assert caplog.text.count("is tested without") == 1


def test_masks_of_0_and_255_are_refused_with_the_reason(tmp_path: Path) -> None:
    folder = tree(tmp_path / "my", lambda path, values: plain(path, (values > 0).astype(np.uint8) * 255))
    with pytest.raises(UserError, match=r"no training image for step 0 .*6 of 6 masks hold 255, which is ignore"):
        views(folder)


def test_a_list_that_leaves_a_class_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tree(tmp_path / "my")
    np.save(tmp_path / "list.npy", np.array([0, 3]))
    views(folder, train_list=str(tmp_path / "list.npy"))
    assert (
        "step 0 is trained without 3 blue: the protocol or the list leaves out all images of the others" in caplog.text
    )


def indexed(order: Callable[[Path], list[int]]) -> Save:
    """Palette masks whose class numbers are put into the order of each file, with their colours."""

    def save(path: Path, values: np.ndarray) -> None:
        new = order(path)
        colours = np.zeros((4, 3), np.uint8)
        colours[new] = np.array(COLOURS).reshape(4, 3)
        picture = Image.fromarray(np.array(new, np.uint8)[values])
        picture.putpalette(colours.tobytes())
        picture.save(path)

    return save


def test_palettes_of_another_order_are_refused(tmp_path: Path) -> None:
    folder = tree(tmp_path / "a", indexed(lambda path: [0, 2, 1, 3] if number(path) == 3 else [0, 1, 2, 3]))
    for _ in range(2):
        with pytest.raises(
            DecodeError,
            match=r"3\.png: the colour \(0, 200, 0\) is index 1 here and 2 in .*0\.png; at least 1 palettes",
        ):
            views(folder)
    folder = tree(tmp_path / "b", indexed(lambda path: [0, 2, 1, 3] if path.parent.name == "val" else [0, 1, 2, 3]))
    make_source("folder", folder, "val").image_labels()
    with pytest.raises(
        DecodeError, match="palettes contradict others, so indices are no class numbers here: save all masks"
    ):
        views(folder)


def test_colours_that_mean_nothing_are_not_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One palette for all, cut short or with its last colours all black; and one that paints two classes alike."""
    for name, fill, twice in (("short", 0, False), ("black", 252, False), ("alike", 0, True)):

        def save(path: Path, values: np.ndarray, fill: int = fill, twice: bool = twice) -> None:
            picture = Image.fromarray(values)
            picture.putpalette(
                (COLOURS[:9] + COLOURS[3:6] if twice else COLOURS) + [0, 0, 0] * (fill if number(path) % 2 else 0)
            )
            picture.save(path)

        views(tree(tmp_path / name, save))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_palettes_that_differ_are_told(tmp_path: Path) -> None:
    def save(path: Path, values: np.ndarray) -> None:
        picture = Image.fromarray(values)
        picture.putpalette(COLOURS if number(path) else [9 + c // 2 for c in COLOURS])
        picture.save(path)

    (text,) = doubts(tree(tmp_path / "my", save))
    assert text.startswith("5 of 6 masks have palettes that differ: an index has another colour than in others")
    assert text.endswith("(1, 2, 3 and 2 more)")


@pytest.mark.parametrize("how", [Image.Resampling.BILINEAR, Image.Resampling.HAMMING])
def test_interpolated_masks_are_told(how: Image.Resampling, tmp_path: Path) -> None:
    def save(path: Path, values: np.ndarray) -> None:
        # The classes 1 and 3 side by side: between them, and around 3, lie others.
        values = np.where(values == 2, 0, values).astype(np.uint8)
        Image.fromarray(values).resize((72, 48), how).save(path)

    def image(path: Path, values: np.ndarray) -> None:
        plain(path, np.kron(values, np.ones((3, 3, 1), np.uint8)))

    (text,) = doubts(tree(tmp_path / "my", save, image))
    assert "masks hold classes only along the edges of others: 2 green (in 4 of the 4 images that hold it)" in text
    assert not doubts(tree(tmp_path / "sharp", lambda p, v: plain(p, np.kron(v, np.ones((3, 3), np.uint8))), image))


def test_thin_objects_are_no_edges() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[5, 2:18] = 2  # a wire on background
    mask[10:13, 2:18], mask[11, 3:17] = 255, 1  # one inside a border that is ignored
    mask[15:18, 4:9] = 3
    assert not only_edges(mask).any()
    mask[15, 4:9] = 1  # now 1 lies on the edge of 3, and as a wire
    assert not only_edges(mask).any()
    mask[11] = 0
    assert np.flatnonzero(only_edges(mask)).tolist() == [1]
    assert not only_edges(np.ones((1, 1), np.uint8)).any() and not only_edges(np.zeros((0, 3), np.uint8)).any()


def test_masks_that_ignore_everything_are_told(tmp_path: Path) -> None:
    folder = tree(
        tmp_path / "my", lambda path, values: plain(path, values if number(path) else np.full_like(values, 255))
    )
    assert doubts(folder) == ["1 of 6 masks are 255 (ignore) everywhere and teach nothing (0)"]


def turned(orientation: int) -> Save:
    def save(path: Path, values: np.ndarray) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(values).save(path, exif=exif)

    return save


@pytest.mark.parametrize(("orientation", "size"), [(3, SIZE), (6, (24, 24))])
def test_a_tag_that_the_mask_lacks_is_told(orientation: int, size: tuple[int, int], tmp_path: Path) -> None:
    (text,) = doubts(tree(tmp_path / "a", image=turned(orientation), size=size))
    assert text.startswith("6 of 6 images are turned by an EXIF tag that their masks lack")
    assert "0 of them do by their size" in text
    assert not doubts(tree(tmp_path / "b", turned(orientation), turned(orientation), size=size))


def test_sizes_decide_about_a_tag(tmp_path: Path) -> None:
    drawn_upright = tree(tmp_path / "a", lambda path, values: plain(path, np.rot90(values, -1)), turned(6))
    (text,) = doubts(drawn_upright)
    assert "6 of them do by their size" in text
    views(drawn_upright)
    with pytest.raises(
        DecodeError, match=r"its EXIF orientation 6 has turned it; turn the mask as well.*; 4 images of"
    ):
        views(tree(tmp_path / "b", image=turned(6)), train_list=_list(tmp_path, 4))
    views(tree(tmp_path / "c", turned(6), turned(6)))


def _list(folder: Path, count: int) -> str:
    np.save(folder / "some.npy", np.arange(count))
    return str(folder / "some.npy")


def test_a_broken_pair_is_refused_before_training(tmp_path: Path) -> None:
    folder = tree(tmp_path / "my")
    (folder / "images/val/4.png").write_bytes(b"none")
    with pytest.raises(DecodeError, match=r"val/4\.png: is no image that can be read"):
        views(folder)
    plain(folder / "images/val/4.png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    views(folder)


@pytest.mark.parametrize(("white", "told"), [(4095, True), (1000, True), (65535, False)])
def test_images_of_few_levels_are_told(white: int, told: bool, tmp_path: Path) -> None:
    def save(path: Path, values: np.ndarray) -> None:
        grey = values[..., 0].astype(np.float64) / 255
        Image.fromarray((grey * white).astype(np.uint16)).save(path)

    found = doubts(tree(tmp_path / "my", image=save))
    assert bool(found) == told
    assert all(
        text.startswith("6 of 6 images of more than 8 bits have hardly any grey levels, fewer than 20")
        for text in found
    )


def test_doubts_are_cached_with_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree(tmp_path / "my", indexed(lambda path: [0, 3, 1, 2]), turned(3))
    first = make_source("folder", folder, "train").survey()
    monkeypatch.setattr("dataset.source.look", lambda *_: pytest.fail("the cache was not used"))
    second = make_source("folder", folder, "train").survey()
    for name, values in vars(first).items():
        assert np.array_equal(values, vars(second)[name]) and values.dtype == vars(second)[name].dtype
    assert len(first.meanings) == 4 and first.turned.all()


def test_faults_of_masks_are_gathered_or_raised(tmp_path: Path) -> None:
    folder = tree(tmp_path / "my")
    for name in ("1", "4"):
        plain(folder / f"masks/train/{name}.png", np.full((16, 24), 77, np.uint8))
    source: Source = make_source("folder", folder, "train")
    faults: list[tuple[int, str]] = []
    found = source.survey(faults)
    assert [i for i, _ in faults] == [1, 4] and not found.labels[1].any() and found.labels[0].any()
    for read in (source.image_labels, make_source("folder", folder, "train").image_labels):
        with pytest.raises(DecodeError, match=r"1\.png: values \[77\] are no classes"):
            read()


def test_coco_voc_is_tested_without_cocos_other_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """VOC's masks show VOC's classes alone; that is the protocol, and no doubt."""
    values = np.kron(np.arange(24, dtype=np.uint8).reshape(4, 6) % 21, np.ones((4, 4), np.uint8))
    for name in ("a", "b"):
        for place, content in (
            ("JPEGImages", np.random.default_rng(ord(name)).integers(0, 256, (16, 24, 3))),
            ("SegmentationClassAug", values),
        ):
            (tmp_path / "voc" / place).mkdir(parents=True, exist_ok=True)
            suffix = "jpg" if place == "JPEGImages" else "png"
            Image.fromarray(content.astype(np.uint8)).save(tmp_path / f"voc/{place}/{name}.{suffix}")
    (tmp_path / "voc/splits").mkdir()
    for split, name in (("train_aug", "a"), ("val", "b")):
        (tmp_path / f"voc/splits/{split}.txt").write_text(f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n")
    options = DataOptions(
        protocol="overlap", no_mask=False, crop_size=16, crop_size_val=16, test_unknown="ignore", random_seed=0
    )
    make_views(load_task("coco-voc", "voc"), 1, tmp_path, options)
    assert "tested without" not in caplog.text and "trained without" not in caplog.text
