"""Segmenters that were trained elsewhere learn cow and sheep from web images, as this project's own does: add_class.py on each.

DIR holds ``voc-animals`` (VOC layout), ``web-animals`` (one folder of web images a class) and ``web-captioned`` (photographs). Training
scripts of ``examples/`` make the segmenters; every one is scored before and after on the pixels of the same validation photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.adoption.table import OWN
from experiments.animals import NEW, OLD, SIZES
from experiments.stage import Stage, line
from utils.errors import UserError

CLASSES = (*OLD, "person")
# The size of animals.py: crop, batch, iterations of the step that adds the classes.
CROP, STEP = "160", line("--crop_size 160 --batch_size 16 --steps 200 --num_workers 0")
# Arm -> the script that trains its segmenter, the file or folder that it writes in a folder of the arm, MODEL.
ELSEWHERE = {
    "smp": ("examples/train_smp.py", "", "smp:{}"),
    "torchvision": (
        "examples/train_torchvision.py",
        "weights.pth",
        "torchvision:deeplabv3_timm:tf_efficientnet_lite0={}",
    ),
}
ARMS = (OWN, *ELSEWHERE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the user gives."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of voc-animals, web-animals and web-captioned"
    )
    parser.set_defaults(seeds=[0, 1, 2], task="4-2")


def describe(given: argparse.Namespace) -> list[Stage]:
    """The stages, those first that others wait for.

    Raises:
        UserError: an unknown arm.
    """
    work, data = given.work, given.data.resolve()
    arms = tuple(given.arms or ARMS)
    for name in arms:
        if name not in ARMS:
            raise UserError(f"--arms {name}: unknown; choose from {', '.join(ARMS)}")
    web, captioned = data / "web-animals", data / "web-captioned"
    images = Stage(
        "images",
        line(
            "-m experiments.adopt_steps images --web",
            web,
            "--captioned",
            captioned,
            "--out",
            work / "images",
            _known(OLD),
        ),
        needs=(web, captioned),
        kind="images",
        makes=(work / "images/new", work / "images/old"),
    )
    planned, files = [images], []
    for seed in given.seeds:
        for arm in arms:
            base, model = _base(work, data / "voc-animals", arm, seed)
            out = work / "added" / f"{arm}-{seed}"
            add = Stage(
                f"add-{arm}-{seed}",
                line(
                    "add_class.py", model, "--images", work / "images/new", "--old_images", work / "images/old",
                    "--classes", NEW, "--out", out, STEP, f"--random_seed {seed}",
                ),
                after=(images.name, base.name),
                kind="add",
                seed=seed,
                makes=(out / "model.safetensors",),
            )  # fmt: skip
            planned += [base, add]
            for when, after, one in (("before", base, model), ("after", add, line("--model", out))):
                scored = _score(work, data / "voc-animals", arm, seed, when, one, after)
                planned.append(scored)
                files += list(scored.makes)
    names = tuple(stage.name for stage in planned if stage.kind == "score")
    command = line("-m experiments.adopt_steps table", list(map(str, files)), "--out", work)
    return [*planned, Stage("table", command, names, kind="table", makes=(work / "table.md", work / "table.csv"))]


def _known(old: tuple[str, ...]) -> tuple[str, ...]:
    return line("--new", NEW, "--old", old)


def _base(work: Path, photographs: Path, arm: str, seed: int) -> tuple[Stage, tuple[str, ...]]:
    """The stage that trains an arm's segmenter of the old classes, and the options that name it."""
    name = f"base-{arm}-{seed}"
    if arm == OWN:
        made = work / f"checkpoints/step/voc-4-2-ov/{name}_0.pth"
        command = line(
            f"run.py --name {name} --random_seed {seed} --dataset voc --task 4-2 --step 0 --protocol overlap",
            SIZES.base, SIZES.common, "--dataset_dir", photographs, "--logdir", work / "logs",
            "--checkpoints", work / "checkpoints", "--resume auto",
        )  # fmt: skip
        options = line("--model", made)
        return Stage(
            name, command, needs=(photographs,), speed=SIZES.speed, kind="train", seed=seed, makes=(made,)
        ), options
    script, file, model = ELSEWHERE[arm]
    folder = work / "models" / f"{arm}-{seed}"
    made = folder / file
    command = line(script, "--data", photographs, "--out", made, f"--seed {seed}")
    # Neither library says the names of classes.
    options = line("--model", [model.format(made)], "--class_names", folder / "classes.txt")
    return Stage(
        name, command, needs=(photographs,), kind="train", seed=seed, makes=(made, folder / "classes.txt")
    ), options


def _score(
    work: Path, photographs: Path, arm: str, seed: int, when: str, model: tuple[str, ...], after: Stage
) -> Stage:
    file = work / "scores" / f"{arm}-{seed}-{when}.json"
    command = line(
        "-m experiments.adopt_steps score", model, "--data", photographs, f"--crop_size {CROP}", _known(CLASSES),
        f"--arm {arm} --when {when} --seed {seed} --out", file,
    )  # fmt: skip
    return Stage(f"score-{arm}-{seed}-{when}", command, (after.name,), kind="score", seed=seed, makes=(file,))
