"""A list of addresses: CSV, TSV or parquet with the columns url and class, and perhaps caption, licence, author and page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from utils.cells import COMMAS, TABS, read_csv
from utils.errors import UserError
from web.candidate import Candidate, Query, clean
from web.download import Client

# Usual spellings, in lower case; of two in one file the earlier one counts.
SPELLINGS = {
    "url": ("url", "image_url", "img_url", "link", "src"),
    "class": ("class", "label", "query", "keyword", "category"),
    "caption": ("caption", "text", "alt", "alt_text", "title", "description"),
    "licence": ("licence", "license"),
    "author": ("author", "creator"),
    "page": ("page", "page_url"),
}
NEEDED = ("url", "class")
ROWS_AT_ONCE = 4096
# Bytes of so many rows, at most: a parquet file may hold a long text once and name it a million times.
BYTES_AT_ONCE = 1 << 28
# What stands for bytes that are no UTF-8.
LOST = "\ufffd"
# Lines that are not read, or not rightly, as they are told of.
WITHOUT = "lines without an address or a class"
TOO_LONG = "lines with more cells than the first one, left out (an address or text with a comma needs quotation marks)"
NO_UTF_8 = "lines with letters that are no UTF-8 and are lost; save the file as UTF-8"

Told = Counter[str]


def check(argument: str, client: Client) -> None:
    """Refuse a file that is not there, cannot be read, or lacks a column."""
    if not argument:
        raise UserError("--source list: needs a file, as in list:FILE.csv")
    next(_rows(Path(argument), Counter()), None)


def search(argument: str, query: Query, client: Client) -> Iterator[Candidate]:
    """The rows of this class, in the order of the file, which is read as a stream.

    Raises:
        UserError: the file cannot be read, or is damaged further down; names it.
    """
    told: Told = Counter()
    try:
        for row in _rows(Path(argument), told):
            # More space than one line has would not survive the manifest, by which a later run knows what it has tried.
            url, name = " ".join(row.get("url", "").split()), row.get("class", "")
            told[WITHOUT] += not url or not name
            told[NO_UTF_8] += any(LOST in text for text in row.values())
            if url and query.names(name):
                caption, licence, author, page = (clean(row.get(n)) for n in ("caption", "licence", "author", "page"))
                yield Candidate(clean(url), "list", caption=caption, licence=licence, author=author, page=page)
    finally:
        # Also where no more candidates are asked for.
        query.troubles.extend(f"{argument}: {count} {what}" for what, count in told.items() if count)


def _rows(path: Path, told: Told) -> Iterator[dict[str, str]]:
    return _parquet_rows(path) if path.suffix.lower() == ".parquet" else _text_rows(path, told)


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Our names of the columns -> their positions in the file."""
    given = [name.strip().lower() for name in header]
    doubled = [name for name in dict.fromkeys(given) if name and given.count(name) > 1]
    if doubled:
        raise UserError(f"{path}: the column {doubled[0]} stands twice in its first line; correct it")
    positions = {
        name: next(given.index(spelling) for spelling in spellings if spelling in given)
        for name, spellings in SPELLINGS.items()
        if any(spelling in given for spelling in spellings)
    }
    missing = [name for name in NEEDED if name not in positions]
    if missing:
        raise UserError(f"{path}: has no column {' or '.join(missing)}; its columns are {', '.join(header) or 'none'}")
    return positions


def _text_rows(path: Path, told: Told) -> Iterator[dict[str, str]]:
    between = TABS if path.suffix.lower() in (".tsv", ".tab") else COMMAS
    columns: dict[str, int] = {}
    lines = read_csv(
        path, "a list", between=between, errors="replace", is_row=lambda cells: "://" in cells[columns["url"]]
    )
    header = next(lines, (0, []))[1]
    columns |= _columns(path, header)
    for _, cells in lines:
        if any(cell.strip() for cell in cells[len(header) :]):
            told[TOO_LONG] += 1
        elif any(cell.strip() for cell in cells):
            yield {name: cells[position] for name, position in columns.items() if position < len(cells)}


def _parquet_rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f'{path}: parquet files need pyarrow: pip install "web-wilss[parquet]"') from error
    try:
        if os.path.lexists(path) and not os.path.isfile(path):
            raise UserError(f"{path}: cannot be read as a list: it is no regular file")
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns = _columns(path, names)
            chosen = {name: names[position] for name, position in columns.items()}
            for position in columns.values():
                if pyarrow.types.is_nested(file.schema_arrow.types[position]):
                    raise UserError(
                        f"{path}: the column {names[position]} holds lists or records; one text a row is needed"
                    )
        # Texts stay in their dictionaries, so that how much they are is known before they are written out.
        with pyarrow.parquet.ParquetFile(path, read_dictionary=list(chosen.values())) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(chosen.values())):
                texts = {name: _texts(path, batch.column(column)) for name, column in chosen.items()}
                for values in zip(*texts.values(), strict=True):
                    yield dict(zip(texts, values, strict=True))
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as a list ({str(error).partition(chr(10))[0]})") from error


def _texts(path: Path, column: Any) -> list[str]:
    """The values of a column of a batch as texts, empty where there is none."""
    import pyarrow
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        texts = column.dictionary
        if _is_text(texts.type):
            size = compute.sum(compute.take(compute.binary_length(texts), column.indices)).as_py() or 0
            if size > BYTES_AT_ONCE:
                raise UserError(
                    f"{path}: {len(column)} of its rows hold {size} bytes of text; it is no list of addresses"
                )
        column = column.dictionary_decode()
    if types.is_string(column.type) or types.is_large_string(column.type):
        # As bytes, because a file may hold texts that are no UTF-8.
        column = column.cast(pyarrow.large_binary() if types.is_large_string(column.type) else pyarrow.binary())
    return [_text(value) for value in column.to_pylist()]


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
