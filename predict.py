"""Masks of images that a segmenter has never seen.

    python predict.py --model MODEL photos 'more/**/*.jpg' web/manifest.csv clip.mp4 --out DIR [--overlay --page --rle --polygons]

MODEL is a checkpoint, a released folder, or a segmenter of another library (torchvision:, smp:, transformers:, hub:). DIR gets masks/,
palette PNGs of class ids of the images' own size, summary.csv, and what else was asked for. A run that was stopped goes on where it
was; results of another model or other settings are never mixed in. Exit code 0; 1 where files cannot be read and the rest went on; 2
for bad input.

From Python: ``from segmentation_module import load_segmenter; load_segmenter(path).predict(image)``.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from modules.adopted.settings import add_model_options, settings_of
from utils.checks import PRECISIONS
from utils.errors import UserError
from utils.script import GOES_ON, run

EXTRAS = {
    "overlay": "write overlays, the masks' colours on the images with a legend; of a video, a video",
    "probabilities": "write the classes' probabilities, (H, W, C) float16, as .npz",
    "rle": "write COCO run lengths, compressed: one file an image, and coco.json of all",
    "polygons": "write polygons along the edges of pixels, in the form of GeoJSON",
    "page": "write page.html, a contact sheet of all images",
}


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predict.py",
        description="Masks of images that a segmenter has never seen.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="files, folders, patterns in quotes, manifests (.csv), videos")
    add("--out", type=Path, required=True, help="folder of the results; made if missing")
    for name, text in EXTRAS.items():
        add(f"--{name}", action="store_true", help=text)
    add("--scales", type=float, nargs="+", default=[1.0], help="average over these sizes, factors of the image's")
    add("--flip", action="store_true", help="average with what the model sees in the mirrored image")
    add("--threshold", type=float, default=0.0, help="pixels whose class is less probable than this become 255")
    add(
        "--max_side",
        type=int,
        default=0,
        help="longer side of what the model looks at, 0 for the image's own; masks keep the image's size",
    )
    add(
        "--tile",
        type=int,
        default=1024,
        help="side of the tiles that images of more than twice their pixels are looked at in; 0 looks at all whole",
    )
    add("--tile_overlap", type=int, help="pixels that neighbouring tiles share, at least [a quarter of --tile]")
    add("--again", action="store_true", help="replace results of another model or of other settings")
    add("--batch_size", type=int, default=8, help="images of equal size, or frames, that are looked at at once")
    add("--num_workers", type=int, help="processes that decode; 0 decodes in this one [0 on a CPU, else by its cores]")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--precision", choices=PRECISIONS, default="fp32", help="arithmetic of the network; auto: the device's fastest")
    add_model_options(parser)
    return parser


def check(given: argparse.Namespace) -> None:
    """Raise UserError for numbers that no option takes."""
    if min(given.scales) <= 0:
        raise UserError("--scales: numbers above 0 are needed")
    if not 0 <= given.threshold < 1:
        raise UserError(f"--threshold {given.threshold}: a number from 0 to below 1 is needed")
    if given.batch_size < 1 or min(given.num_workers or 0, given.max_side, given.tile) < 0:
        raise UserError("--batch_size needs at least 1, --num_workers, --max_side and --tile at least 0")


def main(given: argparse.Namespace) -> int:
    """Look and report; the exit code."""
    check(given)
    adopt = settings_of(given)
    # Imported here, so that --help answers at once.
    from prediction import results
    from prediction.command import predict
    from prediction.looking import LookSettings

    overlap = given.tile // 4 if given.tile_overlap is None else given.tile_overlap
    settings = LookSettings(
        tuple(given.scales), given.flip, given.threshold, given.max_side, given.tile, overlap, given.precision
    )
    folders = {
        "overlay": results.OVERLAYS,
        "probabilities": results.PROBABILITIES,
        "rle": results.RLE,
        "polygons": results.POLYGONS,
        "page": results.THUMBS,
    }
    told = predict(
        given.inputs,
        given.out,
        given.model,
        settings,
        adopt,
        kinds=[folder for option, folder in folders.items() if getattr(given, option)],
        device=given.device,
        batch_size=given.batch_size,
        workers=given.num_workers,
        again=given.again,
    )
    print(told.summary)
    if told.done.faults:
        print(f"predict.py: {told.left_out}", file=sys.stderr)
    return 1 if told.done.faults else 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "predict.py", stopped=GOES_ON, level=logging.INFO))
