"""Add classes to a segmenter from images that say no more than the class they show.

    python add_class.py --model MODEL --images DIR --old_images DIR2 --out OUT [--classes cow sheep] [--val VAL] [--minutes 20]

DIR holds one folder of images a class; DIR2 any images in which the model's old classes occur: what is not rehearsed is forgotten.
Every command is printed before it runs. OUT becomes a released folder that says what was lost and won (report.html); OUT/work holds all
that was made on the way, so that the same command goes on where it was stopped. Exit code 0; that of the first command that failed;
2 for bad input; 130 where Ctrl-C stopped it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from modules.adopted.settings import add_model_options
from utils.checks import PRECISIONS
from utils.errors import shown_text
from utils.script import GOES_ON, run


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="add_class.py",
        description="Add classes to a segmenter from images that say no more than the class they show.",
        allow_abbrev=False,
    )
    add_model_options(parser)
    images = parser.add_argument_group("images").add_argument
    images(
        "--images", type=Path, metavar="DIR", help="one folder of images a class, images of one class, or a manifest"
    )
    images("--classes", nargs="+", default=[], help="names of the new classes [all that --images names]")
    images("--old_images", type=Path, metavar="DIR", help="any images in which old classes occur, unlabelled")
    images("--forget", action="store_true", help="go on without images of old classes")
    images("--val", type=Path, metavar="DIR", help="images/, masks/ and classes.txt of any of the classes, to test on")
    images("--hold_back", type=float, default=0.1, help="share of the old images that is only looked at [0.1]")
    images("--most_old", type=int, default=2000, help="old images in all [2000]")
    web = parser.add_argument_group("from the web").add_argument
    web(
        "--collect",
        action="append",
        metavar="SOURCE",
        help="where images are collected that are not given: openverse, commons ... as collect_web.py's --source",
    )
    web("--per_class", type=int, default=200, help="images of each new class [200]")
    web("--contact", default="", help="mail address or page, told to the sites")
    captions = parser.add_argument_group("captions, by which images are selected").add_argument
    captions("--captioner", choices=("tags", "transformers", "none"), default="tags",
        help="who says what an image shows, where it has no caption; none: its folder [tags]")  # fmt: skip
    captions("--caption_model", metavar="NAME", help="of generate_caption.py: --model")
    sizes = parser.add_argument_group("sizes, else chosen from the machine and the images").add_argument
    sizes("--crop_size", type=int, help="side of the training crops, pixels")
    sizes("--batch_size", type=int, help="images of a batch, half of them rehearsed")
    sizes("--steps", type=int, help="iterations of the training")
    sizes("--minutes", type=float, help="of training, at most: seconds an iteration are measured first")
    sizes("--lr", type=float, help="learning rate of the body; the head's is 40 times as high [0.001]")
    sizes("--num_workers", type=int, help="processes that load images")
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="OUT", help="folder to release the model in")
    add("--random_seed", type=int, default=0, help="seed of everything random [0]")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps [auto]")
    add(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="arithmetic of the training; auto: the device's fastest [fp32]",
    )
    add("--dry_run", action="store_true", help="run nothing, print every command")
    return parser


def main(given: argparse.Namespace) -> int:
    """Plan, run and report; the exit code."""
    # Imported here, so that --help answers at once.
    from adding.plan import stages, write_taught
    from adding.request import resolve, slot, timed, told
    from experiments.runner import Runner
    from utils import distributed

    runtime = distributed.start(given.device, given.precision)
    adding = resolve(given, runtime)
    print(f"New: {shown_text(', '.join(adding.new))}; old: {shown_text(', '.join(adding.known.old))}", flush=True)
    print(told(adding, runtime), flush=True)
    slots = [slot(runtime, distributed.visible_gpus())]
    runner = Runner(stages(adding), adding.work, slots, "add_class.py")
    if given.dry_run:
        if adding.trial:
            print("# the training follows from the trial, which measures seconds an iteration", flush=True)
        return runner.dry_run()
    code = runner.run()
    if code == 0 and adding.trial:
        sizes, seconds = timed(adding, given.minutes)
        print(f"{seconds:.2f} s an iteration: {sizes.steps} iterations in --minutes {given.minutes:g}", flush=True)
        adding = replace(adding, sizes=sizes, trial=False)
        code = Runner(stages(adding), adding.work, slots, "add_class.py").run()
    if code == 0:
        write_taught(adding)
        print(
            f"{given.out} knows {shown_text(', '.join((*adding.known.old, *adding.new)))}; look at {given.out / 'report.html'}"
        )
    return code


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "add_class.py", stopped=GOES_ON, level=logging.INFO))
