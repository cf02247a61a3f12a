"""The plan of an experiment: data, sizes and arms as stages, from the base step to the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from argparser import default_of, experiment_name
from experiments.arms import BASE, BASE_ALL, JOINT, KNOWN, Arm
from experiments.stage import Stage, line, wanted
from tasks import load_task
from utils.errors import UserError

# Scripts of the web half end with 1 where a class has no images or an image cannot be read, say so,
# and go on.
LEFT_OUT = (0, 1)


@dataclass(frozen=True)
class Rehearsal:
    """What a search gave for the originals of step 0.

    Attributes:
        downloads: one folder of images an original.
        captions: one caption file an original; made where it is missing.
        class_words: class words of the originals.
    """

    downloads: Path
    captions: Path
    class_words: Path

    def named(self) -> dict[str, Path]:
        """As the outputs of the stage that searches."""
        return {"downloads": self.downloads, "captions": self.captions, "class_words": self.class_words}


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
        arms: names of ``KNOWN``, and ``joint``.
        sizes: options.
        classes: names of all foreground classes of the task, as captions may name them.
        web: web images of base and new classes, for the discriminator; None where there are none.
        candidates: of new classes, with a manifest; a path of one that ``prepare`` makes, or the
            same as ``web``.
        rehearsal: downloads for old classes; None where there are none.
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

    def selected(self, rule: str, seed: int) -> Path:
        """The manifest that a selection writes, in a folder of its own for its contact sheets."""
        return self.work / "web" / f"{rule}-{seed}" / "selected.csv"


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
    planned = list(experiment.prepare)
    if any(arm.web not in (None, "raw") for arm in own):
        planned += _captions(experiment)
    if any(arm.replay for arm in own):
        planned += _filter(experiment)
    for seed in experiment.seeds:
        planned += _seed(experiment, seed, own)
    runs = tuple(stage.name for stage in planned if stage.kind in ("train", "test"))
    return wanted([*planned, _table(experiment, runs), _report(experiment)], "report")


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
        speed=experiment.sizes.speed,
        ranks=True,
        kind="train",
        arm=name,
        seed=seed,
        step=step,
        outputs={"checkpoint": experiment.checkpoint(run, step, task)},
    )


def _all_pixels(experiment: Experiment, seed: int) -> Stage:
    """A second test of the base step's model; what its row of the table holds can be compared with
    the old classes of later steps.
    """
    base, name = f"{BASE}-{seed}", f"{BASE_ALL}-{seed}"
    options = line("--test --test_unknown later --ckpt", experiment.checkpoint(base, 0))
    folder = experiment_name(experiment.dataset, experiment.task, experiment.protocol)
    return Stage(
        name,
        _run_line(experiment, name, seed, experiment.task, 0, options),
        after=(base,),
        speed=experiment.sizes.speed,
        ranks=True,
        kind="test",
        arm=BASE_ALL,
        seed=seed,
        step=0,
        inputs={"checkpoint": experiment.checkpoint(base, 0)},
        outputs={"confusion": experiment.work / "logs" / folder / name / "confusion_0.csv"},
    )


def _seed(experiment: Experiment, seed: int, arms: Sequence[Arm]) -> list[Stage]:
    """The base step of a seed, what is made with it, and every arm."""
    sizes, base = experiment.sizes, f"{BASE}-{seed}"
    drawn = _makers(experiment, experiment.data)
    planned = [_run(experiment, BASE, seed, experiment.task, 0, sizes.base, drawn), _all_pixels(experiment, seed)]
    if any(arm.web not in (None, "raw") for arm in arms):
        planned += _selections(experiment, seed, {str(arm.web) for arm in arms})
    if any(arm.replay for arm in arms):
        planned += _tree(experiment, seed)
    for name in experiment.arms:
        if name == JOINT:
            planned.append(_run(experiment, JOINT, seed, experiment.joint, 0, sizes.base, drawn))
            continue
        arm = KNOWN[name]
        size = line(sizes.best if arm.best else sizes.weak if arm.weak else sizes.pixel, sizes.step)
        options = line(_epochs(size, arm, experiment.dataset), arm.options)
        sources, after = _sources(experiment, seed, arm)
        previous = base if arm.base is None else f"{name}-{seed}"
        checkpoint = experiment.checkpoint(previous, 0)
        if arm.base is not None:
            planned.append(_run(experiment, name, seed, experiment.task, 0, line(sizes.base, arm.base), drawn))
        for step in range(1, len(load_task(experiment.dataset, experiment.task))):
            if arm.replay and arm.best and (step > 1 or arm.web_replay):
                planned += _later_tree(experiment, name, seed, step)
                sources, after = _sources(experiment, seed, arm, f"{name}-{seed}-step{step}")
            own = line(options, sources, "--step_ckpt", checkpoint)
            waits = (previous, *after)
            if arm.again:
                planned.append(_run(experiment, f"{name}-first", seed, experiment.task, step, own, waits))
                planned += _relabelled(experiment, name, seed, step)
                own = line(own, "--web_masks", planned[-1].outputs["marker"].parent)
                waits = (*waits, planned[-1].name)
            planned.append(_run(experiment, name, seed, experiment.task, step, own, waits))
            previous, checkpoint = planned[-1].name, experiment.checkpoint(f"{name}-{seed}", step)
    return planned


def _epochs(size: Sequence[str], arm: Arm, dataset: str) -> tuple[str, ...]:
    """Options of a step's size, with the epochs that an arm makes of them."""
    words = list(size)

    def place(name: str) -> int:
        """Where the value of an option stands; its default is added where none does."""
        if f"--{name}" not in words:
            words.extend([f"--{name}", str(default_of(name, dataset))])
        return words.index(f"--{name}") + 1

    if arm.times > 1:
        for name in ("epochs", "pseudo_ep"):
            words[place(name)] = str(arm.times * int(words[place(name)]))
    if arm.unfreeze < 1:
        words += ["--unfreeze_ep", str(round(arm.unfreeze * int(words[place("epochs")])))]
    return tuple(words)


def _sources(experiment: Experiment, seed: int, arm: Arm, tree: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options that name the web images and the replay tree of an arm, and the stages that make
    them; ``tree`` is that of a later step.
    """
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
    needs = () if made else (source,)
    outputs = {"manifest": out}
    return [Stage("web-captions", command, made, needs, allowed=LEFT_OUT, kind="captions", outputs=outputs)]


def _selections(experiment: Experiment, seed: int, wanted_rules: set[str]) -> list[Stage]:
    """The manifests that are chosen for a seed, and the discriminator of its base step where one of
    them needs it.
    """
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
    selections = []
    if wanted_rules & {"discriminator", "captions"}:
        train = line("train_discriminator.py --step_ckpt", base, "--web_path", web, "--out", weights)
        made = _makers(experiment, web)
        selections.append(
            Stage(
                trained,
                line(train, f"--random_seed {seed}", sizes.discriminator),
                after=(f"{BASE}-{seed}", *made),
                needs=() if made else (web,),
                speed=sizes.speed,
                allowed=LEFT_OUT,
                kind="discriminator",
                seed=seed,
                outputs={"weights": weights},
            )
        )
    for rule, (options, after) in rules.items():
        if rule in wanted_rules:
            source, out = experiment.work / "web/captioned.csv", experiment.selected(rule, seed)
            selections.append(
                Stage(
                    f"select-{rule}-{seed}",
                    line("select_web.py --web_path", source, "--out", out, options),
                    after=("web-captions", *after),
                    speed=sizes.speed,
                    allowed=LEFT_OUT,
                    kind="select",
                    rule=rule,
                    seed=seed,
                    outputs={"manifest": out},
                )
            )
    return selections


def _filter(experiment: Experiment) -> list[Stage]:
    """Captions and nouns of the downloads, and those that stand for their originals."""
    given = experiment.rehearsal
    assert given is not None
    after = _makers(experiment, given.downloads)
    captions: list[Stage] = []
    if not _makers(experiment, given.captions):
        command = line("generate_caption.py", given.downloads, given.captions, experiment.sizes.captioner)
        needs, outputs = (given.downloads, given.class_words), {"captions": given.captions}
        captions = [Stage("replay-captions", command, after, needs, allowed=LEFT_OUT, kind="captions", outputs=outputs)]
        after = ("replay-captions",)
    nouns, kept = (experiment.work / "rehearsal" / name for name in ("nouns", "kept"))
    tagged = Stage(
        "replay-nouns",
        line("-m utils.measure_noun generate_NN --captions", given.captions, "--out", nouns),
        after,
        kind="nouns",
        inputs={"captions": given.captions},
        outputs={"nouns": nouns},
    )
    filtered = Stage(
        "replay-filter",
        line(
            "-m utils.measure_noun filter_replay_with_NN --nouns", nouns, "--classes", given.class_words, "--out", kept
        ),
        (tagged.name,),
        kind="filter",
        inputs={"class_words": given.class_words},
        outputs={"kept": kept},
    )
    return [*captions, tagged, filtered]


def _tree(experiment: Experiment, seed: int) -> list[Stage]:
    """The replay tree of a seed: what was kept, labelled by its base step."""
    base = f"{BASE}-{seed}"
    tree, checkpoint = str(seed), experiment.checkpoint(base, 0)
    return [*_filled(experiment, seed, tree), *_labelled(experiment, seed, tree, base, checkpoint)]


def _later_tree(experiment: Experiment, name: str, seed: int, step: int) -> list[Stage]:
    """The replay tree of a step of an arm that rehearses web images: that of all arms, and the web
    images of the steps between, or of all old classes (``Arm.web_replay``), labelled by the step
    before.
    """
    task = load_task(experiment.dataset, experiment.task)
    arm, tree = KNOWN[name], f"{name}-{seed}-step{step}"
    # The first of all seen classes is background.
    begin = 0 if arm.web_replay else len(task.seen(0)) - 1
    learned = experiment.classes[begin : len(task.seen(step - 1)) - 1]
    web = _web(experiment, arm, seed)
    add = line("-m utils.measure_noun move_web_images --mode hardlink --web_path", web, "--classes", learned)
    filled = _filled(experiment, seed, tree)
    before = name if step > 1 else BASE
    previous = f"{before}-{seed}" + (f"-step{step - 1}" if step > 1 else "")
    chosen = (f"select-{arm.web}-{seed}",) if step == 1 and arm.web != "raw" else ()
    more = Stage(
        f"replay-web-{tree}",
        line(add, "--out", experiment.work / f"replay-{tree}"),
        (filled[-1].name, previous, *chosen),
        allowed=LEFT_OUT,
        kind="web replay",
        seed=seed,
    )
    checkpoint = experiment.checkpoint(f"{before}-{seed}", step - 1)
    return [*filled, more, *_labelled(experiment, seed, tree, more.name, checkpoint)]


def _relabelled(experiment: Experiment, name: str, seed: int, step: int) -> list[Stage]:
    """The web images of a step as a tree, labelled by the first model that learned from them, where its localizer agrees."""
    tree = f"{name}-{seed}-step{step}"
    path, task = experiment.work / f"relabelled-{tree}", load_task(experiment.dataset, experiment.task)
    new = experiment.classes[len(task.seen(step - 1)) - 1 : len(task.seen(step)) - 1]
    web = _web(experiment, KNOWN[name], seed)
    move = line(
        "-m utils.measure_noun move_web_images --mode hardlink --web_path", web, "--classes", new, "--out", path
    )
    first = f"{name}-first"
    placed = Stage(
        f"relabel-tree-{tree}", move, (f"{first}-{seed}-step{step}",), allowed=LEFT_OUT, kind="web tree", seed=seed
    )
    checkpoint = experiment.checkpoint(f"{first}-{seed}", step)
    label = line("generate_label.py --ckpt", checkpoint, "--path", path, "--agree --flip --scales 0.75 1 1.25")
    return [placed, _labels(experiment, f"relabel-{tree}", label, (placed.name,), seed, path)]


def _labels(
    experiment: Experiment, name: str, command: tuple[str, ...], after: tuple[str, ...], seed: int, path: Path
) -> Stage:
    """The stage that labels the tree ``path`` by a command of generate_label.py."""
    return Stage(
        name,
        command,
        after,
        speed=experiment.sizes.speed,
        allowed=LEFT_OUT,
        ranks=True,
        kind="labels",
        seed=seed,
        outputs={"marker": path / "labels.json"},
    )


def _web(experiment: Experiment, arm: Arm, seed: int) -> Path:
    """The manifest of the web images that an arm learns from."""
    web = experiment.candidates if arm.web == "raw" else experiment.selected(str(arm.web), seed)
    assert web is not None
    return web


def _filled(experiment: Experiment, seed: int, tree: str) -> list[Stage]:
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
    return [
        Stage(
            f"replay-tree-{tree}",
            move,
            ("replay-filter",),
            allowed=LEFT_OUT,
            kind="replay",
            seed=seed,
            inputs={"downloads": given.downloads},
            outputs={"tree": path},
        )
    ]


def _labelled(experiment: Experiment, seed: int, tree: str, after: str, checkpoint: Path) -> list[Stage]:
    """Pseudo-labels by a checkpoint, and the train files, of a tree."""
    path = experiment.work / f"replay-{tree}"
    label = line("generate_label.py --ckpt", checkpoint, "--path", path)
    labelled = _labels(experiment, f"replay-labels-{tree}", label, (f"replay-tree-{tree}", after), seed, path)
    command = line("generate_train_file.py --path", path)
    listed = Stage(f"replay-list-{tree}", command, (labelled.name,), allowed=LEFT_OUT, kind="train files", seed=seed)
    return [labelled, listed]


def _compared(experiment: Experiment) -> tuple[str, ...]:
    """Options that name the arms and their baseline: WILSON, on raw web images if there are some."""
    arms = experiment.arms
    baseline = next((name for name in ("raw-web", "WILSON") if name in arms), arms[0])
    return line(f"--arms {BASE} {BASE_ALL}", arms, f"--baseline {baseline}")


def _table(experiment: Experiment, runs: tuple[str, ...]) -> Stage:
    """The table of all arms, in three forms."""
    files = {suffix: experiment.work / f"table.{suffix}" for suffix in ("md", "csv", "tex")}
    command = line("-m utils.table --logs", experiment.work / "logs", _compared(experiment), "--out", *files.values())
    return Stage("table", command, runs, kind="table", outputs=files)


def _report(experiment: Experiment) -> Stage:
    """The page that shows all of it, with the arms and the baseline of the table."""
    page = experiment.work / "report.html"
    command = line("-m experiments.report --work", experiment.work, _compared(experiment), "--out", page)
    return Stage("report", command, ("table",), allowed=LEFT_OUT, kind="report", outputs={"page": page})
