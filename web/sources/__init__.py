"""Where candidates come from. A new source is one file and one line in ``SOURCES``.

A source's file has two functions:
    ``check(argument, client)`` raises UserError where the option cannot work (a missing file, a missing column);
    ``search(argument, query, client)`` yields candidates of one class, the best first. It raises Refused or UserError where it fails
    as a whole, and adds a sentence to ``query.troubles`` where a part of it fails, to ``query.notes`` where it leaves something out.
``argument`` is what stood behind the colon of ``--source NAME:ARGUMENT``.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module

from utils.errors import UserError
from web.candidate import Candidate, Query
from web.download import Client

SOURCES = {
    "list": "web.sources.url_list",
    "openverse": "web.sources.openverse",
    "commons": "web.sources.commons",
    "folder": "web.sources.folder",
    "webdataset": "web.sources.webdataset",
}


def check(given: str, client: Client) -> None:
    """Refuse a ``--source NAME[:ARGUMENT]`` that cannot work with a UserError."""
    name, _, argument = given.partition(":")
    if name not in SOURCES:
        raise UserError(f"--source {given}: unknown; choose one of {', '.join(SOURCES)}")
    import_module(SOURCES[name]).check(argument, client)


def search(given: str, query: Query, client: Client) -> Generator[Candidate, None, None]:
    """Candidates of a class from the source ``NAME[:ARGUMENT]``."""
    name, _, argument = given.partition(":")
    candidates: Generator[Candidate, None, None] = import_module(SOURCES[name]).search(argument, query, client)
    return candidates
