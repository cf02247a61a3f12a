"""A server on this machine that answers as it is told, lies included; and pictures to serve."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image

from web.candidate import Limits
from web.download import Client


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        body: what is sent.
        status: HTTP status.
        kind: content type; empty for none.
        headers: further headers.
        length: what Content-Length says: the truth (True), nothing (False), or this number.
        pause: seconds after each of ``pieces`` pieces.
        pieces: into how many pieces the body is cut.
        endless: the body is repeated until nobody listens.
    """

    body: bytes = b""
    status: int = 200
    kind: str = "image/jpeg"
    headers: dict[str, str] = field(default_factory=dict)
    length: bool | int = True
    pause: float = 0.0
    pieces: int = 1
    endless: bool = False


@dataclass(frozen=True)
class Asked:
    """One request: the path alone, the query's values, the headers in lower case."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


# An answer, several in turn of which the last one stays, or what makes one of the query.
Route = Answer | Sequence[Answer] | Callable[[dict[str, str]], Answer]


class LyingServer:
    """Serves ``routes`` by path on ``host``; ``asked`` notes the requests in order."""

    def __init__(self, host: str = "127.0.0.1", wrap: Callable[[Any], Any] | None = None) -> None:
        self.routes: dict[str, Route] = {}
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self.http = ThreadingHTTPServer((host, 0), partial(_Handler, self))
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        if wrap is not None:
            self.http.socket = wrap(self.http.socket)
        self.url = f"http{'s' if wrap else ''}://{host}:{self.port}"
        self._thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        route = self.routes.get(path, Answer(status=404))
        if isinstance(route, Answer):
            return route
        if callable(route):
            return route(query)
        turn = self.paths().count(path) - 1
        return route[min(turn, len(route) - 1)]

    def close(self) -> None:
        self.over.set()
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: LyingServer, *args: Any) -> None:
        self.liar = server
        super().__init__(*args)

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        # A proxy is asked for whole addresses.
        path = self.path if parts.netloc else parts.path
        query = dict(parse_qsl(parts.query))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.liar.asked.append(Asked(path, query, headers))
        answer = self.liar.answer(path, query)
        with suppress(BrokenPipeError, ConnectionResetError):
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        if answer.kind:
            self.send_header("Content-Type", answer.kind)
        if answer.length is not False:
            self.send_header("Content-Length", str(len(answer.body) if answer.length is True else answer.length))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        size = -(-len(answer.body) // answer.pieces)
        while True:
            for at in range(0, len(answer.body), max(size, 1)):
                self.wfile.write(answer.body[at : at + size])
                self.wfile.flush()
                if answer.pause and self.liar.over.wait(answer.pause):
                    return
            if not answer.endless or self.liar.over.is_set():
                return


def as_json(content: object, status: int = 200) -> Answer:
    return Answer(json.dumps(content).encode(), status, "application/json")


def moved(target: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": target})


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A smooth picture, another one for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(seed: int) -> bytes:
    return encoded(picture(seed))


def make_client(contact: str = "tests@example.org", *, private: bool = True, **limits: Any) -> Client:
    """A client that hurries."""
    quick = {"connect": 2, "read": 2, "deadline": 5, "tries": 3, "backoff": 0.01} | limits
    return Client(contact, Limits(**quick), rate=2000, api_rate=2000, allow_private=private)
