"""The drawn data set: the same for the same seed, learnable statistics, whole or not there."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import shapes
from dataset.shapes_drawing import OUTLINES, SHAPES, draw_coverage, scene, scene_classes
from dataset.shapes_web import DOMAINS, SYNONYMS, web_picture
from tasks import IGNORE
from utils.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = {"size": 48, "train": 10, "val": 4}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.suffix in (".png", ".jpg", ".csv", ".txt")
    }


def leftovers(folder: Path) -> list[Path]:
    return [p for p in folder.parent.iterdir() if p.name.startswith(".")]


def test_scene_has_classes_borders_and_background() -> None:
    for index in range(40):
        image, mask = scene(np.random.default_rng((0, 0, index)), 96, index)
        assert image.shape == (96, 96, 3) and image.dtype == np.uint8
        assert mask.shape == (96, 96) and mask.dtype == np.uint8
        values = set(np.unique(mask).tolist())
        assert values <= {0, IGNORE, *range(1, len(SHAPES) + 1)}
        assert 0 in values and IGNORE in values
        assert 1 <= len(values - {0, IGNORE}) <= 3
        # The border is one pixel wide: no 3 x 3 block of the mask is border alone.
        border = mask == IGNORE
        block = np.lib.stride_tricks.sliding_window_view(border, (3, 3)).all((2, 3))
        assert not block.any()
        assert border.mean() < 0.2


def test_classes_are_balanced_and_occur_together() -> None:
    held = np.zeros((800, len(SHAPES)), bool)
    for index in range(800):
        objects = scene_classes(np.random.default_rng((0, 0, index)), index)
        assert 1 <= len(objects) <= 4
        held[index, np.array(objects) - 1] = True
    share = held.mean(0)
    assert share.min() > 0.7 * share.max()
    counts = held.sum(1)
    assert counts.max() == 3 and (counts == 1).mean() > 0.2 and (counts > 1).mean() > 0.4
    # Disjoint protocol of task 5-3: enough images without any class of the later step.
    assert (~held[:, 5:].any(1)).mean() > 0.25


def test_every_object_stays_visible() -> None:
    for index in range(60):
        rng = np.random.default_rng((3, 0, index))
        first = scene_classes(np.random.default_rng((3, 0, index)), index)[0]
        _, mask = scene(rng, 128, index)
        assert (mask == first).any() or len(np.unique(mask)) > 2
        for class_id in set(np.unique(mask).tolist()) - {0, IGNORE}:
            assert (mask == class_id).sum() > 25


@pytest.mark.parametrize("name", SHAPES)
def test_outlines_fill_their_circle(name: str) -> None:
    cover = np.asarray(draw_coverage(name, 96, 36, 0.7, 1.0, 0, 0), float) / 255
    y, x = np.mgrid[:96, :96] - 47.5
    assert cover[np.hypot(x, y) > 48].max() == 0
    assert 0.2 < cover.sum() / (np.pi * 36**2) < 1.0
    assert ((cover > 0.05) & (cover < 0.95)).any()


def test_outlines_differ_by_shape() -> None:
    # Whatever the turn, two classes do not cover the same pixels.
    def turns(name: str) -> list[np.ndarray]:
        return [
            np.asarray(draw_coverage(name, 64, 26, a, 1.0, 0, 0), float) / 255 for a in np.linspace(0, 2 * np.pi, 24)
        ]

    assert set(OUTLINES) == set(SHAPES) == set(SYNONYMS)
    for a, first in enumerate(SHAPES):
        upright = turns(first)[0]
        for second in SHAPES[a + 1 :]:
            best = max(np.minimum(upright, t).sum() / np.maximum(upright, t).sum() for t in turns(second))
            assert best < 0.85, (first, second, best)


def test_make_writes_the_layout_and_hands_out_the_source(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "shapes"
    train = shapes.make(folder, "train", **SMALL)
    val = shapes.make(folder, "val")
    assert len(train) == 10 and len(val) == 4
    assert train.class_names == shapes.CLASS_NAMES == {0: "background", **dict(enumerate(SHAPES, 1))}
    for i in range(10):
        mask = train.mask(i)
        assert train.image(i).size == (48, 48) and mask.shape == (48, 48)
        present = np.isin(np.arange(1, 9), mask)
        assert np.array_equal(train.image_labels()[i], present)
    with Image.open(folder / "masks/train/00000.png") as image:
        assert image.mode in ("L", "P")
    parameters = json.loads((folder / "shapes.json").read_text())
    assert parameters["seed"] == 0 and parameters["size"] == 48 and parameters["train"] == 10
    assert leftovers(folder) == []


def test_a_picture_depends_on_seed_split_and_index_alone(tmp_path: Path) -> None:
    shapes.make(tmp_path / "a", "train", **SMALL)
    shapes.make(tmp_path / "b", "train", size=48, train=3, val=2)
    shapes.make(tmp_path / "c", "train", seed=1, **SMALL)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    for name in ("images/train/00002.png", "masks/train/00002.png", "images/val/00001.png"):
        assert a[name] == b[name] != c[name]
    assert a["images/train/00000.png"] != a["images/val/00000.png"]
    image, mask = scene(np.random.default_rng((0, 0, 2)), 48, 2)
    with Image.open(tmp_path / "a/images/train/00002.png") as drawn:
        assert np.array_equal(np.asarray(drawn), image)
    with Image.open(tmp_path / "a/masks/train/00002.png") as drawn:
        assert np.array_equal(np.asarray(drawn), mask)


def test_a_second_call_draws_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    shapes.make(folder, "train", **SMALL)
    picture = folder / "images/train/00000.png"
    written = picture.stat().st_mtime_ns
    shapes.make(folder, "train", **SMALL)
    shapes.make(folder, "train")
    assert picture.stat().st_mtime_ns == written


@pytest.mark.parametrize(("name", "value"), [("seed", 1), ("size", 64), ("train", 11), ("val", 5)])
def test_other_parameters_are_refused(tmp_path: Path, name: str, value: int) -> None:
    folder = tmp_path / "shapes"
    shapes.make(folder, "train", **SMALL)
    with pytest.raises(UserError, match=rf"shapes: drawn with {name} .* instead of {value}"):
        shapes.make(folder, "train", **{name: value})


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("size", 8), ("train", 0), ("val", 0)])
def test_senseless_parameters_are_refused(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(UserError, match=name):
        shapes.make(tmp_path / "shapes", "train", **{name: value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [None, "", "[1]", "{}"])
def test_a_folder_with_something_else_is_refused_and_kept(tmp_path: Path, text: str | None) -> None:
    folder = tmp_path / "shapes"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    if text is not None:
        (folder / "shapes.json").write_text(text)
    with pytest.raises(UserError, match="shapes: "):
        shapes.make(folder, "train", **SMALL)
    assert (folder / "thesis.txt").read_text() == "precious"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    folder.mkdir()
    assert len(shapes.make(folder, "val", **SMALL)) == 4


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="cannot be written"):
            shapes.make(tmp_path / "shapes", "train", **SMALL)
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "shapes").write_text("a file")
    with pytest.raises(UserError, match="shapes"):
        shapes.make(tmp_path / "shapes", "train", **SMALL)
    with pytest.raises(UserError, match="shapes"):
        shapes.make(tmp_path / "shapes" / "below", "train", **SMALL)


def test_interrupted_drawing_leaves_nothing_and_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shapes"
    drawn = 0

    def interrupted(*args: object) -> tuple[np.ndarray, np.ndarray]:
        nonlocal drawn
        drawn += 1
        if drawn > 5:
            raise KeyboardInterrupt
        return scene(*args)

    monkeypatch.setattr(shapes, "scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shapes.make(folder, "train", **SMALL)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(shapes.make(folder, "train", **SMALL)) == 10


def test_what_a_killed_drawing_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".shapes.0000.part", tmp_path / ".shapes.1111.part"
    for left in (old, young):
        (left / "images").mkdir(parents=True)
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    shapes.make(tmp_path / "shapes", "train", **SMALL)
    assert not old.exists() and young.exists()


def _make(folder: str) -> int:
    return len(shapes.make(Path(folder), "train", size=48, train=40, val=4))


def test_processes_that_draw_at_once_agree(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_make, [str(folder)] * 3) == [40] * 3
    shapes.make(tmp_path / "alone", "train", size=48, train=40, val=4)
    assert contents(folder) == contents(tmp_path / "alone")
    assert leftovers(folder) == []


def test_web_rendering_keeps_its_shares_and_tells_the_truth(tmp_path: Path) -> None:
    manifest = shapes.render_web(
        tmp_path / "web", ["circle", "heart"], 40, seed=5, label_noise=0.25, other_domain=0.1, size=64
    )
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "class", "query", "caption", "true_class", "domain"]
    assert len(rows) == 80
    for name in ("circle", "heart"):
        own = [row for row in rows if row["class"] == name]
        assert sum(row["true_class"] != name for row in own) == 10
        assert sum(row["domain"] == "clipart" for row in own) == 4
        assert {row["domain"] for row in own} == set(DOMAINS)
    for row in rows:
        with Image.open(tmp_path / "web" / row["path"]) as image:
            assert image.format == "JPEG" and image.mode == "RGB"
            assert all(50 < side < 80 for side in image.size)
        words = row["caption"].split()
        assert set(words) & set(SYNONYMS[row["true_class"]]), row
        for other in set(SHAPES) - {row["true_class"]}:
            assert not set(words) & set(SYNONYMS[other]), row
    assert rows[0]["path"] == "circle/00001.jpg"


def test_web_rendering_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        shapes.render_web(tmp_path / name, ["star"], 4, seed=seed, size=64)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b != c
    again = shapes.render_web(tmp_path / "a", ["star"], 4, seed=0, size=64)
    assert again.is_file()
    with pytest.raises(UserError, match="per_class 4 instead of 5"):
        shapes.render_web(tmp_path / "a", ["star"], 5, seed=0, size=64)


@pytest.mark.parametrize(
    ("classes", "more", "message"),
    [
        (["circel"], {}, "circel"),
        ([], {}, "choose out of"),
        (["star"], {"label_noise": 1.5}, "label_noise"),
        (["star"], {"other_domain": -0.1}, "other_domain"),
        (["star"], {"size": 2}, "size"),
    ],
)
def test_senseless_web_requests_are_refused(
    tmp_path: Path, classes: list[str], more: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        shapes.render_web(tmp_path / "web", classes, 2, 0, **more)


@pytest.mark.parametrize("domain", DOMAINS)
def test_web_pictures_show_one_big_object(domain: str) -> None:
    for name in SHAPES:
        image, caption = web_picture(np.random.default_rng((1, 2)), name, domain, 96)
        assert image.dtype == np.uint8 and image.shape[2] == 3
        assert any(word in caption for word in SYNONYMS[name])
        assert image.reshape(-1, 3).std(0).max() > 5


def test_command_line(tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dataset.shapes", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    done = call("--out", str(tmp_path / "s"), "--size", "48", "--train", "3", "--val", "2")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "s/images/train").iterdir())) == 3
    done = call("--out", str(tmp_path / "s"), "--seed", "9")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "seed" in done.stderr
    done = call("--out", str(tmp_path / "w"), "--web", "--classes", "ring", "--per_class", "2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w/ring/00002.jpg").is_file()
