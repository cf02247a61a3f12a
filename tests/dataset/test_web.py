"""Web images as training data."""

from __future__ import annotations

import logging
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dataset.decoded
from dataset.replay_placing import place_web
from dataset.replay_tree import Marker, images_of, originals, write_marker
from dataset.transform import train_transform
from dataset.voc import CLASS_NAMES
from dataset.web import WebView
from tasks import Task, load_task
from utils import manifest
from utils.errors import UserError
from utils.images import load_image, write_mask

TASK = load_task("voc", "4-2")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("WEBWILSS_CACHE", str(folder))
    return folder


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)


def view(
    path: Path, *, per_class: int = 500, labels: str = "folder", step: int = 1, masks: Path | None = None
) -> WebView:
    return WebView(
        path,
        TASK,
        step,
        CLASS_NAMES,
        per_class=per_class,
        labels=labels,
        transform=train_transform(32),
        seed=1,
        masks=masks,
    )


def rows_to(folder: Path, rows: list[dict[str, str]]) -> Path:
    for row in rows:
        picture(folder / row["path"])
    columns = list(dict.fromkeys(key for row in rows for key in row))
    manifest.write(folder / "manifest.csv", columns, rows)
    return folder


def test_published_layout(tmp_path: Path) -> None:
    for name in ("cow/1.jpg", "cow/2.jpg", "sheep/1.jpg", "tv_monitor/1.jpg", "Cat/1.jpg"):
        picture(tmp_path / name)
    found = view(tmp_path)
    # Channels: cat, dog, horse, person, then cow, sheep; what belongs to another step is passed over.
    assert found.image_labels.tolist() == [[0, 0, 0, 0, 1, 0]] * 2 + [[0, 0, 0, 0, 0, 1]]
    sample = found[(0, 1)]
    assert sample.image.shape == (3, 32, 32) and sample.mask.unique().tolist() == [255]
    assert sample.name == "cow/2.jpg" and not sample.is_replay
    assert torch.equal(found[(0, 1)].image, sample.image) and not torch.equal(found[(1, 1)].image, sample.image)


def test_folders_are_matched_by_name_never_by_position(tmp_path: Path) -> None:
    for name in ("zzz_airplane", "television"):
        picture(tmp_path / name / "1.jpg")
    with pytest.raises(UserError, match="zzz_airplane is no class") as caught:
        WebView(tmp_path, load_task("voc", "19-1"), 1, CLASS_NAMES, per_class=5, labels="folder",
                transform=train_transform(32), seed=0)  # fmt: skip
    assert "aeroplane" in str(caught.value) and "tvmonitor" in str(caught.value)
    (tmp_path / "zzz_airplane").rename(tmp_path / "airplane")
    found = WebView(tmp_path, load_task("voc", "19-1"), 1, CLASS_NAMES, per_class=5, labels="folder",
                    transform=train_transform(32), seed=0)  # fmt: skip
    assert found.names == ["television/1.jpg"] and found.image_labels[0].nonzero()[0].tolist() == [19]


SIGNS = {0: "background", 1: "nucleus", 2: "HER2+", 3: "HER2-", 4: "type_1", 5: "type1", 6: "α-cell", 7: "β-cell"}


def signs(path: Path, old: list[int], new: list[int]) -> WebView:
    """The view of a step that learns ``new`` classes of ``SIGNS``."""
    task = Task("folder", "mine", ((0, *old), tuple(new)))
    transform = train_transform(32)
    return WebView(path, task, 1, SIGNS, per_class=9, labels="folder", transform=transform, seed=0)


def test_names_of_signs_and_other_letters(tmp_path: Path) -> None:
    for name in list(SIGNS.values())[2:]:
        picture(tmp_path / name / "1.jpg")
    found = signs(tmp_path, [1], [2, 3, 4, 5, 6, 7])
    columns = {name: int(labels.argmax()) + 1 for name, labels in zip(found.names, found.image_labels, strict=True)}
    assert columns == {f"{SIGNS[i]}/1.jpg": i for i in range(2, 8)}
    assert found.image_labels.sum() == 6


@pytest.mark.parametrize(("folder", "new"), [("HER2+", 3), ("HER2-", 2), ("type_1", 5), ("α-cell", 7)])
def test_images_of_another_class_are_never_taken_for_a_new_one(folder: str, new: int, tmp_path: Path) -> None:
    picture(tmp_path / folder / "1.jpg")
    with pytest.raises(UserError, match="no usable image of the new classes") as caught:
        signs(tmp_path, [i for i in range(1, 8) if i != new], [new])
    assert SIGNS[new] in str(caught.value)


def test_a_folder_that_may_be_two_classes(tmp_path: Path) -> None:
    picture(tmp_path / "t_ype1" / "1.jpg")
    with pytest.raises(UserError, match="t_ype1: may mean type_1 or type1; write it exactly"):
        signs(tmp_path, [1], [4, 5])


def test_what_is_passed_over_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"path": f"{i}.jpg", "class": name, "kept": kept, "caption": caption}
        for i, (name, kept, caption) in enumerate(
            [("cow", "1", "a cow"), ("cow", "1", "a cow"), ("cow", "0", "a cow"), ("cow", "1", "a tree"),
             ("sheep", "1", "a sheep"), ("bird", "1", "a bird")]
        )
    ]  # fmt: skip
    with caplog.at_level(logging.INFO, logger="webwilss"):
        found = view(rows_to(tmp_path, rows), per_class=1, labels="caption")
    assert found.names == ["0.jpg", "4.jpg"]
    assert (
        "Web images passed over: 2 more than 1 of a class (--web_num), 1 that the selection did not keep, "
        "1 of classes that are not new at this step"
    ) in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="webwilss"):
        view(tmp_path, labels="caption")
    assert "1 whose caption does not name their class" in caplog.text


def test_images_are_decoded_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A second start decodes what is new, what changed and what could not be read."""
    names = "cow/1.png", "cow/2.png", "cow/3.png", "sheep/1.png"
    for name in names:
        picture(tmp_path / name)
    whole = (tmp_path / "cow/3.png").read_bytes()
    (tmp_path / "cow/3.png").write_bytes(whole[: len(whole) // 2])
    opened: list[str] = []

    def noted(path: Path) -> Image.Image:
        opened.append(path.relative_to(tmp_path).as_posix())
        return load_image(path)

    monkeypatch.setattr(dataset.decoded, "load_image", noted)
    assert view(tmp_path).names == [names[0], names[1], names[3]] and opened == list(names)
    opened.clear()
    picture(tmp_path / "sheep/2.png")
    os.utime(tmp_path / "cow/2.png", ns=(1, 1))
    with caplog.at_level(logging.INFO, logger="webwilss"):
        assert len(view(tmp_path)) == 4
    assert opened == [names[1], names[2], "sheep/2.png"]
    assert (
        "decoded to see whether they can be read: 2; before: 2" in caplog.text and "1 web images cannot" in caplog.text
    )
    opened.clear()
    (kept,) = cache.iterdir()
    kept.write_bytes(b"\xff")
    (tmp_path / "cow/3.png").write_bytes(whole)
    assert len(view(tmp_path)) == 5 and len(opened) == 5 and "cannot be read: all web images" in caplog.text


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WEBWILSS_CACHE", str(tmp_path / "file"))
    for name in ("cow/1.png", "sheep/1.png"):
        picture(tmp_path / "web" / name)
    assert len(view(tmp_path / "web")) == 2
    assert "Web images are decoded again at the next start" in caplog.text


def test_accents_in_another_form_of_unicode(tmp_path: Path) -> None:
    rows = [{"path": "kühe.jpg", "class": "cow"}, {"path": "s.jpg", "class": "sheep"}]
    folder = rows_to(tmp_path, rows)
    (folder / "kühe.jpg").rename(folder / unicodedata.normalize("NFD", "kühe.jpg"))
    assert len(view(folder)) == 2


def test_at_most_so_many(tmp_path: Path) -> None:
    for number in range(5):
        for name in ("cow", "sheep"):
            picture(tmp_path / name / f"{number}.jpg")
    assert len(view(tmp_path, per_class=3)) == 6


def test_only_what_was_kept(tmp_path: Path) -> None:
    rows = [
        {"path": f"{name}/{kept}.jpg", "class": name, "kept": str(kept)} for name in ("cow", "sheep") for kept in (0, 1)
    ]
    assert view(rows_to(tmp_path, rows)).names == ["cow/1.jpg", "sheep/1.jpg"]


def test_labels_from_captions(tmp_path: Path) -> None:
    rows = [
        {"path": "1.jpg", "class": "cow", "caption": "two cows beside a dog"},
        {"path": "2.jpg", "class": "cow", "caption": "a green meadow"},
        {"path": "3.jpg", "class": "sheep", "caption": "a woman with her sheep on a sofa"},
    ]
    found = view(rows_to(tmp_path, rows), labels="caption")
    assert found.names == ["1.jpg", "3.jpg"]
    # The sofa is no class of this task.
    assert found.image_labels.tolist() == [[0, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 1]]
    assert len(view(tmp_path)) == 3, "without captions every image is of its folder's class"


def test_what_a_selection_read_is_not_read_again(tmp_path: Path) -> None:
    rows = [
        {"path": f"{name}.jpg", "class": name, "caption": "", "labels": f"{name};horse"} for name in ("cow", "sheep")
    ]
    found = view(rows_to(tmp_path, rows), labels="caption")
    assert found.image_labels.tolist() == [[0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 0, 1]]


def test_unreadable_images_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("cow/1.jpg", "cow/2.jpg", "sheep/1.jpg"):
        picture(tmp_path / name)
    (tmp_path / "cow/1.jpg").write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger="webwilss"):
        found = view(tmp_path)
    assert found.names == ["cow/2.jpg", "sheep/1.jpg"]
    assert "1 web images cannot be read" in caplog.text and "is empty" in caplog.text


def test_a_new_class_without_images(tmp_path: Path) -> None:
    picture(tmp_path / "cow/1.jpg")
    (tmp_path / "sheep").mkdir()
    with pytest.raises(UserError, match="no usable image of the new classes sheep"):
        view(tmp_path)


def test_captions_that_are_not_there(tmp_path: Path) -> None:
    picture(tmp_path / "cow/1.jpg")
    with pytest.raises(UserError, match="--web_labels folder"):
        view(tmp_path, labels="caption")


def labelled_tree(web: Path, tree: Path, values: dict[str, int], classes: dict[int, str]) -> Path:
    """The cow and sheep images of a manifest as a tree, each with a label of one value below, 255 in its upper half."""
    place_web(web, ["cow", "sheep"], tree, "hardlink")
    write_marker(tree, Marker("0", "voc", "4-2", 1, tuple(classes.items()), {}))
    for folder in originals(tree):
        for pair in images_of(folder):
            if pair.image.name in values:
                label = np.full((40, 50), 255, np.uint8)
                label[20:] = values[pair.image.name]
                write_mask(pair.label, label)
    return tree


SEEN = {i: CLASS_NAMES[i] for i in TASK.seen(1)}


def test_masks_of_web_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In channels; a new class that the image is not known to hold says nothing; rows that are passed over keep their numbers."""
    rows = [
        {"path": name, "class": kind, "kept": kept, "labels": labels}
        for name, kind, kept, labels in (
            ("dog.png", "dog", "1", "dog"), ("left.png", "cow", "0", "cow"), ("cow.png", "cow", "1", "cow"),
            ("both.png", "cow", "1", "cow;sheep"), ("other.png", "cow", "1", "cow"), ("old.png", "sheep", "1", "sheep"),
            ("none.png", "sheep", "1", "sheep"),
        )
    ]  # fmt: skip
    web = rows_to(tmp_path / "web", rows)
    cow, sheep, person = (
        next(i for i, name in SEEN.items() if name == wanted) for wanted in ("cow", "sheep", "person")
    )
    values = {"cow.png": cow, "both.png": sheep, "other.png": sheep, "old.png": person}
    tree = labelled_tree(web, tmp_path / "tree", values, SEEN)
    with caplog.at_level(logging.INFO):
        found = view(web, labels="caption", masks=tree)
    assert "Web images with a mask: 4 of 5" in caplog.text and "none.png: no such file" in caplog.text
    channels = [sorted(set(found[(0, position)].mask.unique().tolist()) - {255}) for position in range(len(found))]
    order = list(TASK.seen(1))
    assert channels == [[order.index(cow)], [order.index(sheep)], [], [order.index(person)], []]
    plain = view(web, labels="caption")
    for position in range(len(found)):
        assert torch.equal(found[(3, position)].image, plain[(3, position)].image)
    whole = found[(3, 0)]
    assert 0.2 < (whole.mask != 255).float().mean() < 0.8, "cut out as the image is"


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            SEEN | {20: "tvmonitor"},
            r"--web_masks .*tvmonitor \(20\) is no class of this step; label it by a checkpoint of this step",
        ),
        (SEEN | {10: "ox"}, "class 10 is ox there and cow here"),
        (
            {i: name for i, name in SEEN.items() if name != "cow"},
            "which does not know cow and takes them for background",
        ),
        (SEEN, "has no label of an image of the manifest"),
    ],
)
def test_masks_that_do_not_fit(classes: dict[int, str], message: str, tmp_path: Path) -> None:
    web = rows_to(tmp_path / "web", [{"path": f"{name}.png", "class": name} for name in ("cow", "sheep")])
    tree = labelled_tree(web, tmp_path / "tree", {}, classes)
    with pytest.raises(UserError, match=message):
        view(web, masks=tree)
