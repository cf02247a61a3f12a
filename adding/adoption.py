"""The model that gets new classes, as run.py's next step wants it: a step's checkpoint, the task, and images to test on.

    python -m adding.adoption --model MODEL --classes cow sheep --held_back WORK/held_back --out WORK/adopted

Writes ``base.pth``, ``task.json``, a data set as ``dataset/folder.py`` has it, with validation images alone, and, for a replay tree,
``class_words.txt``. The masks are the user's (``--val``; the folder ``truth``), or what the model itself sees in the images held back
(the folder ``agreement``). Exit code 0; 1 where images are left out and the rest went on; 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adding.files import link
from adding.names import check_names, free_ids
from modules.adopted.settings import add_model_options, settings_of
from tasks import BACKGROUND, IGNORE
from utils.errors import UserError, shown_text
from utils.script import GOES_ON, run
from utils.whole import write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from modules.description import Description
    from segmentation_module import Segmenter

BASE, TASK, WORDS = "base.pth", "task.json", "class_words.txt"
BACKGROUND_NAME = "background"
DATASET, PROTOCOL = "folder", "overlap"
# Longer side of what the model looks at, as generate_label.py has it.
MOST_SIDE = 1024
LAYOUT = (
    "images/ and masks/ of the same names are needed, with classes.txt (dataset/folder.py), or VOC's JPEGImages/ and "
    "SegmentationClassAug/"
)


@dataclass
class Adopted:
    """What the stage did: test images, those left out, and sentences that a user should know."""

    tested: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def steps_with(description: Description, new: Sequence[str]) -> list[list[int]]:
    """Class ids of each step of a model, and of the step that adds ``new``.

    Raises:
        UserError: a name cannot be that of a new class, or there are more classes than masks can hold.
    """
    check_names(new, [name for number, name in description.names.items() if number != BACKGROUND])
    return [*map(list, description.steps), free_ids(len(new), description.ids)]


def data_folder(out: Path, val: Path | None) -> Path:
    """Folder of the data set, named for what its masks are: results of a test bear this name."""
    return out / ("agreement" if val is None else "truth")


def write_task(description: Description, new: Sequence[str], out: Path, data: Path) -> dict[int, str]:
    """Write the task and the names of all classes, in ``data``; id -> name of every class, background included.

    Raises:
        UserError: a name that a list of classes cannot hold.
    """
    from dataset.classes import read_classes
    from dataset.folder import CLASSES

    steps = steps_with(description, new)
    names = description.names | dict(zip(steps[-1], new, strict=True)) | {BACKGROUND: BACKGROUND_NAME}
    write_whole(out / TASK, json.dumps({str(step): classes for step, classes in enumerate(steps)}) + "\n")
    path = data / CLASSES
    write_whole(path, "".join(f"{number} {name}\n" for number, name in sorted(names.items())))
    read = read_classes(path)
    wrong = next((name for number, name in names.items() if read.get(number) != name), None)
    if wrong is not None:
        raise UserError(
            f"class {wrong!r}: a list of classes cannot hold this name; rename it (--class_names, --classes)"
        )
    return names


def write_checkpoint(description: Description, weights: Mapping[str, Any], out: Path, data: Path) -> None:
    """Write a model as the checkpoint of the last step of this task (``run.py --step_ckpt``), whose data set is ``data``."""
    from engine.described import as_checkpoint
    from utils import checkpoint

    places = {"dataset_dir": str(data), "task": str(out / TASK), "train_list": None}
    here = replace(
        description,
        dataset=DATASET,
        task=Path(TASK).stem,
        protocol=PROTOCOL,
        class_names=(BACKGROUND_NAME, *description.class_names[1:]),
        options={**description.options, **places},
    )
    checkpoint.save(out / BASE, as_checkpoint(here, weights))


# ---- images to test on ------------------------------------------------------------------------------------------------


def label_held_back(segmenter: Segmenter, folder: Path, data: Path, done: Adopted) -> None:
    """Put the images of ``folder`` into the data set, with what the model sees in them as masks."""
    from PIL import Image
    from tqdm import tqdm

    from adding.files import image_files
    from utils.images import DecodeError, load_image, write_mask

    for path in tqdm(image_files([folder]), desc="The model's own labels", unit="image", disable=None):
        mask = data / "masks/val" / f"{path.stem}.png"
        try:
            if not mask.is_file():
                image = load_image(path)
                size = image.size
                longer = max(size)
                if longer > MOST_SIDE:
                    small = [max(1, round(side * MOST_SIDE / longer)) for side in size]
                    image = image.resize((small[0], small[1]), Image.Resampling.BILINEAR, reducing_gap=2.0)
                write_mask(mask, segmenter.predict(image).mask, size)
        except DecodeError as error:
            done.faults.append(str(error))
            continue
        link(path, data / "images/val" / path.name)
        done.tested += 1


def take_truth(val: Path, names: Mapping[int, str], data: Path, done: Adopted) -> None:
    """Put a user's images and masks into the data set, the masks in the ids of ``names``.

    Args:
        val: ``images/``, ``masks/`` and ``classes.txt``, or VOC's layout; without ``classes.txt`` the masks hold ids of ``names``.
        names: id -> name of all classes, old and new.
        data: the data set.
        done: gets what was done.

    Raises:
        UserError: another layout, an image without a mask, a mask with a value that is no class, or no class of the model's.
    """
    import numpy as np
    from tqdm import tqdm

    from utils.images import DecodeError, check_pair, load_image, load_mask, write_mask

    pairs, theirs = _truth_files(val)
    table = np.full(256, -1, np.int16)
    table[[BACKGROUND, IGNORE]] = BACKGROUND, IGNORE
    table[list(names)] = list(names) if theirs is None else -1
    table[BACKGROUND] = BACKGROUND
    if theirs is not None:
        for number, own in _matched(theirs, names, val, done).items():
            table[number] = own
    for image, mask in tqdm(pairs, desc="Validation images", unit="image", disable=None):
        try:
            values = load_mask(mask)
            picture = load_image(image)
            check_pair(picture.size, values, image, mask)
        except DecodeError as error:
            done.faults.append(str(error))
            continue
        ids = _ids(values, table, mask, val)
        # Names of two folders may differ in their suffix alone.
        name = f"{done.tested:06}"
        write_mask(data / "masks/val" / f"{name}.png", ids, picture.size)
        link(image, data / "images/val" / f"{name}{image.suffix.lower()}")
        done.tested += 1


def _ids(values: NDArray[np.uint8], table: NDArray[np.int16], mask: Path, val: Path) -> NDArray[np.uint8]:
    import numpy as np

    ids = table[values]
    if (ids < 0).any():
        number = int(values[ids < 0][0])
        raise UserError(f"{mask}: its value {number} is no class; name the classes of these masks in {val}/classes.txt")
    return ids.astype(np.uint8)


def _truth_files(val: Path) -> tuple[list[tuple[Path, Path]], dict[int, str] | None]:
    """Images and masks, and the names of their classes; None where nothing names them."""
    from dataset import folder as folders
    from dataset import voc
    from dataset.files import by_key, shown

    if (val / voc.IMAGES).is_dir():
        return voc.pairs(val, "val"), voc.CLASS_NAMES
    if not (val / "images").is_dir() or not (val / "masks").is_dir():
        raise UserError(f"--val {val}: {LAYOUT}")
    names = folders.class_names(val) if (val / folders.CLASSES).is_file() else None
    place = folders.subfolders(val)["val"]
    images, masks = by_key(val / f"images{place}"), by_key(val / f"masks{place}")
    without = [name for name in images if name not in masks]
    if without or not images:
        raise UserError(f"--val {val}: {f'no mask for {shown(without)}' if without else 'no image'}; {LAYOUT}")
    return [(images[name], masks[name]) for name in images], names


def _matched(theirs: Mapping[int, str], names: Mapping[int, str], val: Path, done: Adopted) -> dict[int, int]:
    """The ids of a user's masks in those of ``names``; classes that the model will not know are left out of the test."""
    from captions.vocabulary import match_class
    from dataset.files import shown

    own = {name: number for number, name in names.items() if number != BACKGROUND}
    matched = {i: match_class(name, tuple(own)) for i, name in theirs.items() if i != BACKGROUND}
    others = [theirs[i] for i, name in matched.items() if name is None]
    if len(others) == len(matched):
        raise UserError(f"--val {val}: {shown(theirs.values())}: none of them is a class of {shown(own)}")
    if others:
        done.notes.append(f"{val}: pixels of {shown(others)} are left out, the model will not know them")
    absent = [name for name in own if name not in matched.values()]
    if absent:
        done.notes.append(f"{val}: names no {shown(absent)}, whose pixels are judged as what the masks call them")
    return {i: IGNORE if name is None else own[name] for i, name in matched.items()}


def write_words(tree: Path, names: Iterable[str], path: Path) -> None:
    """Write that each original of a replay tree is to show an old class (``generate_label.py --drop_without_words``)."""
    from dataset.replay_tree import originals

    words = " ".join("_".join(name.split()) for name in names)
    write_whole(path, "".join(f"{folder.name}.png {words}\n" for folder in originals(tree)))


# ---- the stage --------------------------------------------------------------------------------------------------------


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adding.adoption", description="Make a model the step before a new one.")
    add_model_options(parser)
    add = parser.add_argument
    add("--classes", nargs="+", required=True, help="names of the new classes")
    add("--held_back", type=Path, help="folder of images, tested on by what the model sees in them")
    add("--val", type=Path, help="images and masks, tested on in place of these")
    add("--tree", type=Path, help="replay tree, whose images are to show old classes")
    add("--out", type=Path, required=True, help="folder to write into")
    add(
        "--listing",
        default="",
        help="digest of the model's files as the plan saw them; changed files make another plan",
    )
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    return parser


def main(given: argparse.Namespace) -> int:
    """Adopt and report; the exit code."""
    # Imported here, so that --help answers at once.
    from dataset.files import shown
    from segmentation_module import Segmenter, read_segmenter
    from utils import distributed

    if given.held_back is None and given.val is None:
        raise UserError("--held_back or --val is needed: images to test on")
    description, weights = read_segmenter(given.model, settings_of(given))
    segmenter = Segmenter(description, weights, distributed.start(given.device), given.model)
    done = Adopted()
    data = data_folder(given.out, given.val)
    names = write_task(description, given.classes, given.out, data)
    if given.val is not None:
        take_truth(given.val, names, data, done)
    else:
        label_held_back(segmenter, given.held_back, data, done)
    if not done.tested:
        raise UserError(f"{given.val or given.held_back}: no image to test on can be read ({shown(done.faults)})")
    if given.tree is not None:
        write_words(given.tree, description.class_names[1:], given.out / WORDS)
    write_checkpoint(description, weights, given.out, data)
    print(f"{shown_text(given.model)}: knows {shown_text(', '.join(description.class_names))}")
    print(f"Next step: {shown_text(', '.join(given.classes))}; {done.tested} images to test on")
    for note in done.notes:
        print(shown_text(note))
    if done.faults:
        print(f"adding.adoption: {len(done.faults)} images left out: {shown(done.faults)}", file=sys.stderr)
    return 1 if done.faults else 0


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "adding.adoption", stopped=GOES_ON))
