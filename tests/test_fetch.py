"""pretrained/fetch.py against a server of the test's own: resumed, checked by hash, never a wrong file under the right name."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("fetch", ROOT / "pretrained/fetch.py")
assert spec is not None and spec.loader is not None
fetch = importlib.util.module_from_spec(spec)
__import__("sys").modules["fetch"] = fetch
spec.loader.exec_module(fetch)

CONTENT = bytes(range(256)) * 400
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    ranges: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.ranges.append(self.headers.get("Range"))
        if self.path == "/missing":
            self.send_error(404)
            return
        begin = int(self.headers["Range"].split("=")[1].rstrip("-")) if self.headers.get("Range") else 0
        if begin >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Type", "text/html" if self.path == "/page" else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: 5000 if self.path == "/cut" and not begin else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Server.ranges = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def weights(url: str, sha256: str = HASH[:8]) -> object:
    return fetch.Weights(url, "w.pth", sha256, "")


def test_fetches_once_and_checks(url: str, tmp_path: Path) -> None:
    path = fetch.fetch(weights(f"{url}/w"), tmp_path)
    assert path.read_bytes() == CONTENT and HASH in (tmp_path / "w.pth.sha256").read_text()
    fetch.fetch(weights(f"{url}/w"), tmp_path)
    assert len(Server.ranges) == 1, "what is there is not fetched again"
    path.write_bytes(b"changed")
    with pytest.raises(fetch.FetchError, match="its sha256 is"):
        fetch.fetch(weights(f"{url}/w"), tmp_path)


def test_broken_download_goes_on(url: str, tmp_path: Path) -> None:
    with pytest.raises(fetch.FetchError, match="cut"):
        fetch.fetch(weights(f"{url}/cut"), tmp_path)
    assert not (tmp_path / "w.pth").exists() and 0 < (tmp_path / "w.pth.part").stat().st_size < len(CONTENT)
    assert fetch.fetch(weights(f"{url}/cut"), tmp_path).read_bytes() == CONTENT
    assert Server.ranges == [None, "bytes=5000-"]


def test_whole_part_is_only_renamed(url: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    assert fetch.fetch(weights(f"{url}/w"), tmp_path).read_bytes() == CONTENT


def test_wrong_content_never_gets_the_name(url: str, tmp_path: Path) -> None:
    with pytest.raises(fetch.FetchError, match="its sha256 is"):
        fetch.fetch(weights(f"{url}/w", "00000000"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_unpublished_hash_is_remembered(url: str, tmp_path: Path) -> None:
    path = fetch.fetch(weights(f"{url}/w", ""), tmp_path)
    path.write_bytes(b"changed")
    with pytest.raises(fetch.FetchError, match="its sha256 is"):
        fetch.fetch(weights(f"{url}/w", ""), tmp_path)


@pytest.mark.parametrize(("path", "message"), [("missing", "404"), ("page", "web page")])
def test_answers_that_are_no_file(path: str, message: str, url: str, tmp_path: Path) -> None:
    with pytest.raises(fetch.FetchError, match=message):
        fetch.fetch(weights(f"{url}/{path}"), tmp_path)
    assert not (tmp_path / "w.pth").exists()


def test_dry_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert fetch.main(["resnet101", "--dry-run", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "resnet101_iabn_sync.pth.tar" in out and "not published" in out and not list(tmp_path.iterdir())
