"""The checker finds what is there, what is missing and what is wrong, in trees made for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import shapes
from dataset.check import SHOWN, check, few, main, sampled
from dataset.check_page import worst_first


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBWILSS_CACHE", str(tmp_path_factory.mktemp("cache")))


ROOT = Path(__file__).resolve().parent.parent.parent


def picture(path: Path, size: tuple[int, int] = (20, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 40)).save(path)


def mask(path: Path, *values: int, size: tuple[int, int] = (20, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = np.zeros((size[1], size[0]), np.uint8)
    content[0, : len(values)] = values
    Image.fromarray(content).save(path)


def voc_tree(folder: Path, train: int = 6, val: int = 3) -> Path:
    for split, count in (("train_aug", train), ("val", val)):
        lines = []
        for i in range(count):
            name = f"2008_{split[0]}{i:04}"
            picture(folder / f"JPEGImages/{name}.jpg")
            mask(folder / f"SegmentationClassAug/{name}.png", 12, 255, *([17] if i % 2 else []))
            lines.append(f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n")
        (folder / "splits").mkdir(exist_ok=True)
        (folder / f"splits/{split}.txt").write_text("".join(lines))
    picture(folder / "JPEGImages/2009_000001.jpg")
    return folder


def coco_tree(folder: Path) -> Path:
    for split in ("train2017", "val2017"):
        for i in range(3):
            picture(folder / f"images/{split}/{i:012}.jpg")
            mask(folder / f"annotations/{split}/{i:012}.png", 0, 16, 120, 255)
    return folder


def folder_tree(folder: Path) -> Path:
    for split in ("train", "val"):
        for i in range(3):
            picture(folder / f"images/{split}/{i}.jpg")
            mask(folder / f"masks/{split}/{i}.png", 1, 2)
    (folder / "classes.txt").write_text("apple\npear\n")
    return folder


def test_sound_voc_tree(tmp_path: Path) -> None:
    findings = check("voc", voc_tree(tmp_path))
    assert findings.fine, findings.text()
    text = findings.text()
    assert "JPEGImages: 10 images; SegmentationClassAug: 9 masks" in text
    assert "splits/train_aug.txt: 6 lines" in text
    assert "train: 6 images (all opened), 20 x 12 pixels" in text
    labels = next(line for line in findings.there if line.startswith("train: images that hold"))
    assert "dog 6" in labels and "sheep 3" in labels and "person 0" in labels


def test_voc_lists_are_optional(tmp_path: Path) -> None:
    shutil.rmtree(voc_tree(tmp_path, train=40, val=10) / "splits")
    findings = check("voc", tmp_path)
    assert findings.fine, findings.text()
    assert "splits/train_aug.txt is absent (optional" in findings.text()


def test_missing_files_of_a_list_are_counted_and_named(tmp_path: Path) -> None:
    voc_tree(tmp_path)
    (tmp_path / "JPEGImages/2008_t0001.jpg").unlink()
    (tmp_path / "SegmentationClassAug/2008_t0002.png").unlink()
    findings = check("voc", tmp_path)
    assert not findings.fine
    named = "/JPEGImages/2008_t0001.jpg, /SegmentationClassAug/2008_t0002.png"
    assert f"2 files that splits/train_aug.txt names: {named}" in findings.missing
    assert "1 images to masks in SegmentationClassAug: 2008_t0001" in findings.missing
    assert "val: 3 images" in findings.text()


def test_lines_that_repeat_are_wrong(tmp_path: Path) -> None:
    path = voc_tree(tmp_path) / "splits/val.txt"
    path.write_text(path.read_text() * 2)
    assert any("3 lines that splits/val.txt holds more than once" in line for line in check("voc", tmp_path).wrong)


@pytest.mark.parametrize("part", ["JPEGImages", "SegmentationClassAug"])
def test_missing_folder(tmp_path: Path, part: str) -> None:
    shutil.rmtree(voc_tree(tmp_path) / part)
    findings = check("voc", tmp_path)
    assert findings.missing == [f"folder {tmp_path / part}"]
    assert findings.wrong == []


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (lambda folder: (folder / "JPEGImages/2008_t0003.jpg").write_bytes(b"<html>"), "2008_t0003.jpg"),
        (lambda folder: (folder / "SegmentationClassAug/2008_t0003.png").write_bytes(b""), "2008_t0003.png"),
        (lambda folder: mask(folder / "SegmentationClassAug/2008_t0003.png", 12, size=(12, 20)), "12 x 20"),
        (lambda folder: mask(folder / "SegmentationClassAug/2008_t0003.png", 12, 77), "77"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, fault, word: str) -> None:  # type: ignore[no-untyped-def]
    fault(voc_tree(tmp_path))
    findings = check("voc", tmp_path, sample=None)
    assert findings.missing == []
    assert len(findings.wrong) == 1
    assert findings.wrong[0].startswith("train: ") and word in findings.wrong[0] and "2008_t0003" in findings.wrong[0]


def test_many_faults_are_shortened(tmp_path: Path) -> None:
    voc_tree(tmp_path, train=12)
    for i in range(12):
        mask(tmp_path / f"SegmentationClassAug/2008_t{i:04}.png", 99)
    wrong = check("voc", tmp_path).wrong
    assert len(wrong) == SHOWN + 1
    assert wrong[-1] == f"train: and {12 - SHOWN} more"


def test_coco_tree(tmp_path: Path) -> None:
    findings = check("coco", coco_tree(tmp_path))
    assert findings.fine, findings.text()
    labels = next(line for line in findings.there if line.startswith("val: images that hold"))
    assert "person 3" in labels and "dog 0" in labels
    (tmp_path / "annotations/train2017/000000000001.png").unlink()
    assert check("coco", tmp_path).missing == ["1 masks to images in images/train2017: 000000000001"]


def test_coco_voc_checks_both_trees(tmp_path: Path) -> None:
    coco_tree(tmp_path / "coco")
    voc_tree(tmp_path / "voc")
    findings = check("coco-voc", tmp_path)
    assert findings.fine, findings.text()
    assert "coco train: 3 images" in findings.text() and "voc train: 6 images" in findings.text()
    labels = next(line for line in findings.there if line.startswith("voc train: images that hold"))
    assert "dog 6" in labels and "sheep 3" in labels
    shutil.rmtree(tmp_path / "voc")
    findings = check("coco-voc", tmp_path)
    assert findings.missing == [f"folder {tmp_path / 'voc'}"]
    assert "coco train: 3 images" in findings.text()


def test_folder_with_and_without_split_folders(tmp_path: Path) -> None:
    assert check("folder", folder_tree(tmp_path / "a")).fine
    flat = tmp_path / "b"
    for i in range(30):
        picture(flat / f"images/{i}.jpg")
        mask(flat / f"masks/{i}.png", 1)
    (flat / "classes.txt").write_text("apple\n")
    findings = check("folder", flat)
    assert findings.fine, findings.text()
    (flat / "splits").mkdir()
    (flat / "splits/train.txt").write_text("1\n2\n3\n")
    (flat / "splits/val.txt").write_text("4\nfive\n")
    assert "1 files that splits/val.txt names: five" in check("folder", flat).missing
    (flat / "classes.txt").unlink()
    assert f"file {flat / 'classes.txt'}" in check("folder", flat).missing


def test_a_fault_that_only_the_loader_knows(tmp_path: Path) -> None:
    folder_tree(tmp_path)
    (tmp_path / "classes.txt").write_text("apple\napple\n")
    assert any("apple" in line for line in check("folder", tmp_path).wrong)


def test_shapes_are_checked_and_never_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    assert check("shapes", folder).missing == [f"folder {folder}"]
    folder.mkdir()
    assert not check("shapes", folder).fine
    assert list(folder.iterdir()) == []
    shapes.make(folder, "train", size=32, train=4, val=2)
    findings = check("shapes", folder)
    assert findings.fine, findings.text()
    for part in ("images", "masks"):
        (folder / part / "train/00003.png").unlink()
    assert any(line.startswith("pictures of train: 3 instead of 4") for line in check("shapes", folder).missing)


def test_sampling_is_even_and_inside() -> None:
    assert sampled(5, None) == sampled(5, 9) == [0, 1, 2, 3, 4]
    assert sampled(100, 1) == [0]
    chosen = sampled(1000, 11)
    assert chosen == list(range(0, 1000, 100))[:1] + chosen[1:] and chosen[-1] == 999 and len(chosen) == 11
    assert sampled(0, 5) == []


def test_few_names_the_first_and_counts_the_rest() -> None:
    assert few([], "files") == []
    assert few("cab", "files") == ["3 files: a, b, c"]
    assert few((str(i) for i in range(9)), "files") == ["9 files: 0, 1, 2, 3, 4 and 4 more"]


def test_sampled_check_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc_tree(tmp_path)
    assert main(["--dataset", "voc", "--dataset_dir", str(tmp_path), "--sample", "2"]) == 0
    assert "2 opened, --all opens all" in capsys.readouterr().out
    assert main(["--dataset", "voc", "--dataset_dir", str(tmp_path), "--all"]) == 0
    assert "all opened" in capsys.readouterr().out
    (tmp_path / "voc").mkdir()
    assert main(["--dataset", "voc", "--data_root", str(tmp_path)]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--dataset", "imagenet"],
        ["--dataset", "voc", "--sample", "0"],
        ["--dataset", "voc", "--sample", "3", "--all"],
    ],
)
def test_bad_arguments_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_command_line_has_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dataset.check", "--dataset", "coco", "--data_root", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"folder {tmp_path / 'coco'}" in done.stdout
    assert done.stderr == ""


def test_shared_photographs_are_fine(shared_data: Path) -> None:
    assert check("voc", shared_data / "voc-animals", sample=20).fine
    assert check("coco", shared_data / "coco-mini", sample=8).fine


def big_mask(path: Path, *values: int) -> None:
    """A mask of blocks, none of which is an edge."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = np.zeros((12, 20), np.uint8)
    for place, value in enumerate(values):
        content[3:9, 1 + 6 * place : 6 + 6 * place] = value
    Image.fromarray(content).save(path)


def test_a_class_that_no_image_holds(tmp_path: Path) -> None:
    """Whoever writes classes.txt means every class; published data are used in parts."""
    folder_tree(tmp_path)
    for split in ("train", "val"):
        for i in range(3):
            big_mask(tmp_path / f"masks/{split}/{i}.png", 1, 255)
    findings = check("folder", tmp_path)
    name = f"{tmp_path.name} train"
    hint = "3 of 3 masks hold 255, which is ignore: if it means a class, give it the class's number"
    assert findings.missing == [f"train: no image of {name} holds 2 pear; {hint}"] and not findings.wrong
    for split in ("train", "val"):
        for i in range(3):
            big_mask(tmp_path / f"masks/{split}/{i}.png", 255)
    wrong = check("folder", tmp_path).wrong
    assert wrong[0] == f"train: no image of {name} holds 1 apple, 2 pear; {hint}" and wrong[1].startswith(
        "val: no image"
    )


def test_splits_that_show_different_classes(tmp_path: Path) -> None:
    folder_tree(tmp_path)
    for i in range(3):
        big_mask(tmp_path / f"masks/train/{i}.png", 1, 2)
        big_mask(tmp_path / f"masks/val/{i}.png", 2)
    findings = check("folder", tmp_path)
    assert findings.fine
    assert "train shows 1 classes that val does not: 1 apple" in findings.doubtful


def test_all_masks_are_read_whatever_the_sample(tmp_path: Path) -> None:
    voc_tree(tmp_path, train=30)
    mask(tmp_path / "SegmentationClassAug/2008_t0013.png", 99)
    (tmp_path / "JPEGImages/2008_t0014.jpg").write_bytes(b"none")
    picture(tmp_path / "JPEGImages/2008_t0016.jpg", size=(12, 20))
    findings = check("voc", tmp_path, sample=1)
    assert [line.split(": ")[1].rpartition("/")[2] for line in findings.wrong] == [
        "2008_t0013.png",
        "2008_t0014.jpg",
        "2008_t0016.png",
    ]


def test_dark_images_are_doubtful(tmp_path: Path) -> None:
    folder_tree(tmp_path)
    Image.new("RGB", (20, 12), (1, 0, 1)).save(tmp_path / "images/train/1.jpg", "PNG")
    assert any(
        "1 of 3 images opened are nearly black" in line and "(1)" in line for line in check("folder", tmp_path).doubtful
    )


def test_the_page_opens_offline_and_shows_suspects_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_tree(tmp_path / "my")
    for split in ("train", "val"):
        for i in range(16):
            picture(tmp_path / f"my/images/{split}/{i:02}.jpg")
            big_mask(tmp_path / f"my/masks/{split}/{i:02}.png", 1, 2)
    for old in (*(tmp_path / "my").rglob("[0-2].jpg"), *(tmp_path / "my").rglob("[0-2].png")):
        old.unlink()
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (20, 12), (90, 120, 40)).save(tmp_path / "my/images/val/11.jpg", exif=exif)
    (tmp_path / "my/classes.txt").write_text("apple\n<pear>\n", encoding="utf-8")
    path = tmp_path / "out/page.html"
    assert main(["--dataset", "folder", "--dataset_dir", str(tmp_path / "my"), "--page", str(path)]) == 0
    assert f"page: {path}" in capsys.readouterr().out
    text = path.read_text(encoding="utf-8")
    assert "http" not in text and "<script" not in text and "<pear>" not in text
    section = text[text.index("</span>2 &lt;pear&gt;</h2>") :]
    assert "10 of 32 images" in section and section.count("<figure") == 10
    assert section.index("val 11") == min(section.index(name) for name in ("train", "val") if name in section)
    assert section.index("suspect: turned by an EXIF tag") < section.index("train")
    assert section.count("2 &lt;pear&gt; 12.5 %") == 10
    looked = check("folder", tmp_path / "my").looked
    chosen = worst_first(looked, 1)
    assert len(chosen) == 10 and len({(split.title, i) for split, i in chosen}) == 10
    assert {split.title for split, _ in chosen} == {"train", "val"}


def test_the_page_never_hides_the_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_tree(tmp_path / "my")
    (tmp_path / "file").write_text("")
    code = main(["--dataset", "folder", "--dataset_dir", str(tmp_path / "my"), "--page", str(tmp_path / "file/x.html")])
    said = capsys.readouterr()
    assert code == 0 and "train: 3 images" in said.out
    assert said.err.splitlines()[-1].startswith("the page was not written: ") and "x.html" in said.err


def test_a_broken_data_set_still_has_its_page(tmp_path: Path) -> None:
    folder_tree(tmp_path / "my")
    for path in (tmp_path / "my/masks/val").iterdir():
        path.write_bytes(b"")
    path = tmp_path / "page.html"
    assert main(["--dataset", "folder", "--dataset_dir", str(tmp_path / "my"), "--page", str(path)]) == 1
    assert "0.png: is empty" in path.read_text()
