"""Exit code and message of every command line that a script refuses, word for word."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.pins.scripts import call

BASE = "run.py --dataset voc --task 15-5"
STEP = f"{BASE} --step 1 --step_ckpt previous.pth"
WEAK = f"{STEP} --weakly"
TASKS = {
    "broken": "{",
    "list": "[1, 2]",
    "gap": '{"0": [1], "2": [2]}',
    "words": '{"0": ["cow"]}',
    "empty": '{"0": [1], "1": []}',
    "none": "{}",
    "twice": '{"0": [1, 2], "1": [2]}',
    "late": '{"0": [1], "1": [0]}',
    "large": '{"0": [1], "1": [255]}',
}
MALFORMED = (
    *(
        f"--{name} {value}"
        for name in ("random_seed", "num_workers", "sample_num", "step", "pseudo_ep")
        for value in ("-1", "x")
    ),
    *(
        f"--{name} {value}"
        for name in (
            "print_interval",
            "num_classes",
            "crop_size",
            "crop_size_val",
            "epochs",
            "iters_per_epoch",
            "batch_size",
        )
        for value in ("0", "1.5")
    ),
    *(f"--{name} 0" for name in ("lr_decay_step", "val_interval", "pooling", "ckpt_interval", "replay_num", "web_num")),
    *(
        f"--{name} {value}"
        for name in ("jitter", "momentum", "alpha", "replay_share")
        for value in ("1.1", "-0.1", "x")
    ),
    *(
        f"--{name} {value}"
        for name in ("weight_decay", "loss_kd", "loss_de", "icarl_importance", "l_seg")
        for value in ("-1", "inf")
    ),
    *(
        f"--{name} {value}"
        for name in ("lr", "lr_decay_factor", "lr_power", "lr_head", "lr_pseudo", "pos_w", "replay_weight")
        for value in ("0", "nan")
    ),
    *(
        f"--{name} other"
        for name in (
            *("precision", "wandb", "dataset", "image_stats", "test_unknown", "protocol", "lr_policy", "norm_act"),
            *("resume", "recipe", "cam", "web_labels", "output_stride", "icarl_bkg", "local_rank"),
        )
    ),
    *(
        "--output_stride 4",
        "--device gpu",
        "--backbone vgg",
        "--backbone timm:",
        "--task",
        "--epoch 3",
        "--unknown",
        "word",
    ),
)
RUN = (
    *(f"run.py {options}" for options in MALFORMED),
    # The task.
    *(
        f"run.py --dataset voc --task {name}"
        for name in ("7-7", "voc", "nowhere.json", *(f"{name}.json" for name in TASKS))
    ),
    *(f"run.py --dataset {name} --task 15-5" for name in ("coco", "coco-voc", "shapes", "folder")),
    f"{BASE} --step 2",
    "run.py --step 7",
    f"{BASE} --num_classes 20",
    f"{BASE} --overlap --protocol disjoint",
    f"{BASE} --overlap --protocol partitioned",
    # Replay and web images.
    *(
        f"{WEAK} --{option}"
        for option in (
            *("replay_path tree", "replay_num 3", "replay_balance", "replay_share 0.25", "replay_weight 2"),
            *("web_path tree", "web_num 5", "web_labels caption"),
        )
    ),
    *(f"{STEP} --{name} --{name}_path tree" for name in ("replay", "web")),
    *(f"{WEAK} --{name}" for name in ("replay", "web")),
    *(f"{WEAK} --{name} --{name}_path nowhere" for name in ("replay", "web")),
    *(f"{WEAK} --replay --replay_path tree --replay_share {share}" for share in ("0", "1", "0.3")),
    f"{WEAK} --replay --replay_path tree --batch_size 5",
    f"{WEAK} --web --web_path tree --train_list list.npy",
    f"{WEAK} --web --web_path tree --val_on_trainset",
    # The method.
    f"{WEAK} --ss_dist",
    *(
        f"{BASE} --{option}"
        for option in (
            *("weakly", "unce", "unkd", "loss_kd 1", "loss_de 1", "icarl", "init_balanced"),
            *("step_ckpt previous.pth", "pl_ckpt previous.pth", "pseudo tree"),
        )
    ),
    *(f"{STEP} {option}" for option in ("--pretrained imagenet", "--pretrained none", "--no_pretrained")),
    *(
        f"{WEAK} --{option}"
        for option in (
            "bce",
            "unce",
            "unkd",
            "loss_kd 1",
            "icarl",
            "icarl_disjoint",
            "pseudo tree",
            "method supervised",
        )
    ),
    *(
        f"{STEP} --{option}"
        for option in (
            *("affinity", "old_yields", "fold_absent", "pl_ckpt previous.pth", "pos_w 2", "cam att", "l_seg 0.5"),
            *("recipe best", "confusion 0.1", "likeness 1"),
        )
    ),
    f"{STEP} --unkd",
    f"{STEP} --unce --bce",
    f"{STEP} --unce --icarl",
    f"{STEP} --icarl_disjoint",
    f"{STEP} --icarl --icarl_disjoint --icarl_importance 2",
    *(f"{WEAK} --icarl_bkg {value}" for value in ("2", "-0.5")),
    f"{STEP} --icarl_bkg 0.5",
    f"{WEAK} --confusion 0.1",
    f"{WEAK} --paste 0.5",
    f"{WEAK} --replay --replay_path tree --paste 0.5",
    f"{STEP} --freeze --loss_de 1",
    f"{WEAK} --recipe best --loss_de 1",
    f"{STEP} --freeze --freeze_norm",
    f"{STEP} --freeze --recompute",
    f"{STEP} --unfreeze_ep 3",
    f"{WEAK} --web_masks tree",
    f"{WEAK} --web --web_path tree --web_masks nowhere",
    f"{STEP} --freeze --unfreeze_ep 30",
    f"{STEP} --freeze --lr_body 0.5",
    f"{STEP} --freeze --unfreeze_ep 0",
    f"{BASE} --recompute --compile",
    f"{STEP} --backbone adopted --recompute",
    f"{WEAK} --recipe best --freeze_norm",
    f"{WEAK} --lr_policy warmup --pseudo_ep 30",
    # Files.
    f"{BASE} --ckpt nowhere.pth",
    f"{BASE} --step 1 --step_ckpt nowhere.pth",
    f"{WEAK} --pl_ckpt nowhere.pth",
    f"{BASE} --train_list nowhere.npy",
    f"{BASE} --val_list nowhere.npy",
    f"{STEP} --pseudo nowhere",
    f"{BASE} --dataset_dir nowhere",
    f"{BASE} --pretrained nowhere.pth",
    f"{BASE} --val_on_trainset --val_list list.npy",
    f"{BASE} --continue_ckpt --resume auto",
    f"{BASE} --ckpt previous.pth --continue_ckpt",
    f"{BASE} --ckpt previous.pth --resume auto",
    f"{BASE} --no_pretrained --pretrained imagenet",
    f"{BASE} --no_pretrained --pretrained previous.pth",
    f"{BASE} --precision fp16 --device cpu",
    f"{BASE} --name a/b",
    f"{BASE} --name=",
    f"{BASE} --crop_size 8",
    f"{BASE} --step 1",
    f"{BASE} --overlap --step 1 --name other",
    f"{BASE} --step 1 --test --report --ckpt previous.pth",
    f"{BASE} --test",
    f"{BASE} --continue_ckpt",
    f"{STEP} --test",
    f"WORLD_SIZE=5 {BASE}",
    # All is well but the data.
    f"{BASE} --device cpu",
    "run.py --dataset folder --device cpu",
)
MEASURE = "-m utils.measure_noun"
LABEL = "generate_label.py --ckpt previous.pth --path tree --device cpu"
DISCRIMINATOR = "train_discriminator.py --step_ckpt previous.pth --web_path web --device cpu"
SELECT = "select_web.py --web_path web --out selected.csv --device cpu"
COLLECT = "collect_web.py --classes cow --out collected --source folder:web"
CAPTION = "generate_caption.py web captions --device cpu"
VOC = "-m experiments voc 15-5 --cpu --work work --data data"
ANIMALS = "-m experiments animals --cpu --work work --data data"
OTHERS = (
    *("collect_web.py", "collect_web.py --classes cow --out collected", "collect_web.py --class cow"),
    "collect_web.py --classes cow --out collected --source nowhere",
    "collect_web.py --classes cow --out collected --source folder:nowhere",
    "collect_web.py --classes cow --out collected --source commons",
    "collect_web.py --classes cow --out collected --source list:",
    "collect_web.py --classes Cow cow --out collected --source folder:web",
    *(
        f"{COLLECT} --{name} 0"
        for name in ("per_class", "max_bytes", "max_pixels", "min_side", "max_total", "threads", "rate")
    ),
    *(
        f"{COLLECT} --{text}"
        for text in ("near 65", "near -1", "api_rate 0", "proxy nowhere", "per_class x", "not_in nowhere")
    ),
    *("train_discriminator.py", f"{DISCRIMINATOR} --source other", f"{DISCRIMINATOR} --epochs x"),
    *(f"{DISCRIMINATOR} --{text}" for text in ("epochs 0", "batch_size 0", "lr 0", "num_workers -1")),
    DISCRIMINATOR,
    DISCRIMINATOR.replace("previous", "nowhere"),
    *("select_web.py", SELECT, f"{SELECT} --web_labels caption", f"{SELECT} --discriminator nowhere.pth"),
    f"{SELECT} --web_labels caption --classes cow --batch_size 0",
    f"{SELECT} --web_labels caption --classes cow --num_workers -1",
    *(
        f"{SELECT} --web_labels caption --classes cow --{text}"
        for text in ("ratio 0", "keep 0", "min_keep -1", "keep 1 --min_keep 2")
    ),
    f"{SELECT} --discriminator previous.pth --vocabulary words.json",
    f"{SELECT} --web_labels caption --vocabulary nowhere.json",
    "select_web.py --web_path web --out selected --web_labels caption --classes cow",
    "select_web.py --web_path web.csv --out web.csv --web_labels caption --classes cow",
    "select_web.py --web_path nowhere --out selected.csv --web_labels caption --classes cow",
    *("generate_caption.py", f"{CAPTION} --captioner other", f"{CAPTION} --precision other"),
    *(f"{CAPTION} --{name} 0" for name in ("batch_size", "beams", "new_tokens")),
    f"{CAPTION} --captioner transformers",
    f"{CAPTION} --captioner file",
    *("generate_label.py", f"{LABEL} --scales 0", f"{LABEL} --threshold 1", f"{LABEL} --precision other"),
    *(
        f"{LABEL} --{text}"
        for text in ("batch_size 0", "max_side 0", "num_workers -1", "dataset voc", "task 15-5", "step 1")
    ),
    f"{LABEL} --dataset voc --task 15-6 --step 0",
    f"{LABEL} --dataset voc --task 15-5 --step 9",
    f"{LABEL} --drop_without_words nowhere.txt",
    LABEL,
    LABEL.replace("previous", "nowhere"),
    LABEL.replace("tree", "nowhere"),
    LABEL.replace("tree", "images"),
    *("generate_train_file.py", "generate_train_file.py --path nowhere", "generate_train_file.py --path tree"),
    *(MEASURE, f"{MEASURE} other", f"{MEASURE} generate_NN --captions nowhere --out nouns"),
    f"{MEASURE} generate_NN --captions nowhere --out nouns --tagger other",
    f"{MEASURE} filter_replay_with_NN --nouns nowhere --out kept",
    f"{MEASURE} filter_replay_with_NN --nouns nowhere --out kept --against caption --classes words.txt",
    f"{MEASURE} filter_replay_with_NN --nouns nowhere --out kept --classes words.txt --caption_nouns words.txt",
    f"{MEASURE} filter_webnew_with_cls --nouns nowhere --out kept",
    f"{MEASURE} filter_webnew_with_cls --nouns nowhere --out kept --similarity other",
    f"{MEASURE} move_with_filtered_caption --images nowhere --kept nowhere --out moved",
    f"{MEASURE} move_web_images --web_path nowhere --classes cow --out moved",
    *("-m utils.table", "-m utils.table --logs nowhere", "-m utils.table --logs nowhere --out table.txt"),
    *("-m dataset.check", "-m dataset.check --dataset other", "-m dataset.check --dataset voc --sample 0"),
    "-m dataset.check --dataset voc --sample 1 --all",
    "-m captions.vocabulary",
    *("-m experiments", "-m experiments other", "-m experiments voc", "-m experiments animals", f"{VOC} --unknown"),
    VOC.replace("15-5", "15-6"),
    *(f"{VOC} --arms {name}" for name in ("other", "raw-web", "best")),
    f"{VOC} --web web --arms ours",
    f"{VOC} --web web --downloads tree",
    f"{VOC} --downloads tree --class_words words.txt",
    f"{VOC} --captioner a b c",
    *(
        f"{ANIMALS} --{text}"
        for text in ("jobs 0", "gpus 0", "gpus 2", "seeds 1 1", "seeds -1", "options=--a'", "task 4-3")
    ),
    *(VOC, ANIMALS, "-m experiments coco --cpu --work work --data data --web nowhere"),
    *("-m experiments.report", "-m experiments.report --work nowhere"),
    *("-m experiments.noisy_web", "-m experiments.imitated_search", "-m dataset.shapes"),
    *("pretrained/fetch.py other",),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some of what the lines name."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_RANK", "WORLD_SIZE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("images", "tree/a/image", "web/cow"):
        Path(name).mkdir(parents=True)
    for name in ("previous.pth", "list.npy", "words.txt", "words.json"):
        Path(name).write_text("x")
    for name, text in TASKS.items():
        Path(f"{name}.json").write_text(text)
    Image.fromarray(np.zeros((70, 70, 3), np.uint8)).save("web/cow/1.jpg")
    Image.fromarray(np.zeros((70, 70, 3), np.uint8)).save("tree/a/image/1.jpg")
    Path("web.csv").write_text("path,class,caption\nweb/cow/1.jpg,cow,a cow\n")
    return tmp_path


def refused(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Exit code, and what stands in the last line of the errors (a parser of argparse's own prints its usage before)."""
    words = line.split()
    with monkeypatch.context() as patched:
        if words[0].startswith("WORLD_SIZE="):
            patched.setenv("WORLD_SIZE", words.pop(0).partition("=")[2])
        ended = call(*words)
    lines = ended.err.strip().splitlines()
    if words[0] == "run.py":
        assert len(lines) == 1, f"{line}: one line is promised\n{ended.err}"
    said = lines[-1] if lines else ""
    for path, name in ((folder, "<here>"), (ROOT, "<root>")):
        said = said.replace(str(path), name)
    # Quotes of choices are Python's business, and the name of the function that checks nobody's.
    said = re.sub(r"\(choose from .*\)", lambda found: found[0].replace("'", ""), said)
    said = re.sub(r"invalid \w+ value", "invalid value", said)
    return [ended.code, said]


@pytest.mark.parametrize(("name", "lines"), [("run", RUN), ("others", OTHERS)])
def test_refused(
    name: str, lines: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch, pinned: Callable[[str, Any], None]
) -> None:
    assert len(set(lines)) == len(lines)
    found = {line: refused(line, folder, monkeypatch) for line in lines}
    assert not [line for line, (code, said) in found.items() if code == 0 or not said]
    pinned(f"refusals.{name}", json.loads(json.dumps(found)))
