"""Shards as img2dataset writes them: tar files of KEY.jpg, KEY.json and KEY.txt, read as a stream and never unpacked."""

from __future__ import annotations

import glob
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from utils.errors import UserError
from utils.suffixes import IMAGE_SUFFIXES
from web.candidate import Candidate, Query, clean
from web.download import Client

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_SHARDS = 1_000_000
CLASS_FIELDS = ("class", "query", "label")
TEXT_BYTES = 1_000_000
# What a tar file that is cut off or overwritten may raise.
DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError)

# Suffix (".json", ".txt", or the image's own) -> content.
Sample = dict[str, bytes]


class Member(tarfile.TarInfo):
    """A member whose header has to be whole: tarfile itself takes a damaged or missing one further down for the end of the file."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Member:
        """The next member; ReadError where there is neither one nor the mark of the end."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from error


def check(argument: str, client: Client) -> None:
    """Refuse a pattern that names no file."""
    if not any(path.is_file() for path in _shards(argument)):
        raise UserError(
            f"--source webdataset:{argument}: names no file; give a file, a glob or a range {{00000..00010}}"
        )


def search(argument: str, query: Query, client: Client) -> Iterator[Candidate]:
    """The images of this class, shard after shard; a shard that is damaged is told and the next one read."""
    for shard in _shards(argument):
        with_class = without = 0
        try:
            for key, sample in _samples(shard, client.limits.max_bytes):
                fields = _fields(sample)
                name = _class(key, fields)
                with_class, without = with_class + bool(name), without + (not name)
                if query.names(name):
                    yield from _candidates(shard, key, sample, fields)
        except DAMAGE as error:
            reason = str(error) or type(error).__name__
            query.troubles.append(f"{shard}: damaged or missing, read as far as it goes ({reason})")
        if without and not with_class:
            query.troubles.append(f"{shard}: no image of it has a class, in its .json or as a folder")


def _shards(pattern: str) -> Iterator[Path]:
    match = RANGE.search(pattern)
    if match is None:
        yield from (Path(name) for name in sorted(glob.glob(pattern)) or [pattern])
        return
    first, last = match.group(1), match.group(2)
    if int(last) - int(first) >= MOST_SHARDS:
        raise UserError(f"--source webdataset:{pattern}: more than {MOST_SHARDS} shards")
    for number in range(int(first), int(last) + 1):
        yield Path(f"{pattern[: match.start()]}{number:0{len(first)}d}{pattern[match.end() :]}")


def _samples(shard: Path, max_bytes: int) -> Iterator[tuple[str, Sample]]:
    """Key and files of each sample; members of one key stand together. Members' names are looked at and never opened.

    Where the shard is damaged its last sample is left out: the description or licence of it may be what is missing.
    """
    key, sample = "", Sample()
    with tarfile.open(shard, "r|*", tarinfo=Member) as tar:
        for member in tar:
            place = PurePosixPath(member.name)
            stem, dot, suffix = place.name.partition(".")
            suffix = "." + suffix.lower()
            image = suffix in IMAGE_SUFFIXES
            if not member.isreg() or not dot or not (image or suffix in (".json", ".txt")):
                continue
            if (own := str(place.parent / stem)) != key:
                if sample:
                    yield key, sample
                key, sample = own, Sample()
            file = tar.extractfile(member) if member.size <= (max_bytes if image else TEXT_BYTES) else None
            if file is not None:
                sample[suffix] = file.read()
    if sample:
        yield key, sample


def _fields(sample: Sample) -> dict[str, Any]:
    try:
        fields = json.loads(sample.get(".json", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _class(key: str, fields: dict[str, Any]) -> str:
    named = (fields[name] for name in CLASS_FIELDS if isinstance(fields.get(name), str) and fields[name])
    return next(named, PurePosixPath(key).parent.name)


def _candidates(shard: Path, key: str, sample: Sample, fields: dict[str, Any]) -> Iterator[Candidate]:
    caption = sample.get(".txt", b"").decode("utf-8", "replace") or fields.get("caption")
    for suffix in sorted(sample.keys() & IMAGE_SUFFIXES):
        yield Candidate(
            clean(fields.get("url") or f"{shard.resolve().as_uri()}#{key}{suffix}"),
            "webdataset",
            sample[suffix],
            caption=clean(caption),
            licence=clean(fields.get("licence") or fields.get("license")),
            author=clean(fields.get("author") or fields.get("creator")),
            page=clean(fields.get("page")),
        )
