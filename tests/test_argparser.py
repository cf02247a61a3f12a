"""Command lines: the published ones work, contradictions are refused in one line before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import argparser
from tests.conftest import ROOT
from utils.errors import UserError
from utils.names import METHODS

BASE = "--name Base --step 0 --lr 0.01 --bce --dataset voc --task 15-5 --batch_size 24 --epochs 30 --val_interval 2"
WEAK = (
    "--name ours --step 1 --weakly --lr 0.001 --alpha 0.5 --loss_de 1 --lr_policy warmup --affinity --dataset voc --task 15-5 "
    "--batch_size 24 --epochs 40"
)


def parse(line: str) -> argparser.Options:
    return argparser.parse(line.split())


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    path = tmp_path / "Base_0.pth"
    path.write_bytes(b"x")
    return path


def test_published_base_line() -> None:
    options = parse(BASE)
    assert (options.step, options.lr, options.bce, options.batch_size, options.epochs) == (0, 0.01, True, 24, 30)
    assert (options.backbone, options.output_stride, options.crop_size, options.pooling) == ("resnet101", 16, 512, 32)
    assert options.lr_head == 1.0 and options.method == "supervised" and options.pretrained == "imagenet"
    assert options.checkpoint_path(0) == Path("checkpoints/step/voc-15-5/Base_0.pth")
    assert parse(BASE + " --overlap").checkpoint_path(0) == Path("checkpoints/step/voc-15-5-ov/Base_0.pth")


def test_published_weak_line(previous: Path) -> None:
    options = parse(f"{WEAK} --step_ckpt {previous} --overlap")
    assert options.method == "weak" and options.affinity and options.loss_de == 1
    assert (
        options.lr_head == 10 and options.lr_pseudo == 0.01 and options.pseudo_ep == 5 and options.pretrained == "none"
    )
    assert options.protocol == "overlap"


def test_coco_voc_presets() -> None:
    options = parse("--dataset coco-voc --task voc")
    assert (options.backbone, options.output_stride, options.crop_size) == ("wider_resnet38_a2", 8, 448)
    assert options.pooling == 56
    assert parse("--dataset coco-voc --task voc --crop_size 321").crop_size == 321, "a given value wins over the preset"


@pytest.mark.parametrize("spelling", ["--local_rank", "--local-rank"])
def test_both_spellings_of_local_rank(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert parse(f"{BASE} {spelling}=3").local_rank == 3


def test_every_published_option_is_known() -> None:
    published = """local_rank random_seed num_workers device data_root dataset weakly num_classes epochs batch_size crop_size
        crop_size_val lr momentum weight_decay lr_policy lr_decay_step lr_decay_factor lr_power bce val_on_trainset crop_val logdir
        name sample_num debug visualize print_interval val_interval backbone output_stride no_pretrained norm_act pooling test ckpt
        continue_ckpt ckpt_interval freeze loss_de loss_kd icarl icarl_importance icarl_disjoint icarl_bkg init_balanced unkd unce
        task step no_mask overlap step_ckpt pseudo pl_ckpt alpha pos_w affinity pseudo_ep lr_pseudo lr_head cam ss_dist l_seg
        replay replay_path replay_num web web_num web_path dataset_dir precision compile iters_per_epoch resume protocol
        pretrained"""
    known = {action.dest for action in argparser.get_argparser()._actions}
    assert not set(published.split()) - known


REFUSED = [
    (BASE.replace("--step 0", "--step 2"), "--step 2 is outside --task 15-5, whose steps are 0 to 1"),
    (BASE.replace("15-5", "7-7"), "--task 7-7"),
    (BASE + " --weakly", "--weakly needs a previous step"),
    (BASE + " --loss_kd 1", "--loss_kd needs a previous step"),
    (BASE + " --overlap --protocol disjoint", "--overlap contradicts --protocol disjoint"),
    (BASE + " --affinity", "--affinity needs --weakly"),
    (BASE + " --precision fp16 --device cpu", "--precision fp16 needs a GPU"),
    (BASE + " --no_pretrained --pretrained imagenet", "--no_pretrained contradicts --pretrained"),
    (BASE + " --pretrained nowhere.pth", "--pretrained nowhere.pth"),
    (BASE + " --num_classes 20", "--num_classes 20: --task 15-5 has 21"),
    (BASE + " --replay", "--replay needs --weakly"),
    (BASE + " --web_num 5", "--web_num needs --web"),
    (WEAK + " --web_labels caption", "--web_labels needs --web"),
    (WEAK + " --web --web_path . --val_on_trainset", "--val_on_trainset contradicts --web"),
    (WEAK + " --replay_num 3", "--replay_num needs --replay"),
    (WEAK + " --replay_share 0.25", "--replay_share needs --replay"),
    (WEAK + " --replay_weight 2", "--replay_weight needs --replay"),
    (WEAK + " --replay --replay_share 1 --replay_path .", "cannot be divided so that --replay_share 1 of it"),
    (BASE + " --recipe best", "--recipe needs --weakly"),
    (WEAK + " --recipe best --loss_de 1", "--freeze contradicts --loss_de"),
    (BASE + " --old_yields", "--old_yields needs --weakly"),
    (BASE + " --fold_absent", "--fold_absent needs --weakly"),
    (
        WEAK.replace("--batch_size 24", "--batch_size 5") + " --replay --replay_path .",
        "--batch_size 5 cannot be divided so that --replay_share 0.5 of it",
    ),
    (BASE + " --test", "no such checkpoint; train it first"),
    (BASE + " --continue_ckpt", "no such checkpoint; train it first"),
    (BASE + " --ckpt missing.pth", "--ckpt missing.pth: no such file"),
    (BASE + " --dataset_dir missing", "--dataset_dir missing: no such folder"),
    (BASE + " --name a/b", "--name 'a/b'"),
    (WEAK, "no checkpoint of step 0"),
    (WEAK + " --bce", "--bce is for pixel labels"),
    (WEAK + " --ss_dist", "--ss_dist"),
    (WEAK + " --no_pretrained", "belong to --step 0"),
    (WEAK + " --method supervised", "--method supervised contradicts --weakly"),
    (WEAK + " --method plop", "--method plop contradicts --weakly"),
    (BASE + " --method plop", "--method plop needs a previous step"),
    (
        BASE.replace("--step 0", "--step 1") + " --method plop",
        "--method plop has losses and a start of its own: remove --bce",
    ),
    (BASE.replace("--step 0", "--step 1") + " --method rasp", "--method rasp needs --weakly"),
    (BASE.replace("--step 0", "--step 1") + " --method ssul", "--method ssul needs --freeze"),
    (
        BASE.replace("--step 0", "--step 1") + " --method ssul --freeze --init_balanced",
        "--method ssul has losses and a start of its own: remove --init_balanced",
    ),
    (BASE + " --method other", "--method other: unknown; choose one of supervised, plop, ssul, weak, rasp"),
    (WEAK + " --pseudo_ep 40", "leaves none of --epochs 40"),
    (WEAK + " --freeze", "--freeze contradicts --loss_de"),
    (WEAK + " --unfreeze_ep 6", "--unfreeze_ep needs --freeze"),
    (WEAK + " --freeze --unfreeze_ep 40", "--unfreeze_ep 40 leaves none of --epochs 40"),
    (WEAK + " --lr_body 0.5", "--lr_body needs --unfreeze_ep"),
    (WEAK + " --icarl_bkg 2", "--icarl_bkg 2.0"),
    (WEAK + " --replay", "--replay needs --replay_path"),
    (WEAK + " --replay --replay_path nowhere", "the replay images are missing"),
    (WEAK + " --web --web_path nowhere --web_num 500", "the web images are missing"),
    (BASE.replace("--step 0", "--step 1") + " --unkd", "--unkd needs --loss_kd"),
    (BASE.replace("--step 0", "--step 1") + " --unce", "--unce contradicts --bce"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_refused_with_one_line(line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        parse(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["--alpha 2", "--epochs 0", "--lr -1", "--device gpu", "--backbone vgg", "--task", "--step one", "--epoch 3"],
)
def test_malformed_values_exit_with_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(line)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_new_method_may_learn_from_image_labels(previous: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "other", "methods.other:Other")
    options = parse(f"{WEAK} --step_ckpt {previous} --method other")
    assert options.method == "other" and options.affinity


def test_defaults_of_a_data_set() -> None:
    options = parse("--dataset shapes")
    for name in ("task", "backbone", "output_stride", "crop_size", "crop_size_val"):
        assert getattr(options, name) == argparser.default_of(name, "shapes")
    assert argparser.default_of("crop_size", "any other") == 512


def test_json_task(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"0": [1, 2], "1": [3]}')
    options = parse(f"--dataset voc --task {path} --step 0")
    assert options.experiment == "voc-mine"
    path.write_text('{"0": [1, 2], "1": [2]}')
    with pytest.raises(UserError, match=r"classes \[2\] are listed more than once"):
        parse(f"--dataset voc --task {path}")
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        parse(f"--dataset voc --task {path}")


NAMES = {
    "..": "does not begin with a dot", ".hidden": "does not begin with a dot", "a/b": "without slashes", "a\\b": "without slashes",
    "a\nb": "without control characters", "a\x1b[31m": "without control characters", "a\x00b": "without control characters",
    "a\u2028b": "without control characters", "a\udcff": "without control characters", "x" * 201: "at most 200 bytes",
    "ä" * 101: "at most 200 bytes", "": "without slashes",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(UserError) as caught:
        argparser.parse([*BASE.split(), "--name", name])
    text = str(caught.value)
    assert text.startswith("--name '") and NAMES[name] in text and text.isprintable() and len(text) < 200


@pytest.mark.parametrize("name", ["Base", "a b", "käse-3", "x" * 200, "a..b", "-1"])
def test_names_that_a_run_may_have(name: str) -> None:
    assert argparser.parse([*BASE.split(), f"--name={name}"]).name == name


FOLDERS = {
    "fruit": "fruit", "fruit/": "fruit", "a/./fruit/../tools": "tools", "my data": "my_data", ".hidden": "hidden", "v1.0": "v1.0",
    "obst käse": "obst_käse", "ka\u0308se": "k\u00e4se", "水果": "水果", "a\nb\x1b": "a_b_", "a\udcffb": "a_b", "a:b*c?": "a_b_c_",
    "ä" * 90: "ä" * 40, "水" * 90: "水" * 26, "/": "", "...": "",
}  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_data_folder_is_called(folder: str) -> None:
    assert argparser.folder_name(folder) == FOLDERS[folder]


def test_the_folders_of_a_run_say_its_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fruit/inner").mkdir(parents=True)
    task = tmp_path / "mine.json"
    task.write_text('{"0": [1, 2], "1": [3]}')
    line = f"--dataset folder --task {task} --dataset_dir"
    options = parse(f"{line} fruit")
    assert (options.experiment, options.data_name) == ("folder-fruit-mine", "folder-fruit")
    assert options.checkpoint_path(0) == Path("checkpoints/step/folder-fruit-mine/Experiment_0.pth")
    assert options.log_folder == Path("logs/folder-fruit-mine/Experiment")
    assert parse(f"{line} fruit/inner/.. --overlap").experiment == "folder-fruit-mine-ov"
    assert parse(line.removesuffix(" --dataset_dir")).experiment == "folder-mine"
    assert parse("--dataset voc --task 15-5 --dataset_dir fruit").experiment == "voc-15-5"
    monkeypatch.chdir("fruit")
    assert parse(f"{line} .").experiment == parse(f"{line} inner/..").experiment == "folder-fruit-mine"


def test_a_checkpoint_under_the_folder_name_of_an_earlier_version_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fruit").mkdir()
    Path("mine.json").write_text('{"0": [1, 2], "1": [3]}')
    options = parse("--dataset folder --task mine.json --dataset_dir fruit")
    own, earlier = (
        Path("checkpoints/step") / name / "Experiment_0.pth" for name in ("folder-fruit-mine", "folder-mine")
    )
    assert options.found_checkpoint(0) == own
    line = "--dataset folder --task mine.json --dataset_dir fruit --step 1"
    with pytest.raises(UserError, match=f"{own}: no checkpoint of step 0"):
        parse(line)
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    assert options.found_checkpoint(0) == earlier and options.checkpoint_path(0) == own
    assert parse(line) and parse(line.replace("--step 1", "--test"))
    own.parent.mkdir(parents=True)
    own.touch()
    assert options.found_checkpoint(0) == own


def test_saved_options_of_another_type_are_seen() -> None:
    saved = parse(BASE).plain()
    assert argparser.misfits(saved) == argparser.misfits({"of_another_version": object()}) == []
    assert argparser.misfits(saved | {"lr": 1, "iters_per_epoch": 3, "ckpt": "x.pth"}) == []
    wrong = {
        "lr": "0.1",
        "step": 0.0,
        "bce": 1,
        "backbone": None,
        "output_stride": [16],
        "crop_size": True,
        "dataset_dir": 3,
        "image_stats": "x",
    }
    assert sorted(argparser.misfits(saved | wrong)) == sorted(wrong)


def test_batch_must_divide_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(UserError, match="--batch_size 24 cannot be shared by 5 processes"):
        parse(BASE)


def test_torch_is_not_imported_to_parse() -> None:
    """What keeps --help fast, tested by cause and not by a clock."""
    code = "import sys, run, argparser; argparser.get_argparser().format_help(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_run_refuses_with_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "run.py", "--task", "15-5", "--step", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "run.py: --step 7 is outside --task 15-5, whose steps are 0 to 1"


def test_what_may_change_in_a_continued_rehearsal(previous: Path, tmp_path: Path) -> None:
    """The tree may have moved; another number of images would make other batches."""
    line = f"{WEAK} --step_ckpt {previous} --overlap --replay --replay_path"
    (tmp_path / "moved").mkdir()
    earlier = parse(f"{line} {tmp_path}").plain()
    assert earlier["replay"] and earlier["replay_num"] == 2
    assert not parse(f"{line} {tmp_path / 'moved'}").changed(earlier)
    assert parse(f"{line} {tmp_path} --replay_num 3").changed(earlier) == ["--replay_num 3 (was 2)"]
    assert parse(f"{WEAK} --step_ckpt {previous} --overlap").changed(earlier) == ["--replay False (was True)"]
