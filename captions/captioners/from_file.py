"""Captions that came with the images: a manifest's column, COCO's caption JSON, a JSON list, a caption file.

- manifest: ``path`` and ``caption`` columns
- COCO: ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``
- list: ``[{"file": "1.jpg", "captions": ["A dog .", ...]}]``, or ``caption`` with one of them
- caption file: lines ``name caption``

Of several captions of an image the first is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from captions.captioners.base import CaptionerSettings
from captions.formats import read_captions
from utils.distributed import Runtime
from utils.errors import UserError
from utils.manifest import open_manifest


class FileCaptioner:
    """Looks captions up, by the image's whole path where the file says it, else by its name.

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
        for path, caption in _read(source):
            self.by_path.setdefault(path.resolve(), caption)
        for path, caption in self.by_path.items():
            same = self.by_name.setdefault(path.name, caption) == caption
            self.by_name[path.name] = caption if same else None
        if not self.by_path:
            raise UserError(f"{source}: holds no captions")

    def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
        """The caption of each file, or that it has none."""
        return [self._caption(path) for path in paths]

    def _caption(self, path: Path) -> str | UserError:
        own = self.by_path.get(path.resolve())
        if own is not None:
            return own
        if path.name in self.by_name:
            named = self.by_name[path.name]
            return named if named is not None else UserError(f"{path}: {self.source} has several images of this name")
        return UserError(f"{path}: {self.source} has no caption for it")


def _read(source: Path) -> Iterable[tuple[Path, str]]:
    """(image, caption) of whatever file this is; an image's first caption comes first."""
    if source.suffix == ".json":
        return _json(source)
    if source.suffix == ".txt":
        return [(source.parent / name, caption) for name, caption in read_captions(source) if caption.strip()]
    manifest = open_manifest(source)
    if "caption" not in manifest.columns:
        raise UserError(f"{source}: has no captions; give a file that has them as --captions")
    return ((manifest.file(row), row["caption"]) for row in manifest if row["caption"].strip())


def _json(source: Path) -> Iterator[tuple[Path, str]]:
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{source}: is no JSON file ({error})") from error
    try:
        for name, captions in _coco(content) if isinstance(content, dict) else _listed(content):
            if not isinstance(name, str) or not all(isinstance(caption, str) for caption in captions):
                raise TypeError
            yield from ((source.parent / name, caption) for caption in captions[:1])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{source}: needs COCO's images and annotations, or a list of {{file, captions}} ({type(error).__name__} {error})"
        ) from error


def _coco(content: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    names = {image["id"]: image["file_name"] for image in content["images"]}
    captions: dict[Any, list[str]] = {}
    for annotation in content["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    for number, texts in captions.items():
        yield names[number], texts


def _listed(content: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    for entry in content:
        yield entry["file"], entry["captions"] if "captions" in entry else [entry["caption"]]


def make(settings: CaptionerSettings, runtime: Runtime) -> FileCaptioner:
    """The captioner of ``--captioner file``."""
    if settings.captions is None:
        raise UserError(
            "--captioner file needs --captions: a manifest, COCO's caption JSON, a JSON list or a caption file"
        )
    return FileCaptioner(settings.captions)
