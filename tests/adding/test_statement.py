"""A statement of what was won and lost: counts by hand, what is not measured, and the page."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from adding.agreement import Classes, Statement, Tally
from adding.comparing import CHANGED, SPREAD, Gallery, Model, class_table, listed_images, masked_images, measured
from adding.statement import get_argparser, main
from adding.tables import PAGE, write_statement
from dataset.source import Source
from modules.description import Description
from segmentation_module import make_segmenter
from tests.results.test_page import Page
from utils import checkpoint, script
from utils.errors import UserError

BEFORE = {0: "background", 1: "dog", 2: "horse", 3: "person"}
AFTER = BEFORE | {7: "cow"}
CLASSES = Classes.of(BEFORE, AFTER)

Pixels = NDArray[np.uint8]


def mask(rows: list[list[int]]) -> Pixels:
    return np.array(rows, np.uint8)


# What the old model says of an image of 4 x 6 pixels, and what the new one does: of 8 dog pixels cow has 2 and horse 1, of
# 16 background pixels cow has 4; a person is on neither.
OLD = mask([[1, 1, 1, 1, 0, 0]] * 2 + [[0] * 6] * 2)
NEW = mask([[1, 1, 1, 7, 0, 0], [1, 1, 2, 7, 0, 0], [7, 7, 7, 7, 0, 0], [0] * 6])


def tally(first: Pixels = OLD, second: Pixels = NEW, classes: Classes = CLASSES) -> Tally:
    counts = Tally(classes)
    counts.add(first, second)
    return counts


def row(statement: Statement, name: str) -> dict[str, object]:
    (found,) = [one for one in statement.rows() if one["class"] == name]
    return found


def test_agreement_and_takeover_by_hand() -> None:
    statement = Statement(CLASSES, tally())
    dog = row(statement, "dog")
    assert (dog["held_back_images"], dog["held_back_pixels"]) == (1, 8)
    assert dog["agreement_iou"] == pytest.approx(5 / 8) and dog["still_stands"] == pytest.approx(5 / 8)
    assert dog["taken_by"] == "cow" and dog["taken_share"] == pytest.approx(2 / 8)
    background = row(statement, "background")
    assert background["agreement_iou"] == pytest.approx(12 / 16) and background["taken_by"] == "cow"
    assert statement.takeovers() == [
        "cow took 25.0 % of what was dog (2 pixels) and 25.0 % of what was background (4 pixels)."
    ]
    text = " ".join(statement.sentences())
    assert (
        "1 image, 24 pixels. Of these 70.8 % keep the class" in text
        and "the lowest is 62.5 % for dog (8 pixels on 1 image)" in text
    )


def test_a_class_on_no_image_is_a_dash() -> None:
    """That the new model sees a horse where the old one sees none says nothing of the horse."""
    statement = Statement(CLASSES, tally())
    for name in ("horse", "person", "cow"):
        assert math.isnan(row(statement, name)["agreement_iou"])
        assert row(statement, name)["taken_by"] == ""
    assert row(statement, "mean of old")["agreement_iou"] == pytest.approx(5 / 8)
    assert math.isnan(row(statement, "mean of new")["agreement_iou"])
    assert "On no held-back image the old model sees horse and person: nothing is known of that." in statement.limits()


def test_classes_on_few_images_are_named() -> None:
    counts = Tally(CLASSES)
    for number in range(20):
        counts.add(np.where((OLD == 1) & (number > 3), 2, OLD).astype(np.uint8), NEW)
    limits = Statement(CLASSES, counts).limits()
    assert "On fewer than 5 held-back images the old model sees dog: other images would give other numbers." in limits
    assert not any(line.startswith("Only") for line in limits)


def test_ids_count_and_not_channels() -> None:
    """The new model has its channels in another order, and a new class with a smaller id than the old ones."""
    before, after = {0: "background", 5: "dog", 2: "horse"}, {2: "horse", 1: "cow", 0: "background", 5: "dog"}
    classes = Classes.of(before, after)
    assert classes.ids == (0, 2, 5, 1) and classes.new == ["cow"] and [classes.kind(i) for i in (0, 2, 3)] == [
        "background", "old", "new"
    ]  # fmt: skip
    swap = np.zeros(256, np.uint8)
    swap[[1, 2, 7]] = 5, 2, 1
    statement = Statement(classes, tally(swap[OLD], swap[NEW], classes))
    assert row(statement, "dog")["agreement_iou"] == pytest.approx(5 / 8)
    assert row(statement, "dog")["taken_by"] == "cow" and row(statement, "cow")["id"] == 1


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({0: "background", 1: "dog"}, {0: "background", 1: "cat", 2: "cow"}, "class 1 is dog there and cat here"),
        ({0: "background", 1: "dog", 2: "cow"}, {0: "background", 1: "dog"}, "knows no cow, .* exchanged"),
        (BEFORE, dict(BEFORE), "knows no class that --before does not know"),
    ],
)
def test_models_that_are_no_steps_of_one_are_refused(
    before: dict[int, str], after: dict[int, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Classes.of(before, after)


# ---- with images and masks -------------------------------------------------------------------------------------------


def photo(path: Path, colour: int) -> Path:
    """A grey image of one colour; models below tell images apart by it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (colour,) * 3).save(path)
    return path


def models(old: Pixels = OLD, new: Pixels = NEW) -> tuple[Model, Model]:
    """Two models that say the same of every image, but that the old one repeats itself on black images."""
    return Model(BEFORE, lambda image: old), Model(AFTER, lambda image: new if image.max() else old)


TRUTH = mask([[1, 1, 1, 1, 0, 255], [1, 1, 9, 9, 0, 0], [9] * 6, [0] * 6])


@pytest.fixture
def val(tmp_path: Path) -> Path:
    """One image whose mask has dog (1) and, spelled otherwise and under another number than the model's, cow (9)."""
    photo(tmp_path / "val/images/a.png", 200)
    (tmp_path / "val/masks").mkdir()
    Image.fromarray(TRUTH).save(tmp_path / "val/masks/a.png")
    (tmp_path / "val/classes.txt").write_text("1 dog\n2 horses\n3 person\n9 Cow\n4 sofa\n")
    return tmp_path / "val"


def test_iou_before_and_after(val: Path) -> None:
    found = measured(*models(), [], val, 1024)
    statement = found.statement
    dog, cow = row(statement, "dog"), row(statement, "cow")
    # 6 pixels of dog: the old model has all of them and 2 of cow, the new one 5.
    assert dog["iou_before"] == pytest.approx(6 / 8) and dog["iou_after"] == pytest.approx(5 / 6)
    # 8 pixels of cow: the new model has 5 of them and 1 of dog.
    assert math.isnan(cow["iou_before"]) and cow["iou_after"] == pytest.approx(5 / 9)
    assert (cow["val_images"], cow["val_pixels"]) == (1, 8)
    assert row(statement, "mean of new")["iou_after"] == pytest.approx(5 / 9)
    # Background: 9 judged pixels (one is 255); old model 15 with 9 right.
    assert row(statement, "background")["iou_before"] == pytest.approx(9 / 15)
    assert row(statement, "mean of all")["iou_before"] == pytest.approx((9 / 15 + 6 / 8) / 2)
    limits = " ".join(statement.limits())
    assert "The masks name sofa, which the model does not know. 4.2 % of the pixels of the masks are 255" in limits
    assert "the masks show horse and person: nothing is known of that" in limits
    assert "no image was held back" in limits and "Only 1 judged image:" in limits
    assert [list(one.masks) for one in found.judged] == [["masks", "old model", "new model"]]


def test_masks_of_some_classes_say_nothing_of_background(val: Path) -> None:
    (val / "classes.txt").write_text("9 cow\n1 sofa\n")
    statement = measured(*models(), [], val, 1024).statement
    assert row(statement, "cow")["iou_after"] == pytest.approx(5 / 8)  # The dog's pixels are not judged.
    for name in ("background", "dog"):
        assert math.isnan(row(statement, name)["iou_after"])
    assert any("do not name dog, horse and person: no IoU of these" in line for line in statement.limits())


def test_without_masks_it_says_what_is_unknown(tmp_path: Path) -> None:
    statement = measured(*models(), [photo(tmp_path / "a.png", 200)], None, 1024).statement
    assert not any(column.startswith(("iou", "val")) for one in statement.rows() for column in one)
    assert any("--val" in line and "how well the new model finds cow" in line for line in statement.limits())
    assert any(line.startswith("Agreement is not truth") for line in statement.limits())
    assert any("Only 1 held-back image:" in line for line in statement.limits())


def test_without_anything_it_says_so(tmp_path: Path) -> None:
    found = measured(*models(), [], None, 1024)
    assert found.statement.sentences() == [] and len(found.statement.limits()) == 2
    assert "Nothing: see below" in "".join(path.read_text() for path in write_statement(tmp_path, found, [], {}))


def test_unreadable_images_are_counted_and_told(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no image")
    images = [photo(tmp_path / "a.png", 200), tmp_path / "broken.jpg"]
    statement = measured(*models(), images, None, 1024).statement
    assert statement.held_back is not None and statement.held_back.images == 1
    assert "1 image could not be read and left out: " in statement.limits()[-1] and "broken.jpg" in statement.faults[0]
    with pytest.raises(UserError, match=r"--held_back: no image can be read: .*broken\.jpg"):
        measured(*models(), images[1:], None, 1024)


def test_large_images_are_looked_at_small_and_counted_whole(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), (9, 9, 9)).save(tmp_path / "a.png")
    sizes = []

    def look(image: Pixels) -> Pixels:
        sizes.append(image.shape)
        return OLD

    statement = measured(Model(BEFORE, look), Model(AFTER, look), [tmp_path / "a.png"], None, 6).statement
    assert sizes == [(4, 6, 3)] * 2 and row(statement, "dog")["held_back_pixels"] == 800


def test_the_gallery_shows_what_changed_most_and_an_even_spread() -> None:
    image, count = Image.new("RGB", (10, 10)), 40
    gallery = Gallery(count)
    for place in range(count):
        new = np.zeros((10, 10), np.uint8)
        new.ravel()[: place % 20] = 7
        gallery.see(place, str(place), image, {"old model": np.zeros((10, 10), np.uint8), "new model": new})
    assert [one.name for one in gallery.samples] == ["19", "18", "38", "17", "0", "13", "26", "39"]
    assert [one.most for one in gallery.samples] == [True] * CHANGED + [False] * SPREAD
    assert gallery.samples[0].changed == 0.19


# ---- files ---------------------------------------------------------------------------------------------------------


def test_tables_and_page(tmp_path: Path, val: Path) -> None:
    web = tmp_path / "web"
    for number in range(3):
        photo(web / f"{number}.png", 50 * number)
    (web / "selected.csv").write_text("path,class,kept,reason\n0.png,cow,1,\n1.png,cow,0,ratio 0.1\n2.png,cow,1,\n")
    images = [photo(tmp_path / f"held/{number}.png", 40 * number) for number in range(5)]
    found = measured(*models(), images, val, 1024)
    files = write_statement(tmp_path / "out", found, [web / "selected.csv", web / "gone.csv"], {"out": "<b>"})
    assert [path.name for path in files] == ["statement.csv", "statement.md", "takeover.csv", "report.html"]

    rows = list(csv.DictReader(files[0].open(encoding="utf-8")))
    assert [one["class"] for one in rows][:5] == ["background", "dog", "horse", "person", "cow"]
    # On one image of the five both models agree: 8 + 4 x 5 of 40 pixels stand.
    assert rows[1]["still_stands"] == "0.700000" and rows[2]["agreement_iou"] == "" and rows[4]["iou_before"] == ""
    text = files[1].read_text(encoding="utf-8")
    assert "| dog | 1 | old | 5 | 40 | 70.0 |" in text and "| person | 3 | old | 0 | 0 | – |" in text
    takeover = list(csv.reader(files[2].open(encoding="utf-8")))
    assert takeover[0] == ["old model", "background", "dog", "horse", "person", "cow"]
    assert takeover[2] == ["dog", "0", "28", "4", "0", "8"] and len(takeover) == 5

    text = files[3].read_text(encoding="utf-8")
    page = Page(text)
    words = " ".join(page.words)
    for part in (
        "What these numbers do not say",
        "Agreement is not truth",
        "cow: 2 kept",
        "1 left out (ratio)",
        "Cannot be shown",
    ):
        assert part in words
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    # Five held-back images of three pictures, one image with masks of four, three web images.
    assert len(pictures) == 15 + 4 + 3 and all(str(one["src"]).startswith("data:image/jpeg") for one in pictures)
    assert "<b>" not in text.split("How this was made")[1] and "http" not in text
    again = write_statement(tmp_path / "again", found, [web / "selected.csv", web / "gone.csv"], {"out": "<b>"})
    assert (tmp_path / "again" / PAGE).read_bytes() == files[3].read_bytes() == again[3].read_bytes()


def test_images_come_from_folders_manifests_and_lists(tmp_path: Path) -> None:
    files = [photo(tmp_path / "images" / name, 9) for name in ("a.png", "below/b.png")]
    (tmp_path / "images/notes.txt").write_text("images/a.png\n\nimages/below/b.png\n")
    (tmp_path / "list.txt").write_text(f"images/a.png\n\n{files[1]}\n")
    (tmp_path / "list.csv").write_text("path,class\nimages/a.png,cow\nimages/below/b.png,cow\n")
    for place in ("images", "list.txt", "list.csv"):
        assert listed_images(tmp_path / place) == files
    (tmp_path / "empty").mkdir()
    for place, message in (("empty", "holds no image"), ("nothing", "no such list or folder")):
        with pytest.raises(UserError, match=message):
            listed_images(tmp_path / place)


def test_all_masks_of_a_folder_count_unless_it_has_splits(val: Path) -> None:
    for name in ("b", "c"):
        photo(val / f"images/{name}.png", 9)
        Image.fromarray(TRUTH).save(val / f"masks/{name}.png")
    assert masked_images(val, AFTER).ids == ["a", "b", "c"]
    (val / "splits").mkdir()
    (val / "splits/val.txt").write_text("b\n")
    assert masked_images(val, AFTER).ids == ["b"]
    (val / "masks/b.png").unlink()
    (val / "splits/val.txt").unlink()
    with pytest.raises(UserError, match="no mask for 1 of 3 images: b"):
        masked_images(val, AFTER)
    (val / "classes.txt").unlink()
    for kind in ("images", "masks"):
        (val / kind / "val").mkdir()
        (val / kind / "a.png").rename(val / kind / "val/a.png")
    source = masked_images(val, AFTER)
    assert source.ids == ["a"] and source.class_names == AFTER, "without classes.txt the masks hold the model's ids"


def test_masks_may_lie_as_vocs_do(tmp_path: Path) -> None:
    photo(tmp_path / "JPEGImages/a.jpg", 200)
    (tmp_path / "SegmentationClassAug").mkdir()
    Image.fromarray(np.where(TRUTH == 9, 10, 0).astype(np.uint8)).save(tmp_path / "SegmentationClassAug/a.png")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/val.txt").write_text("/JPEGImages/a.jpg /SegmentationClassAug/a.png\n")
    statement = measured(*models(), [], tmp_path, 1024).statement
    assert row(statement, "cow")["val_pixels"] == 8 and row(statement, "cow")["iou_after"] == pytest.approx(5 / 9)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {0: "background", 1: "sofa"},
            "names no class of the model, only sofa; it knows dog, horse, person and 1 more",
        ),
        ({0: "background", 1: "dog", 2: "dogs"}, "its classes dog and dogs both mean dog"),
    ],
)
def test_masks_of_other_classes_are_refused(names: dict[int, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_table(Source("val", names, [], []), CLASSES)


# ---- the command ---------------------------------------------------------------------------------------------------


def saved(path: Path, steps: tuple[tuple[int, ...], ...], names: tuple[str, ...], everywhere: int) -> Path:
    """A checkpoint of a model that sees one channel everywhere, with probability almost 1."""
    network = {
        "library": "torchvision",
        "architecture": {"name": "lraspp_mobilenet_v3_large"},
        "outputs": "softmax",
        "background": "own",
        "bgr": False,
        "multiple": 1,
        "size": None,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    model = make_segmenter(Description(network, steps, names, binary=True))
    with torch.no_grad():
        bias = torch.zeros(len(names))
        bias[everywhere] = 20
        for classifier, part in zip(model.cls, bias.split([len(step) for step in steps]), strict=True):
            classifier.weight.zero_()
            classifier.bias.copy_(part)
    state = {
        "format": checkpoint.FORMAT,
        "identity": {
            "dataset": "folder",
            "task": "mine",
            "protocol": "overlap",
            "classes": [list(step) for step in steps],
        },
        "class_names": list(names),
        "options": {},
        "network": network,
        "model_state": model.state_dict(),
    }
    checkpoint.save(path, state)
    return path


def call(line: str) -> int:
    return main(get_argparser().parse_args([*line.split(), "--device", "cpu"]))


@pytest.fixture(scope="module")
def ckpts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that sees dogs, and one of the next step that sees cows; ids are not channels."""
    folder = tmp_path_factory.mktemp("ckpts")
    before = saved(folder / "before.pth", ((0, 5, 3),), ("background", "dog", "horse"), 1)
    return before, saved(folder / "after.pth", ((0, 5, 3), (1,)), ("background", "dog", "horse", "cow"), 3)


def test_command(ckpts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        Image.new("RGB", (40, 24), (90,) * 3).save(photo(tmp_path / f"held/{number}.png", 9))
    before, after = ckpts
    line = f"--before {before} --after {after} --held_back {tmp_path / 'held'} --out {tmp_path / 'out'}"
    assert call(line) == 0
    said = capsys.readouterr().out
    assert "Held back, without labels: 2 images, 1,920 pixels. Of these 0.0 % keep" in said
    assert "cow took 100.0 % of what was dog (1,920 pixels)." in said and "--val" in said
    rows = list(csv.DictReader((tmp_path / "out/statement.csv").open(encoding="utf-8")))
    assert [(one["class"], one["id"]) for one in rows[:4]] == [
        ("background", "0"),
        ("horse", "3"),
        ("dog", "5"),
        ("cow", "1"),
    ]
    (tmp_path / "held/broken.png").write_bytes(b"")
    assert call(line) == 1 and "broken.png: is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--max_side 0", "--max_side 0: a whole number"),
        ("--held_back {folder}/nothing", "nothing: no such list or folder of images"),
        ("--held_back {folder}/list.txt", r"--held_back: no image can be read: .*gone\.jpg: no such file"),
        ("--val {folder}", "images: the images are missing"),
        ("--before {folder}/none.pth", "none.pth"),
    ],
)
def test_bad_input_is_one_line(
    ckpts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, message: str
) -> None:
    (tmp_path / "list.txt").write_text("gone.jpg\n")
    before, after = ckpts
    line = f"--before {before} --after {after} --out {tmp_path / 'out'} {more.format(folder=tmp_path)}"
    assert script.run(lambda: call(line), "adding.statement") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and re.search(message, said[0])
    assert not (tmp_path / "out").exists()
