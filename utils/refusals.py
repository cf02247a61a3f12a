"""What options of run.py refuse of each other, one line each: derived from their declarations, or said as sentences.

Each function reads what the parser gave, None where the command line is silent of a late default, and raises UserError.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from utils.checks import check_precision, replay_images
from utils.errors import UserError
from utils.names import FOREIGN, IMAGE_METHODS, LATER_METHODS, PIXEL_METHODS
from utils.options import Option, said

# What an option may need besides another option.
PREVIOUS = "a previous step"
# A run's name, which file names continue; systems end them at 255. Of a longer one a message shows the beginning.
NAME_BYTES, LONG = 200, 40


def refuse(condition: bool, message: str) -> None:
    """UserError with ``message`` where ``condition`` holds."""
    if condition:
        raise UserError(message)


def _methods_first(options: Collection[Option]) -> list[Option]:
    """Later groups, which choose the method, before those that prepare it; paths last."""
    groups = list(dict.fromkeys(one.group for one in options))
    return sorted(options, key=lambda one: (bool(one.path), -groups.index(one.group)))


def _switches_first(one: Option) -> tuple[bool, bool]:
    return one.default is not False, one.default is not None


def check_needs(given: argparse.Namespace, options: Collection[Option]) -> None:
    """What needs a previous step or image labels, and what contradicts them."""
    refuse(given.ss_dist, "--ss_dist: the published option changes nothing and no paper defines it; remove it")
    if given.step == 0:
        for one in said(given, (one for one in _methods_first(options) if PREVIOUS in one.needs)):
            raise UserError(f"--{one.name} needs a previous step: remove it, or give --step 1 or later")
        refuse(
            given.method in LATER_METHODS,
            f"--method {given.method} needs a previous step: remove it, or give --step 1 or later",
        )
    else:
        refuse(
            given.pretrained is not None or given.no_pretrained,
            "--pretrained and --no_pretrained belong to --step 0: later steps start from the previous step's checkpoint",
        )
    if given.weakly:
        for one in said(given, (one for one in _methods_first(options) if one.contradicts == "weakly")):
            raise UserError(f"--{one.name} is for pixel labels: it contradicts --weakly")
        refuse(given.method in PIXEL_METHODS, f"--method {given.method} contradicts --weakly")
    else:
        weak = (one for one in options if "weakly" in one.needs)
        for one in said(given, sorted(weak, key=_switches_first)):
            raise UserError(f"--{one.name} needs --weakly")
        refuse(given.method in IMAGE_METHODS, f"--method {given.method} needs --weakly")


def check_losses(given: argparse.Namespace) -> None:
    """Losses and schedules that contradict each other, or that would change nothing."""
    foreign = [f"--{name}" for name in FOREIGN.get(given.method, ()) if getattr(given, name)]
    refuse(bool(foreign), f"--method {given.method} has losses and a start of its own: remove {', '.join(foreign)}")
    refuse(
        given.method == "ssul" and given.step > 0 and not given.freeze,
        "--method ssul needs --freeze at step 1 and later: it keeps what was learned",
    )
    refuse(given.unkd and not given.loss_kd, "--unkd needs --loss_kd above 0")
    refuse(given.unce and (given.bce or given.icarl), "--unce contradicts --bce and --icarl: choose one loss")
    refuse(given.icarl_disjoint and not given.icarl, "--icarl_disjoint needs --icarl")
    refuse(
        given.icarl_disjoint and given.icarl_importance != 1,
        "--icarl_importance belongs to the combined --icarl, not to --icarl_disjoint",
    )
    background = given.icarl_bkg
    refuse(background != -1 and not 0 <= background <= 1, f"--icarl_bkg {background}: -1, or from 0 to 1")
    refuse(
        background != -1 and not (given.weakly or given.icarl_disjoint),
        "--icarl_bkg needs --weakly or --icarl_disjoint",
    )
    refuse(given.confusion > 0 and not given.old_yields, "--confusion needs --old_yields: it says how far they do")
    late = given.unfreeze_ep is not None
    refuse(
        given.freeze and given.loss_de > 0 and not late,
        "--freeze contradicts --loss_de: a frozen body's features cannot change",
    )
    refuse(late and not given.freeze, "--unfreeze_ep needs --freeze: else the body is trained from the first epoch on")
    refuse(
        late and not given.test and given.unfreeze_ep >= given.epochs,
        f"--unfreeze_ep {given.unfreeze_ep} leaves none of --epochs {given.epochs} for the body",
    )
    refuse(given.lr_body is not None and not late, "--lr_body needs --unfreeze_ep")
    refuse(given.freeze and given.freeze_norm, "--freeze_norm is part of --freeze: give one of them")
    refuse(
        given.recompute and given.freeze, "--recompute contradicts --freeze: a frozen body keeps nothing for backward"
    )
    refuse(
        given.recompute and given.compile,
        "--recompute contradicts --compile: a compiled network decides itself what it keeps",
    )
    refuse(
        given.lr_policy == "warmup" and not given.test and given.pseudo_ep >= given.epochs,
        f"--pseudo_ep {given.pseudo_ep} leaves none of --epochs {given.epochs} for the decay of --lr_policy warmup",
    )


def check_side_data(given: argparse.Namespace, options: Collection[Option], replay_share: float) -> None:
    """Replay and web images: their options belong together, and the images must be there."""
    for switch in ("replay", "web"):
        if not getattr(given, switch):
            for one in said(given, (one for one in options if switch in one.needs)):
                raise UserError(f"--{one.name} needs --{switch}")
            continue
        path = getattr(given, f"{switch}_path")
        refuse(not given.weakly, f"--{switch} needs --weakly: {switch} images have no pixel labels of the new classes")
        refuse(path is None, f"--{switch} needs --{switch}_path, the folder of the {switch} images")
        refuse(not Path(path).exists(), f"--{switch}_path {path}: the {switch} images are missing (no such folder)")
    refuse(
        bool(given.paste) and not given.freeze,
        "--paste needs --freeze: a body that is trained would see every image twice",
    )
    if given.replay:
        replay_images(given.batch_size, replay_share)
    refuse(
        given.web and given.train_list is not None, "--train_list contradicts --web: web images replace the data set's"
    )
    refuse(
        given.web and given.val_on_trainset,
        "--val_on_trainset contradicts --web: web images have no masks to score with",
    )


def check_paths(given: argparse.Namespace, options: Collection[Option]) -> None:
    """What is named must be there."""
    for one in said(given, (one for one in _methods_first(options) if one.path)):
        path = Path(getattr(given, one.name))
        refuse(
            not (path.is_file() if one.path == "file" else path.is_dir()),
            f"--{one.name} {getattr(given, one.name)}: no such {one.path}",
        )
    # The procedural data set is made where it is missing.
    folder = None if given.dataset == "shapes" else given.dataset_dir
    refuse(folder is not None and not Path(folder).is_dir(), f"--dataset_dir {folder}: no such folder")
    weights = given.pretrained
    refuse(
        weights not in (None, "imagenet", "none") and not Path(weights).is_file(),
        f"--pretrained {weights}: neither imagenet, none nor a file",
    )


def check_start(given: argparse.Namespace) -> None:
    """Where the run starts from, what it computes on and how it is called."""
    refuse(
        given.continue_ckpt and given.resume == "auto",
        "--continue_ckpt and --resume auto say different things: choose one",
    )
    refuse(
        given.ckpt is not None and (given.continue_ckpt or given.resume == "auto"),
        "--ckpt contradicts --continue_ckpt and --resume: choose one",
    )
    refuse(given.no_pretrained and given.pretrained not in (None, "none"), "--no_pretrained contradicts --pretrained")
    check_precision(given.precision, given.device)
    _check_name(given.name)


def _check_name(name: str) -> None:
    """A run's name is part of names of files and folders."""
    shown = repr(name if len(name) <= LONG else name[:LONG] + "...")
    refuse(not name or "/" in name or "\\" in name, f"--name {shown}: a name without slashes is needed")
    refuse(name.startswith("."), f"--name {shown}: a name that does not begin with a dot is needed")
    refuse(not name.isprintable(), f"--name {shown}: a name without control characters is needed")
    refuse(len(name.encode()) > NAME_BYTES, f"--name {shown}: a name of at most {NAME_BYTES} bytes is needed")
