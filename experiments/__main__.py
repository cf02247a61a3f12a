"""Run an experiment, or go on with it:

    python -m experiments demo
    python -m experiments animals --data DIR --jobs 2
    python -m experiments voc 15-5 --overlap --web data/web --arms WILSON raw-web discriminator
    python -m experiments coco --dry_run

Every command is printed before it runs. What is done is not run again; what was stopped goes on.
All is in --work, what PAGES names last. --dry_run prints the command of every stage, with
``# NAME: done`` above those that are done.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from experiments import adopt, animals, demo, paper
from experiments.arms import ABLATIONS, ARMS, BASELINES, JOINT
from experiments.plan import Experiment, stages
from experiments.runner import Runner, make_slots
from experiments.stage import Stage
from utils.cores import share
from utils.errors import UserError
from utils.script import run

# What a researcher looks at in the end, in the work folder.
PAGES = ("table.md", "report.html")
# Arms of experiments/arms.py, or stages of its own.
Describe = Callable[[argparse.Namespace], Experiment | list[Stage]]
# Name -> its options, its description, and one line of help.
EXPERIMENTS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Describe, str]] = {
    "demo": (demo.add_options, demo.describe, "the whole chain on drawn pictures, in minutes on a CPU"),
    "animals": (animals.add_options, animals.describe, "real photographs of animals, at the size of a CPU"),
    "adopt": (adopt.add_options, adopt.describe, "segmenters of other libraries learn classes, in hours on a CPU"),
    "voc": (paper.add_voc_options, paper.describe_voc, "PASCAL VOC at the paper's scale"),
    "coco": (paper.add_coco_options, paper.describe_coco, "COCO to VOC at the paper's scale"),
}


def _add_running(parser: argparse.ArgumentParser) -> None:
    """Options of every experiment."""
    add = parser.add_argument
    add(
        "--work", type=Path, help="folder of all that is made [demo, or work/<experiment>-<task>, with -ov for overlap]"
    )
    add("--seeds", type=int, nargs="+", help="random seeds [animals and adopt 0 1 2, else 42]")
    add(
        "--arms",
        nargs="+",
        metavar="ARM",
        help=f"of {', '.join([*ARMS, JOINT])} [all that there is data for]; or of {', '.join([*ABLATIONS, *BASELINES])}; adopt: of "
        f"{', '.join(adopt.ARMS)}",
    )
    add(
        "--options",
        default="",
        metavar="TEXT",
        help="more options of every run.py line, in one text: --options='--precision bf16'",
    )
    add("--jobs", type=int, help="commands that run side by side [as many as the GPUs allow; 1 on the CPU]")
    add("--gpus", type=int, default=1, help="GPUs of one run.py, whose batch they share [1]")
    add("--cpu", action="store_true", help="leave the GPUs alone")
    add(
        "--dry_run",
        action="store_true",
        help="run nothing, print every command for as many GPUs as --gpus says, `# NAME: done` above what is done",
    )


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="experiments",
        description="Run an experiment, or go on with it: every command that makes its table.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    for name, (add_options, _, text) in EXPERIMENTS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        _add_running(command)
        add_options(command)
    return parser


def make_runner(given: argparse.Namespace, gpus: Sequence[str]) -> Runner:
    """The stages of an experiment and where they run: a dry run has the GPUs that it asks for.

    Args:
        given: the command line.
        gpus: GPUs of this machine, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        UserError: data is missing, or options contradict each other.
    """
    for option in ("jobs", "gpus"):
        if getattr(given, option) is not None and getattr(given, option) < 1:
            raise UserError(f"--{option} {getattr(given, option)}: a number of at least 1 is needed")
    if len(set(given.seeds)) != len(given.seeds) or min(given.seeds) < 0:
        raise UserError(f"--seeds {' '.join(map(str, given.seeds))}: different whole numbers of at least 0 are needed")
    if given.cpu and given.gpus > 1:
        raise UserError(f"--gpus {given.gpus} contradicts --cpu: choose one")
    suffix = "-ov" if getattr(given, "overlap", False) else ""
    given.work = (given.work or Path(f"work/{given.experiment}-{given.task}{suffix}")).resolve()
    planned = EXPERIMENTS[given.experiment][1](given)
    try:
        more = tuple(shlex.split(given.options))
    except ValueError as error:
        raise UserError(f"--options {given.options!r}: {error}") from None
    if isinstance(planned, Experiment):
        sizes = replace(planned.sizes, common=(*planned.sizes.common, *more))
        planned = stages(replace(planned, sizes=sizes))
    elif more:
        raise UserError(f"--options: the experiment {given.experiment} takes none")
    if given.dry_run and given.gpus > max(1, len(gpus)):
        # A plan for another machine, whose GPUs have the first numbers.
        gpus = [str(number) for number in range(given.gpus)]
    slots = make_slots(gpus, given.gpus, given.jobs, share())
    return Runner(planned, given.work, slots)


def main(given: argparse.Namespace) -> int:
    """Run or print; the exit code: that of the first failure, 128 + n where signal n stopped it.

    Raises:
        UserError: missing data, options that contradict each other, a work folder of no use.
    """
    gpus: list[str] = []
    if not given.cpu:
        # Imported here, so that --help answers at once.
        from utils.distributed import visible_gpus

        gpus = visible_gpus()
    runner = make_runner(given, gpus)
    if given.dry_run:
        return runner.dry_run()
    code = runner.run()
    if code == 0:
        made = [given.work / name for name in PAGES if (given.work / name).exists()]
        print(made[0].read_text(encoding="utf-8"))
        print(f"look at {' and '.join(map(str, made))}")
    return code


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "experiments"))
