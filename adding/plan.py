"""The plan of add_class.py as stages: images of new classes, images of old ones, the step, the statement, the released folder."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from adding.adoption import BASE, DATASET, PROTOCOL, TASK, WORDS, data_folder
from adding.inputs import IMAGES, NO_CAPTIONER, VOCABULARY
from adding.sizes import Sizes
from argparser import experiment_name, folder_name
from experiments.stage import Stage, line
from modules.released import CONFIG, WEIGHTS
from release.card import CARD
from release.taught import FILE as ATTRIBUTION
from utils.errors import UserError
from utils.whole import write_whole

LOG = logging.getLogger("webwilss")
# Scripts of the web half end with 1 where an image cannot be read, say so, and go on.
LEFT_OUT = (0, 1)
# Folder of OUT for all but what is released, and the file in it that says which web images taught which classes.
WORK, TAUGHT = "work", "taught.json"
NAME, TRIAL = "add", "trial"
# What WILSON's step has besides ``--recipe best``, as the experiments of this repository have it.
STEP_OPTIONS = "--weakly --recipe best --affinity --alpha 0.5 --lr_policy warmup"
# Images that are collected for all old classes together, and of one at least.
OLD_COLLECTED, OLD_EACH = 2000, 20


@dataclass(frozen=True)
class Taught:
    """Web images that taught classes in an earlier call: the manifest that was selected, and the classes."""

    manifest: Path
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What the plan needs of the model.

    Attributes:
        model: the MODEL.
        options: what else reads it (``--class_names`` ...).
        old: names of its foreground classes.
        step: the step that follows.
        network: options of run.py that make its network again.
        listing: digest of its files; "" where it has none here.
        taught: web images of earlier calls.
    """

    model: str
    options: tuple[str, ...]
    old: tuple[str, ...]
    step: int
    network: tuple[str, ...]
    listing: str = ""
    taught: tuple[Taught, ...] = ()


@dataclass(frozen=True)
class Adding:
    """Everything that was asked for, resolved.

    Attributes:
        known: the model.
        new: names of the new classes.
        out: the folder that is released.
        sizes: of the training.
        images: images of the new classes; None where they are collected.
        images_listing: digest of them.
        captioned: whether all have a caption already.
        old_images: folder of images in which old classes occur; None where there is none.
        old_listing: digest of them.
        collect: sources of collect_web.py.
        collecting: further options of it.
        per_class: images of a class that are collected.
        forget: go on without images of old classes.
        val: images and masks to test on; None for the model's own labels of what is held back.
        share: share of the old images that is held back.
        most: old images in all.
        captioner: of generate_caption.py, or ``none``.
        captioner_options: further options of it.
        training: further options of run.py.
        seed: random seed.
        device: of all commands.
        trial: measure seconds an iteration first.
    """

    known: Known
    new: tuple[str, ...]
    out: Path
    sizes: Sizes
    images: Path | None = None
    images_listing: str = ""
    captioned: bool = False
    old_images: Path | None = None
    old_listing: str = ""
    collect: tuple[str, ...] = ()
    collecting: tuple[str, ...] = ()
    per_class: int = 200
    forget: bool = False
    val: Path | None = None
    share: float = 0.1
    most: int = 2000
    captioner: str = "tags"
    captioner_options: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    seed: int = 0
    device: str = "auto"
    trial: bool = False
    speed: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "speed", ("--device", self.device))
        if self.old_images is None and not self.collect and not self.forget:
            raise UserError(
                f"no --old_images: nothing would rehearse {_few(self.known.old)}, which will be forgotten; give a folder of images "
                "in which they occur, or --collect with --contact, or --forget to go on"
            )
        if self.forget and (self.old_images is not None or self.collect_old):
            raise UserError("--forget: old classes are rehearsed on --old_images or --collect; leave it out")
        if self.collect and self.images is not None and self.old_images is not None:
            raise UserError("--collect: --images and --old_images are given, and nothing is left to collect")
        if self.images is None and not self.collect:
            raise UserError("no images of the new classes: give --images, or --collect and --classes")

    @property
    def collect_old(self) -> bool:
        """Whether images of old classes are collected."""
        return bool(self.collect) and self.old_images is None and not self.forget

    @property
    def work(self) -> Path:
        """Folder of all that is made on the way."""
        return self.out / WORK

    @property
    def tree(self) -> Path | None:
        """The replay tree; None where nothing is rehearsed."""
        return None if self.forget and not self.known.taught else self.work / "replay"

    @property
    def held_back(self) -> Path:
        """Images that nothing is trained on."""
        return self.work / "held_back"

    @property
    def adopted(self) -> Path:
        """What ``adding.adoption`` writes."""
        return self.work / "adopted"

    @property
    def data(self) -> Path:
        """The data set that the step is tested on."""
        return data_folder(self.adopted, self.val)

    @property
    def selected(self) -> Path:
        """The manifest that teaches."""
        return self.work / "web/selected.csv"

    def checkpoint(self, name: str = NAME) -> Path:
        """Where run.py keeps the checkpoint of the step."""
        experiment = experiment_name(f"{DATASET}-{folder_name(str(self.data))}", TASK, PROTOCOL)
        return self.work / "checkpoints/step" / experiment / f"{name}_{self.known.step}.pth"


def _few(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# ---- earlier calls ----------------------------------------------------------------------------------------------------


def read_taught(model: str) -> tuple[Taught, ...]:
    """Web images that taught the classes of a released folder, where they are still there; those that are gone are told.

    Raises:
        UserError: the file that says so is damaged.
    """
    work = Path(model).resolve() / WORK
    path = work / TAUGHT
    if not path.is_file():
        return ()
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        taught = [
            Taught(Path(os.path.normpath(work / entry["manifest"])), tuple(map(str, entry["classes"])))
            for entry in entries
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it to add classes without these images") from error
    for one in taught:
        if not one.manifest.is_file():
            LOG.warning("%s: is gone; nothing but --old_images rehearses %s", one.manifest, _few(one.classes))
    return tuple(one for one in taught if one.manifest.is_file())


def write_taught(adding: Adding) -> None:
    """Say which web images taught which classes, those of earlier calls first; paths start from the folder of work."""
    taught = [*adding.known.taught, Taught(adding.selected, adding.new)]
    entries = [{"manifest": os.path.relpath(one.manifest, adding.work), "classes": list(one.classes)} for one in taught]
    write_whole(adding.work / TAUGHT, json.dumps(entries, indent=1) + "\n")


# ---- stages -----------------------------------------------------------------------------------------------------------


def stages(adding: Adding) -> list[Stage]:
    """All stages; those up to the trial where seconds an iteration are to be measured first."""
    planned = _new_images(adding)
    if adding.collect_old:
        planned.append(_collect(adding, "collect-old", adding.known.old, adding.work / "collected-old"))
    old = _old_images(adding)
    judged = ("candidates",) if adding.forget else ()
    adopt = _adopt(adding, (*judged, *(stage.name for stage in old)))
    planned += [*old, adopt]
    planned += _labelled(adding, adopt.name)
    ready = tuple(stage.name for stage in planned)
    if adding.trial:
        return [*planned, _run(adding, TRIAL, ready)]
    train = _run(adding, NAME, ready)
    return [*planned, train, *_ended(adding, train.name)]


def _collect(adding: Adding, name: str, classes: tuple[str, ...], out: Path) -> Stage:
    """Images of classes from the web."""
    count = adding.per_class
    if classes == adding.known.old:
        count = min(count, max(OLD_EACH, OLD_COLLECTED // len(classes)))
    sources = [word for source in adding.collect for word in ("--source", source)]
    guarded = line("--not_in", adding.val) if adding.val is not None else ()
    command = line("collect_web.py --classes", classes, "--out", out, sources, f"--per_class {count}", guarded)
    return Stage(
        name,
        line(command, adding.collecting),
        allowed=LEFT_OUT,
        kind="collect",
        outputs={"manifest": out / "manifest.csv"},
    )


def _new_images(adding: Adding) -> list[Stage]:
    """From images of new classes to the manifest that teaches."""
    planned: list[Stage] = []
    web, images = adding.work / "web", adding.images
    if images is None:
        images = adding.work / "collected"
        planned.append(_collect(adding, "collect", adding.new, images))
    listed, captioned = web / "manifest.csv", web / "captioned.csv"
    held: tuple[str, ...] = ()
    if adding.forget:
        held = line("--held_back", adding.held_back, f"--share {adding.share:g} --random_seed {adding.seed}")
    planned.append(
        Stage(
            "candidates",
            line(
                "-m adding.inputs --images", images, "--classes", adding.new, "--old", adding.known.old, "--out", listed,
                f"--captioner {adding.captioner}", held, _seen(adding.images_listing),
            ),
            tuple(stage.name for stage in planned),
            needs=() if adding.images is None else (images,),
            allowed=LEFT_OUT,
            kind="candidates",
            outputs={"manifest": listed},
            makes=(web / VOCABULARY, web / IMAGES, *((adding.held_back,) if adding.forget else ())),
        )
    )  # fmt: skip
    source = listed
    if adding.captioner != NO_CAPTIONER and not adding.captioned:
        source = captioned
        command = line("generate_caption.py", listed, captioned, "--only_missing --captioner", adding.captioner)
        planned.append(
            Stage(
                "captions",
                line(command, adding.captioner_options),
                ("candidates",),
                speed=adding.speed,
                allowed=LEFT_OUT,
                kind="captions",
                outputs={"manifest": captioned},
            )
        )
    planned.append(
        Stage(
            "select",
            line(
                "select_web.py --web_path", source, "--out", adding.selected, "--web_labels caption --vocabulary",
                web / VOCABULARY,
            ),
            (planned[-1].name,),
            speed=adding.speed,
            allowed=LEFT_OUT,
            kind="select",
            rule="words",
            outputs={"manifest": adding.selected},
        )
    )  # fmt: skip
    return planned


def _seen(listing: str) -> tuple[str, ...]:
    return line(f"--listing {listing}") if listing else ()


def _old_images(adding: Adding) -> list[Stage]:
    """The replay tree, and what is held back."""
    planned: list[Stage] = []
    old = adding.work / "collected-old" if adding.collect_old else adding.old_images
    if old is not None:
        assert adding.tree is not None
        planned.append(
            Stage(
                "rehearsal",
                line(
                    "-m adding.rehearsal --images", old, "--out", adding.tree, "--held_back", adding.held_back,
                    f"--share {adding.share:g} --most {adding.most} --random_seed {adding.seed}", _seen(adding.old_listing),
                ),
                ("collect-old",) if adding.collect_old else (),
                needs=() if adding.collect_old else (old,),
                allowed=LEFT_OUT,
                kind="replay",
                outputs={"tree": adding.tree},
                makes=(adding.held_back,),
            )
        )  # fmt: skip
    for number, taught in enumerate(adding.known.taught):
        assert adding.tree is not None
        command = line("-m utils.measure_noun move_web_images --mode", _mode(taught.manifest, adding.work))
        planned.append(
            Stage(
                f"rehearsal-web-{number}",
                line(command, "--web_path", taught.manifest, "--classes", taught.classes, "--out", adding.tree),
                tuple(stage.name for stage in planned),
                needs=(taught.manifest,),
                allowed=LEFT_OUT,
                kind="web replay",
                makes=(adding.tree,) if not planned else (),
            )
        )
    return planned


def _mode(manifest: Path, work: Path) -> str:
    """Second names where both lie on one disk, else copies."""
    there = next(folder for folder in (work, *work.parents) if folder.is_dir())
    return "hardlink" if manifest.is_file() and manifest.stat().st_dev == there.stat().st_dev else "copy"


def _adopt(adding: Adding, after: tuple[str, ...]) -> Stage:
    """The model as the step before, with images to test on."""
    known, out = adding.known, adding.adopted
    judged = line("--held_back", adding.held_back) if adding.val is None else line("--val", adding.val)
    tree = () if adding.tree is None else line("--tree", adding.tree)
    return Stage(
        "adopt",
        line(
            "-m adding.adoption --model", [known.model], known.options, "--classes", adding.new, judged, tree, "--out", out,
            _seen(known.listing),
        ),
        after,
        needs=() if adding.val is None else (adding.val,),
        speed=adding.speed,
        allowed=LEFT_OUT,
        kind="adopt",
        outputs={"checkpoint": out / BASE},
        makes=(out / TASK, adding.data, *(() if adding.tree is None else (out / WORDS,))),
    )  # fmt: skip


def _labelled(adding: Adding, after: str) -> list[Stage]:
    """Pseudo-labels of the replay tree by the model, and its train files."""
    tree = adding.tree
    if tree is None:
        return []
    base, words = adding.adopted / BASE, adding.adopted / WORDS
    labels = Stage(
        "labels",
        line("generate_label.py --ckpt", base, "--path", tree, "--drop_without_words", words, "--relabel"),
        (after,),
        speed=line(adding.speed, f"--num_workers {adding.sizes.workers}"),
        allowed=LEFT_OUT,
        kind="labels",
        outputs={"marker": tree / "labels.json"},
    )
    command = line("generate_train_file.py --path", tree)
    return [labels, Stage("train-files", command, (labels.name,), allowed=LEFT_OUT, kind="train files")]


def _run(adding: Adding, name: str, after: tuple[str, ...]) -> Stage:
    """The step; or the trial, whose iterations have all losses."""
    known, sizes, adopted, work = adding.known, adding.sizes, adding.adopted, adding.work
    tried = name == TRIAL
    epochs = f"--epochs {sizes.epochs} --iters_per_epoch {sizes.iterations} --pseudo_ep {sizes.localizer_epochs}"
    if tried:
        epochs = f"--epochs 1 --iters_per_epoch {sizes.trial} --pseudo_ep 0"
    replay = () if adding.tree is None else line("--replay --replay_path", adding.tree)
    logs = work / "trial" if tried else work / "logs"
    command = line(
        f"run.py --name {name} --random_seed {adding.seed} --dataset {DATASET} --dataset_dir", adding.data,
        "--task", adopted / TASK, f"--step {known.step} --protocol {PROTOCOL} --step_ckpt", adopted / BASE,
        known.network, STEP_OPTIONS, epochs,
        f"--crop_size {sizes.crop} --crop_size_val {sizes.crop} --batch_size {sizes.batch}",
        "--web --web_labels caption --web_path", adding.selected, replay, adding.training,
        "--sample_num 0 --val_interval 1000 --logdir", logs, "--checkpoints", work / "checkpoints", "--resume auto",
    )  # fmt: skip
    return Stage(
        "trial" if tried else "train",
        command,
        after,
        speed=line(adding.speed, f"--num_workers {sizes.workers}"),
        kind="trial" if tried else "train",
        arm="" if tried else NAME,
        seed=adding.seed,
        step=known.step,
        outputs={"checkpoint": adding.checkpoint(name)},
    )


def _ended(adding: Adding, after: str) -> list[Stage]:
    """What was lost and won, and the released folder."""
    checkpoint, base = adding.checkpoint(), adding.adopted / BASE
    # The masks as they came: adopted ones no longer tell which classes they do not name.
    truth = () if adding.val is None else line("--val", adding.val)
    # A released folder says whose images taught its classes.
    earlier = line(Path(adding.known.model)) if (Path(adding.known.model) / ATTRIBUTION).is_file() else ()
    # Agreement with the model before is no score of the card's.
    scored = line("--no_scores") if adding.val is None else ()
    release = Stage(
        "release",
        line("export.py --model", checkpoint, "--web", adding.selected, earlier, scored, "--out", adding.out),
        (after,),
        kind="release",
        outputs={"config": adding.out / CONFIG, "weights": adding.out / WEIGHTS, "card": adding.out / CARD},
    )
    statement = Stage(
        "statement",
        line(
            "-m adding.statement --before", base, "--after", checkpoint, "--held_back", adding.held_back, truth, "--web",
            adding.selected, "--out", adding.out,
        ),
        (after,),
        speed=adding.speed,
        allowed=LEFT_OUT,
        kind="statement",
        outputs={"page": adding.out / "report.html"},
    )  # fmt: skip
    return [statement, release]
