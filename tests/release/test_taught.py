"""Whose images taught a model: those that its run chose, with author and licence, and what is not known of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pictures

from argparser import OPTIONS, default_of
from modules.description import Description
from release.taught import COLUMNS, FILE, Image, Taught, of_model, read_table
from tests.modules.test_released import DESCRIPTION
from utils import checkpoint, manifest
from utils.errors import UserError

STEPS = [[0, 8, 12], [10], [17]]
NAMES = ["background", "cat", "dog", "cow", "sheep"]
BY_SA, BY = (
    "by-sa 4.0 https://creativecommons.org/licenses/by-sa/4.0/",
    "CC BY 2.0 https://creativecommons.org/licenses/by/2.0",
)


def web(folder: Path, rows: list[tuple[str, ...]]) -> Path:
    """A manifest of (class, licence, author, kept) and its images."""
    written = []
    for number, (name, licence, author, kept) in enumerate(rows):
        path = folder / f"{name}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pictures.new("RGB", (8, 8)).save(path)
        said = {"path": f"{name}/{number}.png", "class": name, "licence": licence, "author": author, "kept": kept}
        written.append(
            said
            | {
                "url": f"https://x.org/{number}.png",
                "page": f"file:///home/me/{number}",
                "caption": f"a {name}, grazing",
            }
        )
    manifest.write(folder / "manifest.csv", [*manifest.COLUMNS, "kept"], written)
    return folder / "manifest.csv"


def saved(folder: Path, step: int, **options: Any) -> Path:
    """A checkpoint of a step."""
    path = folder / f"best_{step}.pth"
    all_options = {name: default_of(name, "voc") for name in OPTIONS} | {
        "name": "best", "dataset": "voc", "task": "2-1-1", "step": step, "protocol": "overlap", "backbone": "timm:test_resnet",
        "lr_head": 1.0, "method": "weak" if step else "supervised", "pooling": 4, "local_rank": 0, "weakly": step > 0,
    } | options  # fmt: skip
    classes = STEPS[: step + 1]
    known = {key: value for key, value in all_options.items() if value is not None or key in ASKED}
    checkpoint.save(path, {
        "format": 1, "identity": {"dataset": "voc", "task": "2-1-1", "protocol": "overlap", "classes": classes},
        "class_names": NAMES[: sum(map(len, classes))], "options": known,
        "model_state": {"cls.0.weight": torch.zeros(3, 2, 1, 1)},
    })  # fmt: skip
    return path


ASKED = {"dataset_dir", "train_list"}


def described(step: int) -> Description:
    classes = STEPS[: step + 1]
    return Description(
        DESCRIPTION.network,
        tuple(map(tuple, classes)),
        tuple(NAMES[: sum(map(len, classes))]),
        binary=True,
        dataset="voc",
        task="2-1-1",
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two weak steps: cows in the second, at most two of them, sheep in the third."""
    cows = web(tmp_path / "cows", [("cow", BY_SA, "Ann", "1"), ("cow", "", "", "1"), ("cow", BY, "Bob", "0"), ("cow", BY, "Cat", "1"),
                                   ("cat", BY, "Dan", "1"), ("giraffe", BY, "Eve", "1")])  # fmt: skip
    sheep = web(tmp_path / "flock", [("sheep", BY, "Bob", "1")])
    saved(tmp_path, 0)
    saved(tmp_path, 1, web=True, web_path=str(cows), web_num=2)
    return saved(tmp_path, 2, web=True, web_path=str(sheep), replay=True, replay_path="data/tree")


def test_a_run_says_what_taught_it(run: Path) -> None:
    """What the selection left, what came after the largest number, and other classes taught nothing."""
    taught = of_model(str(run), described(2))
    assert [(image.name, image.author) for image in taught.images] == [("sheep", "Bob"), ("cow", "Ann"), ("cow", "")]
    first = taught.images[1]
    assert (first.title, first.licence, first.url, first.page) == ("a cow, grazing", BY_SA, "https://x.org/0.png", "")
    assert (first.licence_name, first.licence_address) == (
        "by-sa 4.0",
        "https://creativecommons.org/licenses/by-sa/4.0/",
    )
    assert taught.unlicensed == 1
    assert "tree" in taught.notes[0] and "licences are not known" in taught.notes[0] and len(taught.notes) == 1


def test_images_are_those_that_the_run_sees(run: Path) -> None:
    """An unreadable image was left out then, too; one that is removed since was not."""
    folder = run.parent / "cows/cow"
    (folder / "0.png").write_bytes(b"no image")
    assert [image.url[-5:] for image in of_model(str(run), described(2)).images[1:]] == ["1.png", "3.png"]
    (folder / "0.png").unlink()
    assert [image.url[-5:] for image in of_model(str(run), described(2)).images[1:]] == ["0.png", "1.png"]


def test_what_is_not_there_is_told(run: Path) -> None:
    (run.parent / "flock/manifest.csv").unlink()
    (run.parent / "flock/sheep").rename(run.parent / "elsewhere")
    (run.parent / "best_1.pth").unlink()
    taught = of_model(str(run), described(2))
    assert not taught.images
    assert [("--web" in note) for note in taught.notes] == [False, True, True]
    assert (
        "step 2: its web images cannot be told" in taught.notes[1]
        and "step 1: its checkpoint is not beside" in taught.notes[2]
    )


def test_a_damaged_manifest_is_told(run: Path) -> None:
    with (run.parent / "flock/manifest.csv").open("a") as file:
        file.write("half a row\n")
    taught = of_model(str(run), described(2))
    assert [image.name for image in taught.images] == ["cow", "cow"] and "line 3: has not 14 columns" in taught.notes[1]


def test_another_step_before_is_not_believed(run: Path) -> None:
    state = checkpoint.load(run.parent / "best_1.pth")
    state["identity"]["classes"] = [[0, 8, 12], [13]]
    checkpoint.save(run.parent / "best_1.pth", state)
    taught = of_model(str(run), described(2))
    assert [image.name for image in taught.images] == ["sheep"] and "is not the step before" in taught.notes[1]


def test_manifests_of_the_user(tmp_path: Path) -> None:
    """Kept rows of the model's classes; the same image twice is one."""
    path = web(tmp_path / "web", [("cow", BY, "Ann", "1"), ("sheep", BY, "Bob", "0"), ("zebra", BY, "Cat", "1")])
    taught = of_model("smp:somewhere", described(2), [path, path])
    assert [image.author for image in taught.images] == ["Ann"]
    with pytest.raises(UserError, match="has no kept image of the model's classes"):
        of_model("smp:somewhere", described(0), [path])


def test_manifests_of_a_step_are_not_taken_twice(run: Path) -> None:
    """What the step left of its own manifest stays left."""
    assert len(of_model(str(run), described(2), [run.parent / "cows", run.parent / "flock/manifest.csv"]).images) == 3


def test_released_folders_stand_for_their_images(tmp_path: Path) -> None:
    table = Taught([Image("cow", author="Ann"), Image("zebra")]).table()
    assert table is not None
    (tmp_path / FILE).write_text(table, encoding="utf-8")
    for given in (tmp_path, tmp_path / FILE):
        assert [image.author for image in of_model("smp:somewhere", described(1), [given]).images] == ["Ann"]


def test_a_table_comes_back(tmp_path: Path) -> None:
    images = [
        Image("cow", 'a "cow", grazing', "Ann\u2028Lee, the elder", BY, "commons"),
        Image("näht"),
        Image("cow", url="https://x.org/1"),
    ]
    table = Taught(images).table()
    assert table is not None and table.startswith(",".join(COLUMNS))
    (tmp_path / FILE).write_text(table, encoding="utf-8")
    assert read_table(tmp_path / FILE) == images
    assert of_model(str(tmp_path), described(0)).images == images
    assert Taught().table() is None


def test_tables_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / FILE
    for text, said in (
        ("", "columns are not"),
        ("a,b\n", "columns are not"),
        (",".join(COLUMNS) + "\ncow\n", "line 2: has not 8 columns"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            read_table(path)


def test_licences_are_counted() -> None:
    taught = Taught(
        [
            Image("cow", licence=BY),
            Image("cow", licence=BY_SA, title="1"),
            Image("cow", licence=BY, title="2"),
            Image("ox"),
        ]
    )
    assert list(taught.licences().items()) == [
        (("CC BY 2.0", "https://creativecommons.org/licenses/by/2.0"), 2),
        (("by-sa 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"), 1),
        (("", ""), 1),
    ]


def test_telling_is_quiet(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "webwilss")
    of_model(str(run), described(2))
    assert not caplog.records
