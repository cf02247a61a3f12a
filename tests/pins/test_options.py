"""What run.py makes of command lines: every option resolved, and which of them may change between a run and its continuation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import argparser

STEP = "--dataset voc --task 15-5 --step 1 --step_ckpt previous.pth"
WEAK = f"{STEP} --weakly"
REPLAY = "--replay --replay_path tree"
LINES = (
    "",
    "--name Base --step 0 --lr 0.01 --bce --dataset voc --task 15-5 --batch_size 24 --epochs 30 --val_interval 2",
    "--dataset voc --task 10-10 --overlap --no_pretrained --norm_act abn_sync --num_classes 21",
    "--dataset voc --task 19-1 --protocol partitioned --pretrained body.pth --dataset_dir images --crop_val --visualize",
    "--dataset coco",
    "--dataset coco-voc",
    "--dataset coco-voc --task voc --crop_size 321 --output_stride 16 --backbone resnet50 --pooling 20",
    "--dataset shapes",
    "--dataset shapes --task 4-2 --backbone timm:resnet10t --crop_size 64 --crop_size_val 64 --device 3 --iters_per_epoch 7",
    "--dataset folder",
    "--dataset folder --dataset_dir images --task mine.json --lr_head 3 --local-rank 2",
    "--test --ckpt previous.pth --dataset voc --task 15-5 --test_unknown later --val_list list.npy",
    "--resume auto --ckpt_interval 3 --precision bf16 --compile --debug --wandb offline --report --random_seed 7 --jitter 0.3",
    f"{STEP} --loss_kd 100 --alpha 1 --train_list list.npy --num_workers 0",
    f"{STEP} --unce --unkd --loss_kd 10 --loss_de 0.5 --init_balanced --no_mask --freeze_norm",
    f"{STEP} --icarl --icarl_importance 10 --lr_policy step --lr_decay_step 100 --lr_decay_factor 0.5",
    f"{STEP} --icarl --icarl_disjoint --icarl_bkg 0.3 --lr_policy one_cycle --momentum 0 --pseudo images",
    f"{STEP} --freeze --bce --val_on_trainset --weight_decay 0 --print_interval 1 --image_stats half",
    f"{WEAK} --lr 0.001 --alpha 0.5 --loss_de 1 --lr_policy warmup --affinity --batch_size 24 --epochs 40 --overlap",
    f"{WEAK} --cam att --pos_w 2 --l_seg 0.5 --pl_ckpt previous.pth --pseudo_ep 0 --lr_pseudo 0.5 --lr_power 0.5",
    f"{WEAK} --recipe paper --affinity",
    f"{WEAK} --recipe best --affinity",
    f"{WEAK} --recipe best --loss_de 1 --unfreeze_ep 20 --lr_body 0.1",
    f"{WEAK} --recipe best {REPLAY} --lr_head 5 --jitter 0.1",
    f"{WEAK} --recipe best {REPLAY} --paste 0.5 --confusion 0.1 --likeness 0.3",
    f"{WEAK} {REPLAY} --replay_num 3 --replay_share 0.25 --replay_weight 2 --replay_balance",
    f"{WEAK} --web --web_path tree",
    f"{WEAK} --web --web_path tree --web_masks tree",
    f"{WEAK} --web --web_path tree --web_num 10 --web_labels caption {REPLAY} --old_yields --fold_absent",
    "--dataset voc --task 15-5s --step 5 --step_ckpt previous.pth --weakly --method weak --sample_num 0",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where all that the lines name is."""
    monkeypatch.chdir(tmp_path)
    for variable in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("images", "tree"):
        Path(name).mkdir()
    for name in ("previous.pth", "body.pth", "list.npy"):
        Path(name).touch()
    Path("mine.json").write_text('{"0": [1, 2], "1": [3]}')
    return tmp_path


def resolved(line: str) -> dict[str, Any]:
    return argparser.parse(line.split()).plain()


def test_resolved_options(pinned: Callable[[str, Any], None]) -> None:
    """All of them for the empty line, and what other lines change."""
    default = resolved("")
    found: dict[str, Any] = {"": default}
    for line in LINES[1:]:
        options = resolved(line)
        assert options.keys() == default.keys()
        found[line] = {key: value for key, value in options.items() if value != default[key]}
    pinned("options", found)


def test_where_a_run_keeps_its_files(pinned: Callable[[str, Any], None]) -> None:
    found = {}
    for line in LINES:
        options = argparser.parse(line.split())
        found[line] = [
            options.experiment,
            str(options.log_folder),
            *(str(options.checkpoint_path(step)) for step in (0, 1)),
        ]
    pinned("paths", found)


@pytest.mark.parametrize("line", [LINES[1], LINES[-2]])
def test_which_options_may_change(line: str, pinned: Callable[[str, Any], None]) -> None:
    """An option may change between a run and its continuation where nothing is said of it."""
    options = argparser.parse(line.split())
    own = options.plain()
    said = {key: options.changed(own | {key: "other"}) for key in own}
    neutral = sorted(key for key, lines in said.items() if not lines)
    pinned("neutral", neutral)
    assert {key: lines for key, lines in said.items() if lines} == {
        key: [f"--{key} {own[key]} (was other)"] for key in own if key not in neutral
    }
    for key in own:
        assert options.changed({name: value for name, value in own.items() if name != key}) == [], (
            "what an earlier version did not know has not changed"
        )
    assert options.changed(own | {"of_another_version": 1}) == []


def test_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert resolved("--local_rank 1")["local_rank"] == 3
