"""The whole method as stages: base step, the methods it is compared with, and ours part by part; an experiment gives it data and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from argparser import experiment_name
from experiments.stage import Stage, line, wanted
from tasks import load_task
from utils.errors import UserError

BASE, JOINT = "base", "joint"
# The base step's model once more, on the pixels of all classes, as later steps are: its own test leaves out those not yet learned.
BASE_ALL = "base-all-pixels"
# Scripts of the web half end with 1 where a class has no images or an image cannot be read, say so, and go on.
LEFT_OUT = (0, 1)


@dataclass(frozen=True)
class Arm:
    """A method: its own options at step 1 and later, and what it learns from beside the data set.

    Attributes:
        options: of run.py.
        weak: from image labels, else from pixel labels.
        web: manifest of web images: ``raw``, ``discriminator`` (selected by it), ``captions`` (by captions too) or ``words`` (by
            captions alone); None: the data set's.
        replay: whether old classes are rehearsed.
        best: a weak step by the best recipe or a part of it, not by the papers'; with replay its later steps rehearse the web images of
            earlier steps as well.
    """

    options: tuple[str, ...] = ()
    weak: bool = False
    web: str | None = None
    replay: bool = False
    best: bool = False


# In the order of the table; joint training, which has no steps, comes last.
ARMS = {
    "fine-tuning": Arm(line("--bce")),
    "LwF": Arm(line("--loss_kd 100 --alpha 1")),
    "ILT": Arm(line("--loss_kd 100 --loss_de 100 --alpha 1")),
    "MiB": Arm(line("--unce --unkd --loss_kd 10 --init_balanced --alpha 1")),
    "WILSON": Arm(weak=True),
    "raw-web": Arm(weak=True, web="raw"),
    "discriminator": Arm(weak=True, web="discriminator"),
    "caption-labels": Arm(line("--web_labels caption"), weak=True, web="captions"),
    "ours": Arm(line("--web_labels caption"), weak=True, web="captions", replay=True),
    "best": Arm(line("--recipe best --web_labels caption"), weak=True, web="words", replay=True, best=True),
}
# What --recipe best is made of, by the name of the arm that does without it, and what stands there instead.
PARTS = {
    "trained-body": ("--freeze", "--loss_de 1 --freeze_norm"),
    "low-rate": ("--lr_head 40 --lr_pseudo 0.04", "--lr_head 2"),
    "no-yielding": ("--old_yields", ""),
    "no-folding": ("--fold_absent", ""),
    "no-jitter": ("--jitter 0.6", ""),
    "no-balance": ("--replay_balance", ""),
}


def _without(part: str) -> Arm:
    """The best recipe without one of its parts."""
    options = [instead if name == part else option for name, (option, instead) in PARTS.items()]
    return Arm(
        line("--init_balanced", *options, "--web_labels caption"), weak=True, web="words", replay=True, best=True
    )


# Each does without one thing that "best" does; run by name only.
ABLATIONS = {
    "best-no-replay": Arm(line("--recipe best --web_labels caption"), weak=True, web="words", best=True),
    "best-raw-web": Arm(line("--recipe best"), weak=True, web="raw", replay=True, best=True),
    "best-discriminator": Arm(
        line("--recipe best --web_labels caption"), weak=True, web="captions", replay=True, best=True
    ),
    **{f"best-{part}": _without(part) for part in PARTS},
}
KNOWN = ARMS | ABLATIONS


@dataclass(frozen=True)
class Rehearsal:
    """What was found for the originals of step 0.

    Attributes:
        downloads: one folder of images an original.
        captions: one caption file an original; made where it is missing.
        class_words: class words of the originals.
    """

    downloads: Path
    captions: Path
    class_words: Path


@dataclass(frozen=True)
class Sizes:
    """Options of an experiment's size, by part.

    Attributes:
        common: of every run.py line: data, network, crop, batch.
        base: of the base step and of joint training.
        step: of every later step.
        pixel: of steps from pixel labels.
        weak: of steps from image labels.
        best: of those by the best recipe, beside what the recipe gives.
        discriminator: of train_discriminator.py.
        selection: of select_web.py's rule on the discriminator.
        captioner: of generate_caption.py.
        speed: of whatever loads images: nothing depends on them.
    """

    common: tuple[str, ...]
    base: tuple[str, ...]
    step: tuple[str, ...]
    pixel: tuple[str, ...]
    weak: tuple[str, ...]
    best: tuple[str, ...]
    discriminator: tuple[str, ...]
    selection: tuple[str, ...]
    captioner: tuple[str, ...] = ()
    speed: tuple[str, ...] = ("--num_workers", "4")


@dataclass(frozen=True)
class Experiment:
    """Data and choices.

    Attributes:
        work: folder of all that is made.
        dataset: of run.py, as are the next three.
        task: its steps are trained one after the other.
        joint: task that learns the same classes in one step.
        protocol: which images a step sees.
        data: folder of the data set, or of the data sets.
        folder: the option that names it.
        inputs: folders of it that must be there; none where it is drawn.
        seeds: random seeds, one run of every arm for each.
        arms: names of ``ARMS`` and ``ABLATIONS``, and ``joint``.
        sizes: options.
        classes: names of all foreground classes of the task, as captions may name them.
        web: web images of base and new classes, for the discriminator; None where there are none.
        candidates: of new classes, with a manifest; a path of one that ``prepare`` makes, or the same as ``web``.
        rehearsal: what was found for old classes; None where there is nothing.
        prepare: stages that make candidates and downloads, for those that take them.
    """

    work: Path
    dataset: str
    task: str
    joint: str
    protocol: str
    data: Path
    folder: str
    inputs: tuple[Path, ...]
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    sizes: Sizes
    classes: tuple[str, ...] = ()
    web: Path | None = None
    candidates: Path | None = None
    rehearsal: Rehearsal | None = None
    prepare: tuple[Stage, ...] = ()

    def checkpoint(self, name: str, step: int, task: str | None = None) -> Path:
        """Where run.py keeps the checkpoint of a run."""
        experiment = experiment_name(self.dataset, task or self.task, self.protocol)
        return self.work / "checkpoints/step" / experiment / f"{name}_{step}.pth"

    def selected(self, kind: str, seed: int) -> Path:
        """The manifest that a selection writes, in a folder of its own for its contact sheets."""
        return self.work / "web" / f"{kind}-{seed}" / "selected.csv"


def possible_arms(web: bool, rehearsal: bool) -> tuple[str, ...]:
    """The arms for which there is data."""
    found = [name for name, arm in ARMS.items() if (web or arm.web is None) and (rehearsal or not arm.replay)]
    return (*found, JOINT)


def stages(experiment: Experiment) -> list[Stage]:
    """All stages of an experiment, those first that others wait for.

    Raises:
        UserError: an arm is unknown, or its data is not given.
    """
    for name in experiment.arms:
        if name != JOINT and name not in KNOWN:
            raise UserError(f"--arms {name}: unknown; choose from {', '.join([*KNOWN, JOINT])}")
    own = [KNOWN[name] for name in experiment.arms if name != JOINT]
    if any(arm.web for arm in own) and (experiment.web is None or experiment.candidates is None):
        raise UserError("--arms: arms that learn from web images need --web")
    if any(arm.replay for arm in own) and experiment.rehearsal is None:
        raise UserError("--arms: arms that rehearse need --downloads and --class_words")
    found = list(experiment.prepare)
    if any(arm.web not in (None, "raw") for arm in own):
        found += _captions(experiment)
    if any(arm.replay for arm in own):
        found += _filter(experiment)
    for seed in experiment.seeds:
        found += _seed(experiment, seed, own)
    runs = tuple(stage.name for stage in found if stage.command[0] == "run.py")
    table = _table(experiment, runs)
    return wanted([*found, table, _report(experiment, table)], "report")


def _run_line(
    experiment: Experiment, run: str, seed: int, task: str, step: int, options: Sequence[str]
) -> tuple[str, ...]:
    """What every run.py line has, around its own options."""
    work = experiment.work
    return line(
        f"run.py --name {run} --random_seed {seed} --dataset {experiment.dataset} --task {task} --step {step} "
        f"--protocol {experiment.protocol}", options, experiment.sizes.common, experiment.folder, experiment.data,
        "--logdir", work / "logs", "--checkpoints", work / "checkpoints",
    )  # fmt: skip


def _run(
    experiment: Experiment,
    name: str,
    seed: int,
    task: str,
    step: int,
    options: Sequence[str],
    after: Sequence[str] = (),
) -> Stage:
    """One training."""
    run = f"{name}-{seed}"
    return Stage(
        run + (f"-step{step}" if step else ""),
        line(_run_line(experiment, run, seed, task, step, options), "--resume auto"),
        after=tuple(after),
        needs=experiment.inputs,
        makes=(experiment.checkpoint(run, step, task),),
        speed=experiment.sizes.speed,
        ranks=True,
    )


def _all_pixels(experiment: Experiment, seed: int) -> Stage:
    """A second test of the base step's model; what its row of the table holds can be compared with the old classes of later steps."""
    base, name = f"{BASE}-{seed}", f"{BASE_ALL}-{seed}"
    options = line("--test --test_unknown later --ckpt", experiment.checkpoint(base, 0))
    folder = experiment_name(experiment.dataset, experiment.task, experiment.protocol)
    return Stage(
        name,
        _run_line(experiment, name, seed, experiment.task, 0, options),
        after=(base,),
        makes=(experiment.work / "logs" / folder / name / "confusion_0.csv",),
        speed=experiment.sizes.speed,
        ranks=True,
    )


def _seed(experiment: Experiment, seed: int, arms: Sequence[Arm]) -> list[Stage]:
    """The base step of a seed, what is made with it, and every arm."""
    sizes, base = experiment.sizes, f"{BASE}-{seed}"
    drawn = _makers(experiment, experiment.data)
    found = [_run(experiment, BASE, seed, experiment.task, 0, sizes.base, drawn), _all_pixels(experiment, seed)]
    if any(arm.web not in (None, "raw") for arm in arms):
        found += _selections(experiment, seed, {str(arm.web) for arm in arms})
    if any(arm.replay for arm in arms):
        found += _tree(experiment, seed)
    for name in experiment.arms:
        if name == JOINT:
            found.append(_run(experiment, JOINT, seed, experiment.joint, 0, sizes.base, drawn))
            continue
        arm = KNOWN[name]
        options = line(sizes.best if arm.best else sizes.weak if arm.weak else sizes.pixel, sizes.step, arm.options)
        sources, after = _sources(experiment, seed, arm)
        previous, checkpoint = base, experiment.checkpoint(base, 0)
        for step in range(1, len(load_task(experiment.dataset, experiment.task))):
            if arm.replay and arm.best and step > 1:
                found += _later_tree(experiment, name, seed, step)
                sources, after = _sources(experiment, seed, arm, f"{name}-{seed}-step{step}")
            own = line(options, sources, "--step_ckpt", checkpoint)
            found.append(_run(experiment, name, seed, experiment.task, step, own, (previous, *after)))
            previous, checkpoint = found[-1].name, experiment.checkpoint(f"{name}-{seed}", step)
    return found


def _sources(experiment: Experiment, seed: int, arm: Arm, tree: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options that name the web images and the replay tree of an arm, and the stages that make them; ``tree`` is that of a later step."""
    options: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    if arm.web == "raw" and experiment.candidates is not None:
        options, after = line("--web --web_path", experiment.candidates), _makers(experiment, experiment.candidates)
    elif arm.web is not None:
        options = line("--web --web_path", experiment.selected(arm.web, seed))
        after = (f"select-{arm.web}-{seed}",)
    if arm.replay:
        tree = tree or str(seed)
        options = line(options, "--replay --replay_path", experiment.work / f"replay-{tree}")
        after = (*after, f"replay-list-{tree}")
    return options, after


def _makers(experiment: Experiment, path: Path) -> tuple[str, ...]:
    """The stages that make a path; none where it is the user's."""
    return tuple(stage.name for stage in experiment.prepare if path in stage.makes)


def _captions(experiment: Experiment) -> list[Stage]:
    """Captions of the candidates; a manifest that has some keeps them."""
    source, out = experiment.candidates, experiment.work / "web/captioned.csv"
    assert source is not None
    made = _makers(experiment, source)
    command = line("generate_caption.py", source, out, "--only_missing", experiment.sizes.captioner)
    return [Stage("web-captions", command, made, () if made else (source,), (out,), allowed=LEFT_OUT)]


def _selections(experiment: Experiment, seed: int, kinds: set[str]) -> list[Stage]:
    """The manifests that are chosen for a seed, and the discriminator of its base step where one of them needs it."""
    web, sizes, base = experiment.web, experiment.sizes, experiment.checkpoint(f"{BASE}-{seed}", 0)
    assert web is not None
    weights, trained = base.with_name(f"{base.stem}_discriminator.pth"), f"discriminator-{seed}"
    by_discriminator = line("--discriminator", weights, sizes.selection)
    by_captions = line("--web_labels caption --classes", experiment.classes)
    rules = {
        "discriminator": (by_discriminator, (trained,)),
        "captions": (line(by_discriminator, by_captions), (trained,)),
        "words": (by_captions, ()),
    }
    found = []
    if kinds & {"discriminator", "captions"}:
        train = line("train_discriminator.py --step_ckpt", base, "--web_path", web, "--out", weights)
        train = line(train, f"--random_seed {seed}", sizes.discriminator)
        made = _makers(experiment, web)
        after = (f"{BASE}-{seed}", *made)
        found.append(Stage(trained, train, after, () if made else (web,), (weights,), sizes.speed, LEFT_OUT))
    for kind, (options, after) in rules.items():
        if kind in kinds:
            source, out = experiment.work / "web/captioned.csv", experiment.selected(kind, seed)
            command = line("select_web.py --web_path", source, "--out", out, options)
            found.append(
                Stage(f"select-{kind}-{seed}", command, ("web-captions", *after), (), (out,), sizes.speed, LEFT_OUT)
            )
    return found


def _filter(experiment: Experiment) -> list[Stage]:
    """Captions and nouns of the downloads, and those that stand for their originals."""
    given = experiment.rehearsal
    assert given is not None
    after = _makers(experiment, given.downloads)
    found = []
    if not _makers(experiment, given.captions):
        command = line("generate_caption.py", given.downloads, given.captions, experiment.sizes.captioner)
        needs = (given.downloads, given.class_words)
        found.append(Stage("replay-captions", command, after, needs, (given.captions,), allowed=LEFT_OUT))
        after = ("replay-captions",)
    nouns, kept = (experiment.work / "rehearsal" / name for name in ("nouns", "kept"))
    command = line("-m utils.measure_noun generate_NN --captions", given.captions, "--out", nouns)
    found.append(Stage("replay-nouns", command, after, (), (nouns,)))
    command = line(
        "-m utils.measure_noun filter_replay_with_NN --nouns", nouns, "--classes", given.class_words, "--out", kept
    )
    found.append(Stage("replay-filter", command, ("replay-nouns",), (), (kept,)))
    return found


def _tree(experiment: Experiment, seed: int) -> list[Stage]:
    """The replay tree of a seed: what was kept, labelled by its base step."""
    base = f"{BASE}-{seed}"
    return [*_filled(experiment, str(seed)), *_labelled(experiment, str(seed), base, experiment.checkpoint(base, 0))]


def _later_tree(experiment: Experiment, name: str, seed: int, step: int) -> list[Stage]:
    """The replay tree of a later step of an arm: the same, and the web images of the steps between, labelled by the step before."""
    task = load_task(experiment.dataset, experiment.task)
    # The first of all seen classes is background.
    learned = experiment.classes[len(task.seen(0)) - 1 : len(task.seen(step - 1)) - 1]
    arm, tree = KNOWN[name], f"{name}-{seed}-step{step}"
    web = experiment.candidates if arm.web == "raw" else experiment.selected(str(arm.web), seed)
    assert web is not None
    add = line("-m utils.measure_noun move_web_images --mode hardlink --web_path", web, "--classes", learned)
    filled = _filled(experiment, tree)
    previous = f"{name}-{seed}-step{step - 1}"
    more = Stage(
        f"replay-web-{tree}",
        line(add, "--out", experiment.work / f"replay-{tree}"),
        (filled[-1].name, previous),
        allowed=LEFT_OUT,
    )
    checkpoint = experiment.checkpoint(f"{name}-{seed}", step - 1)
    return [*filled, more, *_labelled(experiment, tree, more.name, checkpoint)]


def _filled(experiment: Experiment, tree: str) -> list[Stage]:
    """A tree with the downloads that were kept."""
    given, path = experiment.rehearsal, experiment.work / f"replay-{tree}"
    assert given is not None
    move = line(
        "-m utils.measure_noun move_with_filtered_caption --mode hardlink --images",
        given.downloads,
        "--kept",
        experiment.work / "rehearsal/kept",
        "--out",
        path,
    )
    return [Stage(f"replay-tree-{tree}", move, ("replay-filter",), (), (path,), allowed=LEFT_OUT)]


def _labelled(experiment: Experiment, tree: str, after: str, checkpoint: Path) -> list[Stage]:
    """Pseudo-labels by a checkpoint, and the train files, of a tree."""
    path, speed = experiment.work / f"replay-{tree}", experiment.sizes.speed
    label = line("generate_label.py --ckpt", checkpoint, "--path", path)
    marker = path / "labels.json"
    return [
        Stage(
            f"replay-labels-{tree}", label, (f"replay-tree-{tree}", after), (), (marker,), speed, LEFT_OUT, ranks=True
        ),
        Stage(
            f"replay-list-{tree}",
            line("generate_train_file.py --path", path),
            (f"replay-labels-{tree}",),
            allowed=LEFT_OUT,
        ),
    ]


def _table(experiment: Experiment, runs: tuple[str, ...]) -> Stage:
    """The table of all arms against WILSON on raw web images, or the nearest to it that there is."""
    arms = experiment.arms
    files = tuple(experiment.work / f"table{suffix}" for suffix in (".md", ".csv", ".tex"))
    baseline = next((name for name in ("raw-web", "WILSON") if name in arms), arms[0])
    command = line(
        "-m utils.table --logs",
        experiment.work / "logs",
        f"--arms {BASE} {BASE_ALL}",
        arms,
        f"--baseline {baseline}",
        "--out",
    )
    return Stage("table", line(command, [str(file) for file in files]), runs, (), files)


def _report(experiment: Experiment, table: Stage) -> Stage:
    """The page that shows all of it, with the arms and the baseline of the table."""
    page = experiment.work / "report.html"
    arms = table.command[table.command.index("--arms") + 1 : table.command.index("--out")]
    command = line("-m experiments.report --work", experiment.work, "--arms", arms, "--out", page)
    return Stage("report", command, (table.name,), makes=(page,), allowed=LEFT_OUT)
