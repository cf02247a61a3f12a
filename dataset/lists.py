"""Lists that name the images of a split, and the splits that follow where there are two lists, one or none.

A line is a name (``a b``, ``000.v2``), a file's name (``a b.jpg``), a path, or an image and its mask with blanks, a tab or a comma
between them (``/JPEGImages/a b.jpg /SegmentationClassAug/a b.png``). Only the suffix of an image is no part of a name.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dataset.files import key, read_lines, shown, tell
from utils.errors import UserError, shown_text
from utils.suffixes import image_stem, is_image
from utils.texts import composed, read_text

LOG = logging.getLogger("webwilss")
SPLITS = ("train", "val")
_GAP = re.compile(r"\s*[,;]\s*|\s+")

Pair = tuple[Path, Path]


@dataclass
class Listing:
    """What a list says.

    Attributes:
        lines: lines that are neither empty nor a comment.
        pairs: image and mask of each line whose files are there.
        missing: what the other lines name.
        repeated: lines that stand more than once.
        twice: images that several different lines name.
    """

    lines: int = 0
    pairs: list[Pair] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Files:
    """Images and masks that lists name.

    Attributes:
        root: the data set's folder, from which paths start.
        images: images by ``key``.
        masks: masks by ``key``.
    """

    root: Path
    images: Mapping[str, Path]
    masks: Mapping[str, Path]

    def all(self) -> Iterator[Pair]:
        """Every image that has a mask, in the order of their names."""
        return ((image, self.masks[name]) for name, image in sorted(self.images.items()) if name in self.masks)

    def pair(self, line: str) -> Pair | list[str]:
        """Image and mask of a list's line, or what of it is not there.

        Raises:
            UserError: the line can be cut into an image and a mask in several ways.
        """
        image = self._exact(line, self.images) or self._by_name(line, self.images)
        if image is not None:
            name = key(image.name)
            if self.images.get(name) != image:
                return [line.strip()]
            return (image, self.masks[name]) if name in self.masks else [f"{line.strip()} (its mask)"]
        text = line.strip()
        cuts = [(text[: gap.start()], text[gap.end() :]) for gap in _GAP.finditer(text)]
        halves = [self._halves(*cut) for cut in cuts]
        whole = {(image, mask) for image, mask in halves if image and mask}
        if len(whole) > 1:
            raise UserError(
                f"{shown_text(text)}: can be cut into an image and a mask in several ways; write their paths"
            )
        if whole:
            return whole.pop()
        # Where one column is a file as it is written, the other is what is missing.
        exact = [(self._exact(left, self.images), self._exact(right, self.masks)) for left, right in cuts]
        half = [cut[1] if image else cut[0] for cut, (image, mask) in zip(cuts, exact, strict=True) if image or mask]
        return half[:1] or (list(cuts[0]) if len(cuts) == 1 and "/" in text else [text])

    def _halves(self, left: str, right: str) -> tuple[Path | None, Path | None]:
        """The image and the mask of two columns; those of different names only where both are files as they are written."""
        image, mask = self._exact(left, self.images), self._exact(right, self.masks)
        if image and mask and self.images.get(key(mask.name)) != mask:
            return image, mask
        image, mask = image or self._by_name(left, self.images), mask or self._by_name(right, self.masks)
        return image, mask if image is None or mask is None or key(image.name) == key(mask.name) else None

    def _exact(self, text: str, files: Mapping[str, Path]) -> Path | None:
        """The file of a path, or of a name with its suffix."""
        for spelling in dict.fromkeys((text, text.strip())):
            folders, slash, name = spelling.replace("\\", "/").rpartition("/")
            known = files.get(key(name))
            if not slash:
                if known is not None and composed(known.name) == composed(name):
                    return known
                continue
            path = self.root / folders.lstrip("/") / name
            if known == path or _exists(path):
                return path
            # A path that starts with / starts at the data set's folder, as VOC's do, or is a full one.
            if folders.startswith("/") and _exists(Path(spelling)):
                return Path(spelling)
        return None

    def _by_name(self, text: str, files: Mapping[str, Path]) -> Path | None:
        """The file of a name without its suffix, or with another one, or of a path in a data set that has been moved."""
        for spelling in dict.fromkeys((text, text.strip())):
            folders, slash, name = spelling.replace("\\", "/").rpartition("/")
            found = files.get(composed(name)) or files.get(key(name))
            if found is None:
                continue
            moved = folders.rpartition("/")[2] == found.parent.name and not any(map(is_image, folders.split()))
            if not slash or moved:
                return found
        return None

    def read(self, path: Path) -> Listing:
        """What the list at ``path`` says.

        Raises:
            UserError: it cannot be read, or a line may mean several things.
        """
        said = Listing()
        comments = []
        counts: Counter[str] = Counter()
        images: dict[Path, str] = {}
        for line in read_text(path).split("\n"):
            text = line.strip()
            if not text:
                continue
            try:
                pair = self.pair(line)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            if isinstance(pair, list) and text.startswith("#"):
                comments.append(text)
                continue
            said.lines += 1
            counts[text] += 1
            if isinstance(pair, list):
                said.missing += pair
            elif images.setdefault(pair[0], text) == text:
                said.pairs.append(pair)
            else:
                said.twice.append(pair[0].name)
        said.repeated = [text for text, count in counts.items() if count > 1]
        if comments:
            tell(f"{path}: {len(comments)} lines are comments: {shown(comments)}")
        return said

    def listed(self, path: Path) -> list[Pair]:
        """Image and mask of every line of a list; lines that stand twice count twice, and are told.

        Raises:
            UserError: the list cannot be read, is empty, names what is not there, or an image in several ways.
        """
        said = self.read(path)
        if not said.lines:
            raise UserError(f"{path}: names no image")
        if said.missing:
            raise UserError(f"{path}: lists files that are missing: {shown(said.missing)}")
        if said.twice:
            raise UserError(f"{path}: several lines name the same image: {shown(said.twice)}; leave one of them")
        if said.repeated:
            tell(f"{path}: {len(said.repeated)} lines stand more than once, and count as often: {shown(said.repeated)}")
        return said.pairs

    def split_lists(self, lists: Mapping[str, Path], split: str) -> dict[str, list[Pair]]:
        """What the lists of the splits name, those that are there.

        Only what ``split`` depends on has to be whole: with both lists, images of the other one may be missing, as they are where a
        run is only tested.

        Raises:
            UserError: as for ``listed``.
        """
        there = {name: path for name, path in lists.items() if path.is_file()}
        strict = {split} if split in there and len(there) == len(lists) else set(there)
        return {name: self.listed(path) if name in strict else self.read(path).pairs for name, path in there.items()}


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_names(path: Path) -> list[str]:
    """Names of images, one a line, without suffix.

    Raises:
        UserError: the list cannot be read or is empty.
    """
    return [image_stem(line.rpartition("/")[2]) for line in read_lines(path)]


# ---- splits -----------------------------------------------------------------------------------------------------------


def one_in_ten(name: str) -> bool:
    """Whether an image belongs to a validation split made by hash: the same on every machine, about one in ten."""
    return _digest(name)[0] % 10 == 0


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def held_out(names: Iterable[str], where: Path) -> set[str]:
    """Names of images for validation where nobody chose: ``one_in_ten``, but some for either split however few there are.

    Raises:
        UserError: one image alone, which cannot be both trained on and validated on.
    """
    ordered = sorted(names, key=lambda name: (_digest(name)[0] % 10, _digest(name)))
    if len(ordered) == 1:
        raise UserError(f"{where}: holds one image alone; there have to be others to validate on")
    chosen = {name for name in ordered if one_in_ten(name)}
    if ordered and len(chosen) in (0, len(ordered)):
        chosen = {ordered[0]} if not chosen else chosen - {ordered[-1]}
        tell(
            f"{where}: {len(ordered)} images are too few for one in ten by its name: {shown(sorted(chosen))} "
            "for validation; a list, splits/val.txt, chooses better"
        )
    return chosen


def split_pairs(
    where: Path, everything: list[Pair], lists: Mapping[str, Path], listed: Mapping[str, list[Pair]], split: str
) -> list[Pair]:
    """Image and mask files of a split: those of its list, the rest where only the other has one, else by ``held_out``.

    Args:
        where: the folder of the images, for messages.
        everything: all images of the data set.
        lists: where the list of each split is, or would be.
        listed: what those say that are there.
        split: ``train`` or ``val``.

    Raises:
        UserError: both lists name an image, or nothing is left for the split.
    """
    if len(listed) == 2:
        both = sorted({image for image, _ in listed["train"]} & {image for image, _ in listed["val"]})
        if both:
            raise UserError(
                f"{lists['train']} and {lists['val']}: both name {len(both)} images: "
                f"{shown(image.name for image in both)}; take them out of one"
            )
    if split in listed:
        return listed[split]
    if listed:
        ((_, other),) = listed.items()
        named = {image for image, _ in other}
        rest = [pair for pair in everything if pair[0] not in named]
        (there,) = (lists[name] for name in listed)
        if not rest:
            raise UserError(f"{there}: names every image; write {lists[split]} too, or take some out of it")
        LOG.info("%s is missing: all %d images that %s does not name are for %s", lists[split], len(rest), there, split)
        return rest
    chosen = held_out([image_stem(image.name) for image, _ in everything], where)
    LOG.info("%s is missing: one image in ten, chosen by its name, is for validation", lists[split])
    return [pair for pair in everything if (image_stem(pair[0].name) in chosen) == (split == "val")]
