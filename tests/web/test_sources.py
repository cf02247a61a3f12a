"""Where candidates come from: lists, folders, tar shards, and searches whose answers may be anything."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.web.server import Answer, LyingServer, as_json, make_client, photo
from utils.errors import UserError
from web import sources
from web.candidate import Candidate, Query, Refused
from web.sources import commons, openverse, webdataset

CLIENT = make_client(max_bytes=50_000)


def search(given: str, name: str = "cow", query: Query | None = None) -> list[Candidate]:
    return list(sources.search(given, query or Query(name), CLIENT))


def urls(candidates: list[Candidate]) -> list[str]:
    return [candidate.url for candidate in candidates]


def refuse(given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        sources.check(given, CLIENT)


def test_unknown_source() -> None:
    refuse("imagenet", "openverse")


# Lists.

CSV = 'URL,Label,Caption,Licence\nhttp://a/1,cow,"a cow, brown\nand white",CC0\n\nhttp://a/2,Sheep,,\n http://a/3 ,Cow,x,y\n'


def test_a_list_with_commas(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("\ufeff" + CSV, encoding="utf-8")
    sources.check(f"list:{path}", CLIENT)
    found = search(f"list:{path}")
    assert urls(found) == ["http://a/1", "http://a/3"]
    assert found[0] == Candidate("http://a/1", "list", caption="a cow, brown and white", licence="CC0")
    assert urls(search(f"list:{path}", "sheep")) == ["http://a/2"]


def test_a_list_with_tabs(tmp_path: Path) -> None:
    path = tmp_path / "list.tsv"
    path.write_text('class\turl\ttext\ncow\thttp://a/1\t5" high "cow\ncow\thttp://a/2\tx\n', encoding="utf-8")
    assert [(c.url, c.caption) for c in search(f"list:{path}")] == [("http://a/1", '5" high "cow'), ("http://a/2", "x")]


def test_a_parquet_list(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "list.parquet"
    table = {"url": ["http://a/1", None, "http://a/2"], "class": ["cow", "cow", "potted plant"], "n": [1, 2, 3]}
    pq.write_table(pa.table(table), path)
    sources.check(f"list:{path}", CLIENT)
    query = Query("potted_plant")
    assert urls(search(f"list:{path}", query=query)) == ["http://a/2"]
    assert query.troubles == [f"{path}: 1 lines without an address or a class"]

    path.write_bytes(path.read_bytes()[:-100])
    refuse(f"list:{path}", "cannot be read as a list")
    pq.write_table(pa.table({"url": ["x"]}), path)
    refuse(f"list:{path}", "no column class; its columns are url")


def test_lines_that_lack_something_are_told(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "class,url\ncow,http://a/1\ncow\n,http://a/2\ncow, \ncow,http://a/3,further,things\ncow,http://a/4,,\n,,\n"
    )
    query = Query("cow")
    assert urls(search(f"list:{path}", query=query)) == ["http://a/1", "http://a/4"]
    assert query.troubles == [
        f"{path}: 3 lines without an address or a class",
        f"{path}: 1 lines with more cells than the first one, left out (an address or text with a comma needs quotation marks)",
    ]


def test_addresses_stay_what_the_manifest_keeps(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("url,class\nhttp://a/x  y,cow\n")
    assert urls(search(f"list:{path}")) == ["http://a/x y"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column url or class; its columns are none"),
        (b"url,name\n", "no column class"),
        (b"\x00\xff\xfe", "no column"),
        (b"url;class\nhttp://a/1;cow\n", "semicolons stand between its cells; save it as CSV"),
        (b"url\tclass\nhttp://a/1\tcow\n", "tabs stand between"),
        ("url,class\nhttp://a/1,cow\n".encode("utf-16"), "UTF-16"),
        (b"url,class,URL \nhttp://a/1,cow,http://a/2\n", "the column url stands twice"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    refuse(f"list:{path}", said)


def test_lists_that_are_not_there(tmp_path: Path) -> None:
    refuse("list", "needs a file")
    refuse(f"list:{tmp_path / 'none.csv'}", "none.csv: cannot be read")
    refuse(f"list:{tmp_path}", "cannot be read")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("x" * (1 << 21), "cannot be read as a list .*quotation mark not closed"),
        ("http://a/2,cow\nhttp://a/3,cow\n", "a quotation mark is not closed, it swallows the line 'http://a/3,cow'"),
        ('http://a/2,cow\nhttp://a/3,"cow', "cannot be read as a list .*quotation mark not closed"),
        ('http://a/2,cow\nhttp://a/3,cow\n"', "cannot be read as a list .*quotation mark not closed"),
    ],
)
def test_a_list_that_is_damaged_further_down(tmp_path: Path, damage: str, said: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text('url,class\nhttp://a/1,cow\n"' + damage + '",cow\n')
    sources.check(f"list:{path}", CLIENT)
    candidates = sources.search(f"list:{path}", Query("cow"), CLIENT)
    assert next(candidates).url == "http://a/1"
    with pytest.raises(UserError, match=rf"list\.csv line 3: {said}"):
        next(candidates)


def test_a_list_that_a_spreadsheet_saved(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes('\ufeff"url","class","caption"\r\nhttp://a/1,cow,"brown,\r\nbig, and wild"\r\n,,\r\n'.encode())
    assert search(f"list:{path}") == [Candidate("http://a/1", "list", caption="brown, big, and wild")]


def test_letters_that_are_lost_are_told(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "url,class,caption\nhttp://a/1,cow,für\nhttp://a/2,cow,x\nhttp://a/3,Kälber,x\n", encoding="latin-1"
    )
    query = Query("cow")
    assert urls(search(f"list:{path}", query=query)) == ["http://a/1", "http://a/2"]
    assert query.troubles == [f"{path}: 2 lines with letters that are no UTF-8 and are lost; save the file as UTF-8"]


def test_a_pipe_is_no_list(tmp_path: Path) -> None:
    for name in ("list.csv", "list.parquet"):
        os.mkfifo(tmp_path / name)
        refuse(f"list:{tmp_path / name}", "no regular file")


def test_parquet_texts_that_are_no_utf_8(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "list.parquet"
    raw = pa.array([b"k\xe4lbchen", b"b\xc3\xa4r", None], pa.binary())
    for kind, binary in ((pa.string(), pa.binary()), (pa.large_string(), pa.large_binary())):
        caption = pa.Array.from_buffers(kind, 3, raw.cast(binary).buffers())
        table = {"url": ["http://a/1", "http://a/2", "http://a/3"], "class": pa.array([b"cow"] * 3), "caption": caption}
        pq.write_table(pa.table(table), path)
        query = Query("cow")
        found = search(f"list:{path}", query=query)
        assert [c.caption for c in found] == ["k\ufffdlbchen", "bär", ""]
        assert query.troubles == [
            f"{path}: 1 lines with letters that are no UTF-8 and are lost; save the file as UTF-8"
        ]


def test_parquet_columns_that_hold_no_texts(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"url": [["http://a/1"]], "class": ["cow"]}), path)
    refuse(f"list:{path}", "the column url holds lists or records")
    pq.write_table(pa.table({"url": [b"http://a/1"], "class": [7]}), path)
    assert urls(search(f"list:{path}", "7")) == ["http://a/1"]


def test_a_parquet_file_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "list.parquet"
    caption = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4000, np.int32)), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"url": ["http://a/1"] * 4000, "class": ["cow"] * 4000, "caption": caption}), path)
    assert path.stat().st_size < 2_000_000
    refuse(f"list:{path}", "4000 of its rows hold 4000000000 bytes of text")


# Folders.


def test_a_folder(tmp_path: Path) -> None:
    for name in ("Potted Plant/b.jpg", "Potted Plant/a.PNG", "potted_plant/c d.webp", "cow/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(photo(1))
    for name in ("notes.md", ".hidden.jpg"):
        (tmp_path / "Potted Plant" / name).write_text("x")
    (tmp_path / "Potted Plant" / "folder.jpg").mkdir()
    (tmp_path / "Potted Plant" / "b.txt").write_text("a plant\nin a pot")
    found = search(f"folder:{tmp_path}", "potted_plant")
    assert [Path(str(c.content)).name for c in found] == ["a.PNG", "b.jpg", "c d.webp"]
    assert [c.caption for c in found] == ["", "a plant in a pot", ""]
    assert found[2].url == (tmp_path / "potted_plant/c d.webp").resolve().as_uri()
    assert search(f"folder:{tmp_path}", "sheep") == []


def test_what_a_folder_holds_counts_more_than_its_name(tmp_path: Path) -> None:
    (tmp_path / "cow/inside").mkdir(parents=True)
    for name in ("a.jfif", "b.jpg_large", "c", "d.b.JPE"):
        (tmp_path / "cow" / name).write_bytes(photo(1))
    for name in ("a.txt", "d.b.txt", "notes\x1b.md", "other.txt"):
        (tmp_path / "cow" / name).write_text(f"of {name}")
    os.mkfifo(tmp_path / "cow/pipe.jpg")
    (tmp_path / "cow/loop.jpg").symlink_to("loop.jpg")
    query = Query("cow")
    found = search(f"folder:{tmp_path}", query=query)
    assert [(Path(str(c.content)).name, c.caption) for c in found] == [
        ("a.jfif", "of a.txt"), ("b.jpg_large", ""), ("c", ""), ("d.b.JPE", "of d.b.txt"),
    ]  # fmt: skip
    assert query.troubles == []
    assert query.notes == [
        f"5 things in {tmp_path}/cow are no images and are left out (inside, loop.jpg, notes .md and 2 more)"
    ]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    refuse("folder", "no such folder")
    refuse(f"folder:{tmp_path}/none", "no such folder")
    refuse(f"folder:{tmp_path}/{'x' * 300}", "no such folder")


def test_a_caption_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cow").mkdir()
    (tmp_path / "cow/a.jpg").touch()
    (tmp_path / "cow/a.txt").touch()

    def refused(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    query = Query("cow")
    assert len(search(f"folder:{tmp_path}", query=query)) == 1
    assert query.troubles == [f"{tmp_path}/cow/a.txt: the caption cannot be read (Permission denied)"]


# Tar shards.


def shard(members: list[tuple[str, bytes]], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sample(key: str, seed: int, **fields: Any) -> list[tuple[str, bytes]]:
    """As img2dataset writes it."""
    content = {"key": key, "status": "success", "error_message": None} | fields
    caption = str(fields.get("caption", "")).encode()
    return [(f"{key}.jpg", photo(seed)), (f"{key}.json", json.dumps(content).encode()), (f"{key}.txt", caption)]


def test_shards(tmp_path: Path) -> None:
    one = sample("000000000", 1, url="http://a/1", caption="a cow", query="cow", license="CC BY", creator="me")
    one += sample("000000001", 2, url="http://a/2", label="sheep")
    (tmp_path / "00000.tar").write_bytes(shard(one))
    (tmp_path / "00001.tar").write_bytes(shard([("cow/x.png", photo(3)), ("sheep/y.jpg", photo(4))], "w:gz"))
    pattern = f"webdataset:{tmp_path}/{{00000..00001}}.tar"
    sources.check(pattern, CLIENT)
    found = search(pattern)
    assert found[0] == Candidate("http://a/1", "webdataset", photo(1), "a cow", "CC BY", "me")
    assert found[1].url == f"{(tmp_path / '00001.tar').resolve().as_uri()}#cow/x.png" and found[1].content == photo(3)
    assert len(found) == 2
    assert len(search(f"webdataset:{tmp_path}/*.tar", "sheep")) == 2


def test_a_damaged_shard_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    members = [member for n in range(4) for member in sample(f"cow/{n}", n, url=f"http://a/{n}")]
    whole = shard(members)
    (tmp_path / "0.tar").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "1.tar").write_bytes(b"no tar file at all" * 100)
    (tmp_path / "2.tar").write_bytes(gzip.compress(whole)[:-2000])
    (tmp_path / "4.tar").write_bytes(shard(sample("cow/z", 9, url="http://a/z")))
    query = Query("cow")
    found = search(f"webdataset:{tmp_path}/{{0..4}}.tar", query=query)
    assert urls(found)[:2] == ["http://a/0", "http://a/1"] and urls(found)[-1] == "http://a/z"
    assert [trouble.partition(": damaged or missing")[0] for trouble in query.troubles] == [
        str(tmp_path / f"{n}.tar") for n in range(4)
    ]


def test_no_cut_of_a_shard_goes_unnoticed(tmp_path: Path) -> None:
    whole = shard([member for n in range(3) for member in sample(f"cow/{n}", n)])
    end = whole.rstrip(b"\0")
    path = tmp_path / "0.tar"
    for length in range(0, len(end) + 1, 256):
        path.write_bytes(whole[:length])
        query = Query("cow")
        assert len(search(f"webdataset:{path}", query=query)) <= 3
        assert len(query.troubles) == 1 and "damaged" in query.troubles[0], length


def test_a_header_that_is_overwritten_is_not_the_end(tmp_path: Path) -> None:
    content = bytearray(shard([member for n in range(3) for member in sample(f"cow/{n}", n)]))
    at = bytes(content).index(b"cow/1.json")
    content[at : at + 512] = b"x" * 512
    path = tmp_path / "0.tar"
    path.write_bytes(bytes(content))
    query = Query("cow")
    assert len(search(f"webdataset:{path}", query=query)) == 1
    assert query.troubles[0].startswith(f"{path}: damaged") and f"at byte {at}" in query.troubles[0]


def test_no_damage_of_a_shard_ends_in_another_error(tmp_path: Path) -> None:
    """Shards with random bytes in random headers."""
    whole = shard([member for n in range(3) for member in sample(f"cow/{n}", n)])
    rng = np.random.default_rng(0)
    headers = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    path = tmp_path / "0.tar"
    for turn in range(150):
        content = bytearray(whole)
        at = int(rng.choice(headers))
        for offset in rng.integers(0, 160 if turn % 2 else 512, 6):
            content[at + offset] = rng.integers(0, 256)
        # The sum is mended, so that the header is believed.
        content[at + 148 : at + 156] = b" " * 8
        content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
        path.write_bytes(bytes(content))
        assert len(search(f"webdataset:{path}")) <= 3


def test_members_with_hostile_names_and_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(photo(7))
    path = tmp_path / "shards" / "0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"cow/link{kind.decode()}.jpg")
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
        for name in ("../../cow/up.jpg", "/etc/cow/root.jpg", "cow/.jpg", "cow/noend", "cow/\n.jpg", "cow/huge.jpg"):
            content = bytes(60_000) if "huge" in name else photo(1)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    before = sorted(tmp_path.rglob("*"))
    found = search(f"webdataset:{path}")
    assert [c.url.rpartition("#")[2] for c in found] == ["../../cow/up.jpg", "/etc/cow/root.jpg", "cow/ .jpg"]
    assert all(c.content == photo(1) for c in found)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"class": 3, "url": 5}'])
def test_odd_descriptions(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(shard([("cow/1.jpg", photo(1)), ("cow/1.json", content)]))
    assert len(search(f"webdataset:{path}")) == 1


def test_shards_without_classes(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(shard(sample("0001", 1)))
    query = Query("cow")
    assert search(f"webdataset:{path}", query=query) == []
    assert query.troubles == [f"{path}: no image of it has a class, in its .json or as a folder"]


def test_names_with_dots(tmp_path: Path) -> None:
    """Each image is taken, with the description of its own name before that of its sample."""
    path = tmp_path / "0.tar"
    path.write_bytes(
        shard(
            [
                *sample("cow/000", 1, url="http://a/0", caption="plain"),
                *sample("cow/000.v2", 2, url="http://a/2", caption="second"),
                ("cow/000.left.JPG", photo(3)),
                ("cow/000.png", photo(4)),
                ("cow/a.b.c.jfif", photo(5)),
                ("cow/a.b.c.txt", b"of abc"),
                ("cow/a.b.txt", b"of ab"),
                ("cow/1.5 m.jpg", photo(6)),
            ]
        )
    )
    query = Query("cow")
    found = search(f"webdataset:{path}", query=query)
    uri = path.resolve().as_uri()
    assert [(c.url, c.caption, c.content) for c in found] == [
        ("http://a/0", "plain", photo(1)), (f"{uri}#cow/000.png", "plain", photo(4)), ("http://a/2", "second", photo(2)),
        (f"{uri}#cow/000.left.jpg", "plain", photo(3)), (f"{uri}#cow/a.b.c.jfif", "of abc", photo(5)),
        (f"{uri}#cow/1.5 m.jpg", "", photo(6)),
    ]  # fmt: skip
    assert query.troubles == query.notes == []


def test_many_names_that_share_their_beginning_are_not_held_together(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(shard([m for n in range(60) for m in sample(f"cow/IMG.{n}", n, caption=f"c {n}")]))
    held = []
    real = webdataset._described

    def described(name: str, group: webdataset.Group) -> Any:
        held.append(group.held)
        return real(name, group)

    query = Query("cow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webdataset, "_described", described)
        found = list(sources.search(f"webdataset:{path}", query, make_client(max_bytes=len(photo(0)) * 3)))
    assert [c.caption for c in found] == [f"c {n}" for n in range(60)]
    assert max(held) < 8 * len(photo(0))


def test_members_that_are_left_out_are_told(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    members = [
        ("cow/1.jpg", photo(1)),
        ("cow/1.cls", b"3"),
        ("cow/._1.jpg", b"x"),
        ("cow/2.jpg", bytes(60_000)),
        ("3.jpg", photo(3)),
    ]
    path.write_bytes(shard([*members, ("cow/1.jpg", photo(9))]))
    query = Query("cow")
    assert [c.content for c in search(f"webdataset:{path}", query=query)][:1] == [photo(1)]
    assert query.notes == [
        f"{path}: 1 images without a class are left out",
        f"{path}: 3 members are left out (cow/1.cls, cow/._1.jpg, cow/2.jpg)",
    ]
    assert query.troubles == []


def test_shards_that_unpack_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind the bound is neither unpacked nor kept."""
    monkeypatch.setattr(webdataset, "UNPACKED_BYTES", 3_000_000)
    path = tmp_path / "0.tar"
    whole = shard([*sample("cow/1", 1, url="http://a/1"), ("cow/zero.bin", bytes(20_000_000)), *sample("cow/2", 2)])
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        path.write_bytes(compress(whole))
        assert path.stat().st_size < 40_000
        query = Query("cow")
        assert urls(search(f"webdataset:{path}", query=query)) == ["http://a/1"][:0]
        assert len(query.troubles) == 1 and "unpacks to more than" in query.troubles[0]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_headers_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("cow/1.jpg")
    header.type, header.size = kind, 1 << 32
    path = tmp_path / "0.tar"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    query = Query("cow")
    assert search(f"webdataset:{path}", query=query) == []
    assert len(query.troubles) == 1 and ("a header of" in query.troubles[0] or "sparse" in query.troubles[0])


def test_headers_without_end(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 512
    path = tmp_path / "0.tar"
    path.write_bytes((header.tobuf(tarfile.GNU_FORMAT) + b"n" * 512) * 3000)
    query = Query("cow")
    assert search(f"webdataset:{path}", query=query) == [] and len(query.troubles) == 1


def test_a_pipe_is_no_shard(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    (tmp_path / "1.tar").write_bytes(shard(sample("cow/1", 1)))
    query = Query("cow")
    assert len(search(f"webdataset:{tmp_path}/*.tar", query=query)) == 1
    assert query.troubles == [f"{tmp_path}/0.tar: damaged or missing, read as far as it goes (no regular file)"]


def test_patterns_that_name_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(f"webdataset:{tmp_path}/*.tar", "names no file")
    refuse(f"webdataset:{tmp_path}/{{0..3}}.tar", "names no file")
    refuse(f"webdataset:{tmp_path}/{{0..{'9' * 5000}}}.tar", "names no file|no such|too long")
    monkeypatch.setattr(webdataset, "MOST_SHARDS", 10)
    refuse(f"webdataset:{tmp_path}/{{0..10}}.tar", "more than 10 shards")


# Openverse.


def openverse_page(first: int, count: int, pages: int) -> Answer:
    results = [
        {
            "url": f"http://a/{n}.jpg", "title": f"Cow {n}", "tags": [{"name": "grass"}, {"name": None}, "x"], "creator": "Ann",
            "license": "by", "license_version": "2.0", "license_url": "http://cc/by", "foreign_landing_url": f"http://a/page{n}",
        }
        for n in range(first, first + count)
    ]  # fmt: skip
    return as_json({"result_count": 99, "page_count": pages, "page_size": 20, "results": results})


def paged(*answers: Answer) -> Callable[[dict[str, str]], Answer]:
    return lambda query: answers[min(int(query.get("page", "1")), len(answers)) - 1]


def test_openverse(server: LyingServer) -> None:
    server.routes["/v1/images/"] = paged(openverse_page(0, 3, 2), openverse_page(3, 1, 2))
    found = search(f"openverse:{server.url}/v1/images/", "potted_plant")
    assert found[0] == Candidate(
        "http://a/0.jpg", "openverse", None, "Cow 0, grass", "by 2.0 http://cc/by", "Ann", "http://a/page0"
    )
    assert urls(found) == [f"http://a/{n}.jpg" for n in range(4)]
    assert [asked.query for asked in server.asked] == [
        {"q": "potted plant", "page": str(page), "page_size": "20"} for page in (1, 2)
    ]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_openverse_ends_where_anonymous_searches_end(server: LyingServer, status: int) -> None:
    server.routes["/"] = paged(openverse_page(0, 2, 50), Answer(status=status))
    assert len(search(f"openverse:{server.url}/")) == 2
    server.routes["/"] = Answer(status=status)
    with pytest.raises(Refused, match=f"HTTP {status}"):
        search(f"openverse:{server.url}/")


@pytest.mark.parametrize("status", [429, 500])
def test_openverse_that_breaks_down_has_not_ended(server: LyingServer, status: int) -> None:
    server.routes["/"] = paged(openverse_page(0, 2, 50), Answer(status=status))
    with pytest.raises(Refused, match=f"HTTP {status}"):
        search(f"openverse:{server.url}/")


@pytest.mark.parametrize("answer", [{}, {"results": {}}, {"results": [], "page_count": "9"}])
def test_openverse_without_results(server: LyingServer, answer: dict[str, Any]) -> None:
    server.routes["/"] = as_json(answer)
    with pytest.raises(Refused, match="answer without results"):
        search(f"openverse:{server.url}/")


def test_openverse_with_odd_results(server: LyingServer) -> None:
    odd = [
        None,
        3,
        {},
        {"url": ""},
        {"url": 5, "tags": 5},
        {"url": "http://a/1", "title": ["x"], "tags": [{"name": {}}], "license": 3},
    ]
    server.routes["/"] = as_json({"page_count": 1, "results": odd})
    assert urls(search(f"openverse:{server.url}/")) == ["5", "http://a/1"]


def test_openverse_that_promises_pages_without_end(server: LyingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openverse, "MOST_PAGES", 4)
    server.routes["/"] = openverse_page(0, 1, 10**9)
    assert len(search(f"openverse:{server.url}/")) == 4
    server.routes["/"] = paged(openverse_page(0, 1, 10**9), openverse_page(0, 0, 10**9))
    assert len(search(f"openverse:{server.url}/")) == 1


@pytest.mark.parametrize("source", ["openverse", "commons"])
def test_an_address_of_a_search_that_is_none(source: str) -> None:
    refuse(f"{source}:ftp://x", f"--source {source}: ftp://x")


# Wikimedia Commons.


def commons_page(*numbers: int, following: dict[str, Any] | None = None) -> Answer:
    pages = [
        {
            "index": n,
            "imageinfo": [
                {
                    "url": f"http://c/{n}.jpg",
                    "thumburl": f"http://c/500px-{n}.jpg",
                    "descriptionurl": f"http://c/File:{n}",
                    "extmetadata": {
                        "ImageDescription": {"value": "A <b>cow</b> &amp; a <a href='x'>calf</a>"},
                        "LicenseShortName": {"value": "CC BY-SA 4.0"},
                        "LicenseUrl": {"value": "http://cc/by-sa"},
                        "Artist": {"value": "<span>Ann</span>"},
                    },
                }
            ],
        }
        for n in numbers
    ]
    return as_json({"query": {"pages": pages}} | ({"continue": following} if following else {}))


def test_commons(server: LyingServer) -> None:
    first = commons_page(2, 1, following={"gsroffset": 50, "continue": "gsroffset||"})
    server.routes["/api"] = lambda query: commons_page(51) if "gsroffset" in query else first
    found = search(f"commons:{server.url}/api", "potted_plant")
    assert urls(found) == [f"http://c/500px-{n}.jpg" for n in (1, 2, 51)]
    assert found[0] == Candidate(
        "http://c/500px-1.jpg",
        "commons",
        None,
        "A cow & a calf",
        "CC BY-SA 4.0 http://cc/by-sa",
        "Ann",
        "http://c/File:1",
    )
    assert server.asked[0].query["gsrsearch"] == "potted plant filetype:bitmap"
    assert server.asked[0].query["maxlag"] and server.asked[1].query["gsroffset"] == "50"


def test_commons_finds_nothing(server: LyingServer) -> None:
    server.routes["/"] = as_json({"batchcomplete": True})
    assert search(f"commons:{server.url}/") == []


def test_commons_that_lags(server: LyingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commons, "LAG_PAUSE", 0.01)
    lag = as_json({"error": {"code": "maxlag", "info": "Waiting for a database"}})
    server.routes["/"] = [lag, lag, commons_page(1)]
    assert len(search(f"commons:{server.url}/")) == 1
    server.routes["/"] = lag
    with pytest.raises(Refused, match="databases lag"):
        search(f"commons:{server.url}/")


def test_commons_answers_with_an_error(server: LyingServer) -> None:
    server.routes["/"] = as_json({"error": {"code": "badvalue", "info": "Unrecognized\x1b[31m value"}})
    with pytest.raises(Refused, match=r"answer with an error: Unrecognized \[31m value"):
        search(f"commons:{server.url}/")


@pytest.mark.parametrize("pages", [5, {"1": {}}, "x"])
def test_commons_without_pages(server: LyingServer, pages: object) -> None:
    server.routes["/"] = as_json({"query": {"pages": pages}})
    with pytest.raises(Refused, match="answer without a list of pages"):
        search(f"commons:{server.url}/")


def test_commons_with_odd_pages(server: LyingServer) -> None:
    odd = [
        None,
        3,
        {},
        {"imageinfo": []},
        {"imageinfo": [5]},
        {"imageinfo": [{}]},
        {"index": "x", "imageinfo": [{"url": "http://c/1"}]},
    ]
    odd += [
        {
            "imageinfo": [
                {"url": "http://c/2", "extmetadata": {"Artist": 5, "ImageDescription": {"value": {"de": "Kuh"}}}}
            ]
        }
    ]
    server.routes["/"] = as_json({"query": {"pages": odd}})
    found = search(f"commons:{server.url}/")
    assert [(c.url, c.caption) for c in found] == [("http://c/1", ""), ("http://c/2", "Kuh")]


def test_commons_that_goes_on_without_end(server: LyingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.routes["/"] = commons_page(1, following={"gsroffset": 50})
    assert len(search(f"commons:{server.url}/")) == 2, "the same continuation twice is the end"
    server.asked.clear()
    monkeypatch.setattr(commons, "MOST_ANSWERS", 5)
    server.routes["/"] = lambda query: commons_page(1, following={"gsroffset": len(server.asked)})
    assert len(search(f"commons:{server.url}/")) == 5


def test_a_text_of_open_tags_takes_no_hours(server: LyingServer) -> None:
    extra = {"ImageDescription": {"value": "<" * 2_000_000}}
    server.routes["/"] = as_json({"query": {"pages": [{"imageinfo": [{"url": "http://c/1", "extmetadata": extra}]}]}})
    assert urls(search(f"commons:{server.url}/")) == ["http://c/1"]


def test_commons_wants_a_contact() -> None:
    with pytest.raises(UserError, match="--contact"):
        sources.check("commons", make_client(""))
    sources.check("commons", CLIENT)


def test_the_folder_that_is_spelled_as_the_class_counts_alone(tmp_path: Path) -> None:
    for name in ("type_1", "type1", "HER2+", "HER2-", "α-cell", "β-cell"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(photo(0))
    for name in ("type1", "HER2+", "α-cell"):
        query = Query(name)
        found = [candidate.content for candidate in sources.search(f"folder:{tmp_path}", query, CLIENT)]
        assert found == [tmp_path / name / "1.jpg"]
        assert bool(query.notes) == (name == "type1")
