"""Wikimedia Commons, by the search of its API; thumbnails are downloaded, as Wikimedia asks for."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from utils.errors import UserError
from web.candidate import Candidate, Query, Refused, clean
from web.download import Client, check_address

API = "https://commons.wikimedia.org/w/api.php"
# Thumbnails come in fixed widths only; 500 pixels is also what the images of VOC have.
PARAMS = {
    "action": "query",
    "format": "json",
    "formatversion": "2",
    "generator": "search",
    "gsrnamespace": "6",
    "gsrlimit": "50",
    "prop": "imageinfo",
    "iiprop": "url|size|mime|extmetadata",
    "iiurlwidth": "500",
    "maxlag": "5",
}
# Seconds that Wikimedia asks for when its databases lag behind, and how often we wait so long.
LAG_PAUSE = 5.0
LAG_TRIES = 5
# The search ends after 10,000 results; so do we, whatever an answer promises.
MOST_ANSWERS = 200
LONGEST_HTML = 10_000


def check(argument: str, client: Client) -> None:
    """Refuse an address of the API that is none, and an anonymous client."""
    check_address("--source commons", argument or API)
    if not client.contact:
        raise UserError("--source commons: Wikimedia wants to know whom to write to; give --contact MAIL_OR_PAGE")


def search(argument: str, query: Query, client: Client) -> Iterator[Candidate]:
    """All that the search finds, best first.

    Raises:
        Refused: the search does not answer, or answers with an error.
    """
    params = PARAMS | {"gsrsearch": f"{query.text} filetype:bitmap"}
    following: dict[str, str] = {}
    for _ in range(MOST_ANSWERS):
        answer = _ask(argument or API, params | following, client)
        result = answer.get("query", {})
        pages = result.get("pages", []) if isinstance(result, dict) else []
        if not isinstance(pages, list):
            raise Refused("answer without a list of pages")
        for page in sorted((p for p in pages if isinstance(p, dict)), key=_rank):
            info = page.get("imageinfo")
            if isinstance(info, list) and info and isinstance(info[0], dict):
                candidate = _candidate(info[0])
                if candidate.url:
                    yield candidate
        told = answer.get("continue")
        further = {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else None
        if further is None or further == following:
            return
        following = further


def _rank(page: dict[str, Any]) -> int:
    index = page.get("index")
    return index if isinstance(index, int) else 0


def _ask(api: str, params: dict[str, str], client: Client) -> dict[str, Any]:
    for _ in range(LAG_TRIES):
        answer = client.get_json(api, params)
        error = answer.get("error")
        if not isinstance(error, dict):
            return answer
        if error.get("code") != "maxlag":
            raise Refused(f"answer with an error: {clean(error.get('info') or error.get('code'))}")
        client.hold(api, LAG_PAUSE)
    raise Refused("answer with an error: its databases lag behind; try again later")


def _candidate(info: dict[str, Any]) -> Candidate:
    extra = info.get("extmetadata")

    def text(key: str) -> str:
        entry = extra.get(key) if isinstance(extra, dict) else None
        return _without_tags(entry.get("value")) if isinstance(entry, dict) else ""

    licence = clean(f"{text('LicenseShortName')} {text('LicenseUrl')}")
    return Candidate(
        clean(info.get("thumburl") or info.get("url")),
        "commons",
        caption=text("ImageDescription") or text("ObjectName"),
        licence=licence,
        author=text("Artist"),
        page=clean(info.get("descriptionurl")),
    )


def _without_tags(value: object) -> str:
    if isinstance(value, dict):  # Descriptions may come in several languages.
        value = value.get("en") or next(iter(value.values()), "")
    # The search for tags takes the square of the length where none is closed.
    return clean(html.unescape(re.sub(r"<[^>]*>", " ", str(value or "")[:LONGEST_HTML])))
