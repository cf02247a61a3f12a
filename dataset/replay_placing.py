"""Images into a replay tree: downloads that a filter kept, or web images of an earlier step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from captions.vocabulary import match_class
from dataset.replay_tree import IMAGES
from utils.errors import UserError
from utils.manifest import open_manifest
from utils.suffixes import IMAGE_SUFFIXES
from utils.whole import replacing

MODES = ("copy", "hardlink", "symlink")


@dataclass
class Placed:
    """What a run did: images placed now, there before, and those that are missing."""

    placed: int = 0
    before: int = 0
    missing: tuple[str, ...] = ()


def place_kept(images: Path, kept: Mapping[str, Sequence[str]], out: Path, mode: str, inside: str = IMAGES) -> Placed:
    """Place the kept images in a replay tree, ``out/<list>/image/<name>``; those that are there are left as they are.

    Args:
        images: folder with one folder for each list, which holds the images or an ``image`` folder with them.
        kept: names of each list's kept images (``captions.filter_files.read_kept``).
        out: the tree.
        mode: ``copy``, ``hardlink`` or ``symlink``.
        inside: folder of the images within a list's; empty for none, as web images of a class lie.

    Raises:
        UserError: a folder is missing, the tree holds images that are not kept, or cannot be written.
    """
    if not images.is_dir():
        raise UserError(f"{images}: no such folder; the downloaded images are expected there, one folder for each list")
    if images.resolve() == out.resolve():
        raise UserError(f"{out}: holds the downloads; name another folder for the kept images")
    for name, names in kept.items():
        _refuse_others(out / name / inside, set(names))
    done, missing = Placed(), []
    with tqdm(total=sum(map(len, kept.values())), unit="image", disable=None) as bar:
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


def place_web(manifest: Path, classes: Sequence[str], out: Path, mode: str) -> Placed:
    """Place the kept web images of classes that an earlier step learned in a replay tree, each as an original of its own.

    Args:
        manifest: web images, as a step was trained on them: a manifest or a folder; rows with ``kept`` 0 are passed over.
        classes: names of the classes; the others' images are passed over.
        out: the tree; an image lies in ``out/<class>-<number of its row>/image``.
        mode: ``copy``, ``hardlink`` or ``symlink``.

    Raises:
        UserError: the manifest cannot be read or has no kept image of a class, or the tree cannot be written.
    """
    source = open_manifest(manifest)
    done, missing = Placed(), []
    counts = dict.fromkeys(classes, 0)
    for number, row in tqdm(source.kept(), unit="image", disable=None):
        name = match_class(row["class"], classes)
        if name is None:
            continue
        file = source.file(row)
        target = out / f"{name}-{number:06}" / IMAGES / file.name
        counts[name] += 1
        if target.is_file():
            done.before += 1
        elif not file.is_file():
            missing.append(row["path"])
        else:
            _place(file, target, mode)
            done.placed += 1
    none = [name for name, count in counts.items() if not count]
    if none:
        raise UserError(f"{manifest}: has no kept image of {', '.join(none)}; name classes that it was selected for")
    done.missing = tuple(missing)
    return done


def _refuse_others(folder: Path, names: set[str]) -> None:
    if folder.is_dir():
        others = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name not in names)
        if others:
            raise UserError(f"{folder}: holds {others[0]}, which is not kept; name a new folder for other lists")


def _source(folder: Path, image: str) -> Path | None:
    return next((path for path in (folder / image, folder / IMAGES / image) if path.is_file()), None)


def _place(source: Path, target: Path, mode: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            if mode == "copy":
                shutil.copy2(source, temporary)
            elif mode == "hardlink":
                os.link(source, temporary)
            else:
                temporary.symlink_to(source.resolve())
    except OSError as error:
        raise UserError(
            f"{target}: {mode} of {source} is not possible ({error.strerror}); --mode copy always is"
        ) from error
