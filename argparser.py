"""Options of run.py in groups, their checks, and the defaults that depend on the data set.

The published names and meanings are kept (WILSON, arXiv 2112.01882, and its ancestors), so that published command lines run
as they are. Nothing heavy is imported here: ``--help`` and a refused command line answer at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tasks
from utils.errors import UserError

NORMS = ("iabn_sync", "iabn", "abn_sync", "abn", "inplace_abn", "inplace_abn_sync")
BACKBONES = ("resnet50", "resnet101", "wider_resnet38_a2")

# Options that may change between a run and its continuation, because the trained weights do not depend on them.
NEUTRAL = frozenset(
    "name num_workers device local_rank compile logdir checkpoints wandb debug visualize sample_num print_interval report data_root "
    "dataset_dir num_classes crop_size_val crop_val val_on_trainset test_unknown val_list val_interval pretrained pooling test ckpt "
    "continue_ckpt resume ckpt_interval step_ckpt pl_ckpt train_list pseudo task web_path replay_path".split()
)


def experiment_name(dataset: str, task: str, protocol: str) -> str:
    """``<dataset>-<task>``, with ``-ov`` or ``-part`` where the protocol is not disjoint."""
    name = Path(task).stem if task.endswith(".json") else task
    return f"{dataset}-{name}" + {"disjoint": "", "overlap": "-ov", "partitioned": "-part"}[protocol]


@dataclass(frozen=True)
class Options:
    """Everything that a run was asked for, resolved: no option is None that the run needs."""

    # run
    name: str
    random_seed: int
    num_workers: int
    device: str
    local_rank: int
    precision: str
    compile: bool
    logdir: str
    checkpoints: str
    wandb: str
    debug: bool
    visualize: bool
    sample_num: int
    print_interval: int
    report: bool
    # data
    data_root: str
    dataset: str
    dataset_dir: str | None
    num_classes: int | None
    crop_size: int
    crop_size_val: int
    jitter: float
    crop_val: bool
    val_on_trainset: bool
    image_stats: str
    test_unknown: str
    train_list: str | None
    val_list: str | None
    pseudo: str | None
    # task
    task: str
    step: int
    protocol: str
    no_mask: bool
    # training
    epochs: int
    iters_per_epoch: int | None
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    lr_policy: str
    lr_decay_step: int
    lr_decay_factor: float
    lr_power: float
    lr_head: float
    lr_pseudo: float
    val_interval: int
    # network
    backbone: str
    output_stride: int
    norm_act: str
    pooling: int
    pretrained: str
    freeze: bool
    freeze_norm: bool
    init_balanced: bool
    # checkpoints
    test: bool
    ckpt: str | None
    continue_ckpt: bool
    resume: str
    ckpt_interval: int
    step_ckpt: str | None
    pl_ckpt: str | None
    # method
    method: str
    bce: bool
    unce: bool
    unkd: bool
    loss_kd: float
    loss_de: float
    icarl: bool
    icarl_importance: float
    icarl_disjoint: bool
    icarl_bkg: float
    weakly: bool
    alpha: float
    pos_w: float
    affinity: bool
    pseudo_ep: int
    cam: str
    l_seg: float
    old_yields: bool
    fold_absent: bool
    # replay and web images
    replay: bool
    replay_path: str | None
    replay_num: int
    replay_balance: bool
    replay_share: float
    replay_weight: float
    web: bool
    web_path: str | None
    web_num: int
    web_labels: str

    @property
    def experiment(self) -> str:
        """``<dataset>-<task>``, with ``-ov`` or ``-part`` where the protocol is not disjoint."""
        return experiment_name(self.dataset, self.task, self.protocol)

    def checkpoint_path(self, step: int) -> Path:
        """Where this run's name keeps the checkpoint of ``step``."""
        return Path(self.checkpoints) / "step" / self.experiment / f"{self.name}_{step}.pth"

    @property
    def log_folder(self) -> Path:
        """Where the run's log, scalars and pages go."""
        return Path(self.logdir) / self.experiment / self.name

    def changed(self, earlier: dict[str, Any]) -> list[str]:
        """What differs from the options of an earlier run in a way that changes the training: ``--epochs 30 (was 20)``."""
        own = self.plain()
        return [
            f"--{key} {own[key]} (was {earlier[key]})"
            for key in own
            if key not in NEUTRAL and key in earlier and earlier[key] != own[key]
        ]

    def plain(self) -> dict[str, Any]:
        """All options as a dictionary of plain Python values, for checkpoints and logs."""
        return asdict(self)


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the page of usage; exit code 2 as argparse has it."""

    def error(self, message: str) -> Any:
        self.exit(2, f"run.py: {message} (run.py --help lists all options)\n")


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _weight(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _device(text: str) -> str:
    if text in ("auto", "cpu", "cuda", "mps"):
        return text
    if text.isdigit():
        return f"cuda:{text}"
    raise argparse.ArgumentTypeError(f"{text} is none of auto, cpu, cuda, mps or the number of a GPU")


def _backbone(text: str) -> str:
    if text in BACKBONES or (text.startswith("timm:") and len(text) > 5):
        return text
    raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(BACKBONES)} or timm:<name>")


def get_argparser() -> argparse.ArgumentParser:
    """The command line of run.py."""
    parser = _Parser(
        prog="run.py",
        description="Train and test one step of weakly-supervised class-incremental semantic segmentation.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )

    g = parser.add_argument_group("run")
    g.add_argument("--name", default="Experiment", help="name of the run, in checkpoints, logs and results")
    g.add_argument("--random_seed", type=_count, default=42, help="seed of everything random")
    g.add_argument(
        "--num_workers", type=_count, default=1, help="data loading processes per rank; 0 loads in the process"
    )
    g.add_argument(
        "--device", type=_device, default="auto", help="auto (cuda if there is one), cpu, cuda, mps or a GPU's number"
    )
    g.add_argument("--local_rank", "--local-rank", type=int, default=None, help="set by torch.distributed.launch")
    g.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="arithmetic of the networks; losses are always fp32",
    )
    g.add_argument("--compile", action="store_true", help="compile the networks with torch.compile")
    g.add_argument("--logdir", default="logs", help="folder of logs, results and pages")
    g.add_argument("--checkpoints", default="checkpoints", help="folder of checkpoints")
    g.add_argument("--wandb", choices=("off", "offline", "online"), default="off", help="also log to Weights & Biases")
    g.add_argument("--debug", action="store_true", help="log more, each loss term at every print_interval")
    g.add_argument(
        "--visualize", action="store_false", help="log no pictures (as published: the flag switches them off)"
    )
    g.add_argument("--sample_num", type=_count, default=8, help="sample predictions to log and to show in the report")
    g.add_argument("--print_interval", type=_positive, default=10, help="iterations between logged losses")
    g.add_argument(
        "--report",
        action="store_true",
        help="at the end test the previous step's model too, print a before/after table and write an HTML page",
    )

    g = parser.add_argument_group("data")
    g.add_argument("--data_root", default="data", help="folder that holds one folder per data set")
    g.add_argument("--dataset", default="voc", choices=tuple(tasks.TASKS), help="data set")
    g.add_argument("--dataset_dir", default=None, help="the data set's folder, where it is not DATA_ROOT/DATASET")
    g.add_argument(
        "--num_classes",
        type=_positive,
        default=None,
        help="number of classes of the task with background; checked, never needed",
    )
    g.add_argument("--crop_size", type=_positive, default=None, help="training crop [512; coco-voc 448; shapes 128]")
    g.add_argument("--crop_size_val", type=_positive, default=None, help="validation and test crop [512; shapes 128]")
    g.add_argument(
        "--jitter",
        type=_fraction,
        default=0.0,
        help="colours of training images: brightness, contrast and saturation change by up to this share, hue by up to a quarter of it, "
        "and with a third of it as probability the image is grey",
    )
    g.add_argument(
        "--crop_val",
        action="store_false",
        help="validate and test on whole images, one at a time (as published: the flag switches cropping off)",
    )
    g.add_argument(
        "--val_on_trainset", action="store_true", help="validate on the step's training images during training"
    )
    g.add_argument(
        "--image_stats",
        choices=("auto", "imagenet", "half"),
        default="auto",
        help="mean and deviation of the normalisation; auto asks the backbone",
    )
    g.add_argument(
        "--test_unknown",
        choices=tasks.TEST_UNKNOWN,
        default="ignore",
        help="pixels of classes not yet learned in test: ignore leaves them out, background is the published code's way, later is the "
        "same for classes of later steps but leaves out those that no step learns: every step is judged on the same pixels",
    )
    g.add_argument("--train_list", default=None, help="published index list (.npy) to use in place of the computed one")
    g.add_argument(
        "--val_list", default=None, help="the same for validation during training; the test is always on all images"
    )
    g.add_argument(
        "--pseudo",
        default=None,
        help="folder of pseudo-label PNGs (ID.png, data set ids) that replace the masks at step 1 and later",
    )

    g = parser.add_argument_group("task")
    g.add_argument(
        "--task",
        default=None,
        help='task name, or a JSON file {"0": [...], "1": [...]} [voc 19-1; coco and coco-voc voc; shapes 5-3; folder offline]',
    )
    g.add_argument("--step", type=_count, default=0, help="step to train or test")
    g.add_argument("--overlap", action="store_true", help="overlap protocol: same as --protocol overlap")
    g.add_argument(
        "--protocol",
        choices=("disjoint", "overlap", "partitioned"),
        default=None,
        help="which images a step sees [disjoint]",
    )
    g.add_argument("--no_mask", action="store_true", help="keep the labels of old classes in the step's training data")

    g = parser.add_argument_group("training")
    g.add_argument("--epochs", type=_positive, default=30, help="epochs")
    g.add_argument(
        "--iters_per_epoch", type=_positive, default=None, help="iterations of an epoch [one pass over the images]"
    )
    g.add_argument("--batch_size", type=_positive, default=24, help="batch size over all ranks")
    g.add_argument("--lr", type=_rate, default=0.01, help="learning rate of the body")
    g.add_argument("--momentum", type=_fraction, default=0.9, help="momentum (nesterov, where above 0)")
    g.add_argument("--weight_decay", type=_weight, default=1e-4, help="weight decay")
    g.add_argument(
        "--lr_policy",
        choices=("poly", "step", "none", "warmup", "one_cycle"),
        default="poly",
        help="schedule; warmup stays constant until pseudo_ep, then poly",
    )
    g.add_argument(
        "--lr_decay_step", type=_positive, default=5000, help="iterations between decays of --lr_policy step"
    )
    g.add_argument("--lr_decay_factor", type=_rate, default=0.1, help="factor of --lr_policy step")
    g.add_argument("--lr_power", type=_rate, default=0.9, help="power of the poly curve")
    g.add_argument(
        "--lr_head",
        type=_rate,
        default=None,
        help="learning rate of head and classifier, times --lr [1 at step 0, 10 later]",
    )
    g.add_argument("--lr_pseudo", type=_rate, default=0.01, help="learning rate of the localizer")
    g.add_argument("--val_interval", type=_positive, default=5, help="epochs between validations")

    g = parser.add_argument_group("network")
    g.add_argument(
        "--backbone",
        type=_backbone,
        default=None,
        help="resnet50, resnet101, wider_resnet38_a2 or timm:<name> "
        "[resnet101; coco-voc wider_resnet38_a2; shapes timm:tf_efficientnet_lite0]",
    )
    g.add_argument(
        "--output_stride", type=int, choices=(8, 16), default=None, help="stride of the body [16; coco-voc 8]"
    )
    g.add_argument(
        "--norm_act",
        choices=NORMS,
        default="iabn_sync",
        help="activated batch norm; _sync over all ranks, inplace_abn from the package of that name",
    )
    g.add_argument(
        "--pooling",
        type=_positive,
        default=None,
        help="size of the head's pooling in evaluation [crop_size / output_stride]",
    )
    g.add_argument(
        "--pretrained", default=None, help="weights of the body at step 0: imagenet, none, or a file [imagenet]"
    )
    g.add_argument("--no_pretrained", action="store_true", help="same as --pretrained none")
    g.add_argument(
        "--freeze", action="store_true", help="do not train the body; its norms use their running statistics"
    )
    g.add_argument(
        "--freeze_norm",
        action="store_true",
        help="the body's norms use their running statistics in training too: for small batches",
    )
    g.add_argument("--init_balanced", action="store_true", help="new classifiers start from the background's (MiB)")

    g = parser.add_argument_group("checkpoints")
    g.add_argument("--test", action="store_true", help="test only")
    g.add_argument("--ckpt", default=None, help="checkpoint to test, or to go on from")
    g.add_argument("--continue_ckpt", action="store_true", help="go on from the run's own checkpoint, which must exist")
    g.add_argument(
        "--resume",
        choices=("never", "auto"),
        default="never",
        help="auto: go on from the run's own checkpoint where there is one",
    )
    g.add_argument("--ckpt_interval", type=_positive, default=1, help="epochs between checkpoints")
    g.add_argument(
        "--step_ckpt",
        default=None,
        help="checkpoint of the previous step [CHECKPOINTS/step/<dataset>-<task>/<name>_<step-1>.pth]",
    )
    g.add_argument("--pl_ckpt", default=None, help="checkpoint whose localizer the weak step starts from")

    g = parser.add_argument_group("method: pixel labels")
    g.add_argument(
        "--method", default=None, help="a method of methods/__init__.py by name [weak with --weakly, else supervised]"
    )
    g.add_argument("--bce", action="store_true", help="binary cross entropy in place of cross entropy")
    g.add_argument("--unce", action="store_true", help="unbiased cross entropy (MiB)")
    g.add_argument(
        "--loss_kd",
        type=_weight,
        default=0.0,
        help="weight of the distillation of the previous model's output (LwF, ILT, MiB)",
    )
    g.add_argument("--unkd", action="store_true", help="that distillation unbiased (MiB)")
    g.add_argument(
        "--loss_de", type=_weight, default=0.0, help="weight of the distillation of the body's features (ILT, WILSON)"
    )
    g.add_argument(
        "--icarl", action="store_true", help="binary cross entropy plus distillation of the old classes' sigmoids"
    )
    g.add_argument("--icarl_importance", type=_weight, default=1.0, help="weight of that distillation")
    g.add_argument(
        "--icarl_disjoint",
        action="store_true",
        help="one binary cross entropy whose old channels come from the previous model",
    )
    g.add_argument(
        "--icarl_bkg",
        type=float,
        default=-1.0,
        help="background target: share of the new label, 0 to 1; -1 takes the minimum",
    )

    g = parser.add_argument_group("method: image labels (WILSON)")
    g.add_argument("--weakly", action="store_true", help="learn the new classes from image labels")
    g.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        default=None,
        help="options of weak steps at once: paper is as published; best is "
        + " ".join(
            f"--{key}" + ("" if value is True else f" {value:g}")
            for key, value in {**RECIPES["best"], **REPLAY_RECIPES["best"]}.items()
        )
        + " [paper]",
    )
    g.add_argument(
        "--alpha",
        type=_fraction,
        default=0.5,
        help="hardness of the soft targets; with --loss_kd the distillation's temperature factor",
    )
    g.add_argument("--pos_w", type=_rate, default=1.0, help="weight of the positive images in the image-level loss")
    g.add_argument("--affinity", action="store_true", help="refine the localizer's masks by pixel affinity (PAMR)")
    g.add_argument(
        "--pseudo_ep", type=_count, default=5, help="epoch from which the segmenter learns from the localizer"
    )
    g.add_argument("--cam", choices=("ngwp", "att", "mean"), default="ngwp", help="pooling of the localizer's scores")
    g.add_argument(
        "--ss_dist",
        action="store_true",
        help="not available: the published option changes nothing and no paper defines it",
    )
    g.add_argument("--l_seg", type=_weight, default=1.0, help="weight of the segmentation loss")
    g.add_argument(
        "--old_yields",
        action="store_true",
        help="old targets are the teacher's times the share that new classes do not claim (not in the papers)",
    )
    g.add_argument(
        "--fold_absent",
        action="store_true",
        help="what the localizer sees of classes that an image does not hold goes to those that it holds (not in the papers)",
    )

    g = parser.add_argument_group("replay and web images")
    g.add_argument("--replay", action="store_true", help="rehearse old classes on replay images")
    g.add_argument(
        "--replay_path",
        default=None,
        help="tree of replay images, labelled (generate_label.py, generate_train_file.py)",
    )
    g.add_argument("--replay_num", type=_positive, default=None, help="replay images per original image, at most [2]")
    g.add_argument(
        "--replay_balance",
        action="store_true",
        default=None,
        help="repeat replay images of rare classes, so that old classes are seen equally often (not in the papers)",
    )
    g.add_argument(
        "--replay_share", type=_fraction, default=None, help="share of replay images in a batch, between 0 and 1 [0.5]"
    )
    g.add_argument(
        "--replay_weight", type=_rate, default=None, help="weight of a replay image in the segmentation loss [1]"
    )
    g.add_argument("--web", action="store_true", help="learn the new classes from web images")
    g.add_argument(
        "--web_path", default=None, help="folder of web images, one folder a class, or a manifest (select_web.py)"
    )
    g.add_argument("--web_num", type=_positive, default=None, help="web images per class, at most [500]")
    g.add_argument(
        "--web_labels",
        choices=("folder", "caption"),
        default=None,
        help="image labels of web images: the folder's class, or every known class that the caption names [folder]",
    )
    return parser


PRESETS: dict[str, dict[str, Any]] = {
    "": {"task": "19-1", "backbone": "resnet101", "output_stride": 16, "crop_size": 512, "crop_size_val": 512},
    "coco": {"task": "voc"},
    # Published for COCO-to-VOC (WILSON, section 4.1).
    "coco-voc": {"task": "voc", "backbone": "wider_resnet38_a2", "output_stride": 8, "crop_size": 448},
    "shapes": {"task": "5-3", "backbone": "timm:tf_efficientnet_lite0", "crop_size": 128, "crop_size_val": 128},
    "folder": {"task": "offline"},
}


# What --recipe gives to options that the command line does not name. "paper" is the published method; what "best" adds is none of the
# papers', and was chosen on training images held out, at the size of a CPU (benchmarks/results/ablation-4-2.csv).
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "best": {
        "freeze": True,
        "init_balanced": True,
        "lr_head": 40.0,
        "lr_pseudo": 0.04,
        "old_yields": True,
        "fold_absent": True,
        "jitter": 0.6,
    },
}
# The same, where there is replay.
REPLAY_RECIPES: dict[str, dict[str, Any]] = {"paper": {}, "best": {"replay_balance": True}}


def _refuse(condition: bool, message: str) -> None:
    if condition:
        raise UserError(message)


def _check_side_data(given: argparse.Namespace) -> None:
    """Replay and web images: their options belong together, and the images must be there."""
    extras = {
        "replay": ("replay_path", "replay_num", "replay_balance", "replay_share", "replay_weight"),
        "web": ("web_path", "web_num", "web_labels"),
    }
    for flag, extra in extras.items():
        on = getattr(given, flag)
        for option in extra:
            _refuse(not on and getattr(given, option) is not None, f"--{option} needs --{flag}")
        if not on:
            continue
        path = getattr(given, f"{flag}_path")
        _refuse(not given.weakly, f"--{flag} needs --weakly: {flag} images have no pixel labels of the new classes")
        _refuse(path is None, f"--{flag} needs --{flag}_path, the folder of the {flag} images")
        _refuse(not Path(path).exists(), f"--{flag}_path {path}: the {flag} images are missing (no such folder)")
    share = 0.5 if given.replay_share is None else given.replay_share
    replayed = round(share * given.batch_size)
    _refuse(
        given.replay and (not 0 < replayed < given.batch_size or abs(replayed - share * given.batch_size) > 1e-6),
        f"--batch_size {given.batch_size} cannot be divided so that --replay_share {share:g} of it are replay images; "
        "with a half give an even number",
    )
    _refuse(
        given.web and given.train_list is not None, "--train_list contradicts --web: web images replace the data set's"
    )
    _refuse(
        given.web and given.val_on_trainset,
        "--val_on_trainset contradicts --web: web images have no masks to score with",
    )


def _check_method(given: argparse.Namespace) -> None:
    """Options that contradict each other, or that would change nothing."""
    _refuse(given.ss_dist, "--ss_dist: the published option changes nothing and no paper defines it; remove it")
    if given.step == 0:
        for option in (
            "weakly",
            "unce",
            "unkd",
            "loss_kd",
            "loss_de",
            "icarl",
            "init_balanced",
            "step_ckpt",
            "pl_ckpt",
            "pseudo",
        ):
            _refuse(
                bool(getattr(given, option)), f"--{option} needs a previous step: remove it, or give --step 1 or later"
            )
    else:
        given_weights = given.pretrained is not None or given.no_pretrained
        _refuse(
            given_weights,
            "--pretrained and --no_pretrained belong to --step 0: later steps start from the previous step's checkpoint",
        )
    if given.weakly:
        for option in ("bce", "unce", "unkd", "loss_kd", "icarl", "icarl_disjoint", "pseudo"):
            _refuse(bool(getattr(given, option)), f"--{option} is for pixel labels: it contradicts --weakly")
        _refuse(given.method not in (None, "weak"), f"--method {given.method} contradicts --weakly")
    else:
        weak = {
            "affinity": False,
            "old_yields": False,
            "fold_absent": False,
            "pl_ckpt": None,
            "pos_w": 1.0,
            "cam": "ngwp",
            "l_seg": 1.0,
        }
        for option, default in weak.items():
            _refuse(getattr(given, option) != default, f"--{option} needs --weakly")
    _refuse(given.unkd and not given.loss_kd, "--unkd needs --loss_kd above 0")
    _refuse(given.unce and (given.bce or given.icarl), "--unce contradicts --bce and --icarl: choose one loss")
    _refuse(given.icarl_disjoint and not given.icarl, "--icarl_disjoint needs --icarl")
    _refuse(
        given.icarl_disjoint and given.icarl_importance != 1,
        "--icarl_importance belongs to the combined --icarl, not to --icarl_disjoint",
    )
    _refuse(
        given.icarl_bkg != -1 and not 0 <= given.icarl_bkg <= 1, f"--icarl_bkg {given.icarl_bkg}: -1, or from 0 to 1"
    )
    _refuse(
        given.icarl_bkg != -1 and not (given.weakly or given.icarl_disjoint),
        "--icarl_bkg needs --weakly or --icarl_disjoint",
    )
    _refuse(
        given.freeze and given.loss_de > 0, "--freeze contradicts --loss_de: a frozen body's features cannot change"
    )
    _refuse(given.freeze and given.freeze_norm, "--freeze_norm is part of --freeze: give one of them")
    _refuse(given.lr_policy == "warmup" and not given.test and given.pseudo_ep >= given.epochs,
            f"--pseudo_ep {given.pseudo_ep} leaves none of --epochs {given.epochs} for the decay of --lr_policy warmup")  # fmt: skip


def _check_files(given: argparse.Namespace) -> None:
    for option in ("ckpt", "step_ckpt", "pl_ckpt", "train_list", "val_list"):
        path = getattr(given, option)
        _refuse(path is not None and not Path(path).is_file(), f"--{option} {path}: no such file")
    for option in ("pseudo", "dataset_dir"):
        path = getattr(given, option)
        # The procedural data set is made where it is missing.
        missing = (
            path is not None and not Path(path).is_dir() and not (option == "dataset_dir" and given.dataset == "shapes")
        )
        _refuse(missing, f"--{option} {path}: no such folder")
    weights = given.pretrained
    _refuse(
        weights not in (None, "imagenet", "none") and not Path(weights).is_file(),
        f"--pretrained {weights}: neither imagenet, none nor a file",
    )


def _resolve(given: argparse.Namespace) -> Options:
    """Checked options with every default filled in."""
    values = vars(given).copy()
    for option, default in {**PRESETS[""], **PRESETS.get(given.dataset, {})}.items():
        if values[option] is None:
            values[option] = default

    _refuse(given.val_on_trainset and given.val_list is not None, "--val_on_trainset contradicts --val_list")
    _refuse(
        given.overlap and given.protocol not in (None, "overlap"), f"--overlap contradicts --protocol {given.protocol}"
    )
    values["protocol"] = "overlap" if given.overlap else given.protocol or "disjoint"
    _check_method(given)
    _check_side_data(given)
    _check_files(given)
    _refuse(
        given.continue_ckpt and given.resume == "auto",
        "--continue_ckpt and --resume auto say different things: choose one",
    )
    _refuse(
        given.ckpt is not None and (given.continue_ckpt or given.resume == "auto"),
        "--ckpt contradicts --continue_ckpt and --resume: choose one",
    )
    _refuse(given.no_pretrained and given.pretrained not in (None, "none"), "--no_pretrained contradicts --pretrained")
    _refuse(
        given.precision == "fp16" and given.device == "cpu", "--precision fp16 needs a GPU; on the CPU use fp32 or bf16"
    )
    _refuse(not given.name or "/" in given.name, f"--name {given.name!r}: a name without slashes is needed")

    if not (given.dataset == "folder" and values["task"] == "offline"):
        task = tasks.load_task(given.dataset, values["task"])
        _refuse(
            given.step >= len(task),
            f"--step {given.step} is outside --task {task.name}, whose steps are 0 to {len(task) - 1}",
        )
        total = sum(task.classes_per_step(len(task) - 1))
        _refuse(
            given.num_classes not in (None, total), f"--num_classes {given.num_classes}: --task {task.name} has {total}"
        )

    values["lr_head"] = given.lr_head or (1.0 if given.step == 0 else 10.0)
    values["pooling"] = given.pooling or values["crop_size"] // values["output_stride"]
    _refuse(
        values["pooling"] < 1,
        f"--crop_size {values['crop_size']} is smaller than --output_stride {values['output_stride']}",
    )
    values["pretrained"] = "none" if given.no_pretrained or given.step > 0 else given.pretrained or "imagenet"
    values["method"] = given.method or ("weak" if given.weakly else "supervised")
    values["replay_num"] = given.replay_num or 2
    values["replay_balance"] = bool(given.replay_balance)
    values["replay_share"] = 0.5 if given.replay_share is None else given.replay_share
    values["replay_weight"] = given.replay_weight or 1.0
    values["web_num"] = given.web_num or 500
    values["web_labels"] = given.web_labels or "folder"
    values["sample_num"] = given.sample_num if given.visualize else 0
    values["local_rank"] = int(os.environ.get("LOCAL_RANK", given.local_rank or 0))
    world = int(os.environ.get("WORLD_SIZE", 1))
    _refuse(
        given.batch_size % world != 0,
        f"--batch_size {given.batch_size} cannot be shared by {world} processes: give a multiple of {world}",
    )

    own = Options.__dataclass_fields__
    options = Options(**{key: value for key, value in values.items() if key in own})
    if options.step > 0 and (options.report or not options.test) and options.step_ckpt is None:
        path = options.checkpoint_path(options.step - 1)
        _refuse(
            not path.is_file(),
            f"{path}: no checkpoint of step {options.step - 1}; train it first, or name one with --step_ckpt",
        )
    own_checkpoint = options.checkpoint_path(options.step)
    needs_own = options.continue_ckpt or (options.test and options.ckpt is None)
    _refuse(
        needs_own and not own_checkpoint.is_file(),
        f"{own_checkpoint}: no such checkpoint; train it first, or name one with --ckpt",
    )
    return options


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line.

    Raises:
        UserError: options that contradict each other, a step outside the task, a missing file; one line each.
        SystemExit: what argparse itself answers (``--help``, a malformed value), exit code 2 for errors.
    """
    parser = get_argparser()
    given = parser.parse_args(arguments)
    if given.recipe is not None:
        _refuse(not given.weakly, "--recipe needs --weakly: it is about steps that learn from image labels")
        parser.set_defaults(**RECIPES[given.recipe], **(REPLAY_RECIPES[given.recipe] if given.replay else {}))
        given = parser.parse_args(arguments)
    return _resolve(given)
