"""Noise with known truth: the mixed candidates and the imitated search say what they made, the same at every call."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captions.formats import read_captions, read_class_words, write_captions
from dataset import shapes
from experiments import hold_out
from experiments.imitation import noise, pool, search
from experiments.imitation import originals as wanted_images
from experiments.imitation.originals import Original
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
def there(web: Path, tmp_path: Path) -> Path:
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
    assert pool.make_pool(web, [photographs], folder, NEW, BASE) == 74
    names = [path.name for path in sorted((folder / "image").iterdir())]
    write_captions(folder / "captions.txt", [(name, f"tags of {name}") for name in names])
    return folder


def test_the_pool_knows_what_its_images_show(there: Path) -> None:
    pictures = pool.read_pool(there)
    shown = [sorted(picture.shows) for picture in pictures]
    assert [shown.count([name]) for name in BASE] == [20, 20, 20]
    assert shown[60:62] == [["horse", "person"], []] and shown[62:] == [[]] * 12
    assert pictures[60].caption == "Two men on horses." and pictures[0].caption == "tags of 00000.jpg"
    assert {colour(picture.path) for picture in pictures[68:]} <= {0, 1}, (
        "the last ones are of new classes, which nobody asks for"
    )


def test_most_of_what_is_found_shows_a_class_of_its_original(there: Path) -> None:
    pictures = pool.read_pool(there)
    classes = [("cat",) if i % 2 else ("dog", "horse") for i in range(40)]
    wanted = [Original(f"2008_{i:06}", names) for i, names in enumerate(classes)]
    found = search.find(pictures, wanted)
    assert found == search.find(pictures, wanted)
    shares = []
    for original, results in zip(wanted, found.values(), strict=True):
        assert len(results) == len({picture.path for picture in results}) == 20
        shares.append(np.mean([bool(picture.shows & set(original.classes)) for picture in results]))
    assert min(shares) >= 0.7 and max(shares) < 1


def test_an_original_of_which_the_pool_has_little_gets_noise(there: Path) -> None:
    found = search.find(pool.read_pool(there), [Original("a", ("person",))])["a"]
    assert len(found) == 20 and sum("person" in picture.shows for picture in found) == 1


def test_drawn_web_images_are_a_pool_of_what_they_really_show(tmp_path: Path) -> None:
    """Some of them are found under another name."""
    shapes.render_web(tmp_path / "web", ["circle", "star"], 10, 0, 0.3, 0.0, size=32)
    pictures = pool.read_pool(tmp_path / "web/manifest.csv")
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
        pool.read_pool(tmp_path / "plain.csv")


def test_downloads_lie_as_the_scripts_expect_them(there: Path, tmp_path: Path) -> None:
    wanted = [Original("2008_000001", ("cat", "dog")), Original("2008_000002", ("horse",))]
    found = search.find(pool.read_pool(there), wanted)
    for _ in range(2):  # A second run leaves it as it is.
        search.write_downloads(tmp_path / "out", found, wanted)
    words = {"2008_000001": ["cat", "dog"], "2008_000002": ["horse"]}
    assert read_class_words(tmp_path / "out/class_words.txt") == words
    for original, pictures in found.items():
        captions = read_captions(tmp_path / "out/captions" / f"{original}.txt")
        assert [caption for _, caption in captions] == [picture.caption for picture in pictures]
        files = sorted((tmp_path / "out/downloads" / original).iterdir())
        assert [path.name for path in files] == [name for name, _ in captions] == [f"{i:05}.jpg" for i in range(1, 21)]
        assert all(path.samefile(picture.path) for path, picture in zip(files, pictures, strict=True))
    assert not [path for path in (tmp_path / "out/downloads").iterdir() if path.name.startswith(".")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Cat (8), dog (12) and horse (13) are base classes of 4-2; cow (10) is not, and chair (9) is none of the task's."""
    masks = {"a": [8, 12], "b": [10], "c": [12, 10], "d": [9], "e": [13], "f": [12], "g": [12]}
    for name, values in masks.items():
        picture(tmp_path / f"JPEGImages/{name}.jpg", 99)
        mask = np.zeros((40, 50), np.uint8)
        for row, value in enumerate(values):
            mask[row] = value
        (tmp_path / "SegmentationClassAug").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"SegmentationClassAug/{name}.png")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/train_aug.txt").write_text("".join(f"{name}\n" for name in masks))
    return tmp_path


def test_originals_are_training_images_of_step_0(tree: Path) -> None:
    found = wanted_images.originals("voc", tree, "4-2", "overlap", 300)
    assert [(original.name, original.classes) for original in found] == [
        ("a", ("cat", "dog")), ("c", ("dog",)), ("e", ("horse",)), ("f", ("dog",)), ("g", ("dog",)),
    ]  # fmt: skip
    assert len(wanted_images.originals("voc", tree, "4-2", "overlap", 2)) == 2


def test_originals_with_captions_come_first_and_each_class_has_its_share(tree: Path, tmp_path: Path) -> None:
    captions = {"g": ["A dog asleep.", "A brown dog."], "nobody": ["A house."]}
    found = wanted_images.originals("voc", tree, "4-2", "overlap", 3, captions)
    assert {original.name: original.caption for original in found} == {"a": "", "e": "", "g": "A dog asleep."}, (
        "cat, horse and, of four dogs, the one with a caption"
    )
    manifest = tmp_path / "out/originals.csv"
    assert wanted_images.write_originals(manifest, found, "voc", tree) == 3
    with pytest.raises(UserError, match=r"2 originals have no caption, a the first"):
        wanted_images.read_originals(manifest)
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(Path(row["path"]).is_file() for row in rows) and rows[0]["words"] == "cat dog"
    assert len(wanted_images.originals("voc", tree, "4-2", "overlap", 300, captions)) == 5, "as many as there are"


def test_captions_by_id_are_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('{"a": ["A cat."]}')
    assert wanted_images.read_own_captions(tmp_path / "good.json") == {"a": ["A cat."]}
    (tmp_path / "bad.json").write_text('["A cat."]')
    with pytest.raises(UserError, match=r"bad\.json: cannot be read as captions by id"):
        wanted_images.read_own_captions(tmp_path / "bad.json")


def test_a_search_by_captions_finds_like_words(tmp_path: Path) -> None:
    """The word that an image was searched with counts as the text of its page; what shares no word comes last."""
    texts = ["two cats on a sofa"] * 5 + ["sorrel"] * 20 + [f"a house number {i}" for i in range(40)]
    pictures = [
        pool.PoolImage(tmp_path / f"{i}.jpg", text, frozenset(), "horse" if text == "sorrel" else "")
        for i, text in enumerate(texts)
    ]
    wanted = [Original("a", ("cat",), "A cat sleeps on its sofa."), Original("b", ("horse",), "People ride.")]
    found = search.find_by_caption(pictures, wanted)
    assert found == search.find_by_caption(pictures, wanted)
    cats = [picture.caption for picture in found["a"]]
    assert cats.count("two cats on a sofa") == 5 and len(cats) == len(set(map(id, found["a"]))) == 20
    horses = [picture.caption for picture in found["b"]].count("sorrel")
    assert 14 <= horses < 20, "six of twenty are anything"


def test_base_classes_carry_the_same_noise(web: Path, tmp_path: Path) -> None:
    """Of 20 images of a base class 4 are wrong among the new ones, 6 among the base ones, 10 right."""
    noise.mix(web, tmp_path / "out", NEW, BASE, noisy_base=True)
    with (tmp_path / "out/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for own in BASE:
        of_class = [row for row in rows if row["class"] == own]
        right = [row for row in of_class if row["true_class"] == own and row["domain"] == "photo"]
        drawn = [row for row in of_class if row["domain"] == "drawing"]
        wrong = [row for row in of_class if row["true_class"] not in (own, "none")]
        assert (len(right), len(drawn)) == (10, 4) and 5 <= len(wrong) <= 6
        assert {row["true_class"] for row in wrong} <= set(BASE)
    used = [row for row in rows if row["true_class"] in BASE and row["domain"] == "photo"]
    uses = Counter(row["true_class"] for row in used)
    assert all(18 <= uses[name] <= 20 for name in BASE), "each of 20 images has one use; one or two may have none"
    with pytest.raises(UserError, match="cat: has 20 images; more than 24 are needed"):
        noise.mix(web, tmp_path / "few", [*NEW, "dog", "horse"], ["cat"], noisy_base=True)


def test_a_hold_out_leaves_the_test_images_alone(tree: Path, tmp_path: Path) -> None:
    given = hold_out.get_argparser().parse_args(["--data", str(tree), "--out", str(tmp_path / "held")])
    for _ in range(2):
        hold_out.main(given)
        lists = {split: (tmp_path / "held/splits" / f"{split}.txt").read_text() for split in ("train_aug", "val")}
        assert lists["val"] == "/JPEGImages/c.jpg /SegmentationClassAug/c.png\n"
        assert lists["train_aug"].count("\n") == 6 and "/c.jpg" not in lists["train_aug"]
    assert (tmp_path / "held/JPEGImages/a.jpg").is_file()


def test_damaged_captions_are_named(web: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text('{"file": 1}')
    with pytest.raises(UserError, match=r"captions\.json: cannot be read as a list of file and captions"):
        pool.make_pool(web, [tmp_path], tmp_path / "pool", NEW, BASE)
    with pytest.raises(UserError, match=r"pool\.json: no such pool"):
        pool.read_pool(tmp_path / "nowhere")
