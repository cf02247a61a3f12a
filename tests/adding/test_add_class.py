"""From a model and folders of images to a released folder that knows more, with real commands on drawn shapes, and once more.

The commands run in this process, one after the other, so that libraries are loaded once.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import add_class
import argparser
from dataset.replay_tree import originals
from dataset.shapes import render_web
from experiments import runner
from segmentation_module import load_segmenter, read_segmenter
from tests.adding.base import checkpoint_of_four_shapes
from tests.adding.test_inputs import picture
from utils.errors import UserError
from utils.script import run
from utils.whole import locked

SIZES = "--crop_size 32 --batch_size 4 --num_workers 0 --device cpu --hold_back 0.2"


class Here:
    """A command that runs in this process, as ``subprocess.Popen`` starts one in another; ``commands`` are those that ran."""

    commands: ClassVar[list[str]] = []

    def __init__(self, line: list[str], **_: Any) -> None:
        words = line[2:] if line[1] == "-m" else line[1:]
        name, arguments = words[0].removesuffix(".py"), words[1:]
        self.commands.append(name)
        module = importlib.import_module(name)
        parse: Callable[[list[str]], Any] = {"run": argparser.parse, "utils.measure_noun": list}.get(
            name, lambda given: module.get_argparser().parse_args(given)
        )
        self.returncode = run(lambda: module.main(parse(arguments)), name)

    def poll(self) -> int:
        """It has ended."""
        return self.returncode


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(runner.subprocess, "Popen", Here)
    monkeypatch.setattr(runner, "PAUSE", 0)
    monkeypatch.setattr(Here, "commands", [])
    return Here.commands


def call(line: str) -> int:
    return add_class.main(add_class.get_argparser().parse_args(line.split()))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> Path:
    return checkpoint_of_four_shapes(tmp_path_factory.mktemp("base"), small_shapes)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> str:
    """Options for web images of rings and hearts, with captions, and unlabelled images of other shapes."""
    folder = tmp_path_factory.mktemp("images")
    render_web(folder / "web", ["ring", "heart"], 6, label_noise=0, size=64)
    (folder / "old").mkdir()
    for path in sorted((small_shapes / "images/train").iterdir())[:10]:
        shutil.copy(path, folder / "old")
    return f"--images {folder / 'web'} --old_images {folder / 'old'}"


def test_adding_and_adding_again(
    tmp_path: Path, base: Path, images: str, here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "OUT", tmp_path / "OUT2"
    first = f"{SIZES} {images} --model {base} --classes ring --steps 2 --out {out}"
    assert call(first) == 0
    ran = [
        "adding.inputs",
        "select_web",
        "adding.rehearsal",
        "adding.adoption",
        "generate_label",
        "generate_train_file",
    ]
    assert here == [*ran, "run", "adding.statement", "export"]
    said = capsys.readouterr().out
    assert "New: ring; old: circle, square, triangle, star" in said and "+ python run.py --name add" in said
    assert "--crop_size 32 --batch_size 4 --steps 2 --num_workers 0; each is an option" in said
    made = {"config.json", "model.safetensors", "README.md", "ATTRIBUTION.csv", "report.html", "statement.md", "work"}
    assert made <= {path.name for path in out.iterdir()}
    known = load_segmenter(out).description
    assert known.steps == ((0, 1, 2, 3, 4), (5,)) and known.class_names[1:] == (
        "circle", "square", "triangle", "star", "ring",
    )  # fmt: skip

    # The same command again has nothing to do; another image makes what depends on it anew.
    here.clear()
    assert call(first) == 0 and here == [] and "9 of 9 stages are done" in capsys.readouterr().out
    assert call(f"{first} --dry_run --random_seed 1") == 0
    assert "# train: was made by other commands, which is kept as .bak" in capsys.readouterr().out

    # The released folder is a model like any other; its web images are rehearsed beside the old ones.
    second = f"{SIZES} {images} --model {out} --classes heart --minutes 0.02 --out {again}"
    assert call(second) == 0
    assert here.count("run") == 2 and "utils.measure_noun" in here
    assert "s an iteration: " in capsys.readouterr().out
    names = [folder.name for folder in originals(again / "work/replay")]
    assert len(names) == 8 + 6 and sum(name.startswith("ring-") for name in names) == 6
    marker = json.loads((again / "work/replay/labels.json").read_text())
    assert [5, "ring"] in marker["classes"]
    known, _ = read_segmenter(again)
    assert known.steps == ((0, 1, 2, 3, 4), (5,), (6,)) and known.class_names[-1] == "heart"
    taught = json.loads((again / "work/taught.json").read_text())
    assert [entry["classes"] for entry in taught] == [["ring"], ["heart"]]


def test_what_was_stopped_goes_on(
    tmp_path: Path, base: Path, images: str, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that fails ends the call with its exit code; the next call begins with it."""
    line = f"{SIZES} {images} --model {base} --classes ring --steps 1 --out {tmp_path / 'OUT'}"
    listing = importlib.import_module("adding.rehearsal")
    whole = listing.place

    def full(*_: Any, **__: Any) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(listing, "place", full)
    assert call(line) == 2 and here == ["adding.inputs", "select_web", "adding.rehearsal"]
    here.clear()
    monkeypatch.setattr(listing, "place", whole)
    monkeypatch.setattr(importlib.import_module("adding.adoption"), "main", lambda given: 130)
    assert call(line) == 130 and here == ["adding.rehearsal", "adding.adoption"]


# ---- refused before anything is made ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--images WEB --old_images OLD --classes circle", "no image of circle"),
        ("--images STAR --old_images OLD --classes star", "class star: the model knows it already"),
        ("--images WEB", "circle, square, triangle, star, which will be forgotten"),
        ("--images WEB --old_images EMPTY", "0 images; at least 2 are needed"),
        ("--images EMPTY --old_images OLD", "holds neither manifest.csv nor one folder of images"),
        ("--images WEB --old_images OLD --steps 3 --minutes 1", "--steps contradicts --minutes"),
        ("--images WEB --old_images OLD --minutes 0", "--minutes 0.0: a number above 0"),
        ("--images WEB --old_images OLD --hold_back 1", "--hold_back 1.0: a share"),
        ("--images WEB --old_images OLD --val NOWHERE", "no such folder of images and masks"),
        ("--images WEB --old_images OLD --class_names NOWHERE", "says itself what it is; leave out --class_names"),
        ("--images WEB --old_images OLD --out FULL", "holds files that add_class.py did not make"),
        ("--old_images OLD", "--classes is missing"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(
    tmp_path: Path, base: Path, images: str, here: list[str], line: str, said: str
) -> None:
    web, old = images.split()[1::2]
    places = {"WEB": web, "OLD": old, "NOWHERE": tmp_path / "nowhere", "EMPTY": tmp_path / "empty"}
    places |= {"FULL": picture(tmp_path / "full/mine.png").parent, "STAR": tmp_path / "new"}
    (tmp_path / "empty").mkdir()
    for number in range(5):
        picture(tmp_path / f"new/star/{number}.png", number)
    for name, place in places.items():
        line = line.replace(name, str(place))
    line = line if "--out" in line else f"{line} --out {tmp_path / 'OUT'}"
    with pytest.raises(UserError, match=said) as caught:
        call(f"--model {base} --device cpu {line}")
    assert "\n" not in str(caught.value) and here == [] and not (tmp_path / "OUT").exists()


def test_a_model_is_not_written_over(tmp_path: Path, images: str) -> None:
    (tmp_path / "OUT").mkdir()
    with pytest.raises(UserError, match="is the model's own folder"):
        call(f"--model {tmp_path / 'OUT'} {images} --out {tmp_path / 'OUT'}")


def test_one_call_at_a_time(tmp_path: Path, base: Path, images: str) -> None:
    stages = tmp_path / "OUT/work/stages"
    stages.mkdir(parents=True)
    with locked(stages / ".lock", wait=False), pytest.raises(UserError, match="another"):
        call(f"{SIZES} {images} --model {base} --classes ring --steps 1 --out {tmp_path / 'OUT'}")
