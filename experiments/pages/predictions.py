"""Test images beside what the arms make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

import argparser
from dataset import default_folder, make_source
from engine.labelling import Labeller, Settings
from experiments.arms import BASE, JOINT
from experiments.pages.pieces import note, picture
from experiments.pages.study import Study
from tasks import BACKGROUND, IGNORE
from utils.distributed import start, stop
from utils.errors import UserError
from utils.html import mask_image, swatch

# Arms that are shown where they are there, in this order, all of one experiment being too many to compare.
ARMS = (BASE, "fine-tuning", "WILSON", "raw-web", "ours", "best", JOINT)
# Images in all, and share of an image that its class covers at least.
SHOWN, VISIBLE = 12, 0.05


@dataclass(frozen=True)
class Chosen:
    """A test image: its place in the source, and the class that it was chosen for."""

    index: int
    number: int


def predictions(study: Study) -> str:
    """The first test images of each class: image, truth, and the masks of the arms' checkpoints."""
    options = study.sample.options
    folder = default_folder(options["dataset"], options["data_root"], options["dataset_dir"])
    source = make_source(options["dataset"], folder, "val", study.table.step)
    task, step = study.task, study.table.step
    seen = task.seen(step)

    def share(index: int, number: int) -> float:
        return float(np.mean(source.mask(index) == number))

    labels = source.image_labels()
    has = {number: np.flatnonzero(labels[:, number - 1]).tolist() for number in seen if number != BACKGROUND}
    chosen = choose(task.new(step), [number for number in seen if number not in task.new(step)], has, share)
    if not chosen:
        return note("No test image shows a class of the task.")
    size = options["crop_size_val"] or argparser.PRESETS.get(options["dataset"], {}).get("crop_size_val")
    pairs = [
        cropped(source.image(one.index), source.mask(one.index), size or argparser.PRESETS[""]["crop_size_val"])
        for one in chosen
    ]
    masks, lost = _masks(study, [image for image, _ in pairs])
    names = source.class_names
    rows = []
    for position, (one, (image, truth)) in enumerate(zip(chosen, pairs, strict=True)):
        # What the test leaves out of the score: classes that are not learned yet, and the borders.
        judged = np.where(np.isin(truth, seen), truth, IGNORE).astype(np.uint8)
        of = source.ids[one.index]
        shown = {"truth": judged} | {arm: found[position] for arm, found in masks.items()}
        figures = picture(image, "image", of) + "".join(picture(mask_image(m), name, of) for name, m in shown.items())
        rows.append(
            f'<div class="sample"><h3>{escape(of)}, chosen for {escape(names[one.number])}</h3>'
            f'<div class="predictions" style="--columns:{len(shown) + 1}">{figures}</div></div>'
        )
    legend = "".join(
        f"<li>{swatch(number)}{escape(names.get(number, 'not judged'))}</li>" for number in (*seen, IGNORE)
    )
    rule = (
        f"The first test image of each class that covers a twentieth of it, new and old classes in turn, then the second, up to {SHOWN}; "
        "the first seed of each arm that has a checkpoint."
    )
    return f'{note(rule)}<ul class="legend">{legend}</ul>{"".join(rows)}{"".join(lost)}'


def _masks(study: Study, images: Sequence[Image.Image]) -> tuple[dict[str, list[np.ndarray]], list[str]]:
    """What each arm predicts, as class ids, and a sentence for each arm that cannot be asked."""
    batch = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images])
    known = [BASE, *(arm for arm in study.arms if arm != BASE)]
    wanted = [arm for arm in ARMS if arm in known]
    # An experiment of other arms, ablations for instance, shows its first ones.
    wanted += [arm for arm in known if arm not in ARMS][: max(0, len(ARMS) - len(wanted))]
    masks: dict[str, list[np.ndarray]] = {}
    lost = []
    runtime = start("auto")
    try:
        for arm in tqdm(wanted, desc="Predictions", unit="arm", disable=None):
            runs = study.last_runs(arm)
            kept = [run.checkpoint for run in runs if run.checkpoint.is_file()]
            if runs and not kept:
                lost.append(study.lack(f"No checkpoint is left of {arm}: {runs[0].checkpoint} is gone."))
            if not kept:
                continue
            try:
                labeller = Labeller(kept[0], Settings(), runtime)
            except UserError as error:
                lost.append(study.lack(f"No predictions of {arm}: {error}"))
                continue
            # One by one: a large crop needs all the memory that there is.
            masks[arm] = [labeller.label(image[None])[0] for image in batch]
    finally:
        stop()
    return masks, lost


def choose(new: Sequence[int], old: Sequence[int], has: Mapping[int, Sequence[int]], share: object) -> list[Chosen]:
    """Images to show: in each round the next image of each class, new and old classes in turn.

    Args:
        new: ids of the new classes.
        old: ids of the old classes; background is none.
        has: class id -> images that show it.
        share: (image, class id) -> share of the image that the class covers.

    Returns:
        Up to ``SHOWN`` images, none twice.
    """
    assert callable(share)
    turns: list[int] = []
    for place in range(max(len(new), len(old))):
        turns += [*new[place : place + 1], *old[place : place + 1]]
    left = {number: iter(has[number]) for number in turns if number in has}
    chosen: list[Chosen] = []
    while left and len(chosen) < SHOWN:
        for number in [number for number in turns if number in left]:
            taken = {one.index for one in chosen}
            found = next((i for i in left[number] if i not in taken and share(i, number) >= VISIBLE), None)
            if found is None:
                del left[number]
            elif len(chosen) < SHOWN:
                chosen.append(Chosen(found, number))
    return chosen


def cropped(image: Image.Image, mask: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """The test crop of an image and its mask, before normalisation."""

    def cut(one: Image.Image, mode: InterpolationMode) -> Image.Image:
        found: Image.Image = F.center_crop(F.resize(one, [size], interpolation=mode, antialias=True), [size, size])
        return found

    return cut(image, InterpolationMode.BILINEAR), np.array(cut(Image.fromarray(mask), InterpolationMode.NEAREST))
