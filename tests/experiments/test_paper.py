"""The paper's scale: every printed command, read back as a user would paste it, has the published constants; arms share the GPUs."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import argparser
from experiments.__main__ import get_argparser, main, make_runner
from tests.experiments.parsers import PARSERS

# What every run.py line has (docs/method.md, "The base step").
ALL = {
    "batch_size": 24,
    "lr_policy": "poly",
    "lr_power": 0.9,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "norm_act": "iabn_sync",
    "precision": "fp32",
    "resume": "auto",
}
NETWORKS: dict[str, dict[str, Any]] = {
    "voc": {"backbone": "resnet101", "output_stride": 16, "crop_size": 512},
    "coco-voc": {"backbone": "wider_resnet38_a2", "output_stride": 8, "crop_size": 448},
}
BASE = {
    "step": 0,
    "bce": True,
    "lr": 0.01,
    "lr_head": 1.0,
    "epochs": 30,
    "pretrained": "imagenet",
    "method": "supervised",
}
# docs/method.md, "One weak iteration".
WEAK = {
    "lr": 0.001,
    "lr_head": 10.0,
    "lr_pseudo": 0.01,
    "lr_policy": "warmup",
    "pseudo_ep": 5,
    "method": "weak",
    "cam": "ngwp",
    "affinity": True,
    "loss_de": 1.0,
    "l_seg": 1.0,
    "pos_w": 1.0,
    "icarl_bkg": -1.0,
    "iters_per_epoch": None,
    "jitter": 0.0,
    **dict.fromkeys(("freeze", "freeze_norm", "init_balanced", "old_yields", "fold_absent", "replay_balance"), False),
}
SCHEDULES = {"voc": {"alpha": 0.5, "epochs": 40}, "coco-voc": {"alpha": 0.9, "epochs": 30}}
PIXEL = {"lr": 0.001, "lr_head": 10.0, "epochs": 30, "method": "supervised"}
WEB = {"web": True, "web_num": 500}
ARMS: dict[str, dict[str, Any]] = {
    "base": BASE,
    "joint": BASE | {"task": "offline"},
    "fine-tuning": PIXEL | {"bce": True, "loss_kd": 0.0},
    "LwF": PIXEL | {"bce": False, "loss_kd": 100.0, "loss_de": 0.0, "alpha": 1.0, "unkd": False},
    "ILT": PIXEL | {"bce": False, "loss_kd": 100.0, "loss_de": 100.0, "alpha": 1.0, "unkd": False},
    "MiB": PIXEL | {"unce": True, "unkd": True, "loss_kd": 10.0, "alpha": 1.0, "init_balanced": True},
    "WILSON": WEAK | {"web": False, "replay": False},
    "raw-web": WEAK | WEB | {"web_labels": "folder", "replay": False},
    "discriminator": WEAK | WEB | {"web_labels": "folder", "replay": False},
    "caption-labels": WEAK | WEB | {"web_labels": "caption", "replay": False},
    "ours": WEAK | WEB | {"web_labels": "caption", "replay": True, "replay_num": 2, "replay_share": 0.5, "replay_weight": 1.0},
}  # fmt: skip
# docs/method.md, "New classes from web images" and docs/method.md, "Old classes from captions".
SCRIPTS = {
    "train_discriminator.py": {
        "network": "efficientnet_b0",
        "input": "spectrum",
        "features": "image",
        "amplitude": "log",
        "band": "all",
    },
    "generate_label.py": {"threshold": 0.0, "flip": False, "scales": [1.0]},
    # The default similarity and its rule, two images an original.
    "filter_replay_with_NN": {"similarity": None, "against": "classes", "most": None},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """All that the user gives, empty."""
    folder = tmp_path / "data"
    for name in ("voc", "coco", "web", "downloads"):
        (folder / name).mkdir(parents=True)
    (folder / "words.txt").touch()
    return folder


def printed(line: str, data: Path, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The commands that a dry run prints, without ``+ python``."""
    words = line.replace("DATA", str(data)).split()
    given = [*words, "--data", str(data), "--work", str(data.parent / "work"), "--cpu", "--dry_run"]
    assert main(get_argparser().parse_args(given)) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and all(text.startswith("+ python ") for text in shown.out.splitlines())
    return [shlex.split(text.removeprefix("+ python ")) for text in shown.out.splitlines()]


def make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.touch()
    else:
        path.mkdir(exist_ok=True)


def read(commands: list[list[str]]) -> tuple[list[argparser.Options], list[tuple[str, argparse.Namespace]]]:
    """What the scripts make of the commands, in an order in which each finds what those before it leave behind."""
    runs, others = [], []
    for command in commands:
        if command[0] == "run.py":
            options = argparser.parse(command[1:])
            make(options.checkpoint_path(options.step))
            runs.append(options)
            continue
        script, rest = (command[1], command[2:]) if command[0] == "-m" else (command[0], command[1:])
        given = PARSERS[script]().parse_args(rest)
        for path in given.out if isinstance(getattr(given, "out", None), list) else [getattr(given, "out", None)]:
            if path is not None:
                make(Path(path))
        others.append((str(getattr(given, "command", None) or script), given))
    return runs, others


def differs(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (found[key], value) for key, value in expected.items() if found[key] != value}


@pytest.mark.parametrize(
    ("line", "dataset", "steps", "arms"),
    [
        ("voc 15-5 --overlap", "voc", 1, 6),
        ("voc 10-10s --arms WILSON MiB joint", "voc", 10, 3),
        ("coco", "coco-voc", 1, 6),
        ("coco --web DATA/web --downloads DATA/downloads --class_words DATA/words.txt", "coco-voc", 1, 11),
        ("voc 15-5s --web DATA/web --downloads DATA/downloads --class_words DATA/words.txt", "voc", 5, 11),
    ],
)
def test_printed_lines_have_the_published_constants(
    line: str, dataset: str, steps: int, arms: int, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, others = read(printed(line, data, capsys))
    tests = [options for options in runs if options.test]
    assert [(options.name, options.test_unknown) for options in tests] == [("base-all-pixels-42", "later")]
    runs = [options for options in runs if not options.test]
    for options in runs:
        arm = options.name.removesuffix("-42")
        if arm == "best":  # It is not the papers'.
            continue
        schedule = SCHEDULES[dataset] if options.weakly else {}
        expected = ALL | NETWORKS[dataset] | {"dataset": dataset} | ARMS[arm] | schedule
        assert differs(options.plain(), expected) == {}, arm
        assert options.protocol == ("overlap" if "--overlap" in line else "disjoint")
    names = {options.name.removesuffix("-42") for options in runs} - {"base"}
    assert len(names) == arms and (names == {*ARMS, "best"} - {"base"} or arms < 11)
    stepped = [options for options in runs if options.task != "offline" and options.step > 0]
    assert len(runs) == 2 + len(stepped) and len(stepped) == steps * (arms - 1)
    for script, given in others:
        assert differs(vars(given), SCRIPTS.get(script, {})) == {}, script


def test_the_best_500_of_each_class_are_kept(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "voc 15-5 --web DATA/web --arms discriminator caption-labels"
    _, others = read(printed(line, data, capsys))
    selections = [given for script, given in others if script == "select_web.py"]
    assert [(given.keep, given.web_labels) for given in selections] == [(500, "folder"), (500, "caption")]
    assert {given.discriminator.name for given in selections} == {"base-42_0_discriminator.pth"}


STUB = """#!{python}
# In place of python: a run of step 1 says where it runs and waits until another one does, too.
import os, pathlib, sys, time
words = sys.argv[1:]
value = lambda option: words[words.index(option) + 1]
if words[0] == "run.py":
    name, step, folder = value("--name"), value("--step"), pathlib.Path(value("--checkpoints"))
    seen = folder / "seen"
    seen.mkdir(parents=True, exist_ok=True)
    (seen / (name + "-" + step)).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    end = time.time() + 60
    while step == "1" and len(list(seen.glob("*-1"))) < 2:
        if time.time() > end:
            raise SystemExit(9)
        time.sleep(0.02)
    made = [folder / "step" / "voc-15-5" / (name + "_" + step + ".pth")]
    if "--test" in words:
        made = [pathlib.Path(value("--logdir")) / "voc-15-5" / name / "confusion_0.csv"]
else:
    made = [pathlib.Path(word) for word in words[words.index("--out") + 1:]]
for path in made:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
"""


def test_arms_run_side_by_side_on_their_own_gpus(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two arms wait for each other: one after the other they would give up. The base step comes before both."""
    python = data / "python"
    python.write_text(STUB.format(python=sys.executable))
    python.chmod(0o755)
    words = ["voc", "15-5", "--arms", "MiB", "WILSON", "--data", str(data), "--work", str(data.parent / "work")]
    experiment = make_runner(get_argparser().parse_args(words), ["4", "7"])
    monkeypatch.setattr(sys, "executable", str(python))
    assert experiment.run() == 0
    seen = {path.name: path.read_text() for path in (data.parent / "work/checkpoints/seen").iterdir()}
    assert seen.keys() == {"base-42-0", "base-all-pixels-42-0", "MiB-42-1", "WILSON-42-1"}
    assert {seen["MiB-42-1"], seen["WILSON-42-1"]} == {"4", "7"}
