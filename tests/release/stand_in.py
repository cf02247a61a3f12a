"""A hub on this machine: as much of its protocol as fetching and pushing ask for."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the stand-in holds, and what it was asked.

    Attributes:
        address: where it answers.
        files: content by repository and name.
        asked: method and path of each request.
        status: what it answers to everything in place of what was asked for; 0 where it does as it is told.
        token: what requests must bring to write; "" asks for none.
    """

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 0
    token: str = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def asked(self) -> tuple[list[str], bytes]:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {self.path}")
        return self.path.partition("?")[0].strip("/").split("/"), body

    def do_GET(self) -> None:
        parts, _ = self.asked()
        if self.hub.status:
            return self.answer(self.hub.status, {"error": "no"})
        if parts[:2] == ["api", "models"]:
            files = self.hub.files.get("/".join(parts[2:4]))
            if files is None:
                return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            if parts[4:5] == ["tree"]:
                return self.answer(200, [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ])  # fmt: skip
            return self.answer(
                200, {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": [{"rfilename": f} for f in files]}
            )
        files = self.hub.files.get("/".join(parts[:2]), {})
        if "/".join(parts[:2]) not in self.hub.files:
            return self.answer(404, b"", X_Error_Code="RepoNotFound")
        content = files.get("/".join(parts[4:]))
        if content is None:
            return self.answer(404, b"", X_Error_Code="EntryNotFound")
        return self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"')

    do_HEAD = do_GET

    def do_POST(self) -> None:
        parts, body = self.asked()
        if self.hub.status:
            return self.answer(self.hub.status, {"error": "no"})
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.answer(401, {"error": "Unauthorized"})
        if parts == ["api", "validate-yaml"]:
            return self.answer(200, {"errors": [], "warnings": []})
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.hub.files.setdefault(name, {})
            return self.answer(200, {"url": f"{self.hub.address}/{name}", "name": name, "id": "1"})
        repository = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        assert parts[4] == "commit"
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[repository][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.hub.files[repository][value["path"]]
        return self.answer(
            200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.hub.address}/{repository}/commit/{COMMIT}"}
        )


@contextmanager
def serving() -> Iterator[Hub]:
    """A stand-in at work on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
