"""run.py from end to end on small drawn data: every method trains, is refused where it must be, and leaves what it should."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import argparser
import generate_label
import run
from dataset import shapes
from dataset.protocol import select
from engine import testing
from engine.state import claimed
from results.confusion import read_confusion
from results.rows import read_runs
from tasks import load_task
from tests.conftest import ROOT
from tests.replay_trees import labelled
from train import Trainer
from utils import checkpoint, measure_noun
from utils.errors import UserError
from utils.normalisation import unit

EXPERIMENT = "shapes-5-3-ov"


def common(folder: Path, data: Path) -> str:
    return (
        f"--dataset shapes --task 5-3 --overlap --dataset_dir {data} --checkpoints {folder}/checkpoints --logdir {folder}/logs "
        "--backbone timm:resnet10t --crop_size 64 --crop_size_val 64 --batch_size 4 --iters_per_epoch 2 --num_workers 0 "
        "--device cpu --epochs 1 --sample_num 2"
    )


def execute(line: str) -> int:
    return run.main(argparser.parse(line.split()))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> Path:
    """A folder with a trained base step named ``run``."""
    folder = tmp_path_factory.mktemp("run")
    assert execute(f"{common(folder, small_shapes)} --name run --step 0 --bce --no_pretrained") == 0
    return folder


def path_of(folder: Path, name: str, step: int) -> Path:
    return folder / "checkpoints/step" / EXPERIMENT / f"{name}_{step}.pth"


METHODS = {
    "ft": "",
    "ft-bce": "--bce",
    "lwf": "--loss_kd 100",
    "ilt": "--loss_kd 100 --loss_de 100",
    "mib": "--unce --unkd --loss_kd 10 --init_balanced",
    "icarl": "--icarl --icarl_importance 10",
    "icarl-disjoint": "--icarl --icarl_disjoint --icarl_bkg 0.3",
    "freeze": "--freeze --bce",
    "freeze-norm": "--freeze_norm --bce",
    "wilson": "--weakly --affinity --loss_de 1 --pseudo_ep 0 --report",
    "wilson-att": "--weakly --cam att --pseudo_ep 0 --icarl_bkg 0.5 --pos_w 2 --l_seg 0.5",
    "wilson-mean": "--weakly --cam mean --no_mask --freeze",
    "plop": "--method plop --init_balanced",
    "rasp": "--weakly --method rasp --pseudo_ep 0",
    "bf16": "--bce --precision bf16",
    "one-cycle": "--bce --lr_policy one_cycle --momentum 0",
    "step-policy": "--bce --lr_policy step --lr_decay_step 1",
}
TERMS = {
    "ft": {"seg"}, "lwf": {"seg", "kd"}, "ilt": {"seg", "kd", "de"}, "mib": {"seg", "kd"}, "icarl": {"seg", "icarl"},
    "icarl-disjoint": {"seg"}, "wilson": {"cls", "loc", "de", "ref", "seg"}, "wilson-mean": {"cls", "loc"},
    "plop": {"seg", "pod", "pod_logits"}, "rasp": {"cls", "loc", "ref", "seg", "prior"},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(name: str, base: Path, small_shapes: Path) -> None:
    line = f"{common(base, small_shapes)} --name {name} --step 1 --lr 0.001 --step_ckpt {path_of(base, 'run', 0)} {METHODS[name]}"
    assert execute(line) == 0
    before, after = (checkpoint.load(path_of(base, n, s)) for n, s in (("run", 0), (name, 1)))
    assert after["finished"] and after["class_names"][0] == "background" and len(after["class_names"]) == 9
    assert after["model_state"]["cls.1.weight"].shape[0] == 3
    moved = not torch.equal(
        before["model_state"]["body.model.conv1.0.weight"], after["model_state"]["body.model.conv1.0.weight"]
    )
    assert moved == ("--freeze" not in METHODS[name].split())
    statistics = [key for key in after["model_state"] if key.startswith("body.") and key.endswith("running_mean")]
    drifted = any(not torch.equal(before["model_state"][k], after["model_state"][k]) for k in statistics)
    assert drifted == ("--freeze" not in METHODS[name])
    assert (after["localizer"] is not None) == ("--weakly" in METHODS[name])
    if name in TERMS:
        lines = (base / "logs" / EXPERIMENT / name / "scalars.jsonl").read_text().splitlines()
        tags = {json.loads(text)["tag"] for text in lines}
        assert {tag[5:] for tag in tags if tag.startswith("loss/")} == TERMS[name] | {"total"}


def test_a_frozen_body_is_folded_alike_when_a_run_goes_on(
    base: Path, small_shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit the weights of a run that was not stopped; student and teacher share the pass in both."""
    method = f"{METHODS['wilson-mean']} --affinity --pseudo_ep 0"
    line = f"{common(base, small_shapes)} --step 1 --lr 0.001 --step_ckpt {path_of(base, 'run', 0)} {method}"
    assert execute(f"{line} --name unbroken") == 0
    original = Trainer.train_step

    def stopping(self: Trainer, *arguments: Any) -> dict[str, torch.Tensor]:
        self.stopping.ask(15)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "train_step", stopping)
    assert execute(f"{line} --name broken") == 128 + 15
    monkeypatch.undo()
    assert not checkpoint.load(path_of(base, "broken", 1))["finished"]
    assert execute(f"{line} --name broken --resume auto") == 0
    found, expected = (checkpoint.load(path_of(base, name, 1)) for name in ("broken", "unbroken"))
    for part in ("model_state", "localizer"):
        assert [key for key, value in expected[part].items() if not torch.equal(value, found[part][key])] == []
    log = (base / "logs" / EXPERIMENT / "broken/log.txt").read_text()
    assert log.count("The teacher's body is the same: one pass of it serves both") == 2


def test_a_body_that_learns_late(base: Path, small_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was up to --unfreeze_ep; weights alone move then; stopped before and after, the run ends bit for bit as one that was not."""
    method = "--weakly --cam mean --loss_de 1 --pseudo_ep 0 --report --freeze --unfreeze_ep 1 --lr_body 0.5"
    line = f"{common(base, small_shapes)} --epochs 3 --step 1 --lr 0.001 --step_ckpt {path_of(base, 'run', 0)} {method}"
    assert execute(f"{line} --name undisturbed") == 0
    original = Trainer.train_step

    def stopping(self: Trainer, *arguments: Any) -> dict[str, torch.Tensor]:
        if stop_at == 2 * self.progress.epoch + self.progress.iteration:
            self.stopping.ask(15)
        return original(self, *arguments)

    def body(state: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {key: value for key, value in state["model_state"].items() if key.startswith("body.")}

    def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
        return {key for key in one if not torch.equal(one[key], other[key])}

    before = body(checkpoint.load(path_of(base, "run", 0)))
    monkeypatch.setattr(Trainer, "train_step", stopping)
    for stop_at in (1, 3):
        assert execute(f"{line} --name late --resume auto") == 128 + 15
        moved = differing(before, body(checkpoint.load(path_of(base, "late", 1))))
        assert bool(moved) == (stop_at == 3) and not any("running" in key for key in moved)
    monkeypatch.undo()
    assert execute(f"{line} --name late --resume auto") == 0
    found, expected = (checkpoint.load(path_of(base, name, 1)) for name in ("late", "undisturbed"))
    for part in ("model_state", "localizer"):
        assert not differing(expected[part], found[part])
    first, _, *rates = (group["initial_lr"] for group in expected["optimizer_state"]["param_groups"])
    assert first == 0.0005 and 0.01 in rates
    logs = [(base / "logs" / EXPERIMENT / name / "log.txt").read_text() for name in ("undisturbed", "late")]
    assert logs[0].index("one pass of it serves both") < logs[0].index("The body is trained from now on")
    # The teacher that has seen the body change, and the one that was loaded after that.
    assert len({log.split("test_before: ")[1].splitlines()[0] for log in logs}) == 1


def test_a_second_round(base: Path, small_shapes: Path, tmp_path: Path) -> None:
    """The step's own model labels its web images, and the step learns from them, from where it began."""
    web, tree = tmp_path / "web", tmp_path / "tree"
    shapes.render_web(web, ["cross", "crescent", "heart"], 3, 0, 0.0, 0.5, size=64)
    line = (
        f"{common(base, small_shapes)} --step 1 --lr 0.001 --step_ckpt {path_of(base, 'run', 0)} --weakly --pseudo_ep 0 --freeze "
        f"--web --web_path {web}"
    )
    assert execute(f"{line} --name first") == 0
    moved = f"move_web_images --web_path {web} --classes cross crescent heart --out {tree}"
    assert measure_noun.main(moved.split()) == 0
    label = f"--ckpt {path_of(base, 'first', 1)} --path {tree} --agree --flip --device cpu --num_workers 0"
    assert generate_label.main(generate_label.get_argparser().parse_args(label.split())) == 0
    assert execute(f"{line} --name second --web_masks {tree}") == 0
    assert "Web images with a mask: 9 of 9" in (base / "logs" / EXPERIMENT / "second/log.txt").read_text()
    first, second = (checkpoint.load(path_of(base, name, 1)) for name in ("first", "second"))
    assert second["finished"] and second["options"]["web_masks"] == str(tree)
    assert not torch.equal(first["model_state"]["cls.1.weight"], second["model_state"]["cls.1.weight"])


@pytest.mark.parametrize("labels", ["folder", "caption"])
def test_web_images_train(labels: str, base: Path, small_shapes: Path, tmp_path: Path) -> None:
    shapes.render_web(tmp_path / "web", ["cross", "crescent", "heart", "circle"], 4, 0, 0.0, 0.5, size=64)
    name = f"web-{labels}"
    line = (
        f"{common(base, small_shapes)} --name {name} --step 1 --lr 0.001 --step_ckpt {path_of(base, 'run', 0)} --weakly --pseudo_ep 0 "
        f"--web --web_path {tmp_path / 'web'} --web_num 3 --web_labels {labels}"
    )
    assert execute(line) == 0
    assert checkpoint.load(path_of(base, name, 1))["finished"]
    assert "on 9 images" in (base / "logs" / EXPERIMENT / name / "log.txt").read_text()


def test_web_folders_of_unknown_classes_are_named(base: Path, small_shapes: Path, tmp_path: Path) -> None:
    shapes.render_web(tmp_path / "web", ["cross", "crescent", "heart"], 2, 0, 0.0, 0.5, size=64)
    (tmp_path / "web/manifest.csv").unlink()
    (tmp_path / "web/heart").rename(tmp_path / "web/hexagon")
    line = (
        f"{common(base, small_shapes)} --name web-unknown --step 1 --step_ckpt {path_of(base, 'run', 0)} --weakly --pseudo_ep 0 "
        f"--web --web_path {tmp_path / 'web'}"
    )
    with pytest.raises(UserError, match="hexagon is no class of the data set") as caught:
        execute(line)
    assert "crescent" in str(caught.value)


@pytest.mark.parametrize("web", [False, True])
def test_replay_images_train(web: bool, base: Path, small_shapes: Path, tmp_path: Path) -> None:
    """Beside the data set's images or the web's; the log says what an epoch is, which is longer than without replay."""
    tree = labelled(tmp_path / "tree", ["circle", "star"], 3)
    name = f"replay-{web}"
    line = (
        f"{common(base, small_shapes)} --name {name} --step 1 --lr 0.001 --step_ckpt {path_of(base, 'run', 0)} --weakly --pseudo_ep 0 "
        f"--affinity --replay --replay_path {tree} --replay_num 2"
    ).replace("--iters_per_epoch 2 ", "")
    if web:
        shapes.render_web(tmp_path / "web", ["cross", "crescent", "heart"], 3, 0, 0.0, 0.5, size=64)
        line += f" --web --web_path {tmp_path / 'web'}"
    assert execute(line) == 0
    text = (base / "logs" / EXPERIMENT / name / "log.txt").read_text()
    new = (
        9
        if web
        else len(select(shapes.make(small_shapes, "train").image_labels(), load_task("shapes", "5-3"), 1, "overlap"))
    )
    iterations = 2 * new // 4
    assert f"on {new} new and 4 replay images, 1:1: 1 epochs of {iterations} iterations, {iterations} in all" in text


def test_replay_through_single_class_steps(base: Path, small_shapes: Path, tmp_path: Path) -> None:
    """5-1: the tree that step 0 labelled serves step 2 as well."""
    tree = labelled(tmp_path / "tree", ["circle", "star"], 2)
    line = common(base, small_shapes).replace("--task 5-3", "--task 5-1")
    assert execute(f"{line} --name single --step 0 --bce --no_pretrained") == 0
    for step in (1, 2):
        replay = f"--replay --replay_path {tree} --weakly --pseudo_ep 0"
        assert execute(f"{line} --name single --step {step} --lr 0.001 {replay}") == 0
    state = checkpoint.load(base / "checkpoints/step/shapes-5-1-ov/single_2.pth")
    assert state["finished"] and [state["model_state"][f"cls.{i}.weight"].shape[0] for i in range(3)] == [6, 1, 1]


def test_what_a_run_leaves(base: Path, small_shapes: Path) -> None:
    folder = base / "logs" / EXPERIMENT / "run"
    assert list(folder.glob("**/events.out.tfevents*")) and (folder / "log.txt").is_file()
    with (base / "logs/results/shapes-5-3.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    row = next(r for r in rows if r["name"] == "run")
    assert row["step"] == "0" and float(row["mean_iou"]) >= 0 and "iou circle" in row
    assert (row["dataset"], row["task"], row["old_classes"]) == ("shapes", "5-3", "[]")
    weak = next(r for r in rows if r["name"] == "wilson")
    assert weak["old_classes"] == '["circle", "square", "triangle", "star", "ring"]'
    matrix, names = read_confusion(folder / "confusion_0.csv")
    assert names == ["background", "circle", "square", "triangle", "star", "ring"]
    assert matrix.trace() / matrix.sum() == pytest.approx(float(row["overall_acc"]), abs=1e-5)
    page = base / "logs" / EXPERIMENT / "wilson" / "report_1.html"
    text = page.read_text(encoding="utf-8")
    assert (
        "before" in text
        and "after" in text
        and "data:image/png;base64," in text
        and "http" not in text.split("<body")[1]
    )


@pytest.mark.parametrize("older", [False, True])
def test_what_a_run_costs(older: bool, base: Path, small_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds add up over resumptions, memory is the highest of them; checkpoints of earlier versions say nothing."""
    name = f"cost-{older}"
    line = f"{common(base, small_shapes)} --epochs 2 --name {name} --step 0 --bce --no_pretrained".replace(
        " --epochs 1", ""
    )
    original = Trainer.train_step

    def stopping(self: Trainer, batch, epoch):  # type: ignore[no-untyped-def]
        self.stopping.ask(15)
        return original(self, batch, epoch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", stopping)
        assert execute(line) == 128 + 15
    path = path_of(base, name, 0)
    state = checkpoint.load(path)
    assert state["iteration"] == 1 and state["seconds"] > 0 and state["memory_mib"] > 1
    if older:
        del state["seconds"], state["memory_mib"]
    else:
        state |= {"seconds": 1e5, "memory_mib": 1e7}
    checkpoint.save(path, state)
    assert execute(f"{line} --resume auto") == 0
    with (base / "logs/results/shapes-5-3.csv").open(newline="") as file:
        row = next(r for r in csv.DictReader(file) if r["name"] == name)
    seconds, memory = float(row["seconds"]), float(row["memory_mib"])
    assert (math.isnan(seconds) and math.isnan(memory)) if older else (seconds > 1e5 and memory == 1e7)


def test_test_only_gives_the_same_scores(base: Path, small_shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"{common(base, small_shapes)} --name run --step 0 --bce --no_pretrained"
    execute(f"{line} --test")
    first = capsys.readouterr().out
    execute(f"{line} --test --ckpt {path_of(base, 'run', 0)}")
    assert capsys.readouterr().out == first
    with (base / "logs/results/shapes-5-3.csv").open(newline="") as file:
        scores = {r["mean_iou"] for r in csv.DictReader(file) if r["name"] == "run"}
    assert len(scores) == 1


def test_fresh_run_keeps_the_old_checkpoint(base: Path, small_shapes: Path) -> None:
    line = f"{common(base, small_shapes)} --name again --step 0 --bce --no_pretrained"
    execute(line)
    old = path_of(base, "again", 0).read_bytes()
    execute(line)
    assert path_of(base, "again", 0).with_suffix(".pth.bak").read_bytes() == old


def test_same_seed_same_weights(base: Path, small_shapes: Path) -> None:
    states = []
    for workers in (0, 2):
        name = f"workers{workers}"
        line = common(base, small_shapes).replace("--num_workers 0", f"--num_workers {workers}")
        execute(f"{line} --name {name} --step 0 --bce --no_pretrained")
        states.append(checkpoint.load(path_of(base, name, 0))["model_state"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_published_checkpoint_starts_a_step(base: Path, small_shapes: Path, tmp_path: Path) -> None:
    """``model_state`` with ``module.`` before each key and a NumPy score, nothing else that is ours."""
    state = checkpoint.load(path_of(base, "run", 0))
    published = tmp_path / "published.pth"
    weights = {f"module.{key}": value for key, value in state["model_state"].items()}
    torch.save({"epoch": 29, "model_state": weights, "best_score": np.float64(0.7)}, published)
    line = f"{common(base, small_shapes)} --name published --step 1 --weakly --step_ckpt {published}"
    assert execute(line) == 0
    with pytest.raises(UserError, match="a published checkpoint can be tested or start a step"):
        execute(f"{common(base, small_shapes)} --name p --step 0 --bce --no_pretrained --ckpt {published}")
    assert (
        execute(f"{common(base, small_shapes)} --name p --step 0 --bce --no_pretrained --test --ckpt {published}") == 0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--task 5-1", "its task is 5-3, this run's at step 0 is 5-1"),
        ("--protocol disjoint", "its protocol is overlap, this run's at step 0 is disjoint"),
        ("--backbone timm:resnet18", "made for another network"),
        ("--norm_act abn", None),
    ],
)
def test_checkpoint_of_something_else(change: str, message: str | None, base: Path, small_shapes: Path) -> None:
    line = common(base, small_shapes)
    option = change.split()[0]
    if option == "--protocol":
        line = line.replace(" --overlap", "")
    line = f"{line} {change} --name other --step 1 --bce --step_ckpt {path_of(base, 'run', 0)}"
    if message is None:
        assert execute(line) == 0, "in-place ABN weights convert to plain batch norm"
        return
    with pytest.raises(UserError, match=message):
        execute(line)


def test_going_on_with_other_settings_is_refused(base: Path, small_shapes: Path) -> None:
    line = f"{common(base, small_shapes)} --name run --step 0 --bce --no_pretrained --resume auto"
    with pytest.raises(UserError, match=r"cannot go on with other settings: --lr 0.5 \(was 0.01\); change them back"):
        execute(f"{line} --lr 0.5")
    assert execute(f"{line} --val_interval 1 --sample_num 0") == 0, "what does not touch the weights may change"


def test_other_class_order_is_refused(base: Path, small_shapes: Path, tmp_path: Path) -> None:
    task = tmp_path / "5-3.json"
    task.write_text('{"0": [2, 1, 3, 4, 5], "1": [6, 7, 8]}')
    line = f"{common(base, small_shapes)} --name order --step 1 --bce --step_ckpt {path_of(base, 'run', 0)}".replace(
        "5-3 ", f"{task} "
    )
    with pytest.raises(UserError, match="its classes is"):
        execute(line)


def test_loss_that_is_not_finite_stops_the_run(base: Path, small_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer.train_step

    def poisoned(self: Trainer, batch, epoch):  # type: ignore[no-untyped-def]
        images = unit(batch.images)
        images[0] = float("nan")
        return original(self, replace(batch, images=images), epoch)

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    line = f"{common(base, small_shapes)} --name nan --step 1 --weakly --step_ckpt {path_of(base, 'run', 0)}"
    with pytest.raises(UserError, match=r"loss cls = nan.* at epoch 0, iteration 0, images \S+, ") as caught:
        execute(line)
    assert "\n" not in str(caught.value)
    assert not path_of(base, "nan", 1).is_file()


def own_data(folder: Path) -> Path:
    """A practitioner's folder: three classes of coloured squares."""
    rng = np.random.default_rng(0)
    (folder / "classes.txt").parent.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("cow\nsheep\ngoat\n")
    for split, count in (("train", 12), ("val", 6)):
        for part in ("images", "masks"):
            (folder / part / split).mkdir(parents=True)
        for i in range(count):
            mask = np.zeros((50, 60), np.uint8)
            mask[10:30, 10:40] = 1 + i % 3
            picture = rng.integers(0, 255, (50, 60, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / "images" / split / f"{i}.jpg")
            Image.fromarray(mask).save(folder / "masks" / split / f"{i}.png")
    return folder


def own_line(folder: Path, data: Path, words: str) -> str:
    return (
        f"--dataset folder --dataset_dir {data} --task {folder}/mine.json --backbone timm:resnet10t --crop_size 32 --crop_size_val 32 "
        f"--batch_size 2 --epochs 1 --iters_per_epoch 1 --num_workers 0 --device cpu --sample_num 0 --bce --checkpoints {folder}/c "
        f"--logdir {folder}/l {words}"
    )


def test_runs_of_two_data_sets_do_not_meet(tmp_path: Path) -> None:
    """Same task file, same run's name: each data set has its folders, and where the folders are of one name, the classes tell."""
    (tmp_path / "mine.json").write_text('{"0": [1, 2], "1": [3]}')
    farm, tools, twin = (own_data(tmp_path / name) for name in ("farm", "tools", "elsewhere/farm"))
    for data in (tools, twin):
        (data / "classes.txt").write_text("hammer\nsaw\ndrill\n")
    fresh = "--step 0 --no_pretrained"
    assert execute(own_line(tmp_path, farm, fresh)) == 0
    path = tmp_path / "c/step/folder-farm-mine/Experiment_0.pth"
    content = path.read_bytes()
    with pytest.raises(UserError, match=r"folder-tools-mine/Experiment_0\.pth: no such checkpoint"):
        execute(own_line(tmp_path, tools, "--step 0 --test"))
    with pytest.raises(UserError, match=r"folder-tools-mine/Experiment_0\.pth: no checkpoint of step 0"):
        execute(own_line(tmp_path, tools, "--step 1"))
    for words in ("--step 0 --test", f"{fresh} --resume auto", "--step 1"):
        with pytest.raises(UserError, match=f"{path}: class 1 is cow there and hammer here: it is of another data set"):
            execute(own_line(tmp_path, twin, words))
    (farm / "classes.txt").write_text("sheep\ncow\ngoat\n")
    for words in ("--step 0 --test", "--step 1"):
        with pytest.raises(UserError, match=f"{path}: class 1 is cow there and sheep here: .* numbered anew"):
            execute(own_line(tmp_path, farm, words))
    assert path.read_bytes() == content and not path.with_name("Experiment_0.pth.bak").exists()

    assert execute(own_line(tmp_path, tools, f"{fresh} --resume auto")) == 0
    assert checkpoint.load(tmp_path / "c/step/folder-tools-mine/Experiment_0.pth")["class_names"] == [
        "background",
        "hammer",
        "saw",
    ]
    assert {path.name for path in (tmp_path / "l/results").glob("*.csv")} == {
        "folder-farm-mine.csv",
        "folder-tools-mine.csv",
    }
    assert {(run.experiment, run.dataset) for run in read_runs([tmp_path / "l"])} == {
        ("folder-farm-mine", "folder-farm"),
        ("folder-tools-mine", "folder-tools"),
    }


def test_checkpoints_of_an_earlier_version_are_found_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"0": [1, 2], "1": [3]}')
    farm, tools = (own_data(tmp_path / name) for name in ("farm", "tools"))
    assert execute(own_line(tmp_path, farm, "--step 0 --no_pretrained")) == 0
    (tmp_path / "c/step/folder-farm-mine").rename(tmp_path / "c/step/folder-mine")
    earlier = tmp_path / "c/step/folder-mine/Experiment_0.pth"
    content = earlier.read_bytes()
    assert execute(own_line(tmp_path, farm, "--step 0 --test")) == 0
    assert execute(own_line(tmp_path, farm, "--step 1")) == 0
    text = (tmp_path / "l/folder-farm-mine/Experiment/log.txt").read_text()
    assert text.count(f"{earlier}: of version 0.1.0, whose folders had not the data folder's name") == 2
    assert (tmp_path / "c/step/folder-farm-mine/Experiment_1.pth").is_file() and earlier.read_bytes() == content
    (tools / "classes.txt").write_text("hammer\nsaw\ndrill\n")
    with pytest.raises(UserError, match=f"{earlier}: class 1 is cow there and hammer here"):
        execute(own_line(tmp_path, tools, "--step 0 --test"))


def test_a_run_whose_name_another_one_has_leaves_nothing(base: Path, small_shapes: Path) -> None:
    pytest.importorskip("fcntl")
    line = f"{common(base, small_shapes)} --name twice --step 0 --bce --no_pretrained"
    with claimed(argparser.parse(line.split()), main=True):
        done = subprocess.run(
            [sys.executable, "run.py", *line.split()], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("run.py: --name twice: another run of this name is training step 0")
    )
    assert not path_of(base, "twice", 0).exists() and not (base / "logs" / EXPERIMENT / "twice").exists()


def test_a_full_disk_is_one_line_and_the_old_state_stays(base: Path, small_shapes: Path) -> None:
    """The limit on the size of a file does to the checkpoint what a full disk does."""
    pytest.importorskip("resource")
    line = f"{common(base, small_shapes)} --name full --step 0 --bce --no_pretrained"
    assert execute(line) == 0
    path = path_of(base, "full", 0)
    content = path.read_bytes()
    program = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (2**22, 2**22))\n"
        f"sys.argv = ['run.py', *{line.split()!r}]\nimport runpy\nrunpy.run_path('run.py', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"run.py: {path}: cannot be written (File too large, ") and last.endswith(
        "the old one is left as it was"
    )
    assert path.read_bytes() == content and not path.with_suffix(".pth.bak").exists()
    assert not list(path.parent.glob(".full_0.pth.*.tmp"))


@pytest.mark.parametrize("workers", [0, 1])
def test_own_folder_and_its_faults_in_one_line(workers: int, tmp_path: Path) -> None:
    data = own_data(tmp_path / "mine")
    task = tmp_path / "mine.json"
    task.write_text('{"0": [1, 2], "1": [3]}')
    line = (
        f"run.py --dataset folder --dataset_dir {data} --task {task} --backbone timm:resnet10t --no_pretrained --crop_size 32 "
        f"--crop_size_val 32 --batch_size 2 --epochs 1 --num_workers {workers} --device cpu --sample_num 0 --name own "
        f"--checkpoints {tmp_path}/c --logdir {tmp_path}/l --bce"
    )

    def call() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *line.split()], cwd=ROOT, capture_output=True, text=True, check=False)

    done = call()
    assert done.returncode == 0, done.stderr
    (data / "images/train/4.jpg").write_bytes((data / "images/train/4.jpg").read_bytes()[:300])
    done = call()
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"run.py: {data}/images/train/4.jpg: is damaged")


def test_bytes_of_a_page_given_as_mask(tmp_path: Path) -> None:
    data = own_data(tmp_path / "mine")
    (data / "masks/train/0.png").write_text("<html></html>")
    line = (
        f"--dataset folder --dataset_dir {data} --task offline --backbone timm:resnet10t --no_pretrained --device cpu"
    )
    with pytest.raises(UserError, match=r"0\.png: is a web page, not an image"):
        execute(f"{line} --logdir {tmp_path}/l --checkpoints {tmp_path}/c")


def finished_venv(folder: Path) -> Path:
    """What run.sh takes for its environment, all installed: the Python of this test, whatever the age of the real one."""
    python = folder / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / "venv/.installed-dev").touch()
    return folder / "venv"


@pytest.mark.parametrize(
    ("line", "gpus", "runs"),
    [
        ("voc 15-5 --overlap", "0", 8),
        ("voc 15-5s --arms WILSON joint", "0", 8),
        ("coco --arms WILSON", "0", 3),
        ("demo", "0", 6),
        ("adopt --data docs --arms own smp --seeds 0 1", "0", 2),
        ("voc 15-5 --overlap", "2", 8),
    ],
)
def test_dry_run_prints_the_lines(line: str, gpus: str, runs: int, tmp_path: Path) -> None:
    """run.sh's experiments, without running them and without installing anything."""
    environment = {
        "PATH": "/usr/bin:/bin", "DRY_RUN": "1", "VENV": str(finished_venv(tmp_path)), "EXTRA": "dev", "GPUS": gpus,
    }  # fmt: skip
    words = [*line.split(), "--work", str(tmp_path / "work")]
    done = subprocess.run(
        ["bash", "run.sh", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    launched = f"+ CUDA_VISIBLE_DEVICES=0,1 python -m torch.distributed.run --standalone --nproc_per_node {gpus} run.py"
    found = [text for text in done.stdout.splitlines() if " run.py " in text]
    assert all(text.startswith(f"{launched if int(gpus) else '+ python run.py'} --name ") for text in found)
    assert len(found) == runs and all("--device" not in text for text in found)
    refused = subprocess.run(
        ["bash", "run.sh", "voc"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2 and "TASK" in refused.stderr and "Traceback" not in refused.stderr


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "logs/results/shapes-5-3.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["name"] == name]


def test_no_ornament_takes_a_result_with_it(
    base: Path, small_shapes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figure, sample pictures and page fail; the numbers are there, and the exit code is 0."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no room")

    for name in ("confusion_figure", "panel", "write_report"):
        monkeypatch.setattr(testing, name, fails)
    line = f"{common(base, small_shapes)} --name plain --step 0 --bce --no_pretrained --test --report --ckpt {path_of(base, 'run', 0)}"
    assert execute(line) == 0
    said = capsys.readouterr()
    for what in ("The confusion matrix's figure", "The picture of sample predictions", "The page "):
        assert said.err.count(what) == 1 and f"{what}" in said.err
    assert said.err.count("(RuntimeError: no room); the numbers are written") == 3
    assert "harmonic" in said.out and "Page with predictions" not in said.out
    assert len(rows_of(base, "plain")) == 1 and read_confusion(base / "logs" / EXPERIMENT / "plain/confusion_0.csv")


def test_a_table_that_cannot_be_written_leaves_the_scores_in_the_log(
    base: Path, small_shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "l/results/shapes-5-3.csv").mkdir(parents=True)
    line = f"{common(base, small_shapes)} --name full --step 0 --bce --no_pretrained --test --ckpt {path_of(base, 'run', 0)}"
    with pytest.raises(UserError, match=r"shapes-5-3\.csv"):
        execute(line.replace(f"--logdir {base}/logs", f"--logdir {tmp_path}/l"))
    assert " test: overall_acc" in (tmp_path / "l" / EXPERIMENT / "full/log.txt").read_text()
    assert read_confusion(tmp_path / "l" / EXPERIMENT / "full/confusion_0.csv"), "one file takes no other with it"


def test_wandb_offline_as_a_user_runs_it(base: Path, small_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(base))
    line = (
        f"run.py {common(base, small_shapes)} --name board --step 0 --bce --no_pretrained --test --report --wandb offline "
        f"--ckpt {path_of(base, 'run', 0)}"
    )
    done = subprocess.run([sys.executable, *line.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert "left out" not in done.stderr and len(rows_of(base, "board")) == 1
    pictures = base / "logs" / EXPERIMENT / "board/wandb"
    assert len(list(pictures.glob("offline-run-*/files/media/images/test/confusion_*.png"))) == 1
    assert len(list(pictures.glob("offline-run-*/files/media/images/test/samples_*.png"))) == 1


SIGNS = ("$5 and $10_{note}", 'bill $\\frac$ <b>x</b>, "y"', "a/b 100% \u732b")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images whose classes have names of signs that drawing, tables and pages could read."""
    data = own_data(tmp_path_factory.mktemp("signs"))
    (data / "classes.txt").write_text("\n".join(SIGNS) + "\n", encoding="utf-8")
    return data


def data_line(data: Path, folder: Path) -> str:
    return (
        f"--dataset folder --dataset_dir {data} --task offline --backbone timm:resnet10t --no_pretrained --crop_size 32 "
        f"--crop_size_val 32 --batch_size 2 --epochs 1 --iters_per_epoch 1 --num_workers 0 --device cpu --sample_num 1 "
        f"--checkpoints {folder}/c --logdir {folder}/l --bce"
    )


def test_class_names_are_shown_as_they_are(signed: Path, tmp_path: Path) -> None:
    assert execute(f"{data_line(signed, tmp_path)} --report --name signs") == 0
    (folder,) = tmp_path.glob("l/folder-*-offline/signs")
    assert "left out" not in (folder / "log.txt").read_text()
    assert read_confusion(folder / "confusion_0.csv")[1] == ["background", *SIGNS]
    tags = {json.loads(text)["tag"] for text in (folder / "scalars.jsonl").read_text().splitlines()}
    assert {f"test/class_iou/{name}" for name in SIGNS} <= tags
    page = (folder / "report_0.html").read_text(encoding="utf-8")
    assert all(escape(name) in page for name in SIGNS) and "<b>x</b>" not in page
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder))
    board.Reload()
    assert "test/confusion" in board.Tags()["images"]


def test_a_test_without_a_class_is_no_full_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Background alone would score 100; that no validation image holds a class is told once, not at each validation."""
    data = own_data(tmp_path / "mine")
    for mask in (data / "masks/val").iterdir():
        Image.fromarray(np.zeros((50, 60), np.uint8)).save(mask)
    line = data_line(data, tmp_path).replace("--epochs 1", "--epochs 2")
    assert execute(f"{line} --val_interval 1 --name none") == 0
    said = capsys.readouterr()
    assert said.err.count("No test image holds 3 of 3 classes: cow, sheep, goat; only background can be scored") == 1
    assert said.err.count("No validation image holds a class of this step: cow, sheep, goat; ") == 1
    assert said.out.splitlines()[1].split() == ["after", "-", "-", "-", "-"]


def test_a_batch_too_small_for_its_norms_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    line = data_line(own_data(tmp_path / "mine"), tmp_path).replace("--batch_size 2", "--batch_size 1")
    checkpoint_of_before = tmp_path / "c/step/folder-mine-offline/one_0.pth"
    checkpoint_of_before.parent.mkdir(parents=True)
    checkpoint_of_before.write_bytes(b"finished")
    for crop in (16, 32):
        with pytest.raises(UserError, match=f"1 image .* --crop_size {crop} .* --batch_size") as caught:
            execute(f"{line.replace('--crop_size 32', f'--crop_size {crop}')} --name one")
        assert "\n" not in str(caught.value) and checkpoint_of_before.read_bytes() == b"finished"


def test_the_log_says_the_share_of_replay_images(base: Path, small_shapes: Path, tmp_path: Path) -> None:
    tree = labelled(tmp_path / "tree", ["circle", "star"], 3)
    line = (
        f"{common(base, small_shapes)} --name share --step 1 --lr 0.001 --step_ckpt {path_of(base, 'run', 0)} --weakly "
        f"--pseudo_ep 0 --replay --replay_path {tree} --replay_num 2 --replay_share 0.25"
    )
    assert execute(line) == 0
    assert " new and 4 replay images, 3:1: 1 epochs of " in (base / "logs" / EXPERIMENT / "share/log.txt").read_text()
