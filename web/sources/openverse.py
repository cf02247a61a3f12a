"""Openverse: openly licensed images of many collections, by its public search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from web.candidate import Candidate, Query, Refused, clean
from web.download import Client, check_address

API = "https://api.openverse.org/v1/images/"
# The most that an anonymous search is given at once; and where we stop, whatever number of pages is promised.
PAGE_SIZE = 20
MOST_PAGES = 500
# Answers to a page that is deeper than an anonymous search may go.
PAST_THE_END = (400, 401, 403, 404)


def check(argument: str, client: Client) -> None:
    """Refuse an address of the API that is none."""
    check_address("--source openverse", argument or API)


def search(argument: str, query: Query, client: Client) -> Iterator[Candidate]:
    """All that the search finds, as deep as it lets us page.

    Raises:
        Refused: the search does not answer.
    """
    page = 0
    pages = 1
    while page < min(pages, MOST_PAGES):
        page += 1
        params = {"q": query.text, "page": str(page), "page_size": str(PAGE_SIZE)}
        try:
            answer = client.get_json(argument or API, params)
        except Refused as refused:
            if page > 1 and refused.status in PAST_THE_END:
                return  # Anonymous searches may not page to the end; what they gave is kept.
            raise
        results = answer.get("results")
        if not isinstance(results, list) or not isinstance(answer.get("page_count", 1), int):
            raise Refused("answer without results")
        pages = answer.get("page_count", 1) if results else page
        yield from (_candidate(result) for result in results if isinstance(result, dict) and result.get("url"))


def _candidate(result: dict[str, Any]) -> Candidate:
    given = result.get("tags")
    tags = [tag.get("name") for tag in given if isinstance(tag, dict)] if isinstance(given, list) else []
    licence = " ".join(str(result[key]) for key in ("license", "license_version", "license_url") if result.get(key))
    return Candidate(
        clean(result["url"]),
        "openverse",
        caption=clean(", ".join(str(text) for text in (result.get("title"), *tags) if text)),
        licence=clean(licence),
        author=clean(result.get("creator")),
        page=clean(result.get("foreign_landing_url")),
    )
