"""Options of run.py: each declared once, with its default, check, help and needs; the recipes; the resolved command line.

The published names and meanings are kept (WILSON, arXiv 2112.01882, and its ancestors), so that published command lines run
as they are. Nothing heavy is imported here: ``--help`` and a refused command line answer at once.
"""

from __future__ import annotations

import argparse
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import tasks
from utils import values
from utils.checks import PRECISIONS, check_pairs, images_per_rank
from utils.names import ADOPTED, METHODS, NORMS, body_module, body_names
from utils.options import OneLineParser, add_arguments, declared, fill, option
from utils.refusals import PREVIOUS, check_losses, check_needs, check_paths, check_side_data, check_start, refuse

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
_BEST = " ".join(
    f"--{key}" + ("" if value is True else f" {value:g}")
    for key, value in (RECIPES["best"] | REPLAY_RECIPES["best"]).items()
)

# Headings of --help, in order.
_run, _data, _task, _training = (partial(option, group) for group in ("run", "data", "task", "training"))
_network, _checkpoints = (partial(option, group) for group in ("network", "checkpoints"))
_pixel_labels = partial(option, "method: pixel labels")
_image_labels = partial(option, "method: image labels (WILSON)")
_side_data = partial(option, "replay and web images")


def _backbone(text: str) -> str:
    """A name of ``utils.names.BODIES``, or ``adopted``."""
    if text != ADOPTED and body_module(text) is None:
        *names, last = body_names()
        raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(names)} or {last}")
    return text


def folder_name(folder: str) -> str:
    """What a data folder is called in names of files: letters, digits, ``.``, ``-`` and ``_``, at most 80 bytes; "" for ``/``."""
    # Of "." and "..", too; a link has the name that the user gave it.
    name = unicodedata.normalize("NFC", os.path.basename(os.path.abspath(folder)))
    safe = re.sub(r"[^\w.-]", "_", name).lstrip(".")
    return safe.encode()[:80].decode(errors="ignore")


def experiment_name(dataset: str, task: str, protocol: str) -> str:
    """``<dataset>-<task>``, with ``-ov`` or ``-part`` where the protocol is not disjoint."""
    name = Path(task).stem if task.endswith(".json") else task
    return f"{dataset}-{name}" + {"disjoint": "", "overlap": "-ov", "partitioned": "-part"}[protocol]


@dataclass(frozen=True)
class Options:
    """Everything that a run was asked for, resolved: no option is None that the run needs."""

    name: str = _run("Experiment", "name of the run, in checkpoints, logs and results", neutral=True)
    random_seed: int = _run(42, "seed of everything random", check=values.count)
    num_workers: int | None = _run(
        None,
        "data loading processes per rank; 0 loads in the process",
        shown="by device and cores: few on a CPU",
        check=values.count,
        neutral=True,
    )
    device: str = _run(
        "auto", "auto (cuda if there is one), cpu, cuda, mps or a GPU's number", check=values.device, neutral=True
    )
    local_rank: int = _run(None, "set by torch.distributed.launch", aliases=("--local-rank",), neutral=True)
    precision: str = _run(
        "fp32",
        "arithmetic of the networks; losses are always fp32. auto: bf16 where the device has it, else fp32; tf32 and fp16 need a GPU",
        choices=PRECISIONS,
    )
    compile: bool = _run(False, "compile the networks with torch.compile", neutral=True)
    logdir: str = _run("logs", "folder of logs, results and pages", neutral=True)
    checkpoints: str = _run("checkpoints", "folder of checkpoints", neutral=True)
    wandb: str = _run("off", "also log to Weights & Biases", choices=("off", "offline", "online"), neutral=True)
    debug: bool = _run(False, "log more, each loss term at every print_interval", neutral=True)
    visualize: bool = _run(True, "log no pictures (as published: the flag switches them off)", neutral=True)
    sample_num: int = _run(8, "sample predictions to log and to show in the report", check=values.count, neutral=True)
    print_interval: int = _run(10, "iterations between logged losses", check=values.positive, neutral=True)
    report: bool = _run(
        False,
        "at the end test the previous step's model too, print a before/after table and write an HTML page",
        neutral=True,
    )

    data_root: str = _data("data", "folder that holds one folder per data set", neutral=True)
    dataset: str = _data("voc", "data set", choices=tasks.TASKS)
    dataset_dir: str | None = _data(
        None, "the data set's folder", shown="DATA_ROOT/DATASET; coco-voc DATA_ROOT", neutral=True
    )
    num_classes: int | None = _data(
        None,
        "number of classes of the task with background; checked, never needed",
        check=values.positive,
        neutral=True,
    )
    # Crop, body and stride of coco-voc: as published (WILSON, section 4.1).
    crop_size: int = _data(512, "training crop", of_dataset={"coco-voc": 448, "shapes": 128}, check=values.positive)
    crop_size_val: int = _data(
        512, "validation and test crop", of_dataset={"shapes": 128}, check=values.positive, neutral=True
    )
    jitter: float = _data(
        0.0,
        "colours of training images: brightness, contrast and saturation change by up to this share, hue by up to a quarter of it, "
        "and with a third of it as probability the image is grey",
        check=values.fraction,
    )
    crop_val: bool = _data(
        True,
        "validate and test on whole images, one at a time (as published: the flag switches cropping off)",
        neutral=True,
    )
    val_on_trainset: bool = _data(False, "validate on the step's training images during training", neutral=True)
    image_stats: str = _data(
        "auto", "mean and deviation of the normalisation; auto asks the backbone", choices=("auto", "imagenet", "half")
    )
    test_unknown: str = _data(
        "ignore",
        "pixels of classes not yet learned in test: ignore leaves them out, background is the published code's way, later is the "
        "same for classes of later steps but leaves out those that no step learns: every step is judged on the same pixels",
        choices=tasks.TEST_UNKNOWN,
        neutral=True,
    )
    train_list: str | None = _data(
        None, "published index list (.npy) to use in place of the computed one", path="file", neutral=True
    )
    val_list: str | None = _data(
        None, "the same for validation during training; the test is always on all images", path="file", neutral=True
    )
    pseudo: str | None = _data(
        None,
        "folder of pseudo-label PNGs (ID.png, data set ids) that replace the masks at step 1 and later",
        path="folder",
        needs=PREVIOUS,
        contradicts="weakly",
        neutral=True,
    )

    task: str = _task(
        "19-1",
        'task name, or a JSON file {"0": [...], "1": [...]}',
        of_dataset={"coco": "voc", "coco-voc": "voc", "shapes": "5-3", "folder": "offline"},
        neutral=True,
    )
    step: int = _task(0, "step to train or test", check=values.count)
    protocol: str = _task(
        "disjoint", "which images a step sees", choices=("disjoint", "overlap", "partitioned"), late=True
    )
    no_mask: bool = _task(False, "keep the labels of old classes in the step's training data")

    epochs: int = _training(30, "epochs", check=values.positive)
    iters_per_epoch: int | None = _training(
        None, "iterations of an epoch", shown="one pass over the images", check=values.positive
    )
    batch_size: int = _training(24, "batch size over all ranks", check=values.positive)
    lr: float = _training(0.01, "learning rate of the body", check=values.rate)
    momentum: float = _training(0.9, "momentum (nesterov, where above 0)", check=values.fraction)
    weight_decay: float = _training(1e-4, "weight decay", check=values.weight)
    lr_policy: str = _training(
        "poly",
        "schedule; warmup stays constant until pseudo_ep, then poly",
        choices=("poly", "step", "none", "warmup", "one_cycle"),
    )
    lr_decay_step: int = _training(5000, "iterations between decays of --lr_policy step", check=values.positive)
    lr_decay_factor: float = _training(0.1, "factor of --lr_policy step", check=values.rate)
    lr_power: float = _training(0.9, "power of the poly curve", check=values.rate)
    lr_head: float = _training(
        None, "learning rate of head and classifier, times --lr", shown="1 at step 0, 10 later", check=values.rate
    )
    lr_pseudo: float = _training(0.01, "learning rate of the localizer", check=values.rate)
    val_interval: int = _training(5, "epochs between validations", check=values.positive, neutral=True)

    backbone: str = _network(
        "resnet101",
        "name of the body; adopted: the whole network of an earlier step's checkpoint, which was trained elsewhere",
        of_dataset={"coco-voc": "wider_resnet38_a2", "shapes": "timm:tf_efficientnet_lite0"},
        check=_backbone,
        known=body_names,
    )
    output_stride: int = _network(16, "stride of the body", of_dataset={"coco-voc": 8}, choices=(8, 16))
    norm_act: str = _network(
        "iabn_sync",
        "activated batch norm; _sync over all ranks, inplace_abn from the package of that name",
        choices=NORMS,
    )
    pooling: int = _network(
        None,
        "size of the head's pooling in evaluation",
        shown="crop_size / output_stride",
        check=values.positive,
        neutral=True,
    )
    pretrained: str = _network(
        "imagenet", "weights of the body at step 0: imagenet, none, or a file", late=True, neutral=True
    )
    freeze: bool = _network(False, "do not train the body; its norms use their running statistics")
    unfreeze_ep: int | None = _network(
        None, "epoch from which the body of --freeze is trained all the same", check=values.positive, shown="never"
    )
    lr_body: float = _network(
        1.0, "learning rate of the body from --unfreeze_ep on, times --lr", check=values.rate, late=True
    )
    freeze_norm: bool = _network(
        False, "the body's norms use their running statistics in training too: for small batches"
    )
    recompute: bool = _network(
        False,
        "keep no more than the inputs of the body's blocks for the backward pass, which runs them again: less memory, more time",
        neutral=True,
    )
    init_balanced: bool = _network(False, "new classifiers start from the background's (MiB)", needs=PREVIOUS)

    test: bool = _checkpoints(False, "test only", neutral=True)
    ckpt: str | None = _checkpoints(None, "checkpoint to test, or to go on from", path="file", neutral=True)
    continue_ckpt: bool = _checkpoints(False, "go on from the run's own checkpoint, which must exist", neutral=True)
    resume: str = _checkpoints(
        "never", "auto: go on from the run's own checkpoint where there is one", choices=("never", "auto"), neutral=True
    )
    ckpt_interval: int = _checkpoints(1, "epochs between checkpoints", check=values.positive, neutral=True)
    step_ckpt: str | None = _checkpoints(
        None,
        "checkpoint of the previous step",
        shown="CHECKPOINTS/step/<dataset>-<task>/<name>_<step-1>.pth",
        path="file",
        needs=PREVIOUS,
        neutral=True,
    )
    pl_ckpt: str | None = _checkpoints(
        None,
        "checkpoint whose localizer the weak step starts from",
        path="file",
        needs=(PREVIOUS, "weakly"),
        neutral=True,
    )

    method: str = _pixel_labels(
        None, "name of the method", known=lambda: METHODS, shown="weak with --weakly, else supervised"
    )
    bce: bool = _pixel_labels(False, "binary cross entropy in place of cross entropy", contradicts="weakly")
    unce: bool = _pixel_labels(False, "unbiased cross entropy (MiB)", needs=PREVIOUS, contradicts="weakly")
    unkd: bool = _pixel_labels(False, "--loss_kd's distillation unbiased (MiB)", needs=PREVIOUS, contradicts="weakly")
    loss_kd: float = _pixel_labels(
        0.0,
        "weight of the distillation of the previous model's output (LwF, ILT, MiB)",
        check=values.weight,
        needs=PREVIOUS,
        contradicts="weakly",
    )
    loss_de: float = _pixel_labels(
        0.0, "weight of the distillation of the body's features (ILT, WILSON)", check=values.weight, needs=PREVIOUS
    )
    icarl: bool = _pixel_labels(
        False,
        "binary cross entropy plus distillation of the old classes' sigmoids",
        needs=PREVIOUS,
        contradicts="weakly",
    )
    icarl_importance: float = _pixel_labels(1.0, "weight of --icarl's distillation", check=values.weight)
    icarl_disjoint: bool = _pixel_labels(
        False, "one binary cross entropy whose old channels come from the previous model", contradicts="weakly"
    )
    icarl_bkg: float = _pixel_labels(-1.0, "background target: share of the new label, 0 to 1; -1 takes the minimum")

    weakly: bool = _image_labels(False, "learn the new classes from image labels", needs=PREVIOUS)
    alpha: float = _image_labels(
        0.5, "hardness of the soft targets; with --loss_kd the distillation's temperature factor", check=values.fraction
    )
    pos_w: float = _image_labels(
        1.0, "weight of the positive images in the image-level loss", check=values.rate, needs="weakly"
    )
    affinity: bool = _image_labels(False, "refine the localizer's masks by pixel affinity (PAMR)", needs="weakly")
    pseudo_ep: int = _image_labels(5, "epoch from which the segmenter learns from the localizer", check=values.count)
    cam: str = _image_labels(
        "ngwp", "pooling of the localizer's scores", choices=("ngwp", "att", "mean"), needs="weakly"
    )
    l_seg: float = _image_labels(1.0, "weight of the segmentation loss", check=values.weight, needs="weakly")
    old_yields: bool = _image_labels(
        False,
        "old targets are the teacher's times the share that new classes do not claim (not in the papers)",
        needs="weakly",
    )
    fold_absent: bool = _image_labels(
        False,
        "what the localizer sees of classes that an image does not hold goes to those that it holds (not in the papers)",
        needs="weakly",
    )
    likeness: float = _image_labels(
        0.0,
        "weight of a loss by which the localizer looks for a new class where the teacher sees an old one that is like it by WordNet "
        "and is not in the image (not in the papers)",
        check=values.weight,
        needs="weakly",
    )
    confusion: float = _image_labels(
        0.0,
        "with --old_yields: an old class yields wholly to a new one of whose pixels the teacher takes this share for it, less "
        "to others; 0: to all alike (not in the papers)",
        check=values.fraction,
        needs="weakly",
    )

    replay: bool = _side_data(False, "rehearse old classes on replay images")
    replay_path: str | None = _side_data(
        None,
        "tree of replay images, labelled (generate_label.py, generate_train_file.py)",
        needs="replay",
        neutral=True,
    )
    replay_num: int = _side_data(
        2, "replay images per original image, at most", check=values.positive, needs="replay", late=True
    )
    replay_balance: bool = _side_data(
        False,
        "repeat replay images of rare classes, so that old classes are seen equally often (not in the papers)",
        needs="replay",
        late=True,
    )
    replay_share: float = _side_data(
        0.5, "share of replay images in a batch, between 0 and 1", check=values.fraction, needs="replay", late=True
    )
    replay_weight: float = _side_data(
        1.0, "weight of a replay image in the segmentation loss", check=values.rate, needs="replay", late=True
    )
    paste: float = _side_data(
        0.0,
        "share of the replay images into which, from pseudo_ep on, the object of a new image is pasted for the segmenter; needs "
        "--freeze (not in the papers)",
        check=values.fraction,
        needs="replay",
        late=True,
    )
    web: bool = _side_data(False, "learn the new classes from web images")
    web_path: str | None = _side_data(
        None, "folder of web images, one folder a class, or a manifest (select_web.py)", needs="web", neutral=True
    )
    web_num: int = _side_data(500, "web images per class, at most", check=values.positive, needs="web", late=True)
    web_labels: str = _side_data(
        "folder",
        "image labels of web images: the folder's class, or every known class that the caption names",
        choices=("folder", "caption"),
        needs="web",
        late=True,
    )
    web_masks: str | None = _side_data(
        None,
        "tree of the same web images, labelled by a model of this step (generate_label.py --agree): where a label is sure it teaches "
        "the segmenter in the localizer's place (not in the papers)",
        path="folder",
        needs="web",
    )

    @property
    def experiment(self) -> str:
        """Name of the folders of this data set, task and protocol (``experiment_name``)."""
        return experiment_name(self.data_name, self.task, self.protocol)

    @property
    def data_name(self) -> str:
        """Name of the data set in those of folders and tables: a user's own is called after its folder, ``folder-fruit``."""
        own = folder_name(self.dataset_dir) if self.dataset == "folder" and self.dataset_dir is not None else ""
        return f"{self.dataset}-{own}" if own else self.dataset

    def checkpoint_path(self, step: int) -> Path:
        """Where this run's name keeps the checkpoint of ``step``."""
        return Path(self.checkpoints) / "step" / self.experiment / f"{self.name}_{step}.pth"

    def found_checkpoint(self, step: int) -> Path:
        """``checkpoint_path``; where it is missing and version 0.1.0 has left one, whose folders had not the data folder's name, that."""
        own = self.checkpoint_path(step)
        earlier = own.parent.with_name(experiment_name(self.dataset, self.task, self.protocol)) / own.name
        return earlier if not own.is_file() and earlier.is_file() else own

    @property
    def log_folder(self) -> Path:
        """Where the run's log, scalars and pages go."""
        return Path(self.logdir) / self.experiment / self.name

    def changed(self, earlier: dict[str, Any]) -> list[str]:
        """What differs from the options of an earlier run in a way that changes the training: ``--epochs 30 (was 20)``."""
        return [
            f"--{key} {value} (was {earlier[key]})"
            for key, value in self.plain().items()
            if not OPTIONS[key].neutral and key in earlier and earlier[key] != value
        ]

    def shared(self) -> dict[str, Any]:
        """The options that processes of one run on several machines must have in common: all but places and how each computes."""
        return {key: value for key, value in self.plain().items() if key not in OWN and not OPTIONS[key].path}

    def plain(self) -> dict[str, Any]:
        """All options as a dictionary of plain Python values, for checkpoints and logs."""
        return asdict(self)


@dataclass(frozen=True)
class Shorthands:
    """What the command line says in place of other options."""

    overlap: bool = _task(False, "overlap protocol: same as --protocol overlap")
    no_pretrained: bool = _network(False, "same as --pretrained none")
    recipe: str | None = _image_labels(
        None, f"options of weak steps at once: paper is as published; best is {_BEST}", choices=RECIPES, shown="paper"
    )
    ss_dist: bool = _image_labels(False, "not available: the published option changes nothing and no paper defines it")


OPTIONS = declared(Options)
# What a process may have of its own.
OWN = {"local_rank", "num_workers", "device", "data_root", "dataset_dir", "checkpoints", "logdir", "wandb", "debug"}


def misfits(saved: Mapping[str, Any]) -> list[str]:
    """Names of options of an earlier run whose value the option cannot have: of another type, none of its choices."""
    types = get_type_hints(Options)

    def fits(value: Any, wanted: Any) -> bool:
        if type(value) is bool:
            return wanted is bool
        return isinstance(value, wanted) or (type(value) is int and wanted is float)

    def known(key: str, value: Any) -> bool:
        choices = OPTIONS[key].choices
        return choices is None or value is None or value in list(choices)

    return [k for k, value in saved.items() if k in types and not (fits(value, types[k]) and known(k, value))]


def default_of(name: str, dataset: str) -> Any:
    """What option ``name`` is with a data set, where the command line does not name it; None where other options decide."""
    return OPTIONS[name].default_of(dataset)


def get_argparser() -> argparse.ArgumentParser:
    """The command line of run.py."""
    parser = OneLineParser(
        prog="run.py",
        description="Train and test one step of weakly-supervised class-incremental semantic segmentation.",
        allow_abbrev=False,
    )
    add_arguments(parser, declared(Options, Shorthands).values())
    return parser


def _check_task(given: argparse.Namespace, name: str) -> None:
    """The task must have the step and the number of classes; a folder's ``offline`` is known when its classes are."""
    if given.dataset == "folder" and name == "offline":
        return
    task = tasks.load_task(given.dataset, name)
    last = len(task) - 1
    refuse(given.step > last, f"--step {given.step} is outside --task {task.name}, whose steps are 0 to {last}")
    total = len(task.seen(last))
    refuse(given.num_classes not in (None, total), f"--num_classes {given.num_classes}: --task {task.name} has {total}")


def _check_checkpoints(options: Options) -> None:
    """The checkpoints that the run starts from must be there."""
    if options.step > 0 and (options.report or not options.test) and options.step_ckpt is None:
        path = options.found_checkpoint(options.step - 1)
        refuse(
            not path.is_file(),
            f"{path}: no checkpoint of step {options.step - 1}; train it first, or name one with --step_ckpt",
        )
    path = options.found_checkpoint(options.step)
    refuse(
        (options.continue_ckpt or (options.test and options.ckpt is None)) and not path.is_file(),
        f"{path}: no such checkpoint; train it first, or name one with --ckpt",
    )


def _check_adopted(given: argparse.Namespace) -> None:
    """What an adopted network says of itself is not asked for."""
    if given.backbone != ADOPTED:
        return
    said = {"output_stride": given.output_stride, "pooling": given.pooling, "pretrained": given.pretrained}
    refuse(
        given.recompute, f"--recompute: a network that was trained elsewhere ({ADOPTED}) cannot be run again; remove it"
    )
    said["image_stats"] = None if given.image_stats == "auto" else given.image_stats
    for name, value in said.items():
        refuse(value is not None, f"--{name} {value}: a network that was trained elsewhere keeps its own; leave it out")


def _resolve(given: argparse.Namespace) -> Options:
    """Checked options with every default filled in."""
    filled = fill(given, OPTIONS.values(), given.dataset)
    refuse(given.val_on_trainset and given.val_list is not None, "--val_on_trainset contradicts --val_list")
    refuse(
        given.overlap and given.protocol not in (None, "overlap"), f"--overlap contradicts --protocol {given.protocol}"
    )
    check_needs(given, OPTIONS.values())
    check_losses(given)
    check_side_data(given, OPTIONS.values(), filled["replay_share"])
    check_paths(given, OPTIONS.values())
    check_start(given)
    _check_adopted(given)
    _check_task(given, filled["task"])

    if given.overlap:
        filled["protocol"] = "overlap"
    if given.no_pretrained or given.step > 0:
        filled["pretrained"] = "none"
    if not given.visualize:
        filled["sample_num"] = 0
    filled["lr_head"] = given.lr_head or (1.0 if given.step == 0 else 10.0)
    filled["method"] = given.method or ("weak" if given.weakly else "supervised")
    filled["pooling"] = given.pooling or filled["crop_size"] // filled["output_stride"]
    refuse(
        filled["pooling"] < 1,
        f"--crop_size {filled['crop_size']} is smaller than --output_stride {filled['output_stride']}",
    )
    filled["local_rank"] = int(os.environ.get("LOCAL_RANK", given.local_rank or 0))
    world = int(os.environ.get("WORLD_SIZE", 1))
    images_per_rank(given.batch_size, world)
    if filled["paste"]:
        check_pairs(given.batch_size, filled["replay_share"], world)

    options = Options(**{key: filled[key] for key in OPTIONS})
    _check_checkpoints(options)
    refuse(options.method not in METHODS, f"--method {options.method}: unknown; choose one of {', '.join(METHODS)}")
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
        refuse(not given.weakly, "--recipe needs --weakly: it is about steps that learn from image labels")
        parser.set_defaults(**RECIPES[given.recipe], **(REPLAY_RECIPES[given.recipe] if given.replay else {}))
        given = parser.parse_args(arguments)
    return _resolve(given)
