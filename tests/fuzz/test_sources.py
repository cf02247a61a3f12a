"""Where candidates come from: tar shards, folders, answers of searches, headers."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzz import strategies as draw
from tests.fuzz.harness import control_characters, emptied, fuzz, outcome
from utils.errors import UserError
from web import sources
from web.candidate import Candidate, Limits, Query, Refused, clean
from web.download import check_image_headers, check_status, retry_after
from web.sources import commons, openverse

MOST = 300


class Answers:
    """A client whose searches get what was drawn."""

    contact = "somebody@example.org"
    limits = Limits(max_bytes=5_000)

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self.answers, self.asked = answers, 0

    def get_json(self, url: str, params: Mapping[str, str]) -> dict[str, Any]:
        assert all(type(value) is str for value in params.values())
        self.asked += 1
        assert self.asked <= MOST, "a search without an end"
        return self.answers[min(self.asked, len(self.answers)) - 1]

    def hold(self, url: str, seconds: float) -> None:
        """No search waits here."""


def check(candidates: list[Candidate], query: Query) -> None:
    for one in candidates:
        assert one.url and all(
            type(text) is str and not control_characters(text)
            for text in (one.url, one.caption, one.licence, one.author, one.page)
        )
    assert all(not control_characters(trouble) and len(trouble) < 1000 for trouble in query.troubles), query.troubles


def searched(found: Iterator[Candidate], query: Query) -> None:
    """A search gives candidates, or is refused in a few words."""
    try:
        check([candidate for candidate, _ in zip(found, range(5000), strict=False)], query)
    except Refused as refused:
        assert not control_characters(refused.reason), refused.reason


OPENVERSE = {
    "page_count": 1,
    "results": [{"url": "https://example.org/a.jpg", "title": "A cow", "tags": [{"name": "cow"}], "license": "by", "license_version": "4.0",
                 "license_url": "https://example.org/by", "creator": "Somebody", "foreign_landing_url": "https://example.org/a"}],
}  # fmt: skip
COMMONS = {
    "continue": {"gsroffset": 50, "continue": "gsroffset||"},
    "query": {"pages": [{"index": 1, "title": "File:A.jpg", "imageinfo": [{
        "thumburl": "https://example.org/a.jpg", "url": "https://example.org/b.jpg", "descriptionurl": "https://example.org/a",
        "extmetadata": {"Artist": {"value": "<b>Somebody</b>"}, "LicenseShortName": {"value": "CC0"},
                        "ImageDescription": {"value": {"en": "A cow"}}},
    }]}]},
}  # fmt: skip
ERROR = {"error": {"code": "maxlag", "info": "Waiting for a server"}}


def answers(*valid: dict[str, Any]) -> Any:
    one = draw.swapped(st.sampled_from(valid), most=4).filter(lambda answer: isinstance(answer, dict))
    # As JSON gives it: keys are text, and what is no number is one.
    return st.lists(one.map(lambda answer: json.loads(json.dumps(answer))), min_size=1, max_size=3)


@fuzz(answers(OPENVERSE), times=200)
def test_openverse(place: Path, given: list[dict[str, Any]]) -> None:
    query = Query("cow")
    searched(openverse.search("", query, Answers(given)), query)


@fuzz(answers(COMMONS, COMMONS, ERROR), times=200)
def test_commons(place: Path, given: list[dict[str, Any]]) -> None:
    query = Query("cow")
    searched(commons.search("", query, Answers(given)), query)


@st.composite
def shards(drawn: DrawFn) -> bytes:
    """A tar file of members with odd names, kinds and sizes."""
    file = io.BytesIO()
    stem = st.sampled_from(["cow/000", "000", "cow/000.v2", "a b", "cow/../../x", "/x/y", "cow/.hidden"])
    name = st.one_of(
        st.tuples(stem, st.sampled_from([".jpg", ".jpeg", ".json", ".txt", ".PNG", ""])).map("".join), draw.words
    )
    content = st.one_of(
        draw.json_files(st.just({"class": "cow", "url": "https://example.org/a.jpg", "caption": "A cow"})),
        st.binary(max_size=20),
    )
    kind = st.sampled_from(
        [tarfile.REGTYPE] * 5
        + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]
    )
    format_ = drawn(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
    with tarfile.open(fileobj=file, mode="w", format=format_, errors="surrogateescape") as tar:
        for where, data, sort in drawn(st.lists(st.tuples(name, content, kind), max_size=4)):
            member = tarfile.TarInfo(where.encode("utf-8", "replace").decode().replace("\0", "_")[:90] or "x")
            data = data[:2000]
            member.type, member.linkname = sort, "cow/000.jpg"
            member.size = len(data) if sort == tarfile.REGTYPE else 0
            try:
                tar.addfile(member, io.BytesIO(data))
            except ValueError:
                continue
    return file.getvalue()


@fuzz(st.one_of(shards(), draw.mutated(shards(), head=2000)), times=200)
def test_shards(place: Path, content: bytes) -> None:
    path = place / "00000.tar"
    path.write_bytes(content)
    client = Answers([])
    query = Query("cow")

    def read() -> list[Candidate]:
        sources.check(f"webdataset:{path}", client)
        return list(sources.search(f"webdataset:{path}", query, client))

    found = outcome(read, path, memory=True)
    assert not isinstance(found, UserError)
    check(found, query)


@fuzz(draw.file_names, draw.file_names, st.binary(max_size=40), times=60)
def test_folders_of_images(place: Path, folder: str, name: str, caption: bytes) -> None:
    root = emptied(place / "folder")
    for where in (folder, "cow"):
        (root / where).mkdir(exist_ok=True)
        (root / where / f"{name}.jpg").write_bytes(b"x")
        (root / where / f"{name}.txt").write_bytes(caption)
    query = Query("cow")
    found = outcome(lambda: list(sources.search(f"folder:{root}", query, Answers([]))), root)
    assert not isinstance(found, UserError) and len(found) >= (not name.startswith("."))
    check(found, query)


@fuzz(
    st.one_of(
        draw.texts,
        st.integers(-5, 10**30).map(str),
        st.sampled_from(["Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 99 Oct 99999 07:28:00 +9999"]),
    )
)
def test_how_long_a_server_asks_to_wait(place: Path, header: str) -> None:
    assert retry_after(header) >= 0


VALUES = st.one_of(
    st.sampled_from([b"image/jpeg", b"noai", b"bot: noimageai, x", b"text/html; charset=x"]),
    st.binary(max_size=12),
    draw.texts.map(lambda text: text.encode("utf-8", "replace")),
)
HEADERS = st.dictionaries(st.sampled_from(["Content-Type", "X-Robots-Tag", "Retry-After", "Content-Length"]), VALUES)


@fuzz(st.integers(100, 999), HEADERS)
def test_headers(place: Path, status: int, headers: dict[str, bytes]) -> None:
    response = httpx.Response(
        status, headers=list(headers.items()), request=httpx.Request("GET", "https://example.org")
    )
    for look in (check_status, check_image_headers):
        try:
            look(response)
        except Refused as refused:
            assert not control_characters(refused.reason), refused.reason


@fuzz(st.one_of(draw.json_values, draw.texts))
def test_text_of_the_web(place: Path, text: Any) -> None:
    written = clean(text)
    assert (
        not control_characters(written.encode("utf-8").decode()) and len(written) <= 2000 and written == clean(written)
    )
