"""Which classes the captioner ``tags`` names in web images and in photographs, and how often it is right.

    python -m benchmarks.tags --data DIR [--segmenter CKPT] [--scores FILE.npz] [--out benchmarks/results/tags.md]

--data: folder with ``web20/CLASS/*.jpg`` (web images by class word) and ``voc20`` (VOC's layout; the training split alone is looked at).
--segmenter: a segmenter, whose classes are joined as ``--captioner tags+segmenter`` does.
--scores: keeps the classifier's probabilities, so that another table or threshold is measured in seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data import ImageNetInfo
from tqdm import tqdm

from benchmarks.pages import finish, make_parser, write_page
from captions import imagenet
from captions.captioners import tags
from captions.captioners.joined import joined
from captions.captioners.segmenter import SegmenterCaptioner
from captions.labels import caption_labels
from captions.vocabulary import make_vocabulary
from dataset.voc import CLASS_NAMES
from results.table import markdown_table
from spread.blocks import in_batches
from tasks import BACKGROUND
from utils import distributed
from utils.errors import UserError
from utils.images import load_image, load_mask

CLASSES = [name for number, name in CLASS_NAMES.items() if number != BACKGROUND]
# Share of wrong-class images in a search, and what is wanted of every class.
NOISE, KEEP, PRECISION = 0.3, 0.6, 0.9
THRESHOLDS = (0.02, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
# A photograph that a caption is asked to name a class of shows it on so many of its pixels, at least.
LARGE = 0.05
BATCH = 32

PAGE = """# Classes that tags name

`python -m benchmarks.tags --data DIR`: the captioner `tags` ({network}) on {web} web images of {classes} classes (`web20`) and on
{photos} photographs of VOC's training split (`voc20`). Its captions are read by the vocabulary of all {classes} classes, as
`select_web.py --web_labels caption` does.

**Kept**: share of a class's web images whose caption names it; {floor:.0%} are wanted. **Precision**: right images of those kept, where
{noise:.0%} of the candidates are web images of other classes, each class alike; {precision} is wanted. A folder's name is taken for the
truth: a motorbike's rider is a wrong image of person here. Drawings, the other noise of a search, are not among them. The table of
classes and the sums were made by the photographs and by every other web image (*tuned*); the others are *held out*.

## Every class

*Before* is the ImageNet names alone, as in 0.1.0. *Now* the class is named too where the probabilities of all ImageNet classes that show
it sum to {least}; {own} have a sum of their own (`captions/imagenet.json`).

{web_table}

Held out, {reached} of {classes} classes reach both.{segmenter}

## Threshold

Other sums for the classes that have none of their own:

{threshold_table}

## Photographs

What the captions say of the training photographs, by their masks: **recall** is the share named of the images that show the class on
{large:.0%} of their pixels or more, **precision** the share that show it at all of those named.

{photo_table}
"""


@dataclass(frozen=True)
class Images:
    """Images that were looked at.

    Attributes:
        probability: (N, 1000) of ImageNet's classes.
        names: (N,) class of each web image; empty for photographs.
        shares: (N, C) share of each image's pixels that each class has; 0 for web images.
        more: what a segmenter says of each; empty where none was asked.
        knows: the classes that it may name.
    """

    probability: NDArray[np.float32]
    names: NDArray[np.str_]
    shares: NDArray[np.float32]
    more: Sequence[str] = ()
    knows: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.probability)

    def tuned(self) -> NDArray[np.bool_]:
        """(N,) every other web image of each class."""
        mask = np.zeros(len(self), dtype=np.bool_)
        for name in CLASSES:
            mask[np.flatnonzero(self.names == name)[::2]] = True
        return mask


def web_files(data: Path) -> list[tuple[Path, str]]:
    """Every web image and its class; UserError where a class has none."""
    files = []
    for name in CLASSES:
        own = sorted((data / "web20" / name).glob("*.jpg"))
        if len(own) < 2:
            raise UserError(f"{data / 'web20' / name}: holds fewer than two images; --data needs web20/CLASS/*.jpg")
        files += [(path, name) for path in own]
    return files


def photo_files(data: Path) -> list[tuple[Path, Path]]:
    """Image and mask of every training photograph."""
    root = data / "voc20"
    listed = root / "splits" / "train_aug.txt"
    if not listed.is_file():
        raise UserError(f"{listed}: no such file; --data needs voc20 in VOC's layout")
    pairs = (line.split() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip())
    return [(root / image.lstrip("/"), root / mask.lstrip("/")) for image, mask in pairs]


def shares_of(mask: Path) -> NDArray[np.float32]:
    """(C,) share of a mask's pixels that each class has."""
    counts = np.bincount(load_mask(mask).ravel(), minlength=256)
    numbers = [number for number in CLASS_NAMES if number != BACKGROUND]
    return (counts[numbers] / counts.sum()).astype(np.float32)


def look(captioner: tags.TagCaptioner, files: Sequence[Path], label: str) -> NDArray[np.float32]:
    """(N, 1000) probabilities of ImageNet's classes in files."""
    found = []
    with tqdm(total=len(files), desc=label, unit="img") as bar:
        for batch in in_batches(iter(files), BATCH):
            found.append(captioner.probability([load_image(path) for path in batch]).cpu().numpy())
            bar.update(len(batch))
    return np.concatenate(found)


def gather(
    data: Path, captioner: tags.TagCaptioner, scores: Path | None, segmenter: str | None
) -> tuple[Images, Images]:
    """The web images and the photographs; probabilities from ``scores`` where it holds those of these files."""
    web, photos = web_files(data), photo_files(data)
    files = [path for path, _ in web] + [path for path, _ in photos]
    key = [str(path.relative_to(data)) for path in files] + [str(captioner.origin["model"])]
    probability: NDArray[np.float32] | None = None
    if scores is not None and scores.is_file():
        with np.load(scores) as there:
            if there["key"].tolist() == key:
                probability = there["probability"]
    if probability is None:
        probability = look(captioner, files, "tags")
        if scores is not None:
            np.savez(scores, key=key, probability=probability)
    more: list[str] = []
    knows: list[str] = []
    if segmenter is not None:
        other = SegmenterCaptioner(captioner.runtime, segmenter)
        knows = list(other.names.values())
        # It may have learned from the photographs.
        for batch in tqdm(list(in_batches((path for path, _ in web), BATCH)), desc="segmenter"):
            more += map(str, other.caption_files(batch))
    names = np.array([name for _, name in web])
    shares = np.stack([shares_of(mask) for _, mask in photos])
    none = np.zeros((len(web), len(CLASSES)), dtype=np.float32)
    cut = len(web)
    return (
        Images(probability[:cut], names, none, more, knows),
        Images(probability[cut:], np.array([""] * len(photos)), shares),
    )


# ---- what captions name ------------------------------------------------------------------------------------------------

Write = Callable[[NDArray[np.float32]], list[str]]


def names_alone(probability: NDArray[np.float32]) -> list[str]:
    """The captions of 0.1.0: the usual names of the most probable classes."""
    info = ImageNetInfo("imagenet-1k")
    usual = [info.index_to_description(i).split(",")[0].strip() for i in range(imagenet.CLASSES)]
    lines = []
    for row in probability:
        order = np.argsort(-row)[: tags.MOST]
        lines.append(", ".join(usual[i] for rank, i in enumerate(order) if rank == 0 or row[i] >= tags.LEAST))
    return lines


def named(lines: Sequence[str]) -> NDArray[np.bool_]:
    """(N, C) which classes captions name."""
    vocabulary = make_vocabulary(CLASSES)
    known = {line: caption_labels(line, vocabulary) for line in set(lines)}
    return np.array([[name in known[line] for name in CLASSES] for line in lines])


@dataclass(frozen=True)
class Score:
    """What is kept of each class's web images.

    Attributes:
        kept: (C,) share of its own that a caption names.
        wrong: (C,) share of the others', mean over their classes.
    """

    kept: NDArray[np.float64]
    wrong: NDArray[np.float64]

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,) right images of those kept out of a search with ``NOISE``."""
        right, wrong = (1 - NOISE) * self.kept, NOISE * self.wrong
        return right / np.maximum(right + wrong, 1e-12)

    @property
    def reached(self) -> NDArray[np.bool_]:
        """(C,) whether a class has both that is wanted."""
        return (self.kept >= KEEP) & (self.precision >= PRECISION)


def score(found: NDArray[np.bool_], names: NDArray[np.str_]) -> Score:
    """The score of what captions name (N, C) in web images of these classes (N,)."""
    rates = np.array([found[names == name].mean(axis=0) for name in CLASSES])
    own = np.diag(rates)
    return Score(own, (rates.sum(axis=0) - own) / (len(CLASSES) - 1))


# ---- the page ----------------------------------------------------------------------------------------------------------


def _cells(one: Score, i: int) -> list[str]:
    kept, precision = f"{one.kept[i]:.0%}", f"{one.precision[i]:.3f}"
    return [
        kept if one.kept[i] >= KEEP else f"**{kept}**",
        precision if one.precision[i] >= PRECISION else f"**{precision}**",
    ]


def web_table(columns: dict[str, Score], counts: Sequence[int]) -> list[str]:
    """Every class by what is kept of it; bold is what misses."""
    headings = ["class", "held out", *(f"{label}: {what}" for label in columns for what in ("kept", "precision"))]
    rows = [
        [name, str(count), *(cell for one in columns.values() for cell in _cells(one, i))]
        for i, (name, count) in enumerate(zip(CLASSES, counts, strict=True))
    ]
    least = [cell for one in columns.values() for cell in (f"{one.kept.min():.0%}", f"{one.precision.min():.3f}")]
    return markdown_table(headings, [*rows, ["least", "", *least]])


def _least(one: Score) -> list[str]:
    kept, precision = int(one.kept.argmin()), int(one.precision.argmin())
    return [
        f"{one.kept.mean():.0%}",
        f"{one.kept[kept]:.0%} ({CLASSES[kept]})",
        f"{one.precision[precision]:.3f} ({CLASSES[precision]})",
        str(int(one.reached.sum())),
    ]


def threshold_table(captioner: tags.TagCaptioner, web: Images) -> list[str]:
    """What other sums would name a class by."""
    tuned, rows = web.tuned(), []
    for least in THRESHOLDS:
        found = named(captioner.lines(torch.from_numpy(web.probability), least))
        halves = (score(found[half], web.names[half]) for half in (tuned, ~tuned))
        label = f"**{least:g}**" if least == tags.LEAST_SHOWN else f"{least:g}"
        rows.append([label, *(cell for half in halves for cell in _least(half))])
    what = ("kept, mean", "kept, least", "precision, least", "classes that reach both")
    return markdown_table(["sum", *(f"{half}: {cell}" for half in ("tuned", "held out") for cell in what)], rows)


def photo_table(columns: dict[str, NDArray[np.bool_]], shares: NDArray[np.float32]) -> list[str]:
    """Recall and precision of each class in photographs."""
    rows = []
    for i, name in enumerate(CLASSES):
        large, any_ = shares[:, i] >= LARGE, shares[:, i] > 0
        row = [name, str(int(large.sum()))]
        for found in columns.values():
            count = int(found[:, i].sum())
            row += [
                f"{found[large, i].mean():.0%}" if large.any() else "",
                f"{any_[found[:, i]].mean():.2f}" if count else "none named",
            ]
        rows.append(row)
    return markdown_table(
        ["class", "photographs", *(f"{label}: {what}" for label in columns for what in ("recall", "precision"))], rows
    )


def page(captioner: tags.TagCaptioner, web: Images, photos: Images) -> str:
    """The results page."""
    held = ~web.tuned()
    write: dict[str, Write] = {"before": names_alone, "now": lambda p: captioner.lines(torch.from_numpy(p))}
    in_web = {label: named(lines(web.probability)) for label, lines in write.items()}
    in_photos = {label: named(lines(photos.probability)) for label, lines in write.items()}
    told = ""
    if web.more:
        pairs = zip(write["now"](web.probability), web.more, strict=True)
        in_web["tags+segmenter"] = named([str(joined(pair)) for pair in pairs])
        told = f"\n\n*tags+segmenter* adds what a segmenter sees that knows {', '.join(web.knows)}."
    scores = {label: score(found[held], web.names[held]) for label, found in in_web.items()}
    return PAGE.format(
        network=captioner.origin["model"],
        web=len(web),
        classes=len(CLASSES),
        photos=len(photos),
        floor=KEEP,
        noise=NOISE,
        precision=PRECISION,
        least=tags.LEAST_SHOWN,
        own=", ".join(one.name for one in imagenet.shown() if one.least is not None),
        large=LARGE,
        web_table="\n".join(web_table(scores, [int((web.names[held] == name).sum()) for name in CLASSES])),
        reached=int(scores["now"].reached.sum()),
        segmenter=told,
        threshold_table="\n".join(threshold_table(captioner, web)),
        photo_table="\n".join(photo_table(in_photos, photos.shares)),
    )


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("tags", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with web20 and voc20")
    parser.add_argument("--segmenter", metavar="MODEL", help="a segmenter, to join what it sees")
    parser.add_argument("--scores", type=Path, help="file (.npz) that keeps the classifier's probabilities")
    parser.add_argument("--network", default=tags.DEFAULT_NETWORK, help="timm's name of the classifier")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the page."""
    given = get_argparser().parse_args(arguments)
    captioner = tags.TagCaptioner(distributed.start("cpu"), given.network)
    print(write_page(given.out, page(captioner, *gather(given.data, captioner, given.scores, given.segmenter))))
    return 0


if __name__ == "__main__":
    finish("tags", main)
