"""Names of images, lists of them, and the splits that follow: nothing is cut, guessed or left out without a word."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import make_source
from dataset.check import check
from dataset.files import by_key, by_stem
from dataset.lists import SPLITS, Files, held_out, one_in_ten, read_names
from utils.errors import UserError
from utils.suffixes import image_stem, is_image, split_suffix


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBWILSS_CACHE", str(tmp_path / "cache"))


def put(folder: Path, image: str, mask: str = "") -> None:
    """A noisy image, no two alike, and a mask of class 1."""
    path = folder / image
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(list(os.fsencode(image))).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    if mask:
        (folder / mask).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ones((4, 6), np.uint8)).save(folder / mask, "PNG")


def own_data(folder: Path, *names: str, **lists: str) -> Path:
    """Images and masks in one folder each, and lists of splits."""
    folder.mkdir(exist_ok=True)
    (folder / "classes.txt").write_text("red\n")
    for name in names:
        put(folder, f"images/{name}", f"masks/{image_stem(name)}.png")
    for split, text in lists.items():
        (folder / "splits").mkdir(exist_ok=True)
        (folder / f"splits/{split}.txt").write_bytes(text.encode())
    return folder


def read(folder: Path, dataset: str = "folder") -> dict[str, list[str]]:
    return {split: [image.name for image, _ in make_source(dataset, folder, split).pairs] for split in SPLITS}


# ---- suffixes ---------------------------------------------------------------------------------------------------------


def test_suffixes() -> None:
    for name in (
        "a.jpg",
        "a.JPEG",
        "a.jfif",
        "a.jpe",
        "a.avif",
        "a.TIF",
        "a.tiff",
        "a.webp",
        "a.bmp",
        "a.gif",
        "a.ppm",
    ):
        assert is_image(name) and is_image(Path("b.c") / name) and image_stem(f"x.{name}") == "x.a", name
    for name in ("a", "a.txt", "a.jpg.txt", ".jpg", ".a.jpg", "jpg", "a.jpg ", "a.heic"):
        assert not is_image(name), name
    assert [image_stem(name) for name in ("000.v2", "000.v2.jpg", "000.jpg.jpg")] == ["000.v2", "000.v2", "000.jpg"]
    assert split_suffix("cam1.003.JPG") == ("cam1.003", ".jpg")


def test_jfif_and_others_are_read(tmp_path: Path) -> None:
    own_data(tmp_path, "a.jfif", "b.jpe", "c.JPG", "d.avif", train="a\nb.jpe\n", val="c\nd\n")
    assert read(tmp_path) == {"train": ["a.jfif", "b.jpe"], "val": ["c.JPG", "d.avif"]}
    assert check("folder", tmp_path).fine


# ---- lists ------------------------------------------------------------------------------------------------------------


def test_names_with_dots(tmp_path: Path) -> None:
    """Beside 000.v2.jpg lies 000.jpg; a list's 000.v2 must not read it."""
    names = [f"{i:03}{end}" for i in range(4) for end in (".jpg", ".v2.jpg")]
    own_data(tmp_path, *names, train="000.v2\n001.v2.jpg\n", val="002.v2\n003\n")
    assert read(tmp_path) == {"train": ["000.v2.jpg", "001.v2.jpg"], "val": ["002.v2.jpg", "003.jpg"]}
    source = make_source("folder", tmp_path, "train")
    assert source.ids == ["000.v2", "001.v2"] and [mask.name for _, mask in source.pairs] == [
        "000.v2.png",
        "001.v2.png",
    ]
    assert check("folder", tmp_path).fine


@pytest.mark.parametrize(
    "lines",
    [
        "weed (1)\nweed (2)\n",
        "weed (1).jpg\r\nweed (2).jpg\r\n",
        "\ufeffweed (1)\n\n  weed (2)  \n",
        "images/weed (1).jpg\n/images/weed (2).jpg",
        "/elsewhere/images/weed (1).jpg\nC:\\data\\images\\weed (2).jpg\n",
        "weed (1).jpg weed (1).png\nweed (2) weed (2)\n",
        "images/weed (1).jpg\tmasks/weed (1).png\nimages/weed (2).jpg,masks/weed (2).png\n",
        "# of May\nweed (1)\nweed (2)\n",
    ],
)
def test_names_with_blanks(lines: str, tmp_path: Path) -> None:
    own_data(tmp_path, "weed.jpg", *(f"weed ({i}).jpg" for i in range(1, 5)), train=lines, val="weed (3)\nweed (4)\n")
    assert read(tmp_path) == {"train": ["weed (1).jpg", "weed (2).jpg"], "val": ["weed (3).jpg", "weed (4).jpg"]}
    assert check("folder", tmp_path).fine


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("weed (3)", r"lists files that are missing: weed \(3\)$"),
        ("weed (1", r"lists files that are missing: weed \(1$"),
        ("weed (1).jpg weed (3).png", r"lists files that are missing: weed \(3\)\.png$"),
        ("weed weed2", "lists files that are missing"),
        ("weed 1", "lists files that are missing: weed 1$"),
        ("weed -1", "lists files that are missing: weed -1$"),
        ("old/weed.jpg", "lists files that are missing: old/weed.jpg$"),
        ("images/weed.jpg images/weed2.jpg", "lists files that are missing"),
        ("weed (1)\nweed (1).jpg", r"several lines name the same image: weed \(1\)\.jpg"),
        ("alone", r"lists files that are missing: alone \(its mask\)"),
        ("", "names no image"),
    ],
)
def test_lines_that_name_nothing(line: str, fault: str, tmp_path: Path) -> None:
    names = "weed.jpg", "weed2.jpg", "weed (1).jpg", "weed (2).jpg"
    own_data(tmp_path, *names, train=line, val="weed (2)\n")
    put(tmp_path, "images/alone.jpg")
    put(tmp_path, "old/weed.jpg")
    with pytest.raises(UserError, match=rf"train\.txt: .*{fault}"):
        make_source("folder", tmp_path, "train")
    assert not check("folder", tmp_path).fine
    assert make_source("folder", tmp_path, "val").ids == ["weed (2)"]


def test_a_line_that_may_be_cut_in_two_ways(tmp_path: Path) -> None:
    for name in ("images/a.jpg", "images/a.jpg b.jpg", "masks/b.jpg c.png", "masks/c.png"):
        put(tmp_path, name)
    files = Files(tmp_path, by_key(tmp_path / "images"), by_key(tmp_path / "masks"))
    with pytest.raises(UserError, match="in several ways; write their paths"):
        files.pair("a.jpg b.jpg c.png")
    line = "images/a.jpg b.jpg masks/c.png"
    assert files.pair(line) == (tmp_path / "images/a.jpg b.jpg", tmp_path / "masks/c.png")


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    own_data(tmp_path, "a.jpg", "b.jpg", train="a\0\n", val="b\n")
    with pytest.raises(UserError, match=r"train\.txt: .* save it as UTF-8"):
        make_source("folder", tmp_path, "train")
    assert len(check("folder", tmp_path).wrong) == 1
    (tmp_path / "splits/train.txt").write_bytes("a\r\n".encode("utf-16"))
    assert read(tmp_path)["train"] == ["a.jpg"]


def test_masks_of_other_names(tmp_path: Path) -> None:
    """Two columns may pair files of different names, if they are written whole."""
    for name in ("001", "002"):
        put(tmp_path, f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png")
        put(tmp_path, f"Other/mask {name}.png")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/train_aug.txt").write_text("/JPEGImages/001.jpg /Other/mask 001.png\n")
    (tmp_path / "splits/val.txt").write_text("001 002\n")
    pairs = make_source("voc", tmp_path, "train").pairs
    assert pairs == [(tmp_path / "JPEGImages/001.jpg", tmp_path / "Other/mask 001.png")]
    with pytest.raises(UserError, match="lists files that are missing"):
        make_source("voc", tmp_path, "val")


def test_voc_pairs_with_blanks(tmp_path: Path) -> None:
    for name in ("a b.v1", "a b", "c d"):
        put(tmp_path, f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/train_aug.txt").write_text(
        "/JPEGImages/a b.v1.jpg /SegmentationClassAug/a b.v1.png\n/JPEGImages/a b.jpg /SegmentationClassAug/a b.png\n"
    )
    (tmp_path / "splits/val.txt").write_text("/JPEGImages/c d.jpg /SegmentationClassAug/c d.png\n")
    assert read(tmp_path, "voc") == {"train": ["a b.v1.jpg", "a b.jpg"], "val": ["c d.jpg"]}
    assert make_source("voc", tmp_path, "train").ids == ["a b.v1", "a b"]
    assert check("voc", tmp_path).fine
    (tmp_path / "SegmentationClassAug/c d.png").unlink()
    with pytest.raises(UserError, match=r"missing: /SegmentationClassAug/c d\.png$"):
        make_source("voc", tmp_path, "val")


def test_names_of_make_voc_aug(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes("\ufeffa b\r\n000.v2\r\n\r\nc.jpg\r\n".encode())
    assert read_names(tmp_path / "train.txt") == ["a b", "000.v2", "c"]


def test_lines_that_repeat_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own_data(tmp_path, "a.jpg", "b.jpg", "c.jpg", train="a\na\n", val="b\n")
    assert read(tmp_path)["train"] == ["a.jpg", "a.jpg"]
    assert "1 lines stand more than once, and count as often: a" in caplog.text
    assert "1 images stand in neither list and are left out: c" in caplog.text


def test_unicode_forms_meet(tmp_path: Path) -> None:
    """macOS writes an accent as a sign of its own."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    own_data(tmp_path, f"{decomposed}.jpg", "b.jpg", train=f"{composed}\n", val="b\n")
    (tmp_path / f"masks/{decomposed}.png").rename(tmp_path / f"masks/{composed}.png")
    assert read(tmp_path) == {"train": [f"{decomposed}.jpg"], "val": ["b.jpg"]}
    assert check("folder", tmp_path).fine
    if sys.platform != "darwin":
        put(tmp_path, f"images/{composed}.jpg")
        with pytest.raises(UserError, match="has the same name"):
            make_source("folder", tmp_path, "train")


# ---- what is left out -------------------------------------------------------------------------------------------------


def test_what_is_no_image_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = own_data(tmp_path / "data", "a.jpg", "b.jpg", train="a\n", val="b\n")
    os.mkfifo(folder / "images/fifo.jpg")
    (folder / "images/folder.jpg").mkdir()
    (folder / "images/lost.jpg").symlink_to("nowhere.jpg")
    (folder / "images/x.heic").write_bytes(b"")
    (folder / "images/.DS_Store").write_bytes(b"")
    strange = os.fsencode(folder / "images") + b"/\xff\x1b.jpg"
    with open(strange, "wb") as file:
        file.write((folder / "images/a.jpg").read_bytes())
    assert read(folder) == {"train": ["a.jpg"], "val": ["b.jpg"]}
    assert (
        caplog.text.count(
            "5 left out, no image by name or no file that can be read: fifo.jpg, folder.jpg, lost.jpg and 2"
        )
        == 1
    )
    findings = check("folder", folder)
    assert findings.fine and any("5 left out of" in line and "\\udcff\\x1b.jpg" in line for line in findings.there)
    left: list[str] = []
    assert len(by_stem(folder / "images", left)) == 3 and left == ["fifo.jpg", "folder.jpg", "lost.jpg", "x.heic"]


def test_masks_and_images_that_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("1", "2"):
        put(tmp_path, f"images/train2017/{name}.jpg")
    put(tmp_path, "images/train2017/3.jpg", "annotations/train2017/3.png")
    make_source("coco", tmp_path, "train")
    assert "train2017: 2 images are left out, which have no map: 1, 2" in caplog.text
    folder = own_data(tmp_path / "own", *(f"{i}.jpg" for i in range(12)))
    put(folder, "masks/x.png")
    make_source("folder", folder, "train")
    assert "masks: 1 masks are left out, whose images are not there: x" in caplog.text


# ---- splits -----------------------------------------------------------------------------------------------------------

NAMES = [f"{i:03}" for i in range(40)]


@pytest.mark.parametrize("dataset", ["folder", "voc"])
@pytest.mark.parametrize("given", ["train", "val"])
def test_with_one_list_the_other_split_is_the_rest(dataset: str, given: str, tmp_path: Path) -> None:
    images, masks = ("images", "masks") if dataset == "folder" else ("JPEGImages", "SegmentationClassAug")
    (tmp_path / "classes.txt").write_text("red\n")
    for name in NAMES:
        put(tmp_path, f"{images}/{name}.jpg", f"{masks}/{name}.png")
    (tmp_path / "splits").mkdir()
    listed = tmp_path / f"splits/{'train_aug' if (dataset, given) == ('voc', 'train') else given}.txt"
    listed.write_text("\n".join(NAMES[30:]))
    ids = {split: make_source(dataset, tmp_path, split).ids for split in SPLITS}
    other = "val" if given == "train" else "train"
    assert ids[given] == NAMES[30:] and ids[other] == NAMES[:30]
    assert check(dataset, tmp_path).fine
    listed.write_text("\n".join(NAMES))
    with pytest.raises(UserError, match=f"{listed.name}: names every image; write .*{other}"):
        make_source(dataset, tmp_path, other)
    listed.write_text("\n".join([*NAMES[:30], "nothere"]))
    with pytest.raises(UserError, match="lists files that are missing: nothere"):
        make_source(dataset, tmp_path, other)


def test_lists_that_overlap_are_refused(tmp_path: Path) -> None:
    own_data(tmp_path, *(f"{name}.jpg" for name in NAMES), train="\n".join(NAMES), val="images/030.jpg\n031\n")
    for split in SPLITS:
        with pytest.raises(UserError, match=r"train\.txt and .*val\.txt: both name 2 images: 030\.jpg, 031\.jpg"):
            make_source("folder", tmp_path, split)
    findings = check("folder", tmp_path)
    assert len(findings.wrong) == 1 and "both name 2 images" in findings.wrong[0]


def test_vocs_own_list_beside_a_training_list(tmp_path: Path) -> None:
    for name in NAMES:
        put(tmp_path, f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png")
    for path, names in (("splits/train_aug.txt", NAMES[:30]), ("ImageSets/Segmentation/val.txt", NAMES[35:])):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("\n".join(names))
    assert make_source("voc", tmp_path, "val").ids == NAMES[35:]
    (tmp_path / "splits/train_aug.txt").write_text("\n".join(NAMES))
    with pytest.raises(UserError, match="both name 5 images"):
        make_source("voc", tmp_path, "train")


def test_one_folder_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """images/val is there and images/train is not: what lies beside it is trained on, all of it."""
    own_data(tmp_path, *(f"{name}.jpg" for name in NAMES[:30]), train="000\n")
    for name in NAMES[30:]:
        put(tmp_path, f"images/val/{name}.jpg", f"masks/val/{name}.png")
    assert read(tmp_path) == {"train": [f"{n}.jpg" for n in NAMES[:30]], "val": [f"{n}.jpg" for n in NAMES[30:]]}
    assert "train is missing: the 30 images beside the other split are for train" in caplog.text
    assert "splits/train.txt not read" in caplog.text
    assert check("folder", tmp_path).fine
    (tmp_path / "images/train").mkdir()
    put(tmp_path, "images/train/100.jpg", "masks/train/100.png")
    assert read(tmp_path)["train"] == ["100.jpg"]
    assert "30 images beside the folders of the splits are left out" in caplog.text
    for path in (tmp_path / "images").glob("*.jpg"):
        path.unlink()
    (tmp_path / "images/train").rename(tmp_path / "images/training")
    with pytest.raises(UserError, match="images/train: the images are missing"):
        make_source("folder", tmp_path, "train")


def test_validation_images_by_hash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    many = [str(i) for i in range(300)]
    assert held_out(many, tmp_path) == {name for name in many if one_in_ten(name)}
    assert not caplog.text
    none = [name for name in many if not one_in_ten(name)]
    for count in range(2, 9):
        chosen = held_out(none[:count], tmp_path)
        assert len(chosen) == 1 and chosen == held_out(reversed(none[:count]), tmp_path)
    assert "8 images are too few for one in ten by its name" in caplog.text
    every = [name for name in many if one_in_ten(name)][:2]
    assert len(held_out(every, tmp_path)) == 1
    with pytest.raises(UserError, match="holds one image alone"):
        held_out(["1"], tmp_path)


@pytest.mark.parametrize("dataset", ["folder", "voc"])
def test_a_small_folder_is_validated_on(dataset: str, tmp_path: Path) -> None:
    images, masks = ("images", "masks") if dataset == "folder" else ("JPEGImages", "SegmentationClassAug")
    (tmp_path / "classes.txt").write_text("red\n")
    for name in ("1", "2", "3"):
        put(tmp_path, f"{images}/{name}.jpg", f"{masks}/{name}.png")
    ids = {split: make_source(dataset, tmp_path, split).ids for split in SPLITS}
    assert sorted(map(len, ids.values())) == [1, 2] and len(ids["val"]) == 1
    assert sorted(ids["train"] + ids["val"]) == ["1", "2", "3"]
