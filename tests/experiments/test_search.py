"""Noise with known truth: the mixed candidates and the imitated search say what they made, the same at every call."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captions.formats import read_captions, read_class_words, write_captions
from dataset import shapes
from experiments.imitation import noise, search
from utils.errors import UserError
from utils.manifest import open_manifest
from web.examples import Example, is_held_out

NEW, BASE = ("cow", "sheep"), ("cat", "dog", "horse")


def picture(path: Path, value: int) -> None:
    """An image whose colour says which it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 50, 3), value, np.uint8)).save(path, quality=95)


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """Twenty images of each class; the colour tells the class."""
    for number, name in enumerate((*NEW, *BASE)):
        for index in range(20):
            picture(tmp_path / "web" / name / f"{index}.jpg", 40 * (number + 1))
    return tmp_path / "web"


def colour(path: Path) -> int:
    return round(float(np.asarray(Image.open(path)).mean()) / 40) - 1


def test_candidates_are_what_the_manifest_says(web: Path, tmp_path: Path) -> None:
    # 20 right images are a half; of 40, 12 are wrong and 8 drawings.
    assert noise.mix(web, tmp_path / "out", NEW, BASE) == 80
    with (tmp_path / "out/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = (*NEW, *BASE)
    for own in NEW:
        photos = [row for row in rows if row["class"] == own and row["domain"] == "photo"]
        wrong = [row for row in photos if row["true_class"] != own]
        assert (
            len(photos) - len(wrong) == 20
            and sum(row["class"] == own and row["domain"] == "drawing" for row in rows) == 8
        )
        assert sum(row["true_class"] in NEW for row in wrong) >= 6
        for row in photos:
            assert names[colour(tmp_path / "out" / row["path"])] == row["true_class"]
    assert len(list(open_manifest(tmp_path / "out"))) == 80, "run.py reads it"


def test_wrong_images_of_base_classes_are_held_out_and_used_once(web: Path, tmp_path: Path) -> None:
    noise.mix(web, tmp_path / "out", NEW, BASE)
    held = sum(is_held_out(Example(web / name / f"{i}.jpg", name, False)) for name in BASE for i in range(20))
    with (tmp_path / "out/manifest.csv").open(newline="") as file:
        used = [row for row in csv.DictReader(file) if row["true_class"] in BASE]
    assert 0 < len(used) <= held


def test_candidates_are_the_same_again(web: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        noise.mix(web, tmp_path / name, NEW, BASE)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append([(path.relative_to(tmp_path / name), path.read_bytes()) for path in files])
    assert contents[0] == contents[1]
    noise.mix(web, tmp_path / "three", NEW, BASE, seed=1)
    assert (tmp_path / "three/manifest.csv").read_bytes() != (tmp_path / "one/manifest.csv").read_bytes()


def test_a_class_without_images(web: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="goat: holds no images"):
        noise.mix(web, tmp_path / "out", ("goat",), BASE)


@pytest.fixture
def pool(web: Path, tmp_path: Path) -> Path:
    """A captioned pool: 60 web images, two photographs, 6 drawings and 6 images of new classes."""
    photographs = tmp_path / "captioned"
    for index in range(2):
        picture(photographs / f"images/{index}.jpg", 250)
    listed = [
        {"file": "0.jpg", "captions": ["Two men on horses.", "A rider, and another."]},
        {"file": "1.jpg", "captions": ["A sofa."]},
    ]
    (photographs / "captions.json").write_text(json.dumps(listed))
    folder = tmp_path / "pool"
    assert search.make_pool(web, photographs, folder, NEW, BASE) == 74
    names = [path.name for path in sorted((folder / "image").iterdir())]
    write_captions(folder / "captions.txt", [(name, f"tags of {name}") for name in names])
    return folder


def test_the_pool_knows_what_its_images_show(pool: Path) -> None:
    pictures = search.read_pool(pool)
    shown = [sorted(picture.shows) for picture in pictures]
    assert [shown.count([name]) for name in BASE] == [20, 20, 20]
    assert shown[60:62] == [["horse", "person"], []] and shown[62:] == [[]] * 12
    assert pictures[60].caption == "Two men on horses." and pictures[0].caption == "tags of 00000.jpg"
    assert {colour(picture.path) for picture in pictures[68:]} <= {0, 1}, (
        "the last ones are of new classes, which nobody asks for"
    )


def test_most_of_what_is_found_shows_a_class_of_its_original(pool: Path) -> None:
    pictures = search.read_pool(pool)
    wanted = {f"2008_{i:06}": ["cat"] if i % 2 else ["dog", "horse"] for i in range(40)}
    found = search.find(pictures, wanted)
    assert found == search.find(pictures, wanted)
    shares = []
    for original, results in found.items():
        assert len(results) == len({picture.path for picture in results}) == 20
        shares.append(np.mean([bool(picture.shows & set(wanted[original])) for picture in results]))
    assert min(shares) >= 0.7 and max(shares) < 1


def test_an_original_of_which_the_pool_has_little_gets_noise(pool: Path) -> None:
    found = search.find(search.read_pool(pool), {"a": ["person"]})["a"]
    assert len(found) == 20 and sum("person" in picture.shows for picture in found) == 1


def test_drawn_web_images_are_a_pool_of_what_they_really_show(tmp_path: Path) -> None:
    """Some of them are found under another name."""
    shapes.render_web(tmp_path / "web", ["circle", "star"], 10, 0, 0.3, 0.0, size=32)
    pictures = search.read_pool(tmp_path / "web/manifest.csv")
    assert len(pictures) == 20 and all(picture.path.is_file() for picture in pictures)
    circles = [picture for picture in pictures if picture.path.parent.name == "circle"]
    assert sum("circle" not in picture.shows for picture in circles) == 3
    assert all(
        any(word in picture.caption for word in ("circle", "disc", "disk"))
        for picture in pictures
        if "circle" in picture.shows
    )
    (tmp_path / "plain.csv").write_text("path,class,caption\na.jpg,circle,a circle\n")
    with pytest.raises(UserError, match=r"plain\.csv: a pool needs the columns caption and true_class"):
        search.read_pool(tmp_path / "plain.csv")


def test_downloads_lie_as_the_scripts_expect_them(pool: Path, tmp_path: Path) -> None:
    wanted = {"2008_000001": ["cat", "dog"], "2008_000002": ["horse"]}
    found = search.find(search.read_pool(pool), wanted)
    for _ in range(2):  # A second run leaves it as it is.
        search.write_downloads(tmp_path / "out", found, wanted)
    assert read_class_words(tmp_path / "out/class_words.txt") == wanted
    for original, pictures in found.items():
        captions = read_captions(tmp_path / "out/captions" / f"{original}.txt")
        assert [caption for _, caption in captions] == [picture.caption for picture in pictures]
        files = sorted((tmp_path / "out/downloads" / original).iterdir())
        assert [path.name for path in files] == [name for name, _ in captions] == [f"{i:05}.jpg" for i in range(1, 21)]
        assert all(path.samefile(picture.path) for path, picture in zip(files, pictures, strict=True))
    assert not [path for path in (tmp_path / "out/downloads").iterdir() if path.name.startswith(".")]


def test_originals_are_training_images_of_step_0(tmp_path: Path) -> None:
    """Cat (8) and dog (12) are base classes of 4-2; cow (10) is not, and chair (9) is none of the task's."""
    masks = {"a": [8, 12], "b": [10], "c": [12, 10], "d": [9], "e": [13]}
    for name, values in masks.items():
        picture(tmp_path / f"JPEGImages/{name}.jpg", 99)
        mask = np.zeros((40, 50), np.uint8)
        for row, value in enumerate(values):
            mask[row] = value
        (tmp_path / "SegmentationClassAug").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"SegmentationClassAug/{name}.png")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/train_aug.txt").write_text("".join(f"{name}\n" for name in masks))
    found = search.originals("voc", tmp_path, "4-2", "overlap", 300)
    assert found == {"a": ["cat", "dog"], "c": ["dog"], "e": ["horse"]}
    assert len(search.originals("voc", tmp_path, "4-2", "overlap", 2)) == 2


def test_damaged_captions_are_named(web: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text('{"file": 1}')
    with pytest.raises(UserError, match=r"captions\.json: cannot be read as a list of file and captions"):
        search.make_pool(web, tmp_path, tmp_path / "pool", NEW, BASE)
    with pytest.raises(UserError, match=r"pool\.json: no such pool"):
        search.read_pool(tmp_path / "nowhere")
