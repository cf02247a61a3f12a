"""Caption images: a folder of them, a folder of folders (the replay tree), or a manifest.

    python generate_caption.py data/voc/JPEGImages captions.txt --captioner transformers --model Salesforce/blip-image-captioning-base
    python generate_caption.py data/replay data/replay_captions                      (one caption file for each folder)
    python generate_caption.py data/web/manifest.csv data/web/captioned.csv          (a manifest with the column caption)

The default captioner, tags, runs offline: it writes the ImageNet classes that a classifier sees. ``--captioner tags+segmenter --model
segmenter=CKPT`` adds the classes that a model of an earlier step sees. A run that was stopped goes on where it was. Runs under torchrun
and on Ray (--ray, docs/ray.md), too.

Exit code 0; 1 where images have no caption and the rest went on; 2 for bad input.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from captions.captioners import CAPTIONERS, DEFAULT_CAPTIONER, model_of_each, parts_of
from spread.options import add_options, ray_options
from utils.checks import PRECISIONS
from utils.errors import UserError
from utils.script import GOES_ON, run


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="generate_caption.py",
        description="Caption images: a folder of them, a folder of folders (the replay tree), or a manifest.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("images", type=Path, metavar="IMAGES", help="folder of images, folder of folders of them, or manifest (.csv)")
    add("out", type=Path, metavar="OUT", help="caption file; folder of caption files; or manifest to write (.csv)")
    add("--captioner", type=_captioner, metavar="NAME", default=DEFAULT_CAPTIONER,
        help=f"who writes the captions: {', '.join(CAPTIONERS)}; tags+segmenter: what both say")  # fmt: skip
    add("--model", action="append", default=[], help="transformers: folder or hub's name of an image-to-text model; tags: "
        "timm's name of a classifier; segmenter: a checkpoint, or what else add_class.py takes; of several captioners "
        "segmenter=CKPT, once for each")  # fmt: skip
    add("--prompt", help="transformers: what a caption begins with, or what a model is asked; '' for none [An image of, as "
        "the paper; a task or a question for models that need one]")  # fmt: skip
    add("--beams", type=int, default=3, help="transformers: width of the beam search")
    add("--new_tokens", type=int, default=40, help="transformers: most tokens of a caption")
    add(
        "--captions",
        type=Path,
        help="file: manifest, COCO's caption JSON, JSON list of file and captions, or caption file",
    )
    add("--only_missing", action="store_true", help="rows of a manifest that have a caption keep it")
    add("--batch_size", type=int, default=16, help="images captioned at once")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add(
        "--precision",
        choices=PRECISIONS,
        help="arithmetic of the network; auto: the device's fastest; left out: that on a GPU, fp32 on a CPU",
    )
    add_options(parser)
    return parser


def _captioner(name: str) -> str:
    try:
        parts_of(name)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def main(given: argparse.Namespace) -> int:
    """Caption and report; the exit code."""
    if given.batch_size < 1 or given.beams < 1 or given.new_tokens < 1:
        raise UserError("--batch_size, --beams and --new_tokens need at least 1")
    models = model_of_each(given.captioner, given.model)
    ray = ray_options(given)
    # Imported here, so that --help answers at once.
    from captions.captioners import make_captioner
    from captions.captioners.base import CaptionerSettings
    from captions.captioning import Captioning, CaptionWork, caption_images, caption_worker
    from dataset.files import shown
    from dataset.replay_tree import IMAGES
    from spread.ways import make_way, start_runtime
    from utils import distributed

    runtime = start_runtime(given.device, given.precision, ray)
    try:
        settings = CaptionerSettings(None, given.prompt, given.beams, given.new_tokens, given.captions, models)
        way = make_way(runtime, ray=ray, alone=True)
        # Made here also where others caption: what is wrong with it is known before any of them starts.
        captioner = make_captioner(given.captioner, settings, runtime)
        elsewhere = CaptionWork(given.captioner, settings, given.device, runtime.precision)
        captioning = Captioning(
            way,
            elsewhere if ray else partial(caption_worker, captioner),
            captioner.origin,
            batch_size=given.batch_size,
            block_size=given.block_size,
            precision=runtime.precision,
        )
        del captioner
        done = caption_images(given.images, given.out, captioning, only_missing=given.only_missing, inside=IMAGES)
    finally:
        distributed.stop()
    if not runtime.main:
        return 0
    print(
        f"{done.images} images: {done.captioned} captioned, {done.before} had captions, {len(done.faults)} have none; "
        f"written to {given.out}"
    )
    if done.faults:
        print(f"generate_caption.py: {len(done.faults)} images without caption: {shown(done.faults)}", file=sys.stderr)
    return 1 if done.faults else 0


if __name__ == "__main__":
    sys.exit(
        run(lambda: main(get_argparser().parse_args()), "generate_caption.py", stopped=GOES_ON, level=logging.INFO)
    )
