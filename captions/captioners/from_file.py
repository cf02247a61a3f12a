"""Captions that came with the images: a manifest's column, COCO's caption JSON, a JSON list, a caption file.

- manifest: ``path`` and ``caption`` columns
- COCO: ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``
- list: ``[{"file": "1.jpg", "captions": ["A dog .", ...]}]``, or ``caption`` with one of them; ``image`` and others for ``file``
- caption file: lines ``name caption``

Of several captions of an image the first is taken. What a file holds besides is left out, counted and told: captions of images that
it does not list, captions that are empty or no text.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from captions.captioners.base import CaptionerSettings
from captions.formats import read_captions
from utils.distributed import Runtime
from utils.errors import UserError
from utils.manifest import open_manifest
from utils.spelling import slashed
from utils.texts import composed

LOG = logging.getLogger("webwilss")
# What lists of other tools call the image and its captions.
FILE_KEYS = ("file", "file_name", "filename", "image", "image_path", "path")
CAPTION_KEYS = ("captions", "caption")
SHAPES = "COCO's images and annotations, or a list of {file, captions}"
WITHOUT_TEXT = "captions are empty or no text"


class FileCaptioner:
    """Looks captions up, by the image's whole path where the file says it, else by its name, in whatever Unicode form.

    Args:
        source: the file, or a folder with a manifest.

    Raises:
        UserError: the file cannot be read, or holds no captions.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.origin = {"captioner": "file", "captions": source.name}
        self.by_path: dict[Path, str] = {}
        # None where images of this name have different captions.
        self.by_name: dict[str, str | None] = {}
        left: Counter[str] = Counter()
        for path, caption in _read(source, left):
            try:
                self.by_path.setdefault(path.resolve(), caption)
            except (ValueError, OSError, RuntimeError):
                left["names are no file's"] += 1
        for path, caption in self.by_path.items():
            for name in {path.name, composed(path.name)}:
                same = self.by_name.setdefault(name, caption) == caption
                self.by_name[name] = caption if same else None
        reasons = ", ".join(f"{count} {reason}" for reason, count in left.items())
        if not self.by_path:
            raise UserError(f"{source}: holds no captions" + (f" ({reasons})" if reasons else ""))
        if reasons:
            LOG.warning("%s: left out: %s", source, reasons)

    def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
        """The caption of each file, or that it has none."""
        return [self._caption(path) for path in paths]

    def _caption(self, path: Path) -> str | UserError:
        own = self.by_path.get(path.resolve())
        if own is not None:
            return own
        name = path.name if path.name in self.by_name else composed(path.name)
        if name in self.by_name:
            named = self.by_name[name]
            return named if named is not None else UserError(f"{path}: {self.source} has several images of this name")
        return UserError(f"{path}: {self.source} has no caption for it")


def _read(source: Path, left: Counter[str]) -> Iterable[tuple[Path, str]]:
    """(image, caption) of whatever file this is; an image's first caption comes first. ``left`` counts what is left out, by why."""
    if source.suffix.lower() == ".json":
        return _json(source, left)
    if source.suffix.lower() == ".txt":
        rows = [(source.parent / slashed(source.parent, name), caption) for name, caption in read_captions(source)]
    else:
        manifest = open_manifest(source)
        if "caption" not in manifest.columns:
            raise UserError(f"{source}: has no captions; give a file that has them as --captions")
        rows = [(manifest.file(row), row["caption"]) for row in manifest]
    found = [(path, caption) for path, caption in rows if caption.strip()]
    if len(found) < len(rows):
        left[WITHOUT_TEXT] += len(rows) - len(found)
    return found


def _json(source: Path, left: Counter[str]) -> Iterator[tuple[Path, str]]:
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_twins)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{source}: is no JSON file ({error})") from error
    except RecursionError as error:
        raise UserError(f"{source}: is nested too deeply; it needs {SHAPES}") from error
    if isinstance(content, list):
        rows = _listed(source, content, left)
    else:
        rows = _coco(source, content, left)
    for name, captions in rows:
        texts = [text for text in captions if isinstance(text, str) and text.strip()]
        if len(texts) < len(captions):
            left[WITHOUT_TEXT] += len(captions) - len(texts)
        if texts:
            # Half a character, as JSON can hold it, is none that a file takes.
            yield source.parent / slashed(source.parent, name), texts[0].encode("utf-8", "replace").decode()


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twin[:100]!r} stands twice in one place")
    return content


def _coco(source: Path, content: Any, left: Counter[str]) -> Iterator[tuple[str, list[Any]]]:
    """Image and captions of COCO's JSON."""
    images, annotations = (content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations"))
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise UserError(f"{source}: needs {SHAPES}")
    names: dict[str, str] = {}
    for image in images:
        number, name = (image.get(key) if isinstance(image, dict) else None for key in ("id", "file_name"))
        number = _id(number)
        if number is None or not isinstance(name, str) or not name:
            left["images have no id or file_name"] += 1
        elif names.setdefault(number, name) != name:
            two = f"{names[number][:100]!r} and {name[:100]!r}"
            raise UserError(f"{source}: id {number[:100]} is that of two images, {two}; correct one")
    captions: dict[str, list[Any]] = {}
    for annotation in annotations:
        number = _id(annotation.get("image_id")) if isinstance(annotation, dict) else None
        if number is None or number not in names:
            left["captions are of images that it does not list"] += 1
        else:
            captions.setdefault(number, []).append(annotation.get("caption"))
    for number, texts in captions.items():
        yield names[number], texts


def _id(value: object) -> str | None:
    """An id, which some tools write as text or with a decimal point; None where it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) else None


def _listed(source: Path, content: list[Any], left: Counter[str]) -> Iterator[tuple[str, list[Any]]]:
    """Image and captions of a JSON list."""
    strange = 0
    for entry in content:
        keys = entry if isinstance(entry, dict) else {}
        name = next((keys[key] for key in FILE_KEYS if isinstance(keys.get(key), str) and keys[key]), None)
        captions = next((keys[key] for key in CAPTION_KEYS if key in keys), None)
        if name is None or not any(key in keys for key in CAPTION_KEYS):
            strange += 1
            continue
        yield name, captions if isinstance(captions, list) else [captions]
    if strange and strange == len(content):
        raise UserError(f"{source}: needs {SHAPES}")
    if strange:
        left["entries have no file or no captions"] += strange


def make(settings: CaptionerSettings, runtime: Runtime) -> FileCaptioner:
    """The captioner of ``--captioner file``."""
    if settings.captions is None:
        raise UserError(
            "--captioner file needs --captions: a manifest, COCO's caption JSON, a JSON list or a caption file"
        )
    return FileCaptioner(settings.captions)
