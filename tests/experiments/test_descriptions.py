"""Every command of every experiment is one that its script accepts, in an order in which all that it names is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import argparser
from dataset import shapes
from experiments.__main__ import get_argparser, main, make_runner
from experiments.arms import ABLATIONS, ADDITIONS, ARMS, BASELINES
from experiments.runner import Runner
from experiments.stage import Stage
from tasks import load_task
from tests.conftest import ROOT
from tests.experiments.parsers import PARSERS
from utils import table
from utils.errors import UserError

WEB = "--web DATA/web --downloads DATA/downloads --class_words DATA/words.txt"
LINES = {
    "demo": "demo --arms discriminator ours joint",
    "animals": "animals --data DATA",
    "animals-4-1": "animals --data DATA --task 4-1 --seeds 3",
    "voc": "voc 15-5 --overlap --data DATA",
    "voc-web": f"voc 15-5s --data DATA --iterations 100 {WEB} --captioner transformers some/model",
    "coco": f"coco --data DATA --seeds 0 1 {WEB}",
}


def described(line: str, data: Path, *more: str) -> list[Stage]:
    words = [word.replace("DATA", str(data)) for word in line.split()]
    given = get_argparser().parse_args([*words, "--work", str(data.parent / "work"), *more])
    return list(make_runner(given, []).stages)


def make(path: Path) -> None:
    """What a stage leaves behind, empty."""
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    else:
        path.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("name", LINES)
def test_every_command_is_accepted(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for drawing in ("make", "render_web"):
        monkeypatch.setattr(shapes, drawing, lambda *_, **__: None)
    runs, tests = [], []
    for stage in described(LINES[name], data):
        command = [*stage.command, *stage.speed]
        if command[0] == "run.py":
            options = argparser.parse(command[1:])
            if options.test:
                tests.append(options)
                assert stage.makes == (options.log_folder / "confusion_0.csv",)
            else:
                runs.append(options)
                assert stage.makes == (options.checkpoint_path(options.step),)
                assert options.resume == "auto" and (options.step == 0 or options.step_ckpt is not None)
        elif command[1] == "dataset.shapes":
            assert shapes.main(command[2:]) == 0
        else:
            script, rest = (command[1], command[2:]) if command[0] == "-m" else (command[0], command[1:])
            PARSERS[script]().parse_args(rest)
        for path in stage.makes:
            make(path)
    seeds = {options.random_seed for options in runs}
    arms = {options.name.removesuffix(f"-{options.random_seed}") for options in runs}
    steps = len(load_task(runs[0].dataset, runs[0].task)) - 1
    pixel = {"fine-tuning", "LwF", "ILT", "MiB"}
    expected = {"voc": {*pixel, "WILSON"}, "demo": {"discriminator", "ours"}}.get(name, set(ARMS))
    assert arms == {"base", "joint", *expected}
    assert len(runs) == len(seeds) * (2 + steps * (len(arms) - 2)), (
        "base and joint once, every arm at every step, for each seed"
    )
    assert {(options.name, options.ckpt, options.test_unknown) for options in tests} == {
        (f"base-all-pixels-{seed}", str(runs[0].checkpoint_path(0).with_name(f"base-{seed}_0.pth")), "later")
        for seed in seeds
    }


def one(stages: list[Stage], name: str) -> list[str]:
    return list(next(stage for stage in stages if stage.name == name).command)


def test_arms_differ_in_what_they_are_about_and_nothing_else(data: Path) -> None:
    """Ablation, part by part: the same options, iterations included, but for the images and their labels."""
    stages = described(LINES["animals"], data)
    work = str(data.parent / "work")
    web = ["--web", "--web_path"]
    expected = {
        "WILSON": [],
        "raw-web": [*web, f"{work}/candidates/manifest.csv"],
        "discriminator": [*web, f"{work}/web/discriminator-0/selected.csv"],
        "caption-labels": ["--web_labels", "caption", *web, f"{work}/web/captions-0/selected.csv"],
        "ours": [
            "--web_labels",
            "caption",
            *web,
            f"{work}/web/captions-0/selected.csv",
            "--replay",
            "--replay_path",
            f"{work}/replay-0",
        ],
    }
    wilson = one(stages, "WILSON-0-step1")
    for arm, own in expected.items():
        command = one(stages, f"{arm}-0-step1")
        assert [word for word in command if word not in own and word != f"{arm}-0"] == [
            word for word in wilson if word != "WILSON-0"
        ]
        assert [word for word in command if word in own] == own
    counts = {
        tuple(one(stages, f"{arm}-0-step1")[one(stages, f"{arm}-0-step1").index("--iters_per_epoch") :][:2])
        for arm in ARMS
    }
    assert counts == {("--iters_per_epoch", "25")}


def run_options(stages: list[Stage], arm: str, data: Path) -> dict[str, object]:
    """What run.py makes of an arm's command of seed 0 and step 1, without its name."""
    wanted = next(stage for stage in stages if stage.name == f"{arm}-0-step1")
    for stage in stages:
        if stage.name in wanted.after:
            for path in stage.makes:
                make(path)
    make(data.parent / "work" / "replay-0")
    return argparser.parse(list(wanted.command[1:])).plain() | {"name": None}


def test_an_ablation_is_the_best_recipe_without_one_part(data: Path) -> None:
    stages = described("animals --data DATA --seeds 0", data, "--arms", "best", *ABLATIONS)
    best = run_options(stages, "best", data)
    part_of = {name: {name} for name in ("old_yields", "fold_absent", "jitter", "replay_balance", "web_path")}
    expected = {
        "best-no-replay": {"replay", "replay_path", "replay_balance"},
        "best-raw-web": {"web_path", "web_labels"},
        "best-discriminator": part_of["web_path"],
        "best-trained-body": {"freeze", "freeze_norm", "loss_de"},
        "best-low-rate": {"lr_head", "lr_pseudo"},
        "best-no-yielding": part_of["old_yields"],
        "best-no-folding": part_of["fold_absent"],
        "best-no-jitter": part_of["jitter"],
        "best-no-balance": part_of["replay_balance"],
    }
    assert expected.keys() == ABLATIONS.keys()
    for arm, changed in expected.items():
        other = run_options(stages, arm, data)
        assert {key for key in best if best[key] != other[key]} == changed, arm
    assert not run_options(described(LINES["animals"], data), "ours", data)["old_yields"], (
        "the papers' recipe has none of it"
    )


def test_an_addition_is_the_best_recipe_and_one_thing_more(data: Path) -> None:
    stages = described("animals --data DATA --seeds 0", data, "--arms", "best", *ADDITIONS)
    best = run_options(stages, "best", data)
    for arm in ADDITIONS:
        other = run_options(stages, arm, data)
        assert {key for key in best if best[key] != other[key]} == {arm.removeprefix("best-")}, arm


def test_a_baseline_is_run_by_name_and_may_have_a_base_step_of_its_own(data: Path) -> None:
    names = {stage.arm for stage in described("animals --data DATA --task 4-1 --seeds 0", data)}
    assert not names & BASELINES.keys()
    planned = described("animals --data DATA --task 4-1 --seeds 0", data, "--arms", *BASELINES)
    stages = {stage.name: stage for stage in planned}
    work = data.parent / "work/checkpoints/step/voc-4-1-ov"
    begins = {"PLOP": "base-0_0.pth", "SSUL": "SSUL-0_0.pth", "RaSP": "base-0_0.pth"}
    for arm, checkpoint in begins.items():
        command = stages[f"{arm}-0-step1"].command
        assert command[command.index("--step_ckpt") + 1] == str(work / checkpoint)
        assert run_options(planned, arm, data)["method"] == arm.lower()
    own = stages["SSUL-0"].command
    assert "ssul" in own and "--step_ckpt" not in own and "SSUL-0" in stages["SSUL-0-step1"].after
    assert set(own) - set(stages["base-0"].command) == {"SSUL-0", "--method", "ssul"}
    assert stages["SSUL-0-step2"].after == ("SSUL-0-step1",)


def test_steps_follow_one_another(data: Path) -> None:
    stages = {stage.name: stage for stage in described(LINES["animals-4-1"], data)}
    second = stages["ours-3-step2"]
    checkpoint = str(data.parent / "work/checkpoints/step/voc-4-1-ov/ours-3_1.pth")
    assert second.command[second.command.index("--step_ckpt") + 1] == checkpoint
    assert set(second.after) == {"ours-3-step1", "select-captions-3", "replay-list-3"}
    assert set(stages["ours-3-step1"].after) == {"base-3", "select-captions-3", "replay-list-3"}
    assert set(stages["raw-web-3-step1"].after) == {"base-3", "candidates"}
    assert set(stages["replay-labels-3"].after) == {"replay-tree-3", "base-3"}


def test_the_best_recipe_rehearses_earlier_steps_too(data: Path) -> None:
    stages = {
        stage.name: stage for stage in described("animals --data DATA --task 4-1 --arms best ours --seeds 3", data)
    }
    work = str(data.parent / "work")
    second = stages["best-3-step2"].command
    assert second[second.index("--replay_path") + 1] == f"{work}/replay-best-3-step2"
    more = stages["replay-web-best-3-step2"].command
    assert more[more.index("--classes") + 1 :] == ("cow", "--out", f"{work}/replay-best-3-step2")
    label = stages["replay-labels-best-3-step2"].command
    assert label[label.index("--ckpt") + 1].endswith("best-3_1.pth")
    assert "replay-list-best-3-step2" in stages["best-3-step2"].after and "best-3-step1" in stages["best-3-step2"].after
    paper = stages["ours-3-step2"].command
    assert paper[paper.index("--replay_path") + 1] == f"{work}/replay-3", "as published: classes of step 0 alone"


def test_only_what_the_chosen_arms_need(data: Path) -> None:
    def names(*arms: str) -> set[str]:
        return {stage.name for stage in described("animals --data DATA --seeds 0", data, "--arms", *arms)}

    always = {"base-0", "base-all-pixels-0", "table", "report"}
    assert names("MiB", "joint") == always | {"MiB-0-step1", "joint-0"}
    assert names("raw-web") == always | {"candidates", "raw-web-0-step1"}
    assert names("discriminator") == always | {
        "candidates", "web-captions", "discriminator-0", "select-discriminator-0", "discriminator-0-step1",
    }  # fmt: skip


def test_table_of_the_experiments_own_arms(data: Path) -> None:
    stages = described("voc 15-5 --data DATA", data)
    given = table.get_argparser().parse_args(one(stages, "table")[2:])
    assert given.arms == ["base", "base-all-pixels", "fine-tuning", "LwF", "ILT", "MiB", "WILSON", "joint"]
    assert given.baseline == "WILSON"
    assert table.get_argparser().parse_args(one(described(LINES["animals"], data), "table")[2:]).baseline == "raw-web"
    assert set(stages[-2].after) == {stage.name for stage in stages[:-2]} and stages[-1].after == ("table",)


def test_captions_name_the_classes_of_the_task(data: Path) -> None:
    command = one(described(LINES["voc-web"], data), "select-captions-42")
    assert (
        command[command.index("--classes") + 1 :]
        == (
            "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa "
            "train tvmonitor"
        ).split()
    )


def test_options_for_every_run(data: Path) -> None:
    for stage in described("voc 15-5 --data DATA", data, "--options", "--precision bf16"):
        if stage.command[0] == "run.py":
            assert stage.command[stage.command.index("--precision") + 1] == "bf16"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("voc 15-6 --data DATA", "--task 15-6: unknown for --dataset voc"),
        ("voc 15-5 --data DATA --arms mine", "--arms mine: unknown; choose from fine-tuning"),
        ("voc 15-5 --data DATA --arms raw-web", "arms that learn from web images need --web"),
        ("voc 15-5 --data DATA --web DATA/web --arms ours", "arms that rehearse need --downloads and --class_words"),
        (
            "voc 15-5 --data DATA --web DATA/web --downloads DATA/downloads",
            "--downloads and --class_words belong together",
        ),
        ("voc 15-5 --data DATA --downloads DATA/downloads --class_words DATA/words.txt", "--downloads needs --web"),
        ("voc 15-5 --data DATA --captioner a b c", "--captioner a b c: a captioner, and its model"),
        ("animals --data DATA --jobs 0", "--jobs 0: a number of at least 1 is needed"),
        ("animals --data DATA --seeds 1 1", "--seeds 1 1: different whole numbers"),
        ("animals --data DATA --gpus 2", "--gpus 2: this machine has 0"),
        ("animals --data DATA --gpus 2 --cpu", "--gpus 2 contradicts --cpu"),
        ("animals --data DATA --options='--a", "No closing quotation"),
    ],
)
def test_bad_input_is_named(line: str, message: str, data: Path) -> None:
    with pytest.raises(UserError, match=message):
        described(line, data)


@pytest.mark.parametrize(
    ("here", "options", "expected"),
    [
        ([], "--gpus 2", "CUDA_VISIBLE_DEVICES=0,1 python -m torch.distributed.run --standalone --nproc_per_node 2 run.py"),
        (["3"], "--gpus 2", "CUDA_VISIBLE_DEVICES=0,1 python -m torch.distributed.run --standalone --nproc_per_node 2 run.py"),
        (["5", "7"], "--gpus 2", "CUDA_VISIBLE_DEVICES=5,7 python -m torch.distributed.run --standalone --nproc_per_node 2 run.py"),
        (["5", "7"], "", "CUDA_VISIBLE_DEVICES=5 python run.py"),
        ([], "", "python run.py"),
        ([], "--cpu", "python run.py"),
    ],
)  # fmt: skip
def test_a_dry_run_is_for_the_machine_that_is_asked_for(
    here: list[str], options: str, expected: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan may be for more GPUs than this machine has; a run may not."""
    words = ["voc", "15-5", "--overlap", "--data", str(data), "--work", str(data.parent / "work"), *options.split()]
    assert make_runner(get_argparser().parse_args([*words, "--dry_run"]), here).dry_run() == 0
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out.startswith(f"+ {expected} --name base-42 ")
    if len(here) < 2 and "--gpus" in options:
        with pytest.raises(UserError, match=f"--gpus 2: this machine has {len(here)}"):
            make_runner(get_argparser().parse_args(words), here)


@pytest.mark.parametrize("code", [0, 3])
def test_it_ends_with_the_table_and_where_to_look(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But not where a command failed, with the table of an earlier run."""

    def run(self: Runner) -> int:
        for name in ("table.md", "report.html"):
            (tmp_path / name).write_text(f"| {name} |")
        return code

    monkeypatch.setattr(Runner, "run", run)
    assert main(get_argparser().parse_args(["demo", "--cpu", "--work", str(tmp_path)])) == code
    shown = capsys.readouterr().out
    assert shown == ("" if code else f"| table.md |\nlook at {tmp_path}/table.md and {tmp_path}/report.html\n")


def test_dry_run_as_a_user_calls_it(data: Path, tmp_path: Path) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "experiments", *words, "--work", str(tmp_path / "work"), "--cpu"]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)

    done = call("animals", "--data", str(data), "--seeds", "0", "--dry_run")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 29 and all(line.startswith("+ python ") for line in lines)
    assert sum(" run.py " in line for line in lines) == 13 and not (tmp_path / "work").exists()
    missing = call("animals", "--data", str(tmp_path / "nowhere"))
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
    assert missing.stderr.startswith(
        f"experiments: {tmp_path}/nowhere/web-animals: is missing, the stage candidates needs it"
    )
