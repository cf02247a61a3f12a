"""Shards as img2dataset writes them: tar files of KEY.jpg, KEY.json and KEY.txt, read as a stream and never unpacked.

A key may hold dots: ``000.v2.jpg`` has the key ``000.v2``. What describes ``000`` describes it too, where it has no description of its
own, because by WebDataset's convention a sample's members share the name up to the first dot.
"""

from __future__ import annotations

import glob
import json
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from utils.errors import UserError
from utils.suffixes import IMAGE_SUFFIXES, split_suffix
from web.candidate import TOLD, Candidate, Query, clean
from web.download import Client

RANGE = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}")
MOST_SHARDS = 1_000_000
CLASS_FIELDS = ("class", "query", "label")
TEXT_BYTES = 1_000_000
# Headers are names; tarfile reads them whole.
HEADER_BYTES = 1 << 16
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# How much a compressed shard may unpack to: so many times its size, or so many bytes. Images hardly compress.
MOST_TIMES, UNPACKED_BYTES = 100, 100_000_000
# What a tar file that is cut off, overwritten or made to do harm may raise.
DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, RecursionError)
DESCRIPTIONS = (".json", ".txt")

# Suffix (".json", ".txt", or the image's own) -> content.
Sample = dict[str, bytes]


@dataclass
class LeftOut:
    """Members of a shard that are not taken: the number, and the first names."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """One more."""
        self.count += 1
        if self.count <= TOLD:
            self.names.append(clean(name))

    def __str__(self) -> str:
        more = f" and {self.count - TOLD} more" if self.count > TOLD else ""
        return f"{self.count} members are left out ({', '.join(self.names)}{more})"


@dataclass
class Group:
    """The members of a shard that share their name up to the first dot: key -> its files."""

    samples: dict[str, Sample] = field(default_factory=dict)
    held: int = 0


class Member(tarfile.TarInfo):
    """A member whose header has to be whole: tarfile itself takes a damaged or missing one further down for the end of the file.

    Headers that would take much memory are damage, too: long ones, and the maps of sparse files.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Member:
        """The next member; ReadError where there is neither one nor the mark of the end."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from error

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"a sparse file at byte {tar.offset}")
        if self.type in HEADERS and self.size > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes at byte {tar.offset}")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError("a sparse file")


def check(argument: str, client: Client) -> None:
    """Refuse a pattern that names no file."""
    if not any(os.path.isfile(path) for path in _shards(argument)):
        raise UserError(
            f"--source webdataset:{argument[:200]}: names no file; give a file, a glob or a range {{00000..00010}}"
        )


def search(argument: str, query: Query, client: Client) -> Iterator[Candidate]:
    """The images of this class, shard after shard; a shard that is damaged is told and the next one read."""
    for shard in _shards(argument):
        with_class = without = 0
        left = LeftOut()
        try:
            for key, sample, own in _samples(shard, client.limits.max_bytes, left):
                fields = _fields(sample)
                name = _class(key, fields)
                with_class, without = with_class + bool(name), without + (not name)
                if query.names(name):
                    yield from _candidates(shard, key, sample, fields, own)
        except DAMAGE as error:
            reason = clean(error) or type(error).__name__
            query.troubles.append(f"{shard}: damaged or missing, read as far as it goes ({reason})")
        finally:
            # Also where no more candidates are asked for.
            if without and not with_class:
                query.troubles.append(f"{shard}: no image of it has a class, in its .json or as a folder")
            elif without:
                query.notes.append(f"{shard}: {without} images without a class are left out")
            if left.count:
                query.notes.append(f"{shard}: {left}")


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


def _samples(shard: Path, max_bytes: int, left: LeftOut) -> Iterator[tuple[str, Sample, bool]]:
    """Key and files of each sample with an image, and whether the description among them is its own.

    Members of one sample stand together; their names are looked at and never opened. Where the shard is damaged its last sample is left
    out: the description or licence of it may be what is missing.
    """
    name, group = "", Group()
    for member, content in _members(shard, max_bytes, left):
        place = PurePosixPath(member)
        stem, suffix = split_suffix(place.name)
        own = str(place.parent / place.name.partition(".")[0])
        if own != name:
            yield from _described(name, group)
            name, group = own, Group()
        elif group.held > 2 * max_bytes:
            # Names that share all up to the first dot, and no sample.
            last, sample = group.samples.popitem()
            yield from _described(name, group)
            group = Group({last: sample}, sum(map(len, sample.values())))
        sample = group.samples.setdefault(str(place.parent / stem), Sample())
        if suffix in sample:
            left.add(member)
        else:
            sample[suffix] = content
            group.held += len(content)
    yield from _described(name, group)


def _described(name: str, group: Group) -> Iterator[tuple[str, Sample, bool]]:
    """The samples of a group that hold an image, each with its own description, or else with that of the group's name."""
    shared = {suffix: content for suffix, content in group.samples.get(name, {}).items() if suffix in DESCRIPTIONS}
    for key, sample in group.samples.items():
        if sample.keys() & IMAGE_SUFFIXES:
            own = key == name or ".json" in sample
            yield key, shared | sample, own


def _members(shard: Path, max_bytes: int, left: LeftOut) -> Iterator[tuple[str, bytes]]:
    """Name and content of each image and description; ReadError where the shard unpacks to much more than images do."""
    if os.path.lexists(shard) and not os.path.isfile(shard):
        raise tarfile.ReadError("no regular file")
    most = max(MOST_TIMES * shard.stat().st_size, UNPACKED_BYTES)
    with tarfile.open(shard, "r|*", tarinfo=Member) as tar:
        while (member := tar.next()) is not None:
            # Kept, the members of a long shard would fill the memory.
            tar.members.clear()  # type: ignore[attr-defined]
            if tar.offset > most:
                raise tarfile.ReadError(f"unpacks to more than {most} bytes, {MOST_TIMES} times what images do")
            if member.isdir():
                continue
            name = PurePosixPath(member.name).name
            suffix = split_suffix(name)[1]
            limit = max_bytes if suffix in IMAGE_SUFFIXES else TEXT_BYTES if suffix in DESCRIPTIONS else -1
            file = (
                None if name.startswith(".") or not member.isreg() or member.size > limit else tar.extractfile(member)
            )
            if file is None:
                left.add(member.name)
            else:
                yield member.name, file.read()


def _fields(sample: Sample) -> dict[str, Any]:
    try:
        fields = json.loads(sample.get(".json", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _class(key: str, fields: dict[str, Any]) -> str:
    named = (fields[name] for name in CLASS_FIELDS if isinstance(fields.get(name), str) and fields[name])
    return next(named, PurePosixPath(key).parent.name)


def _candidates(shard: Path, key: str, sample: Sample, fields: dict[str, Any], own: bool) -> Iterator[Candidate]:
    caption = sample.get(".txt", b"").decode("utf-8", "replace") or fields.get("caption")
    for number, suffix in enumerate(sorted(sample.keys() & IMAGE_SUFFIXES)):
        # An address that describes several images is that of none but the first.
        url = fields.get("url") if own and not number else None
        yield Candidate(
            clean(url or f"{shard.resolve().as_uri()}#{key}{suffix}"),
            "webdataset",
            sample[suffix],
            caption=clean(caption),
            licence=clean(fields.get("licence") or fields.get("license")),
            author=clean(fields.get("author") or fields.get("creator")),
            page=clean(fields.get("page")),
        )
