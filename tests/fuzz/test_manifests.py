"""Tables: manifests, lists of addresses, results, confusion matrices, and what a collection left."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from results.confusion import read_confusion, write_confusion
from results.rows import NEEDED, append_results, names_cell, read_runs, read_table
from tests.fuzz import strategies as draw
from tests.fuzz.harness import emptied, fuzz, outcome
from tests.web.server import make_client
from utils import manifest
from utils.errors import UserError
from utils.manifest import COLUMNS, Writer, open_manifest
from web import store
from web.candidate import Query
from web.fingerprints import COLUMNS as PRINTS
from web.fingerprints import Fingerprints
from web.sources import url_list

CLIENT = make_client()
MANIFEST = ["path", "class", "kept", "labels", "caption"]
# As a table that others' programs read: one line, what UTF-8 can hold.
plain = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=12)
# Not with the stroke of Windows, which is read as that of a path where no file of such a name is there.
names = plain.map(lambda text: "x" + text.replace("\\", "_"))


@fuzz(draw.encoded(draw.tables(MANIFEST)), times=200)
def test_manifests(place: Path, content: bytes) -> None:
    path = place / "manifest.csv"
    path.write_bytes(content)

    def read() -> list[Any]:
        opened = open_manifest(path)
        outcome(lambda: list(opened.kept()), path)
        return [(row, opened.file(row)) for row in opened]

    rows = outcome(read, path, memory=True)
    assert isinstance(rows, UserError) or all(row["path"] and row["class"] for row, _ in rows)


@fuzz(
    st.lists(st.fixed_dictionaries(dict.fromkeys(("path", "class"), names)), max_size=4),
    st.lists(plain, max_size=4),
)
def test_manifests_come_back(place: Path, rows: list[dict[str, str]], captions: list[str]) -> None:
    """What is written is read: paths as they are, other text with one blank for all space."""
    path = place / "manifest.csv"
    columns = ("path", "class", "caption")
    given = [row | {"caption": caption} for row, caption in zip(rows, captions, strict=False)]
    manifest.write(path, columns, given)
    once = list(open_manifest(path))
    assert once == [
        {key: row[key] if key == "path" else " ".join(row[key].split()) for key in columns} for row in given
    ]
    path.unlink()
    with Writer(path, columns) as writer:
        for row in given:
            writer.write(row)
    assert list(open_manifest(path)) == once


@fuzz(draw.encoded(draw.tables(list(COLUMNS))))
def test_a_writer_goes_on_with_a_file(place: Path, content: bytes) -> None:
    path = place / "manifest.csv"
    path.write_bytes(content)
    writer = outcome(lambda: Writer(path), path, memory=True)
    if not isinstance(writer, UserError):
        writer.write({"path": "a.jpg", "class": "cow"})
        writer.close()
        assert path.read_bytes().endswith(b"a.jpg,cow,,,,,,,,,,,\n")


def addresses(path: Path) -> Iterator[Any]:
    url_list.check(str(path), CLIENT)
    query = Query("cow")
    for candidate in url_list.search(str(path), query, CLIENT):
        assert candidate.url and not any(control in candidate.url for control in "\0\n\r\x1b")
        yield candidate
    assert all(trouble.isprintable() for trouble in query.troubles)


URLS = st.one_of(st.sampled_from(["https://example.org/a.jpg", "cow"]), draw.words)


@fuzz(
    st.sampled_from(["list.csv", "list.tsv", "list.txt"]),
    draw.encoded(draw.tables(["url", "class", "caption", "licence"], URLS)),
    times=150,
)
def test_address_lists(place: Path, name: str, content: bytes) -> None:
    path = place / name
    path.write_bytes(content)
    outcome(lambda: list(addresses(path)), path, memory=True)


@st.composite
def parquets(drawn: DrawFn) -> bytes:
    """A parquet file of odd columns and types; text may be no UTF-8."""
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    values = st.one_of(
        st.lists(draw.words.map(lambda text: text.encode("utf-8", "replace").decode()), min_size=2, max_size=2).map(pyarrow.array),
        st.lists(st.binary(max_size=6), min_size=2, max_size=2).map(lambda rows: pyarrow.array(rows, pyarrow.binary())),
        st.lists(st.binary(max_size=6), min_size=2, max_size=2).map(
            lambda rows: pyarrow.array(rows, pyarrow.binary()).view(pyarrow.string())
        ),
        st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=2, max_size=2).map(lambda rows: pyarrow.array(rows, pyarrow.int64())),
        st.just(pyarrow.array([["a"], []])), st.just(pyarrow.array([{"a": 1}, None])), st.just(pyarrow.nulls(2)),
    )  # fmt: skip
    names = drawn(st.lists(st.sampled_from(["url", "class", "caption", "URL", "x", "license"]), min_size=1, max_size=4))
    file = io.BytesIO()
    parquet.write_table(pyarrow.table([drawn(values) for _ in names], names), file)
    return file.getvalue()


@fuzz(st.one_of(parquets(), draw.mutated(parquets(), head=4000)))
def test_parquet_lists(place: Path, content: bytes) -> None:
    path = place / "list.parquet"
    path.write_bytes(content)
    outcome(lambda: list(addresses(path)), path, memory=True)


ROW = {
    "time": "2026-01-01T00:00:00", "name": "mib-0", "dataset": "shapes", "task": "5-3", "protocol": "disjoint", "step": "1", "seed": "0",
    "old_iou": "0.5", "new_iou": "0.25", "all_iou": "0.4", "harmonic": "0.3", 
    "old_classes": '["red"]', "iou background": "0.9", "iou red": "0.5",
}  # fmt: skip
RESULT = st.one_of(st.sampled_from(list(ROW.values())), draw.words)


@fuzz(
    draw.encoded(draw.tables(list(ROW), RESULT)),
    # A carriage return inside a cell was written back without quotes: one row became two.
    examples=[((",".join(ROW) + "\n" + '"a\rb"' + "," * (len(ROW) - 1) + "\n").encode(),)],
    times=150,
)
def test_results(place: Path, content: bytes) -> None:
    """A table that is read; a row that is added to it, or the table as it was."""
    path = emptied(place / "results") / "shapes-5-3.csv"
    path.write_bytes(content)
    read = outcome(lambda: read_table(path), path, memory=True)
    runs = outcome(lambda: read_runs([place]), path)
    assert isinstance(runs, UserError) or all(run.experiment and run.scores for run in runs)
    added = outcome(lambda: append_results(path, ROW), path)
    if isinstance(added, UserError):
        assert path.read_bytes() == content
    else:
        assert not isinstance(read, UserError)
        columns, rows = read_table(path)
        assert (
            {key: rows[-1][key] for key in ROW} == ROW
            and set(read[0]) <= set(columns)
            and len(rows) == len(read[1]) + 1
        )


def fields(**cells: Any) -> Any:
    return st.fixed_dictionaries({key: st.one_of(st.just(value), draw.words) for key, value in (ROW | cells).items()})


@fuzz(st.lists(fields(), min_size=1, max_size=3), times=150)
def test_odd_cells_of_results(place: Path, rows: list[dict[str, str]]) -> None:
    path = emptied(place / "results") / "shapes-5-3.csv"
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(rows)
    runs = outcome(lambda: read_runs([place]), path)
    assert isinstance(runs, UserError) or len(runs) == len(rows)


@fuzz(st.lists(st.fixed_dictionaries(dict.fromkeys(ROW, plain)), min_size=1, max_size=3))
def test_rows_come_back(place: Path, rows: list[dict[str, str]]) -> None:
    path = emptied(place / "results") / "shapes-5-3.csv"
    for row in rows:
        append_results(path, row)
    columns, read = read_table(path)
    assert set(columns) == set(ROW) >= set(NEEDED) and read == rows


@fuzz(
    st.lists(plain, min_size=1, max_size=3, unique=True),
    draw.words,
    examples=[(["a"], "9" * 5000), (["a"], "[" * 100_000)],
)
def test_old_classes_come_back(place: Path, names: list[str], odd: str) -> None:
    path = emptied(place / "results") / "shapes-5-3.csv"
    append_results(path, ROW | {f"iou {name}": "0.5" for name in names} | {"old_classes": names_cell(names)})
    (run,) = read_runs([place])
    assert run.old_classes == tuple(names) and all(run.classes[name] == 0.5 for name in names)
    append_results(path, ROW | {"old_classes": odd.encode("utf-8", "replace").decode()})
    runs = outcome(lambda: read_runs([place]), path)
    assert isinstance(runs, UserError) or len(runs) == 2


@fuzz(
    draw.encoded(
        draw.tables(
            ["true", "background", "red"], st.one_of(st.sampled_from(["background", "red", "3", "0"]), draw.words)
        )
    )
)
def test_confusion(place: Path, content: bytes) -> None:
    path = place / "confusion_0.csv"
    path.write_bytes(content)
    read = outcome(lambda: read_confusion(path), path, memory=True)
    assert isinstance(read, UserError) or read[0].shape == (len(read[1]), len(read[1]))


@fuzz(st.lists(plain, min_size=1, max_size=4, unique=True), st.integers(0, 2**62))
def test_confusion_comes_back(place: Path, names: list[str], largest: int) -> None:
    matrix = np.arange(len(names) ** 2).reshape(len(names), -1) + largest
    write_confusion(place / "confusion_0.csv", matrix, names)
    read, read_names = read_confusion(place / "confusion_0.csv")
    assert read_names == names and np.array_equal(read, matrix)


OURS = ["cow/00001.jpg", "cow", "https://example.org/a.jpg", "100", "file was removed: cow/00001.jpg"]
ours = st.one_of(st.sampled_from(OURS), draw.words)


@fuzz(
    st.sampled_from([manifest.FILE, store.REJECTED]),
    draw.encoded(st.one_of(draw.tables(list(COLUMNS), ours), draw.tables(list(store.REJECTED_COLUMNS), ours))),
    times=150,
)
def test_collections(place: Path, name: str, content: bytes) -> None:
    """What an earlier run left, damaged: the next one goes on, or says which file it cannot read and leaves it as it is."""
    out = emptied(place / "web")
    (out / "cow").mkdir()
    (out / "cow/00001.jpg").touch()
    (out / name).write_bytes(content)
    opened = outcome(lambda: store.Store(out, {"cow": "cow"}), out)
    if not isinstance(opened, UserError):
        opened.close()
        again = store.Store(out, {"cow": "cow"})
        assert again.paths == opened.paths and again.kept == opened.kept
        again.close()
    assert (out / "cow/00001.jpg").is_file()


PRINT = st.one_of(st.sampled_from(["a.jpg", "10", "1", "ab" * 32, "0" * 16, "00" * 192]), draw.words)


@fuzz(draw.encoded(draw.tables(list(PRINTS), PRINT)), times=120)
def test_fingerprints(place: Path, content: bytes) -> None:
    path = place / store.FINGERPRINTS
    path.write_bytes(content)
    prints = outcome(lambda: Fingerprints(path), path, memory=True)
    if not isinstance(prints, UserError):
        prints.close()
