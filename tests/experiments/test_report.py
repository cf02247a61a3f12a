"""The page of an experiment: built from a small one that was really run, and looked at in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import argparser
import run
from experiments import report
from experiments.history import read_history
from utils.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
# Runs in the page and writes down what is wrong with it.
PROBE = """<script>addEventListener("load", () => {
const errors = window.collected;
const broken = [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length;
const unnamed = [...document.images].filter(i => !i.alt).length;
const outside = [...document.querySelectorAll("[src],[href]")]
  .filter(e => !/^(data:|#)/.test(e.getAttribute("src") || e.getAttribute("href"))).length;
parent.document.title = "PROBE " + JSON.stringify({images: document.images.length, broken, unnamed,
  outside, errors, overflow: document.documentElement.scrollWidth - window.innerWidth});
});</script>"""


def note(work: Path, name: str, command: list[str]) -> None:
    """A stage that ended, as the runner writes it down."""
    (work / "stages").mkdir(parents=True, exist_ok=True)
    (work / "stages" / f"{name}.json").write_text(json.dumps({"command": command, "ended": True, "seconds": 1.0}))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> Path:
    """Base step, two arms of one seed, a selection of web images and a rehearsal, with the marks of their stages."""
    folder = tmp_path_factory.mktemp("experiment")
    common = (
        f"--random_seed 7 --dataset shapes --task 5-3 --protocol overlap --dataset_dir {small_shapes} --logdir {folder}/logs "
        f"--checkpoints {folder}/checkpoints --backbone timm:resnet10t --crop_size 64 --crop_size_val 64 --batch_size 4 "
        "--iters_per_epoch 2 --num_workers 0 --device cpu --epochs 2 --sample_num 0 --print_interval 1 --val_interval 1"
    )
    step = f"--step 1 --step_ckpt {folder}/checkpoints/step/shapes-5-3-ov/base-7_0.pth"
    for name, own in (
        ("base", "--step 0 --bce --no_pretrained"),
        ("fine-tuning", f"{step} --bce"),
        ("raw-web", f"{step} --weakly --pseudo_ep 0"),
    ):
        words = f"--name {name}-7 {own} {common}".split()
        assert run.main(argparser.parse(words)) == 0
        note(folder, f"{name}-7" + ("-step1" if "step 1" in own else ""), ["run.py", *words])
    pictures = folder / "pictures"
    pictures.mkdir()
    for i in range(3):
        Image.fromarray(np.full((40, 60, 3), 80 * i, np.uint8)).save(pictures / f"{i:05}.jpg")
    (folder / "selected.csv").write_text(
        "path,class,caption,kept,reason\npictures/00000.jpg,cross,a <b>cross</b>,1,the best of its class\n"
        "pictures/00001.jpg,cross,a ring,0,the caption does not name cross\npictures/00009.jpg,cross,gone,0,too late\n"
    )
    note(folder, "select-words-7", ["select_web.py", "--web_path", "x", "--out", str(folder / "selected.csv")])
    for name in ("captions", "nouns", "kept", "downloads/one"):
        (folder / name).mkdir(parents=True)
    shutil.copy(pictures / "00001.jpg", folder / "downloads/one/00001.jpg")
    shutil.copy(pictures / "00002.jpg", folder / "downloads/one/00002.jpg")
    (folder / "captions/one.txt").write_text("00001.jpg a red circle\n00002.jpg two dogs\n")
    (folder / "nouns/one.txt").write_text("00001.jpg circle \n00002.jpg dog \n")
    (folder / "kept/one.txt").write_text("00001.jpg\n")
    (folder / "words.txt").write_text("one.png circle \n")
    note(folder, "replay-nouns", ["-m", "x", "--captions", f"{folder}/captions", "--out", f"{folder}/nouns"])
    note(folder, "replay-filter", ["-m", "x", "--classes", f"{folder}/words.txt", "--out", f"{folder}/kept"])
    note(folder, "replay-tree-7", ["-m", "x", "--images", f"{folder}/downloads"])
    return folder


def made(work: Path, *more: str) -> str:
    out = report.main(report.get_argparser().parse_args(["--work", str(work), *more]))
    return out.read_text(encoding="utf-8")


def text_of(page: str, section: str) -> str:
    """The words of a section, without tags."""
    found = re.search(rf"<section[^>]*><h2>{section}</h2>(.*?)</section>", page, re.DOTALL)
    assert found is not None, section
    return re.sub(r"<[^>]+>", " ", re.sub(r'src="[^"]*"', "", found[1]))


def test_what_the_page_says(work: Path) -> None:
    page = made(work)
    assert "step 1: difference to raw-web" in text_of(page, "Scores") and "step 0" in text_of(page, "Scores")
    classes = text_of(page, "By class").split()
    for word in ("background", "heart", "fine-tuning", "raw-web"):
        assert word in classes
    shown = text_of(page, "Predictions")
    assert shown.count("truth") == shown.count("raw-web") >= 1 and "base" in shown
    assert page.count("loss/cls over iterations") == 1 and page.count("val/all_iou over iterations") == 1
    assert page.count('alt="confusion matrix of ') == 2
    web = text_of(page, "Web images, kept and left out")
    assert "1 kept" in web and "2 left out" in web and "the caption does not name cross" in web and "00009.jpg" in web
    assert "<b>cross</b>" not in page, "a caption is text"
    captions = text_of(page, "Rehearsal: captions and their nouns")
    assert "one: circle; 1 of 2 kept" in captions and "nouns: dog" in captions
    options = text_of(page, "Options and commands")
    assert "--weakly" in options and "--random_seed" in options.split("All 7 commands")[1]
    versions = text_of(page, "Versions")
    assert "torch" in versions and "commit" in versions


def test_arms_and_what_is_missing(work: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(work, tmp_path / "copy")
    for path in [*copy.glob("stages/select*"), *copy.glob("stages/replay*")]:
        path.unlink()
    for stage in copy.glob("stages/*.json"):
        stage.write_text(stage.read_text().replace(str(work), str(copy)))
    (copy / "logs/shapes-5-3-ov/raw-web-7/confusion_1.csv").unlink()
    (copy / "logs/shapes-5-3-ov/raw-web-7/scalars.jsonl").write_text('{"tag": "loss/seg"')
    (copy / "checkpoints/step/shapes-5-3-ov/raw-web-7_1.pth").unlink()
    page = made(copy, "--arms", "raw-web", "--out", str(tmp_path / "a" / "page.html"))
    assert "fine-tuning" not in text_of(page, "By class")
    assert "No confusion matrix was kept of: raw-web, seed 7" in text_of(page, "Confusions")
    assert "hold no curves" in text_of(page, "Learning curves")
    assert "No test image with a class of the task, or no checkpoint" not in text_of(page, "Predictions")
    assert "No checkpoint is left of: raw-web" in text_of(page, "Predictions")
    assert "No web image was selected" in page and "Nothing was rehearsed" in page


def test_history(work: Path, tmp_path: Path) -> None:
    history = read_history(work)
    assert next((one.arm, one.seed, one.step) for one in history.runs) == ("base", 7, 0)
    assert all(one.checkpoint.is_file() and one.folder.is_dir() for one in history.runs)
    curve = next(history.of("fine-tuning", 1)).curves()["loss/seg"]
    assert sorted(curve) == [1, 2, 3, 4]
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/a.json").write_text("{")
    note(tmp_path, "b", ["run.py", "--option_of_another_version"])
    with pytest.raises(UserError, match="no run of an experiment has ended there"):
        read_history(tmp_path)
    with pytest.raises(UserError, match="--arms mine"):
        made(work, "--arms", "mine")


@pytest.mark.parametrize("width", [390, 1440])
def test_in_a_browser(width: int, work: Path, tmp_path: Path) -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: the page is not looked at")
    page = made(work, "--out", str(tmp_path / "page.html"))
    watched = page.replace(
        "<head>",
        "<head><script>window.collected = []; addEventListener('error', e => collected.push(e.message));</script>",
        1,
    )
    (tmp_path / "watched.html").write_text(watched.replace("</body>", PROBE + "</body>"))
    # Headless windows are no narrower than 500 pixels: the page is looked at in a frame.
    frame = f'<iframe src="watched.html" style="width:{width}px;height:900px;border:0"></iframe>'
    (tmp_path / "frame.html").write_text(f"<!doctype html><html><head></head><body>{frame}</body></html>")
    done = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1600,1000", "--virtual-time-budget=20000", "--dump-dom",
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = re.search(r"<title>PROBE (.*?)</title>", done.stdout)
    assert found is not None, done.stderr[-2000:]
    seen = json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<"))
    assert seen["images"] > 10 and seen["overflow"] <= 0
    assert (seen["broken"], seen["unnamed"], seen["outside"], seen["errors"]) == (0, 0, 0, [])
