"""Says of a data set on disk what is there, what is missing, what is wrong and what a person should look at.

``python -m dataset.check --dataset voc [--data_root data] [--dataset_dir DIR] [--sample N|--all] [--page [FILE]]``.
Exit code 0: fine, or doubtful at most; 1: something is missing or wrong; 2: bad arguments.

All masks are read, once; the first run finds what was seen in its cache. Of the images a sample is opened.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset import SOURCES, coco, default_folder, make_source, voc
from dataset import folder as own_data
from dataset.check_page import Looked, page
from dataset.files import by_key, shown
from dataset.lists import Files
from dataset.overlap import refuse_shared
from dataset.source import Source, refuse_clashes
from dataset.telling import Suspicion, images_of, label, suspicions, without_images
from utils.errors import UserError, shown_text
from utils.images import brightest
from utils.values import positive
from utils.whole import write_whole

SPLITS = ("train", "val")
SHOWN = 5
PAGE = "check.html"
# Images whose brightest value is below this are nearly black.
DARK = 16


@dataclass
class Findings:
    """What a check found, in lines for a person."""

    there: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    looked: list[Looked] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether nothing is missing and nothing is wrong."""
        return not self.missing and not self.wrong

    def text(self) -> str:
        """The lines under their headings."""
        lines = []
        for heading, entries in self.headed():
            lines += [heading, *(f"  {shown_text(entry)}" for entry in entries or ["nothing"])]
        return "\n".join(lines)

    def headed(self) -> list[tuple[str, list[str]]]:
        """The headings and what stands under them."""
        doubtful = [("doubtful", self.doubtful)] if self.doubtful else []
        return [("there", self.there), ("missing", self.missing), ("wrong", self.wrong), *doubtful]


@dataclass(frozen=True)
class Layout:
    """Where a split keeps its images, masks and, if it may have one, its list; relative to the data set's folder."""

    images: str
    masks: str
    list_file: str | None = None


def layouts(dataset: str, folder: Path) -> dict[str, Layout]:
    """The layout of each split of a data set's tree."""
    if dataset == "voc":
        return {split: Layout(voc.IMAGES, voc.MASKS, voc.LISTS[split]) for split in SPLITS}
    if dataset == "coco":
        return {split: Layout(*coco.folders(split)) for split in SPLITS}
    if dataset == "folder" and (folder / "images").is_dir():
        places, listed = own_data.subfolders(folder), own_data.list_file
        flat = not any(places.values())
        return {s: Layout(f"images{p}", f"masks{p}", listed(s) if flat else None) for s, p in places.items()}
    return {split: Layout(f"images/{split}", f"masks/{split}") for split in SPLITS}


def few(names: Iterable[str], what: str) -> list[str]:
    """At most one line: how many there are, the first few by name."""
    ordered = sorted(names)
    if not ordered:
        return []
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return [f"{len(ordered)} {what}: {', '.join(map(shown_text, ordered[:SHOWN]))}{more}"]


def _stems(folder: Path, findings: Findings) -> set[str]:
    left: list[str] = []
    try:
        return set(by_key(folder, left))
    except UserError as error:
        findings.wrong.append(str(error))
        return set()
    finally:
        findings.there += few((name for name in left if name not in SPLITS), f"left out of {folder}, no image files")


def check_list(folder: Path, layout: Layout, findings: Findings) -> None:
    """Every line of a split's list must name an image and a mask that exist."""
    path = folder / str(layout.list_file)
    if not path.is_file():
        findings.there.append(f"{layout.list_file} is absent (optional: the list is made from the files)")
        return
    try:
        listing = Files(folder, by_key(folder / layout.images), by_key(folder / layout.masks)).read(path)
    except UserError as error:
        findings.wrong.append(str(error))
        return
    findings.missing += few(set(listing.missing), f"files that {layout.list_file} names")
    findings.wrong += few(listing.twice, f"images that several lines of {layout.list_file} name")
    findings.wrong += few(listing.repeated, f"lines that {layout.list_file} holds more than once")
    findings.there.append(f"{layout.list_file}: {listing.lines} lines")


def check_tree(dataset: str, folder: Path, findings: Findings) -> None:
    """Folders, lists, and whether images and masks come in pairs; opens no image."""
    plan = layouts(dataset, folder)
    wanted = dict.fromkeys(name for layout in plan.values() for name in (layout.images, layout.masks))
    absent = [name for name in wanted if not (folder / name).is_dir()]
    findings.missing += [f"folder {folder / name}" for name in absent]
    stems = {name: _stems(folder / name, findings) for name in wanted if name not in absent}
    for images, masks in dict.fromkeys((layout.images, layout.masks) for layout in plan.values()):
        if images in absent or masks in absent:
            continue
        findings.there.append(f"{images}: {len(stems[images])} images; {masks}: {len(stems[masks])} masks")
        findings.missing += few(stems[masks] - stems[images], f"images to masks in {masks}")
        # Most of VOC's photographs have no mask of classes.
        if dataset != "voc":
            findings.missing += few(stems[images] - stems[masks], f"masks to images in {images}")
    for layout in plan.values():
        if layout.list_file is not None and layout.images not in absent and layout.masks not in absent:
            check_list(folder, layout, findings)


def check_number_drawn(folder: Path, split: str, count: int, findings: Findings) -> None:
    """A drawn data set must have as many pictures as its ``shapes.json`` says."""
    try:
        expected = dict(json.loads((folder / "shapes.json").read_text(encoding="utf-8"))).get(split)
    except (OSError, ValueError, TypeError) as error:
        findings.wrong.append(f"shapes.json cannot be read ({error})")
        return
    if expected != count:
        findings.missing.append(
            f"pictures of {split}: {count} instead of {expected}; remove {folder} to have it drawn again"
        )


def sampled(count: int, sample: int | None) -> list[int]:
    """``sample`` indices spread evenly over ``count``, or all."""
    if sample is None or sample >= count:
        return list(range(count))
    return sorted({round(i) for i in np.linspace(0, count - 1, sample)})


def check_pictures(source: Source, title: str, sample: int | None, findings: Findings) -> Looked:
    """Read all masks and open images: are they readable, of one size, with known classes only, and what they say they are."""
    broken: list[tuple[int, str]] = []
    found = source.survey(broken)
    faults = dict(broken)
    sizes: set[tuple[int, int]] = set()
    dark: list[int] = []
    chosen = sampled(len(source), sample)
    suspect = np.flatnonzero(found.unread | found.unfit).tolist()
    for i in tqdm(sorted({*chosen, *suspect} - faults.keys()), title, disable=None):
        try:
            image, _ = source.pair(i)
        except UserError as error:
            faults[i] = str(error)
            continue
        sizes.add(image.size)
        if brightest(image) < DARK:
            dark.append(i)
    told = [text for _, text in sorted(faults.items())]
    shown_faults = told[:SHOWN] + ([f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else [])
    findings.wrong += [f"{title}: {fault}" for fault in shown_faults]
    opened = "all opened" if len(chosen) == len(source) else f"{len(chosen)} opened, --all opens all"
    findings.there.append(f"{title}: {len(source)} images ({opened}){_span(sizes)}")
    counts = images_of(source)
    labels = ", ".join(f"{source.class_names[i]} {count}" for i, count in counts.items())
    findings.there.append(f"{title}: images that hold a class: {labels}")
    looked = Looked(title, source, suspicions(source), set(faults))
    dim = set(np.flatnonzero(found.dim).tolist())
    black = [i for i in dark if i not in dim]
    if black:
        text = (
            f"{len(black)} of {len(chosen)} images opened are nearly black: were values of 0 to 1 saved as whole numbers?"
            f" ({shown(source.ids[i] for i in black)})"
        )
        looked.suspicions.append(Suspicion("nearly black", text, np.array(black)))
    findings.doubtful += [f"{title}: {suspicion.text}" for suspicion in looked.suspicions]
    return looked


def check_classes(dataset: str, looked: Sequence[Looked], findings: Findings) -> None:
    """Classes that no image holds, and those that only one of the splits shows."""
    counts = {split.title: images_of(split.source) for split in looked}
    for split in looked:
        source, held = split.source, counts[split.title]
        if split.broken:
            # What the masks hold that cannot be read is not known.
            continue
        empty = [i for i, count in held.items() if not count]
        if len(empty) == len(held):
            findings.wrong.append(f"{split.title}: {without_images(source, empty)}")
        elif empty and split is looked[0] and dataset == "folder":
            # Their user named these classes; published data sets are used in parts.
            findings.missing.append(f"{split.title}: {without_images(source, empty)}")
        elif empty:
            findings.doubtful.append(f"{split.title}: {without_images(source, empty)}")
    for one, other in itertools.permutations(looked, 2):
        alone = [i for i, count in counts[one.title].items() if count and not counts[other.title].get(i)]
        if alone:
            names = shown(label(one.source, i) for i in alone)
            findings.doubtful.append(f"{one.title} shows {len(alone)} classes that {other.title} does not: {names}")
    try:
        refuse_clashes([split.source for split in looked])
    except UserError as error:
        findings.wrong.append(str(error))


def _span(sizes: set[tuple[int, int]]) -> str:
    if not sizes:
        return ""
    smallest, largest = min(sizes, key=lambda s: s[0] * s[1]), max(sizes, key=lambda s: s[0] * s[1])
    if smallest == largest:
        return f", {smallest[0]} x {smallest[1]} pixels"
    return f", {smallest[0]} x {smallest[1]} to {largest[0]} x {largest[1]} pixels"


def check(dataset: str, folder: Path, sample: int | None = 200) -> Findings:
    """Look at a whole data set.

    Args:
        dataset: a key of ``dataset.SOURCES``.
        folder: its folder.
        sample: how many images of each split to open; None for all. Masks are all read.

    Returns:
        What is there, missing, wrong and doubtful. Nothing is written but the cache of the labels: missing ``shapes`` are
        reported, not drawn.
    """
    findings = Findings()
    # coco-voc is made of two trees: step 0 reads the first, later steps the second.
    parts = {"coco": 0, "voc": 1} if dataset == "coco-voc" else {"": 0}
    for part, step in parts.items():
        if not (folder / part).is_dir():
            findings.missing.append(f"folder {folder / part}")
            continue
        before = len(findings.missing)
        looked: list[Looked] = []
        check_tree(part or dataset, folder / part, findings)
        if dataset in ("folder", "shapes") and not (folder / "classes.txt").is_file():
            findings.missing.append(f"file {folder / 'classes.txt'}")
        for split in SPLITS:
            try:
                # Drawn data are read as any folder: the check must not draw what is missing.
                source = make_source("folder" if dataset == "shapes" else dataset, folder, split, step)
            except UserError as error:
                # What is missing has been said already, unless the loader alone knows it.
                if len(findings.missing) == before and str(error) not in findings.wrong:
                    findings.wrong.append(str(error))
                continue
            if dataset == "shapes":
                check_number_drawn(folder, split, len(source), findings)
            looked.append(check_pictures(source, f"{part} {split}".strip(), sample, findings))
        check_classes(dataset, looked, findings)
        if len(looked) == len(SPLITS):
            try:
                refuse_shared(looked[0].source, looked[1].source)
            except UserError as error:
                findings.wrong.append(str(error))
        findings.looked += looked
    return findings


def write_page(path: Path, title: str, findings: Findings) -> None:
    """Write the page, or say in one line why not: what was found does not depend on it."""
    try:
        there, *others = findings.headed()
        text = page(title, [*others, there], findings.looked)
        # Names of files that are no UTF-8 stand in it as escapes.
        write_whole(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))
    # Whatever goes wrong with a picture must not hide the findings.
    except Exception as error:
        print(f"the page was not written: {error}", file=sys.stderr)
    else:
        print(f"page: {path}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dataset.check", description="Look at a data set on disk.")
    parser.add_argument("--dataset", required=True, choices=list(SOURCES))
    parser.add_argument("--data_root", default="data", help="folder of all data sets [data]")
    parser.add_argument("--dataset_dir", help="folder of this data set, wherever it is")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--sample", type=positive, default=200, metavar="N", help="images to open per split [200]")
    amount.add_argument("--all", action="store_true", help="open every image")
    parser.add_argument(
        "--page",
        nargs="?",
        const=PAGE,
        metavar="FILE",
        help=f"write a page of images under their masks, ten a class, suspects first [none; --page alone: {PAGE}]",
    )
    options = parser.parse_args(arguments)
    folder = default_folder(options.dataset, options.data_root, options.dataset_dir)
    findings = check(options.dataset, folder, None if options.all else options.sample)
    title = f"{options.dataset} in {folder}"
    print(f"{title}\n{findings.text()}")
    if options.page:
        write_page(Path(options.page), title, findings)
    return 0 if findings.fine else 1


if __name__ == "__main__":
    sys.exit(main())
