"""Train the domain discriminator of a step-0 checkpoint: its training images against web images of its classes.

    python train_discriminator.py --step_ckpt checkpoints/step/voc-15-5-ov/Base_0.pth --web_path data/web

The result lies beside the checkpoint, as NAME_0_discriminator.pth; select_web.py uses it. The pass over all images that its features'
mean and deviation are taken from is spread over the ranks of torchrun, or on Ray (--ray, docs/ray.md); one process learns.

Exit code 0; 1 where it is at chance or a
class has no web image; 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from functools import partial
from pathlib import Path

from modules.inputs import INPUTS, input_name
from spread.options import add_options, ray_options
from utils.checks import UNSCALED_PRECISIONS
from utils.errors import UserError, shown_text
from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_discriminator.py",
        description="Train the Fourier-based domain discriminator of a step-0 checkpoint.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--step_ckpt", type=Path, required=True, help="checkpoint of step 0; it says which images it was trained on")
    add("--web_path", type=Path, required=True, help="manifest, or folder of one folder a class, of web images")
    add("--out", type=Path, help="file to write [beside the checkpoint: NAME_0_discriminator.pth]")
    add("--data_root", help="folder of the data sets, where it is not the one the checkpoint was trained with")
    add("--dataset_dir", help="the data set's own folder, likewise")
    add("--network", default="efficientnet_b0", help="timm's name of the classifier")
    add("--pretrained", default="none", help="its initial weights: imagenet, none or a file")
    add(
        "--input", "--source",
        type=input_name,
        choices=tuple(INPUTS),
        default="spectrum",
        help="what is looked at: amplitude spectrum, its radial bands, pixels, or the segmenter's features; "
        "bands and encoder have a small classifier of their own",
    )  # fmt: skip
    add(
        "--features",
        choices=("image", "encoder"),
        default="image",
        help="spectrum, bands or pixels of the image, or of the segmenter's features; --input encoder needs no word",
    )
    add("--amplitude", choices=("log", "raw"), default="log", help="log(1 + |F|) or |F|")
    add("--band", choices=("all", "low", "high"), default="all", help="frequencies that count, of the spectrum")
    add("--size", type=int, default=224, help="side of the images, pixels")
    add("--epochs", type=int, default=10, help="passes over the images")
    add("--batch_size", type=int, default=32, help="images of an iteration")
    add("--lr", type=float, default=1e-3, help="highest learning rate (AdamW, one cycle)")
    add("--weight_decay", type=float, default=1e-2, help="weight decay")
    add("--random_seed", type=int, default=42, help="seed of everything random")
    add("--num_workers", type=int, help="processes that decode; 0 decodes in this one [by device and cores]")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add(
        "--precision",
        choices=UNSCALED_PRECISIONS,
        default="fp32",
        help="arithmetic of the network; auto: the device's fastest; the spectrum is always fp32",
    )
    add_options(parser)
    return parser


def main(given: argparse.Namespace) -> int:
    """Train, test, save, report; the exit code."""
    ray = ray_options(given)
    # Imported here, so that --help answers at once.
    from modules.discriminator import Preprocessing
    from spread.blocks import Store
    from spread.ways import make_way, start_runtime
    from utils import distributed
    from utils.cores import split
    from utils.manifest import open_manifest
    from web.candidate import shown
    from web.discriminator import body_digest, discriminator_path, make, read_step_checkpoint
    from web.examples import count_by_class, dataset_examples, web_examples
    from web.fitting import MomentsWork, Recipe, Statistics, moments_worker, train
    from web.quality import at_chance, report

    for option in ("epochs", "batch_size", "lr"):
        if getattr(given, option) <= 0:
            raise UserError(f"--{option} {getattr(given, option)}: a number above 0 is needed")
    if given.band != "all" and given.input != "spectrum":
        raise UserError(f"--band {given.band}: is of --input spectrum, not of {given.input}; leave it out")
    if (given.num_workers or 0) < 0:
        raise UserError(f"--num_workers {given.num_workers}: a number of at least 0 is needed")
    features = "encoder" if given.input == "encoder" else given.features
    preprocessing = Preprocessing(given.network, given.input, features, given.amplitude, given.band, given.size)
    recipe = Recipe(given.epochs, given.batch_size, given.lr, given.weight_decay, given.pretrained, given.random_seed)
    # One process learns, wherever others look at the images.
    runtime = start_runtime(given.device, given.precision, None)
    try:
        way = make_way(runtime, given.num_workers, ray)
        state = read_step_checkpoint(given.step_ckpt)
        base = state["class_names"][1:]
        positives = dataset_examples(state, given.data_root, given.dataset_dir)
        negatives, others = web_examples(open_manifest(given.web_path), base)
        counts = count_by_class(negatives)
        without = [name for name in base if name not in counts]
        if runtime.main:
            if others:
                print(f"Left out, no classes of step 0: {shown(others)}")
            for name in without:
                print(
                    f"train_discriminator.py: {given.web_path} has no web image of {shown_text(name)}; going on without",
                    file=sys.stderr,
                )
        path = given.out or discriminator_path(given.step_ckpt)
        discriminator = make(preprocessing, state, recipe.seed)
        here = partial(moments_worker, discriminator, runtime)
        elsewhere = MomentsWork(preprocessing, given.step_ckpt, given.device)
        store = Store(path.with_name(path.name + ".blocks"), json.dumps([preprocessing.plain(), body_digest(state)]))
        statistics = Statistics(way, elsewhere if ray else here, store, given.block_size)
        workers = split(runtime.device.type, given.num_workers, alone=True).workers
        saved = train(discriminator, [*positives, *negatives], recipe, runtime, workers, path, state, statistics)
    finally:
        distributed.stop()
    if saved is None:
        return 0
    print(*map(shown_text, report(saved).splitlines()), sep="\n")
    print(f"Written to {path}")
    if at_chance(saved.scores):
        print(
            f"train_discriminator.py: area under the curve {saved.scores.auc:.2f} is hardly better than chance; "
            "select_web.py will refuse to filter with it",
            file=sys.stderr,
        )
        return 1
    return 1 if without else 0


if __name__ == "__main__":
    sys.exit(
        run(
            lambda: main(get_argparser().parse_args()),
            "train_discriminator.py",
            stopped="the same command goes on after the last whole epoch",
            level=logging.INFO,
        )
    )
