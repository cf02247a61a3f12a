"""The page of an experiment: built from a small one that was really run, and looked at in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import argparser
import run
from experiments import report
from experiments.history import History, read_history
from experiments.pages import predictions, sources
from experiments.pages.scores import answer
from experiments.pages.study import Study, study
from experiments.records import read_ended, record
from results.rows import read_runs
from results.tables import make_tables
from tests.conftest import ROOT
from tests.results.made_rows import add, joint_row, logs
from utils.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
# Runs in the page and writes down what is wrong with it.
PROBE = """<script>addEventListener("load", () => {
for (const one of document.querySelectorAll("details")) one.open = true;
const errors = window.collected;
const broken = [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length;
const unnamed = [...document.images].filter(i => !i.alt).length;
const outside = [...document.querySelectorAll("[src],[href]")]
  .filter(e => !/^(data:|#)/.test(e.getAttribute("src") || e.getAttribute("href"))).length;
parent.document.title = "PROBE " + JSON.stringify({images: document.images.length, broken, unnamed,
  outside, errors, overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth});
});</script>"""


def note(work: Path, name: str, command: list[str]) -> None:
    """A stage that ended, as version 0.1.0 wrote it down."""
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
    base = f"{folder}/checkpoints/step/shapes-5-3-ov/base-7_0.pth"
    step = f"--step 1 --step_ckpt {base}"
    for name, own in (
        ("base", "--step 0 --bce --no_pretrained"),
        ("base-all-pixels", f"--step 0 --test --test_unknown later --ckpt {base}"),
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


def made(work: Path, out: Path, *more: str, code: int = 0) -> str:
    assert report.main(["--work", str(work), "--out", str(out), *more]) == code
    return out.read_text(encoding="utf-8")


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """A command as a user calls it."""
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def text_of(page: str, section: str) -> str:
    """The words of a section, without tags."""
    found = re.search(rf"<section[^>]*><h2>{section}</h2>(.*?)</section>", page, re.DOTALL)
    assert found is not None, section
    return re.sub(r"<[^>]+>", " ", re.sub(r'src="[^"]*"', "", found[1]))


def test_what_the_page_says(work: Path, tmp_path: Path) -> None:
    page = made(work, tmp_path / "page.html")
    table = read_runs([work / "logs"])
    scores = {run.arm: run.scores for run in table if run.step == 1}
    best = max(scores, key=lambda arm: scores[arm]["harmonic"])
    answer = re.sub(r"<[^>]+>", " ", page.partition("<nav>")[0])
    assert f"{best}  has the highest harmonic mean" in answer and f"{100 * scores[best]['all']:.1f}" in answer
    assert "step 1: difference to raw-web" in text_of(page, "Scores") and "step 0" in text_of(page, "Scores")
    classes = text_of(page, "By class").split("Step 0")[0]
    for text in ("background", "heart (new)", "fine-tuning", "raw-web", "base, step 0", "base-all-pixels, step 0"):
        assert text in classes
    assert f"{100 * table[0].classes['circle']:.1f}" in classes and "circle (new)" not in classes
    shown = text_of(page, "Predictions")
    assert shown.count("truth") == shown.count("raw-web") == shown.count("chosen for") > 1 and "base" in shown
    for tag in (
        "loss/cls, shapes-5-3, step 1: raw-web",
        "val/all_iou, shapes-5-3, step 0: base",
        "loss/seg, shapes-5-3, step 0: base",
    ):
        assert page.count(f'alt="{tag}"') == 1, tag
    assert page.count('alt="confusion matrix of ') == 3
    web = text_of(page, "Web images")
    assert (
        "cross: 1 kept (the best of its class)" in web and "cross: 1 left out (the caption does not name cross)" in web
    )
    assert "00009.jpg" in web and "<b>cross</b>" not in page, "a caption is text"
    captions = text_of(page, "Rehearsal")
    assert "one: circle; 1 of 2 kept" in captions and "nouns: dog" in captions
    options = text_of(page, "Options")
    assert "--weakly" in options and "--random_seed" in options.split("All 8 commands")[1]
    # The second arm differs from the first in --bce, which the first has.
    assert re.search(r'--bce</th><td class="text">yes</td><td class="text changed">–</td>', page)
    versions = text_of(page, "Versions")
    assert torch.__version__.partition("+")[0] in versions and "commit" in versions


def test_records_of_today_say_the_same(work: Path, tmp_path: Path) -> None:
    """They say themselves what the names and commands of earlier ones say; other names are no matter."""
    copy = Path(shutil.copytree(work, tmp_path / "copy"))
    for number, path in enumerate(sorted(copy.glob("stages/*.json"))):
        stage = read_ended(path)
        assert stage is not None
        path.unlink()
        noted = json.dumps(record(stage, "key", True, 1.0)).replace(str(work), str(copy))
        (copy / f"stages/{number}.json").write_text(noted)
    before, after = (study(read_history(folder), [], None) for folder in (work, copy))
    for section in (sources.web_images, sources.captions):
        assert section(after).replace(str(copy), str(work)) == section(before)
    seen = [
        [(run.arm, run.seed, run.step, run.options, str(run.checkpoint)) for run in one.history.runs]
        for one in (before, after)
    ]
    assert str(seen[1]).replace(str(copy), str(work)) == str(seen[0]) and len(seen[0]) == 4


def test_what_is_missing_is_said(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(work, tmp_path / "copy"))
    for path in [*copy.glob("stages/select*"), *copy.glob("stages/replay*")]:
        path.unlink()
    for stage in copy.glob("stages/*.json"):
        stage.write_text(stage.read_text().replace(str(work), str(copy)))
    (copy / "logs/shapes-5-3-ov/raw-web-7/confusion_1.csv").unlink()
    (copy / "logs/shapes-5-3-ov/raw-web-7/scalars.jsonl").write_text('{"tag": "loss/seg"')
    (copy / "checkpoints/step/shapes-5-3-ov/raw-web-7_1.pth").unlink()
    (copy / "checkpoints/step/shapes-5-3-ov/base-7_0.pth").write_bytes(b"no weights")
    page = made(copy, tmp_path / "page.html", "--arms", "raw-web", code=1)
    told = capsys.readouterr().err
    assert "fine-tuning" not in text_of(page, "By class")
    for section, sentence in {
        "Confusions": "No confusion matrix was kept of raw-web, seed 7, step 1",
        "Learning curves": "No curves are left of raw-web, seed 7, of shapes-5-3, step 1",
        "Predictions": "No checkpoint is left of raw-web",
    }.items():
        assert sentence in text_of(page, section) and sentence in told
    assert "No predictions of base" in text_of(page, "Predictions")
    assert len(told.splitlines()) == 4
    assert "No web image was selected" in page and "Nothing was rehearsed" in page
    (copy / "selected.csv").write_text("no,manifest\n")
    note(copy, "select-words-7", ["select_web.py", "--out", str(copy / "selected.csv")])
    page = made(copy, tmp_path / "page.html", code=1)
    assert "Web images cannot be shown" in text_of(page, "Web images") and "selected.csv" in capsys.readouterr().err
    assert "Nothing was rehearsed" in page, "the other sections are there"


def test_command_that_the_page_names_writes_a_lost_matrix(work: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(work, tmp_path / "copy"))
    record = json.loads((copy / "stages/raw-web-7-step1.json").read_text().replace(str(work), str(copy)))
    kept = copy / "logs/shapes-5-3-ov/raw-web-7/confusion_1.csv"
    before = kept.read_text()
    kept.unlink()
    assert run.main(argparser.parse([*record["command"][1:], "--test"])) == 0
    assert kept.read_text() == before


def test_no_experiment_is_one_line(tmp_path: Path, work: Path) -> None:
    done = call("-m", "experiments.report", "--work", str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and str(tmp_path) in done.stderr
    for option in ("--arms", "--baseline"):
        assert report.main(["--work", str(work), "--out", str(tmp_path / "page.html"), option, "mine"]) == 2
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("new", "old", "has", "expected"),
    [
        ([3], [1, 2], {1: [5], 2: [6], 3: [7]}, [(7, 3), (5, 1), (6, 2)]),
        ([3], [1], {1: [5, 6], 3: [5, 7, 8]}, [(5, 3), (6, 1), (7, 3), (8, 3)]),
        ([3], [1], {1: list(range(0, 90, 2)), 3: list(range(100, 190))}, None),
        ([3], [], {3: [1, 2]}, [(1, 3), (2, 3)]),
        ([3], [1], {3: [99], 1: []}, []),
    ],
)
def test_images_chosen(
    new: list[int], old: list[int], has: dict[int, list[int]], expected: list[tuple[int, int]] | None
) -> None:
    chosen = predictions.choose(new, old, has, lambda index, number: 0.01 if index == 99 else 0.5)
    found = [(one.index, one.number) for one in chosen]
    if expected is None:
        assert len(found) == predictions.SHOWN and [number for _, number in found] == [3, 1] * (predictions.SHOWN // 2)
    else:
        assert found == expected


def test_reasons_without_what_is_each_images_own() -> None:
    for reason, kind in {
        "p_ds / p_web = 1.03e+07 > 0.01": "p_ds / p_web",
        "rank 12 of 30, the best 4 are kept": "rank",
        "the caption does not name cow": "the caption does not name cow",
        "cannot be used: it is no image": "cannot be used",
        "": "",
    }.items():
        assert sources.reason_kind({"reason": reason}) == kind


def test_what_is_left_of_old_classes(tmp_path: Path) -> None:
    """Against the base step's own test, and against the same model on the pixels that later steps are judged on."""
    folder = logs(tmp_path / "logs")
    for seed in range(3):
        add(folder, "voc-3-1", joint_row("base-all-pixels", seed, {"background": 0.9, "cat": 0.5, "dog": 0.4}))
    tables = [table for table in make_tables(read_runs([folder])) if table.experiment == "voc-3-1"]
    tables.sort(key=lambda table: -table.step)
    text = answer(Study(History(tmp_path, {}, []), tables, [*tables[0].arms], "WILSON"))
    assert "121% of base&#x27;s 55.0, tested without pixels of new classes" in text
    assert "148% of base-all-pixels&#x27;s 45.0, the same model on all pixels" in text


def test_curve_of_a_run_that_began_anew(tmp_path: Path, work: Path) -> None:
    """A run that was stopped logs some iterations again; one that was replaced by a shorter one leaves its tail."""
    own = next(read_history(work).of("fine-tuning", 1))
    there = replace(own, options=own.options | {"logdir": str(tmp_path)})
    there.folder.mkdir(parents=True)
    lines = [(1, 5.0), (2, 4.0), (3, 3.0), (2, 40.0), (3, 30.0), (4, 20.0), (1, 0.5), (2, 0.4)]
    text = "".join(json.dumps({"tag": "loss/seg", "step": step, "value": value}) + "\n" for step, value in lines)
    (there.folder / "scalars.jsonl").write_text(text + '{"tag": "loss/s')
    assert there.curves() == {"loss/seg": {1: 0.5, 2: 0.4}}


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


@pytest.fixture(scope="module")
def browser() -> str:
    """A browser without a window."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: the page is not looked at")
    return found


def look(browser: str, page: str, width: int, folder: Path) -> dict[str, Any]:
    """What the probe writes down in a window of so many pixels, every part of the page unfolded."""
    watched = page.replace(
        "<head>",
        "<head><script>window.collected = []; addEventListener('error', e => collected.push(e.message));</script>",
        1,
    )
    (folder / "watched.html").write_text(watched.replace("</body>", PROBE + "</body>"))
    # Headless windows are no narrower than 500 pixels: the page is looked at in a frame.
    frame = f'<iframe src="watched.html" style="width:{width}px;height:900px;border:0"></iframe>'
    (folder / "frame.html").write_text(f"<!doctype html><html><head></head><body>{frame}</body></html>")
    done = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
            f"--user-data-dir={folder / 'profile'}", "--window-size=1600,1000", "--virtual-time-budget=20000", "--dump-dom",
            (folder / "frame.html").as_uri(),
        ],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = re.search(r"<title>PROBE (.*?)</title>", done.stdout)
    assert found is not None, done.stderr[-2000:]
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen


@pytest.mark.parametrize("width", [390, 1440])
def test_in_a_browser(width: int, browser: str, work: Path, tmp_path: Path) -> None:
    seen = look(browser, made(work, tmp_path / "page.html"), width, tmp_path)
    assert seen["images"] > 10 and seen["overflow"] <= 0
    assert (seen["broken"], seen["unnamed"], seen["outside"], seen["errors"]) == (0, 0, 0, [])


def test_probe_sees_what_is_wrong(browser: str, tmp_path: Path) -> None:
    wrong = (
        '<!doctype html><html><head></head><body><img src="data:image/png;base64,AA" alt="x"><img src="gone.png"><script>missing()</script>'
        '<details><summary>x</summary><div style="width:500px">x</div></details></body></html>'
    )
    seen = look(browser, wrong, 390, tmp_path)
    assert (seen["images"], seen["broken"], seen["unnamed"], seen["outside"], len(seen["errors"])) == (2, 2, 1, 1, 1)
    assert seen["overflow"] > 100
