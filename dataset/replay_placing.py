"""Images into a replay tree: downloads that a filter kept, or web images of an earlier step."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from captions.vocabulary import match_class
from dataset.files import shown
from dataset.replay_tree import IMAGES, claimed_tree
from utils.errors import UserError
from utils.manifest import open_manifest
from utils.spelling import fits, on_disk
from utils.suffixes import IMAGE_SUFFIXES, is_image
from utils.whole import replacing

LOG = logging.getLogger("webwilss")
MODES = ("copy", "hardlink", "symlink")


@dataclass
class Placed:
    """What a run did: images placed now, there before, those that are missing, and those that are not a manifest's to name."""

    placed: int = 0
    before: int = 0
    missing: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()


def place_kept(images: Path, kept: Mapping[str, Sequence[str]], out: Path, mode: str, inside: str = IMAGES) -> Placed:
    """Place the kept images in a replay tree, ``out/<list>/image/<name>``; those that are there are left as they are.

    Args:
        images: folder with one folder for each list, which holds the images or an ``image`` folder with them.
        kept: names of each list's kept images (``captions.filter_files.read_kept``).
        out: the tree.
        mode: ``copy``, ``hardlink`` or ``symlink``.
        inside: folder of the images within a list's; empty for none, as web images of a class lie.

    Raises:
        UserError: a folder is missing, the tree holds images that are not kept, cannot be written or is in use.
    """
    if not images.is_dir():
        raise UserError(f"{images}: no such folder; the downloaded images are expected there, one folder for each list")
    if images.resolve() == out.resolve():
        raise UserError(f"{out}: holds the downloads; name another folder for the kept images")
    done, missing = Placed(), []
    with _claimed(out), tqdm(total=sum(map(len, kept.values())), unit="image", disable=None) as bar:
        for name, names in kept.items():
            _refuse_others(out / name / inside, set(names))
        for name, names in kept.items():
            for image in names:
                bar.update()
                target = out / name / inside / image
                source = _source(images / name, image)
                if target.is_file():
                    done.before += 1
                elif source is None:
                    missing.append(f"{name}/{image}")
                else:
                    _place(source, target, mode)
                    done.placed += 1
    done.missing = tuple(missing)
    return done


def place_web(manifest: Path, classes: Sequence[str], out: Path, mode: str, *, anywhere: bool = False) -> Placed:
    """Place the kept web images of classes that an earlier step learned in a replay tree, each as an original of its own.

    A manifest may come from anybody, and its rows may name any file of the machine. Placed are image files in its own folder, and
    those that lie as web images do, in a folder named for their class; links are followed first.

    Args:
        manifest: web images, as a step was trained on them: a manifest or a folder; rows with ``kept`` 0 are passed over.
        classes: names of the classes; the others' images are passed over.
        out: the tree; an image lies in ``out/<class>-<number of its row>/image``.
        mode: ``copy``, ``hardlink`` or ``symlink``.
        anywhere: whether files of other folders are placed, too.

    Raises:
        UserError: the manifest cannot be read or has no kept image of a class, or the tree cannot be written or is in use.
    """
    source = open_manifest(manifest)
    done, missing, outside = Placed(), [], []
    counts = dict.fromkeys(classes, 0)
    others: Counter[str] = Counter()
    with _claimed(out):
        for number, row in tqdm(source.kept(), unit="image", disable=None):
            name = match_class(row["class"], classes)
            if name is None:
                others[row["class"]] += 1
                continue
            file = source.file(row)
            target = out / web_original(name, number) / IMAGES / file.name
            counts[name] += 1
            if target.is_file():
                done.before += 1
            elif not is_image(file) or not file.is_file():
                missing.append(row["path"])
            elif not anywhere and not _may_be_named(file, source.root, row["class"]):
                outside.append(row["path"])
            else:
                _place(file, target, mode)
                done.placed += 1
    if others:
        LOG.info("%s: %d images of other classes passed over: %s", manifest, others.total(), shown(others))
    none = [name for name, count in counts.items() if not count]
    if none:
        raise UserError(f"{manifest}: has no kept image of {', '.join(none)}; name classes that it was selected for")
    done.missing, done.outside = tuple(missing), tuple(outside)
    return done


def _may_be_named(file: Path, root: Path, class_name: str) -> bool:
    """Whether a file lies in a manifest's folder, or in one named for its class."""
    real = Path(os.path.realpath(file))
    return real.is_relative_to(os.path.realpath(root)) or bool(fits(class_name, (real.parent.name,)))


def web_original(class_name: str, number: int) -> str:
    """The folder of a web image in a replay tree, as an original of its own.

    Args:
        class_name: what it was searched for.
        number: of its row among all of its manifest, from 0.
    """
    return f"{folder_name(class_name)}-{number:06}"


def folder_name(class_name: str) -> str:
    """A class name that is one folder, and no hidden one, which a tree would not show."""
    name = class_name.replace("/", "_").replace("\0", "_")
    return f"_{name}" if name.startswith(".") else name


@contextmanager
def _claimed(tree: Path) -> Iterator[None]:
    """Make a tree and keep other runs out of it."""
    try:
        tree.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{tree}: cannot be written ({error.strerror})") from error
    with claimed_tree(tree):
        yield


def _refuse_others(folder: Path, names: set[str]) -> None:
    if folder.is_dir():
        others = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name not in names)
        if others:
            raise UserError(f"{folder}: holds {others[0]}, which is not kept; name a new folder for other lists")


def _source(folder: Path, image: str) -> Path | None:
    folder = on_disk(folder)
    paths = (on_disk(path) for path in (folder / image, folder / IMAGES / image))
    return next((path for path in paths if path.is_file()), None)


def _place(source: Path, target: Path, mode: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            if mode == "copy":
                shutil.copy2(source, temporary)
            elif mode == "hardlink":
                # Of a link the file itself: a second name of a relative link would lead nowhere.
                os.link(source.resolve(), temporary)
            else:
                temporary.symlink_to(source.resolve())
    except OSError as error:
        raise UserError(
            f"{target}: {mode} of {source} is not possible ({error.strerror}); --mode copy always is"
        ) from error
