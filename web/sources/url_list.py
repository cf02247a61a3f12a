"""A list of addresses: CSV, TSV or parquet with the columns url and class, and perhaps caption, licence, author and page."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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


def check(argument: str, client: Client) -> None:
    """Refuse a file that is not there, cannot be read, or lacks a column."""
    if not argument:
        raise UserError("--source list: needs a file, as in list:FILE.csv")
    next(_rows(Path(argument)), None)


def search(argument: str, query: Query, client: Client) -> Iterator[Candidate]:
    """The rows of this class, in the order of the file, which is read as a stream.

    Raises:
        UserError: the file cannot be read, or is damaged further down; names it.
    """
    without = 0
    for row in _rows(Path(argument)):
        # More space than one line has would not survive the manifest, by which a later run knows what it has tried.
        url = " ".join(str(row.get("url") or "").split())
        without += not url or not row.get("class")
        if url and query.names(str(row.get("class") or "")):
            caption, licence, author, page = (clean(row.get(name)) for name in ("caption", "licence", "author", "page"))
            yield Candidate(clean(url), "list", caption=caption, licence=licence, author=author, page=page)
    if without:
        query.troubles.append(f"{argument}: {without} lines without an address or a class")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return _parquet_rows(path) if path.suffix.lower() == ".parquet" else _text_rows(path)


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Our names of the columns -> their positions in the file."""
    given = [name.strip().lower() for name in header]
    positions = {
        name: next(given.index(spelling) for spelling in spellings if spelling in given)
        for name, spellings in SPELLINGS.items()
        if any(spelling in given for spelling in spellings)
    }
    missing = [name for name in NEEDED if name not in positions]
    if missing:
        raise UserError(f"{path}: has no column {' or '.join(missing)}; its columns are {', '.join(header) or 'none'}")
    return positions


def _text_rows(path: Path) -> Iterator[dict[str, Any]]:
    tabs = path.suffix.lower() in (".tsv", ".tab")
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            # Files of tabs are written without quotes: a quotation mark in them is a letter.
            reader = csv.reader(file, "excel-tab", quoting=csv.QUOTE_NONE) if tabs else csv.reader(file)
            columns = _columns(path, next(reader, []))
            for row in reader:
                if row:
                    yield {name: row[position] for name, position in columns.items() if position < len(row)}
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a list ({error})") from error


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f'{path}: parquet files need pyarrow: pip install "web-wilss[parquet]"') from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns = _columns(path, names)
            chosen = {name: names[position] for name, position in columns.items()}
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(chosen.values())):
                for row in batch.to_pylist():
                    yield {name: row[column] for name, column in chosen.items()}
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as a list ({str(error).partition(chr(10))[0]})") from error
