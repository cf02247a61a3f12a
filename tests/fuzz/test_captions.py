"""Captions, nouns, class words, vocabularies: text files, JSON and archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from captions import formats
from captions.captioners.from_file import FileCaptioner
from captions.filter_files import read_kept, read_lists, read_originals, write_kept
from captions.vocabulary import read_vocabulary
from tests.fuzz import strategies as draw
from tests.fuzz.harness import check_message, control_characters, emptied, fuzz, outcome
from utils.errors import UserError

lists = draw.encoded(draw.lines(draw.words))
NAMES = st.one_of(st.sampled_from(["00001.jpg", "a b.png", "x"]), draw.file_names)
# A caption file has UTF-8 alone: halves of pairs are none.
whole = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@fuzz(lists, times=120)
def test_caption_files(place: Path, content: bytes) -> None:
    path = place / "captions.txt"
    path.write_bytes(content)
    for read in (formats.read_captions, formats.read_nouns, formats.read_class_words, read_originals):
        rows = outcome(lambda read=read: read(path), path, memory=True)
        assert isinstance(rows, UserError | list | dict)


@fuzz(
    st.lists(st.tuples(NAMES, whole), max_size=4),
    examples=[([("\ufeff", "a dog")],), ([("\x1d", "\xa0")],), ([("a.jpg ", "a dog")],)],
    times=120,
)
def test_captions_come_back(place: Path, rows: list[tuple[str, str]]) -> None:
    """What can be written is read back: the same names, the same captions but for line breaks."""
    path = place / "captions.txt"
    try:
        formats.write_captions(path, rows)
    except UserError as error:
        assert not control_characters(str(error))
        return
    read = formats.read_captions(path)
    assert [name for name, _ in read] == [name for name, _ in rows]
    assert [caption.split() for _, caption in read] == [caption.split() for _, caption in rows]


@fuzz(
    st.lists(st.tuples(NAMES, st.lists(st.one_of(st.just("dog"), whole, draw.texts), max_size=3)), max_size=4),
    examples=[([("\ufeff", ["dog"])],), ([("x", ["", ""])],)],
    times=120,
)
def test_nouns_come_back(place: Path, rows: list[tuple[str, list[str]]]) -> None:
    path = place / "nouns.txt"
    try:
        formats.write_nouns(path, rows)
    except (UserError, UnicodeEncodeError) as error:
        assert isinstance(error, UserError) and not control_characters(str(error))
        return
    assert formats.read_nouns(path) == [(name, [] if nouns == [formats.NOTHING] else nouns) for name, nouns in rows]


def coco(number: int) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(number)],
        "annotations": [{"image_id": i, "id": 9 + i, "caption": f"a dog {i}"} for i in range(number)],
    }


def listed(number: int) -> list[dict[str, Any]]:
    return [
        {"file": f"{i}.jpg", **({"captions": ["a dog", "a cow"]} if i % 2 else {"caption": "a dog"})}
        for i in range(number)
    ]


@fuzz(
    draw.json_files(st.one_of(st.integers(0, 3).map(coco), st.integers(0, 3).map(listed))),
    examples=[(content,) for content in draw.HUGE_JSON],
    times=200,
)
def test_caption_json(place: Path, content: bytes) -> None:
    path = place / "captions.json"
    path.write_bytes(content)
    captioner = outcome(lambda: FileCaptioner(path), path, memory=True)
    if not isinstance(captioner, UserError):
        (answer,) = captioner.caption_files([place / "0.jpg"])
        if isinstance(answer, UserError):
            check_message(answer, place / "0.jpg")


@fuzz(
    st.sampled_from(["captions.txt", "manifest.csv"]),
    st.one_of(lists, draw.encoded(draw.tables(["path", "class", "caption"]))),
)
def test_captions_of_other_files(place: Path, name: str, content: bytes) -> None:
    path = place / name
    path.write_bytes(content)
    captioner = outcome(lambda: FileCaptioner(path), path, memory=True)
    assert isinstance(captioner, UserError) or captioner.by_path


VOCABULARY = {
    "cow": {"words": ["cow", "cattle"], "kinds": ["zebu"], "not": ["cow pat"]},
    "dog": {"words": ["dog"], "kinds": [], "not": []},
}


@fuzz(draw.json_files(st.just(VOCABULARY)), examples=[(content,) for content in draw.HUGE_JSON], times=120)
def test_vocabularies(place: Path, content: bytes) -> None:
    path = place / "vocabulary.json"
    path.write_bytes(content)
    vocabulary = outcome(lambda: read_vocabulary(path), path, memory=True)
    assert isinstance(vocabulary, UserError) or all(vocabulary.words(name) for name in vocabulary.classes)


@st.composite
def archives(drawn: DrawFn) -> bytes:
    """A zip archive of noun files, of odd names and contents."""
    file = io.BytesIO()
    member = st.one_of(
        st.sampled_from(["cow.txt", "dir/dog.txt", "../up.txt", "cow.jpg"]), draw.texts.map(lambda name: f"{name}.txt")
    )
    with zipfile.ZipFile(file, "w", drawn(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for name, content in drawn(st.lists(st.tuples(member, lists), max_size=3)):
            archive.writestr(name.encode("utf-8", "replace").decode().lstrip("\0"), content)
    return file.getvalue()


@fuzz(st.one_of(draw.mutated(archives()), archives()), times=120)
def test_noun_archives(place: Path, content: bytes) -> None:
    path = place / "nouns.zip"
    path.write_bytes(content)
    read = outcome(lambda: read_lists(path), path, memory=True)
    assert isinstance(read, UserError) or read


@fuzz(lists, NAMES)
def test_kept_lists(place: Path, content: bytes, name: str) -> None:
    folder = emptied(place / "kept")
    (folder / f"{name}.txt").write_bytes(content)
    read = outcome(lambda: read_kept(folder), folder, memory=True)
    if not isinstance(read, UserError):
        assert all(Path(one).name == one for names in read.values() for one in names)


@fuzz(
    st.dictionaries(
        NAMES.filter(lambda name: not name.startswith(".")), st.lists(NAMES, max_size=3), min_size=1, max_size=2
    ),
    examples=[({"cow": ["\x0c"]},), ({"1.0": ["_\x85."]},)],
)
def test_kept_lists_come_back(place: Path, kept: dict[str, list[str]]) -> None:
    folder = emptied(place / "kept")
    folder.rmdir()
    try:
        write_kept(folder, kept)
    except UserError as error:
        assert not control_characters(str(error))
        return
    assert read_kept(folder) == {Path(f"{name}.txt").stem: names for name, names in kept.items()}
