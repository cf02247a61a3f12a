"""Label the images of a replay tree by the frozen model of an earlier step.

    python generate_label.py --ckpt checkpoints/step/voc-15-5-ov/Base_0.pth --path data/replay [--flip --scales 0.75 1 1.25]

Writes TREE/<original>/label/<image>.png, palette PNGs in class ids of the data set (255: not sure), and TREE/labels.json, which says
whose they are: labels of other checkpoints or settings are never mixed in. Runs under torchrun and on Ray (--ray, docs/ray.md), too.
A run that was stopped goes on where it was. Exit code 0; 1 where images cannot be read and the rest went on; 2 for bad input.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spread.options import add_options, ray_options
from utils.checks import PRECISIONS
from utils.errors import UserError
from utils.script import GOES_ON, run

if TYPE_CHECKING:
    from argparser import Options
    from dataset.replay_tree import ReplayImage
    from spread.blocks import Worker

PUBLISHED = ("dataset", "task", "step", "backbone", "output_stride", "crop_size", "norm_act")


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="generate_label.py",
        description="Label the images of a replay tree by the frozen model of an earlier step.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--ckpt", type=Path, required=True, help="checkpoint of any task and step")
    add("--path", type=Path, required=True, help="replay tree: <original>/image/00001.jpg, or <original>/00001.jpg")
    add("--flip", action="store_true", help="average with what the model sees in the mirrored image")
    add("--scales", type=float, nargs="+", default=[1.0], help="average over these sizes, factors of the image's")
    add("--threshold", type=float, default=0.0, help="pixels whose class is less probable than this become 255")
    add("--agree", action="store_true", help="pixels of which the checkpoint's localizer sees another class become 255")
    add("--drop_without_words", type=Path, metavar="FILE",
        help="drop images whose label shows none of the classes that FILE names for their original, lines `ID.png word word`")  # fmt: skip
    add(
        "--max_side",
        type=int,
        default=1024,
        help="longer side of what the model looks at; labels keep the image's size",
    )
    add("--relabel", action="store_true", help="replace labels of another checkpoint or of other settings")
    add("--batch_size", type=int, default=8, help="images of equal size that are labelled at once")
    add("--num_workers", type=int, help="processes that decode, per rank; 0 decodes in this one [by device and cores]")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--precision", choices=PRECISIONS, default="fp32", help="arithmetic of the network; auto: the device's fastest")
    add("--local_rank", "--local-rank", type=int, help="set by torch.distributed.launch")
    add_options(parser)
    group = parser.add_argument_group(
        "published checkpoints, which do not say what they are (defaults of run.py for the data set)"
    )
    for option in PUBLISHED:
        group.add_argument(f"--{option}", help="as for run.py")
    return parser


def described(given: argparse.Namespace) -> Options | None:
    """What the command line says of a published checkpoint; None where it says nothing."""
    import argparser

    said = [part for o in PUBLISHED if getattr(given, o) is not None for part in (f"--{o}", getattr(given, o))]
    if not said:
        return None
    for option in ("dataset", "task", "step"):
        if getattr(given, option) is None:
            raise UserError(f"--{option} is missing: a published checkpoint needs --dataset, --task and --step")
    # The published models are trained with binary cross entropy.
    return argparser.parse([*said, "--test", "--ckpt", str(given.ckpt), "--bce"])


def main(given: argparse.Namespace) -> int:
    """Label and report; the exit code."""
    if not given.scales or min(given.scales) <= 0:
        raise UserError("--scales: numbers above 0 are needed")
    if not 0 <= given.threshold < 1:
        raise UserError(f"--threshold {given.threshold}: a number from 0 to below 1 is needed")
    if given.batch_size < 1 or given.max_side < 1 or (given.num_workers or 0) < 0:
        raise UserError("--batch_size and --max_side need at least 1, --num_workers at least 0")
    ray = ray_options(given)
    # Imported here, so that --help answers at once.
    from dataset.files import shown
    from dataset.replay_tree import claimed_tree, originals, sign
    from engine.labelling import Labeller, LabelSettings, LabelWork, label_tree, label_worker, wanted_ids, words_digest
    from spread.ways import make_way, start_runtime
    from utils import distributed

    originals(given.path)
    options = described(given)
    runtime = start_runtime(given.device, given.precision, ray, given.local_rank or 0)
    try:
        way = make_way(runtime, given.num_workers, ray)
        words = given.drop_without_words
        digest = None if words is None else words_digest(words)
        settings = LabelSettings(
            given.flip, tuple(given.scales), given.threshold, given.max_side, runtime.precision, digest, given.agree
        )
        # Made here also where others label: what is wrong with it is known before any of them starts.
        labeller = Labeller(given.ckpt, settings, runtime, options)
        marker = labeller.marker
        wanted = {} if words is None else wanted_ids(words, marker.classes)
        elsewhere = LabelWork(given.ckpt, settings, options, wanted, given.device)
        make: Callable[[], Worker[ReplayImage]] = elsewhere if ray else partial(label_worker, labeller, wanted)
        del labeller
        with ExitStack() as stack:

            def begin() -> None:
                stack.enter_context(claimed_tree(given.path))
                sign(given.path, marker, relabel=given.relabel)

            runtime.on_main(begin)
            done = label_tree(
                given.path, marker, way, make,
                wanted=wanted, batch_size=given.batch_size, block_size=given.block_size,
            )  # fmt: skip
    finally:
        distributed.stop()
    if not runtime.main:
        return 0
    print(
        f"{done.images} images: {done.labelled} labelled, {done.dropped} dropped, {done.before} were done before, "
        f"{len(done.faults)} unreadable; by {marker.origin}"
    )
    if done.faults:
        print(f"generate_label.py: {len(done.faults)} images left out: {shown(done.faults)}", file=sys.stderr)
    return 1 if done.faults else 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "generate_label.py", stopped=GOES_ON, level=logging.INFO))
