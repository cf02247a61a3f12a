"""The web half of the method judged on truth: discriminator, selection, and training on it.

    python -m experiments animals --data DIR --arms WILSON raw-web discriminator --jobs 2
    python -m benchmarks.web [--work work/animals-4-2] [--jobs 2] [--out benchmarks/results/web.md]

The first command makes the base steps, the candidates with known noise and their captions, the
discriminators, and two of the three rows of training. The second one adds discriminators on pixels,
more selections, and training on one of them, in the folder ``web-benchmark`` of the same work
folder; what is done is not run again.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.animals import of_step, score_values
from benchmarks.pages import finish, make_parser, spread, write_page
from experiments import animals
from experiments.animals import ITERATIONS, NEW, OLD
from experiments.arms import BASE
from experiments.history import read_history
from experiments.plan import LEFT_OUT, Experiment
from experiments.runner import Runner, make_slots
from experiments.stage import Stage, line
from results.rows import read_runs, read_table
from results.table import markdown_table
from results.tables import make_tables
from tasks import label_column
from utils.cores import share
from utils.errors import UserError
from utils.manifest import is_kept

TASK, STEP = "4-2", 1
# Arm of the experiment, or our own -> what the page calls it.
SELECTED = "selected"
TRAINED = {
    "raw-web": "web images as they came",
    SELECTED: "web images selected",
    "WILSON": "photographs of the data set (WILSON)",
}
MAKE = "python -m experiments animals --data DIR --arms WILSON raw-web discriminator"
SOURCES = ("amplitude", "pixels")
UNFILTERED = "no filter"


@dataclass(frozen=True)
class Choices:
    """What is compared, and how often.

    Attributes:
        seeds: of training.
        discriminator_seeds: of the discriminators; the first one selects.
        ratio: a gentler threshold than the paper's 1.
        keep: the best so many of each class.
        train_on: the selection that step 1 is trained on.
    """

    seeds: tuple[int, ...]
    discriminator_seeds: tuple[int, ...]
    ratio: float
    keep: int
    train_on: str


@dataclass(frozen=True)
class Selection:
    """One way to select from the candidates.

    Attributes:
        folder: where its manifest lies, in the benchmark's folder.
        source: what its discriminator sees, of ``SOURCES``; None where captions alone decide.
        options: of select_web.py, beside the discriminator.
    """

    folder: str
    source: str | None
    options: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """A selection against the truth, each a share in [0, 1].

    Attributes:
        precision: right ones of the kept; NaN where none is kept.
        recall: kept ones of the right.
        kept: kept ones of all candidates.
    """

    precision: float
    recall: float
    kept: float


@dataclass(frozen=True)
class Measurement:
    """All that the page shows.

    Attributes:
        transfer: source -> scores of each discriminator seed, as ``transfer`` gives them.
        selections: name -> its judgement.
        ratios: what the images show -> quartiles of log10(p_ds / p_web).
        training: what was trained on -> score -> a value in [0, 1] for each seed.
        commands: command lines of the first seed.
    """

    transfer: Mapping[str, Sequence[Mapping[str, float]]]
    selections: Mapping[str, Judgement]
    ratios: Mapping[str, Sequence[float]]
    training: Mapping[str, Mapping[str, Sequence[float]]]
    commands: Sequence[str]


# ---- what is run ----


def own_folder(experiment: Experiment) -> Path:
    """Where the benchmark keeps what it makes: its stages are none of the experiment's."""
    return experiment.work / "web-benchmark"


def read_experiment(work: Path, seeds: Sequence[int]) -> Experiment:
    """The description of the experiment that was run in a work folder.

    Raises:
        UserError: it has no base step.
    """
    run = next(iter(read_history(work).of(BASE, 0)), None)
    if run is None:
        raise UserError(f"--work {work}: no base step has ended there; {MAKE} makes it")
    data = Path(run.options["dataset_dir"]).parent
    return animals.describe(argparse.Namespace(work=work, data=data, task=TASK, seeds=list(seeds), arms=["WILSON"]))


def captioned(experiment: Experiment) -> Path:
    """The manifest of all candidates, with captions."""
    return experiment.work / "web" / "captioned.csv"


def weights(experiment: Experiment, source: str, seed: int) -> Path:
    """A discriminator: the experiment's own where it sees amplitudes."""
    # Imported here, so that --help answers at once.
    from web.discriminator import discriminator_path

    if source == "amplitude":
        return discriminator_path(experiment.checkpoint(f"{BASE}-{seed}", 0))
    return own_folder(experiment) / f"{source}-{seed}.pth"


def check_given(experiment: Experiment, choices: Choices) -> None:
    """Look for what the experiment makes.

    Raises:
        UserError: something is not there.
    """
    seeds = dict.fromkeys([*choices.seeds, *choices.discriminator_seeds])
    files = [experiment.checkpoint(f"{BASE}-{seed}", 0) for seed in seeds]
    files += [captioned(experiment), *(weights(experiment, "amplitude", seed) for seed in choices.discriminator_seeds)]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: is missing; {MAKE} --seeds {' '.join(map(str, seeds))} makes it")


def selections(experiment: Experiment, choices: Choices) -> dict[str, Selection]:
    """Name -> each way to select."""
    captions = line("--web_labels caption --classes", experiment.classes)
    ratio, keep = line(f"--ratio {choices.ratio}"), line(f"--keep {choices.keep}")
    return {
        "discriminator, ratio > 1": Selection("ratio-1", "amplitude", ()),
        f"discriminator, ratio > {choices.ratio}": Selection("ratio", "amplitude", ratio),
        f"discriminator, best {choices.keep}": Selection("best", "amplitude", keep),
        "captions": Selection("captions", None, captions),
        "captions and discriminator, ratio > 1": Selection("captions-ratio-1", "amplitude", captions),
        f"captions and discriminator, ratio > {choices.ratio}": Selection(
            "captions-ratio", "amplitude", line(captions, ratio)
        ),
        f"captions and pixel discriminator, ratio > {choices.ratio}": Selection(
            "captions-pixels", "pixels", line(captions, ratio)
        ),
    }


def manifests(experiment: Experiment, choices: Choices) -> dict[str, Path]:
    """Name -> manifest of every selection, the candidates as they came first."""
    folder = own_folder(experiment)
    paths = {name: folder / one.folder / "selected.csv" for name, one in selections(experiment, choices).items()}
    return {UNFILTERED: captioned(experiment)} | paths


def describe(experiment: Experiment, choices: Choices) -> list[Stage]:
    """The stages that the experiment has not.

    Raises:
        UserError: there is no selection of the name to train on.
    """
    ways, paths = selections(experiment, choices), manifests(experiment, choices)
    if choices.train_on not in ways:
        raise UserError(f"--train_on {choices.train_on!r}: no such selection; choose from {'; '.join(ways)}")
    stages = [_discriminator(experiment, seed) for seed in choices.discriminator_seeds]
    first = choices.discriminator_seeds[0]
    for name, way in ways.items():
        by = [weights(experiment, way.source, first)] if way.source else []
        options = line("--discriminator", by[0], way.options) if by else way.options
        given = way.source == "amplitude"
        stages.append(
            Stage(
                f"select-{way.folder}",
                line("select_web.py --web_path", captioned(experiment), "--out", paths[name], options),
                after=(f"pixels-{first}",) if way.source == "pixels" else (),
                needs=(captioned(experiment), *(by if given else ())),
                makes=(paths[name],),
                speed=experiment.sizes.speed,
                allowed=LEFT_OUT,
            )
        )
    chosen = ways[choices.train_on]
    return [
        *stages,
        *(_training(experiment, seed, paths[choices.train_on], f"select-{chosen.folder}") for seed in choices.seeds),
    ]


def _discriminator(experiment: Experiment, seed: int) -> Stage:
    """A discriminator on pixels, else trained as the experiment trains its own."""
    base, out = experiment.checkpoint(f"{BASE}-{seed}", 0), weights(experiment, "pixels", seed)
    web = experiment.web
    assert web is not None
    command = line("train_discriminator.py --step_ckpt", base, "--web_path", web, "--out", out)
    return Stage(
        f"pixels-{seed}",
        line(command, f"--random_seed {seed} --source pixels", experiment.sizes.discriminator),
        needs=(base, web),
        makes=(out,),
        speed=experiment.sizes.speed,
        allowed=LEFT_OUT,
    )


def _training(experiment: Experiment, seed: int, manifest: Path, after: str) -> Stage:
    """WILSON's step on selected web images, at as many iterations as on the data set's own."""
    sizes, base, own = experiment.sizes, experiment.checkpoint(f"{BASE}-{seed}", 0), own_folder(experiment)
    name = f"{SELECTED}-{seed}"
    command = line(
        f"run.py --name {name} --random_seed {seed} --dataset {experiment.dataset} --task {experiment.task} "
        f"--step {STEP} --protocol {experiment.protocol}", sizes.weak, sizes.step, "--web --web_path", manifest,
        "--step_ckpt", base, sizes.common, experiment.folder, experiment.data,
        "--logdir", own / "logs", "--checkpoints", own / "checkpoints", "--resume auto",
    )  # fmt: skip
    made = replace(experiment, work=own).checkpoint(name, STEP)
    return Stage(name, command, (after,), (base, *experiment.inputs), (made,), sizes.speed, ranks=True)


# ---- what is measured ----


def transfer(file: Path, web: Path, photographs: Path) -> dict[str, float]:
    """Scores of a discriminator on held-out images of seen classes, and on classes never seen.

    Args:
        file: the discriminator.
        web: one folder of web images a class.
        photographs: data set in VOC layout.
    """
    # Imported here, so that --help answers at once.
    from dataset import make_source
    from utils import distributed
    from utils.manifest import open_manifest
    from web.discriminator import load
    from web.examples import Example, web_examples
    from web.quality import binary_quality, probabilities

    runtime = distributed.start("cpu")
    saved = load(file, runtime)
    negatives, _ = web_examples(open_manifest(web), NEW)
    positives = []
    for split in ("train", "val"):
        data = make_source("voc", photographs, split)
        labels = data.image_labels()
        column = {name: label_column(class_id) for class_id, name in data.class_names.items()}
        base = [column[name] for name in (*OLD, "person")]
        new = [column[name] for name in NEW]
        # What step 0 was trained on holds a base class: these images hold none.
        chosen = np.flatnonzero(labels[:, new].any(axis=1) & ~labels[:, base].any(axis=1))
        positives += [Example(data.image_path(int(i)), "cow or sheep", True) for i in chosen]
    examples = [*positives, *negatives]
    unseen = binary_quality(probabilities(saved.discriminator, examples, runtime, 0), examples)
    return {
        f"{word} {name}": value
        for word, scores in (("seen", saved.scores), ("unseen", unseen))
        for name, value in (
            ("accuracy", scores.accuracy),
            ("AUC", scores.auc),
            ("calibration error", scores.calibration_error),
        )
    }


def judge(manifest: Path) -> Judgement:
    """A selection against the truth: right is an image that shows its class and is no drawing."""
    _, rows = read_table(manifest)
    kept = np.array([is_kept(row) for row in rows])
    right = np.array([row["true_class"] == row["class"] and row["domain"] == "photo" for row in rows])
    both = (kept & right).sum()
    precision = float(both / kept.sum()) if kept.any() else float("nan")
    return Judgement(precision, float(both / right.sum()), float(kept.mean()))


def ratio_quartiles(manifest: Path) -> dict[str, tuple[float, ...]]:
    """Quartiles of log10(p_ds / p_web) of what is right, what is wrong and what is drawn."""
    rows = [row for row in read_table(manifest)[1] if row["ratio"]]
    ratios = np.log10([float(row["ratio"]) for row in rows])
    drawn = np.array([row["domain"] == "drawing" for row in rows])
    right = np.array([row["true_class"] == row["class"] for row in rows]) & ~drawn
    return {
        name: tuple(np.quantile(ratios[chosen], (0.25, 0.5, 0.75)).tolist())
        for name, chosen in (("right photographs", right), ("other photographs", ~right & ~drawn), ("drawings", drawn))
    }


def measure_training(experiment: Experiment, seeds: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """What was trained on -> score -> a value in [0, 1] for each seed.

    Raises:
        UserError: a run is missing.
    """
    tables = make_tables(read_runs([experiment.work / "logs", own_folder(experiment) / "logs"]))
    runs = of_step(tables, STEP, list(TRAINED), MAKE)
    for arm, by_seed in runs.items():
        for seed in seeds:
            if seed not in by_seed:
                raise UserError(f"--work {experiment.work}: {arm} has no seed {seed}; {MAKE} --seeds {seed} makes it")
    return {TRAINED[arm]: score_values(by_seed, seeds) for arm, by_seed in runs.items()}


def measure(experiment: Experiment, choices: Choices) -> Measurement:
    """Everything, once the stages are done."""
    web, paths = experiment.web, manifests(experiment, choices)
    assert web is not None
    return Measurement(
        transfer={
            source: [
                transfer(weights(experiment, source, seed), web, experiment.data)
                for seed in choices.discriminator_seeds
            ]
            for source in SOURCES
        },
        selections={name: judge(path) for name, path in paths.items()},
        ratios=ratio_quartiles(paths["discriminator, ratio > 1"]),
        training=measure_training(experiment, choices.seeds),
        commands=shown_commands(experiment, choices),
    )


def shown_commands(experiment: Experiment, choices: Choices) -> list[str]:
    """Command lines of the first seeds; DIR is the folder of data, WORK the work folder."""
    first = replace(choices, seeds=choices.seeds[:1], discriminator_seeds=choices.discriminator_seeds[:1])
    own = [shlex.join(["python", *stage.command, *stage.speed]) for stage in describe(experiment, first)]
    places = (str(experiment.work), "WORK"), (str(experiment.data.parent), "DIR")
    for place, word in places:
        own = [command.replace(place, word) for command in own]
    return [MAKE, *own]


# ---- the page ----


def page(measurement: Measurement, choices: Choices) -> str:
    """The results page."""
    # Imported here, so that --help answers at once.
    from experiments.imitation.noise import DRAWN, WRONG

    def listed(seeds: Sequence[int]) -> str:
        return ", ".join(map(str, seeds))

    keys = list(next(iter(measurement.transfer.values()))[0])
    moved = [
        [source, *(spread([scores[key] for scores in runs], 1, 3) for key in keys)]
        for source, runs in measurement.transfer.items()
    ]
    lost = {
        source: statistics.fmean(scores["seen AUC"] - scores["unseen AUC"] for scores in runs)
        for source, runs in measurement.transfer.items()
    }
    judged = [
        [name, *(f"{value:.3f}" for value in (one.precision, one.recall, one.kept))]
        for name, one in measurement.selections.items()
    ]
    ratios = [[name, *(f"{value:.2f}" for value in quartiles)] for name, quartiles in measurement.ratios.items()]
    trained = [[label, *map(spread, scores.values())] for label, scores in measurement.training.items()]
    lines = [
        "# Web images: the discriminator, the selection, and training on what it chose",
        "",
        f"Written by `python -m benchmarks.web`; mean ± standard deviation over seeds "
        f"{listed(choices.discriminator_seeds)} (discriminators) and {listed(choices.seeds)} (training).",
        "",
        "## Does the amplitude spectrum transfer to classes never seen?",
        "",
        "Trained on photographs of step 0 against web images of cat, dog and horse; the same network on pixels beside "
        "it. Unseen: photographs with cow or sheep and no base class against web images of cow and sheep.",
        "",
        *markdown_table(["input", *keys], moved),
        "",
        f"From seen to unseen classes the area under the curve falls by {lost['amplitude']:.3f} on amplitude spectra "
        f"and by {lost['pixels']:.3f} on pixels (negative: it rises).",
        "",
        "## Selection from noisy candidates",
        "",
        f"Candidates for cow and sheep: {1 - WRONG - DRAWN:.0%} right, {WRONG:.0%} of another class, {DRAWN:.0%} "
        "drawings. Right is an image that shows its class and is no drawing. Captions are an ImageNet classifier's "
        "tags (`captions/captioners/tags.py`).",
        "",
        *markdown_table(["selection", "precision", "recall", "kept"], judged),
        "",
        *markdown_table(["log10(p_ds / p_web) of", "quarter below", "median", "quarter above"], ratios),
        "",
        f"## Step 1 of 4-2 on web images alone ({choices.train_on}; {ITERATIONS[TASK]} iterations an epoch in every "
        "line)",
        "",
        *markdown_table(["trained on", "old mIoU", "new mIoU", "all mIoU", "harmonic"], trained),
        "",
        "Command lines (first seed; DIR is the folder of data, WORK the work folder):",
        "",
        "```",
        *measurement.commands,
        "```",
    ]
    return "\n".join(lines)


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("web", __doc__)
    add = parser.add_argument
    add("--work", type=Path, default=Path("work/animals-4-2"), help="work folder of experiments [work/animals-4-2]")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training [0 1 2]")
    add("--discriminator_seeds", type=int, nargs="+", default=[0, 1], help="the first one selects [0 1]")
    add("--jobs", type=int, default=1, help="commands that run side by side [1]")
    add("--ratio", type=float, default=0.01, help="a gentler threshold than the paper's [0.01]")
    add("--keep", type=int, default=150, help="best so many of each class [150]")
    add("--train_on", default="", help="selection to train on [captions and discriminator at --ratio]")
    add("--dry_run", action="store_true", help="print the commands that would run, and run none")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then print and write the page; the exit code."""
    given = get_argparser().parse_args(arguments)
    if given.jobs < 1:
        raise UserError(f"--jobs {given.jobs}: a number of at least 1 is needed")
    choices = Choices(
        tuple(given.seeds),
        tuple(given.discriminator_seeds),
        given.ratio,
        given.keep,
        given.train_on or f"captions and discriminator, ratio > {given.ratio}",
    )
    experiment = read_experiment(given.work.resolve(), given.seeds)
    slots = make_slots([], 1, given.jobs, share())
    runner = Runner(describe(experiment, choices), own_folder(experiment), slots)
    if given.dry_run:
        return runner.dry_run()
    check_given(experiment, choices)
    code = runner.run()
    if code == 0:
        print(write_page(given.out, page(measure(experiment, choices), choices)))
    return code


if __name__ == "__main__":
    finish("web", main)
