"""The client against a server that lies: bounded, patient where it is asked to be, and never led into the local network."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.web.server import Answer, LyingServer, as_json, make_client, moved, photo
from utils.errors import UserError
from web import download
from web.candidate import Refused
from web.download import Client, ClientStopped, Limiter, check_address, is_public, retry_after

PHOTO = photo(1)


class Clock:
    """Stands for the event that a client waits on: notes what would have been waited for, and waits for nothing."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return False

    def is_set(self) -> bool:
        return False


def hurried(client: Client) -> Clock:
    clock = Clock()
    client._stop = client._limiter.stop = clock
    return clock


def reason(client: Client, url: str) -> str:
    with pytest.raises(Refused) as caught:
        client.get_image(url)
    return caught.value.reason


@pytest.fixture
def client() -> Iterator[Client]:
    made = make_client()
    yield made
    made.close()


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Make the name server answer with these addresses, one list after the other; the names it was asked for."""
    asked: list[str] = []
    left = list(answers)
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int | None, *args: Any, **options: Any) -> list[Any]:
        if host[0].isdigit():
            return real(host, port, *args, **options)
        asked.append(host)
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(download.socket, "getaddrinfo", getaddrinfo)
    return asked


def only_private(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let only these addresses count as private, so that a server on this machine may stand for a public one."""
    monkeypatch.setattr(download, "is_public", lambda address: address not in addresses)


def test_an_image_comes_as_it_is(server: LyingServer, client: Client) -> None:
    server.routes["/a.jpg"] = Answer(PHOTO)
    assert client.get_image(f"{server.url}/a.jpg") == PHOTO
    headers = server.asked[0].headers
    assert headers["user-agent"].startswith("web-wilss") and "tests@example.org" in headers["user-agent"]
    assert headers["accept-encoding"] == "identity"


def test_cookies_are_not_kept(server: LyingServer, client: Client) -> None:
    server.routes["/a"] = Answer(status=302, headers={"Location": "/b", "Set-Cookie": "who=you; Path=/"})
    server.routes["/b"] = Answer(PHOTO, headers={"Set-Cookie": "who=you; Path=/"})
    for _ in range(2):
        client.get_image(f"{server.url}/a")
    assert [asked.headers.get("cookie") for asked in server.asked] == [None] * 4


@pytest.mark.parametrize("kind", ["image/webp", "IMAGE/JPEG; charset=binary", "application/octet-stream"])
def test_types_that_may_be_images(server: LyingServer, client: Client, kind: str) -> None:
    server.routes["/a"] = Answer(PHOTO, kind=kind)
    assert client.get_image(f"{server.url}/a") == PHOTO


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(PHOTO, kind="text/html; charset=utf-8"), "no image type: text/html"),
        (Answer(PHOTO, kind=""), "no image type: none"),
        (Answer(PHOTO, kind="\x9b31mtext"), "no image type: 31mtext"),
        (Answer(status=404), "HTTP 404"),
        (Answer(status=403), "HTTP 403"),
        (Answer(PHOTO, status=206), "HTTP 206"),
        (Answer(status=304), "HTTP 304"),
        (Answer(PHOTO, headers={"X-Robots-Tag": "noindex, NoAI"}), "robots tag"),
        (Answer(PHOTO, headers={"X-Robots-Tag": "somebot: noimageai"}), "robots tag"),
        (moved("ftp://127.0.0.1/a.jpg"), "no web address"),
        (moved("file:///etc/passwd"), "no web address"),
        (moved("http://127.0.0.1:65536/"), "no web address"),
        (moved("http://[::1"), "no web address"),
    ],
)
def test_answers_that_are_refused_at_once(server: LyingServer, client: Client, answer: Answer, said: str) -> None:
    server.routes["/a"] = answer
    assert reason(client, f"{server.url}/a") == said
    assert len(server.asked) == 1


def test_an_index_is_not_ai(server: LyingServer, client: Client) -> None:
    server.routes["/a"] = Answer(PHOTO, headers={"X-Robots-Tag": "noindex"})
    assert client.get_image(f"{server.url}/a") == PHOTO


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "//host/x", "http://", "http:///x", "javascript:alert(1)", "data:image/png;base64,aGk=", "file:///etc/passwd",
        "http://1:1:1/", "http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://\0/", "http://xn--/", "http://xn--a/",
        "http://127.0.0.1/\ud800", "http://a/" + "x" * 70_000,
    ],
)  # fmt: skip
def test_what_is_no_web_address(client: Client, url: str) -> None:
    assert reason(client, url) == "no web address"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "....", "a" * 300 + ".com", "-"])
def test_hosts_that_are_not_there(client: Client, host: str) -> None:
    assert reason(client, f"http://{host}/") == "no such host"


def test_a_huge_file_that_says_so(server: LyingServer) -> None:
    client = make_client(max_bytes=1000)
    server.routes["/a"] = Answer(b"x", length=1001, pause=60)
    assert reason(client, f"{server.url}/a") == "too many bytes"
    server.routes["/b"] = Answer(b"x", length=int("9" * 18), pause=60)
    assert reason(client, f"{server.url}/b") == "too many bytes"
    server.routes["/c"] = Answer(b"x" * 1000)
    assert len(client.get_image(f"{server.url}/c")) == 1000


def test_a_huge_file_that_does_not_say_so(server: LyingServer) -> None:
    client = make_client(max_bytes=100_000)
    server.routes["/a"] = Answer(bytes(10_000), length=False, endless=True)
    assert reason(client, f"{server.url}/a") == "too many bytes"


def test_slow_bytes_end_at_the_deadline(server: LyingServer) -> None:
    client = make_client(deadline=0.3, read=2)
    # Each byte comes in time; all of them would take an hour.
    server.routes["/a"] = Answer(bytes(36_000), pieces=36_000, pause=0.1)
    assert reason(client, f"{server.url}/a") == "too slow"
    # The same where no length is told, so that a cut looks like the end.
    server.routes["/b"] = Answer(bytes(36_000), pieces=36_000, pause=0.1, length=False)
    assert reason(client, f"{server.url}/b") == "too slow"
    assert len(server.asked) == 2


def test_a_server_that_falls_silent(server: LyingServer) -> None:
    client = make_client(read=0.2, tries=2)
    server.routes["/a"] = Answer(bytes(100), pieces=2, pause=60)
    assert reason(client, f"{server.url}/a").startswith("no connection")
    assert len(server.asked) == 2


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    assert reason(make_client(tries=2), url).startswith("no connection")


def test_a_broken_transfer_is_asked_for_again(server: LyingServer, client: Client) -> None:
    server.routes["/a"] = [Answer(PHOTO[:100], length=len(PHOTO)), Answer(PHOTO)]
    assert client.get_image(f"{server.url}/a") == PHOTO
    assert len(server.asked) == 2


def test_an_error_that_passes(server: LyingServer, client: Client) -> None:
    clock = hurried(client)
    server.routes["/a"] = [Answer(status=500), Answer(status=503), Answer(PHOTO)]
    assert client.get_image(f"{server.url}/a") == PHOTO
    backoff = [wait for wait in clock.waits if wait > 0.005]
    assert len(backoff) == 2 and 1.2 * backoff[0] < backoff[1]


def test_an_error_that_stays(server: LyingServer) -> None:
    client = make_client(tries=3)
    server.routes["/a"] = Answer(status=502)
    with pytest.raises(Refused) as caught:
        client.get_image(f"{server.url}/a")
    assert (caught.value.reason, caught.value.status, len(server.asked)) == ("HTTP 502", 502, 3)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_to_wait(server: LyingServer, client: Client, status: int) -> None:
    clock = hurried(client)
    server.routes["/a"] = [Answer(status=status, headers={"Retry-After": "7"}), Answer(PHOTO)]
    server.routes["/b"] = Answer(PHOTO)
    assert client.get_image(f"{server.url}/a") == PHOTO
    assert 6 < max(clock.waits) <= 7
    clock.waits.clear()
    client.get_image(f"{server.url}/b")
    assert max(clock.waits) > 6, "the pause holds for the whole host"


def test_a_server_that_asks_to_wait_for_hours(server: LyingServer, client: Client) -> None:
    server.routes["/a"] = Answer(status=429, headers={"Retry-After": "7200"})
    server.routes["/b"] = Answer(PHOTO)
    assert reason(client, f"{server.url}/a") == "HTTP 429"
    assert reason(client, f"{server.url}/b") == "host asked for a long pause"
    assert server.paths() == ["/a"]


def test_the_pause_is_of_the_host_that_asks_for_it(server: LyingServer, client: Client) -> None:
    other = LyingServer("127.0.0.2")
    try:
        server.routes["/a"] = moved(f"{other.url}/x")
        other.routes["/x"] = Answer(status=429, headers={"Retry-After": "7200"})
        server.routes["/b"] = Answer(PHOTO)
        assert reason(client, f"{server.url}/a") == "HTTP 429"
        assert client.get_image(f"{server.url}/b") == PHOTO
        assert reason(client, f"{server.url}/a") == "host asked for a long pause"
    finally:
        other.close()


class Hours:
    """A clock that waiting moves on, in place of the module ``time`` and of the event that a client waits on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False

    def is_set(self) -> bool:
        return False


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Hours:
    clock = Hours()
    monkeypatch.setattr(download, "time", clock)
    return clock


def patient(hours: Hours, patience: float) -> Client:
    client = Client("me", make_client(tries=4).limits, rate=2000, api_rate=2000, allow_private=True, patience=patience)
    client._stop = client._limiter.stop = hours
    return client


def test_a_host_that_asks_for_pauses_without_end(server: LyingServer, hours: Hours) -> None:
    for number in range(20):
        server.routes[f"/{number}"] = Answer(status=503, headers={"Retry-After": "100"})
    client = patient(hours, 450)
    told = [reason(client, f"{server.url}/{number}") for number in range(20)]
    assert told == ["HTTP 503"] * 2 + ["host was waited for too long"] * 18
    assert hours.now - 1000 <= 450 and len(server.asked) == 5
    assert client.given_up() == [
        "127.0.0.1: given up after 450 seconds of waiting in vain (--patience), 18 requests were not sent; their addresses are asked "
        "again once their lines are removed from rejected.csv"
    ]


def test_a_host_that_breaks_down_for_good(server: LyingServer, hours: Hours) -> None:
    """It asks for no pause: what is lost is the time between the tries."""
    client = patient(hours, 60)
    client.limits = make_client(tries=4, backoff=5).limits
    server.routes["/x"] = Answer(status=500)
    told = [reason(client, f"{server.url}/x") for _ in range(20)]
    assert told[0] == "HTTP 500" and told[-1] == "host was waited for too long" and hours.now - 1000 < 100


def test_silence_counts_too(server: LyingServer) -> None:
    client = Client(
        "me", make_client(deadline=0.2, read=2, tries=1).limits, rate=2000, allow_private=True, patience=0.3
    )
    server.routes["/x"] = Answer(bytes(36_000), pieces=36_000, pause=0.1)
    told = [reason(client, f"{server.url}/x") for _ in range(4)]
    assert told[0] == "too slow" and told[-1] == "host was waited for too long"


def test_answers_win_patience_back(server: LyingServer, hours: Hours) -> None:
    """A busy host that gives an image now and then is asked on; one that gives too few for its pauses is not."""
    client = patient(hours, 100)
    for number in range(50):
        server.routes[f"/{number}"] = [Answer(status=429, headers={"Retry-After": "9"}), Answer(PHOTO)]
        assert client.get_image(f"{server.url}/{number}") == PHOTO
    assert client.given_up() == []
    refused = 0
    for number in range(50, 60):
        server.routes[f"/{number}"] = [Answer(status=429, headers={"Retry-After": "40"}), Answer(PHOTO)]
        try:
            client.get_image(f"{server.url}/{number}")
        except Refused:
            refused += 1
    assert refused == 7 and len(client.given_up()) == 1


def test_time_is_counted_once_however_many_wait(hours: Hours) -> None:
    limiter = Limiter(hours, 100)
    for start in (0, 10, 20, 30):
        limiter.count("host", start, start + 60)
    limiter.wait("host", 1)
    limiter.count("host", 200, 211)
    with pytest.raises(Refused, match="waited for too long"):
        limiter.wait("host", 1)
    limiter.wait("other", 1)


def test_404_is_an_answer(server: LyingServer, hours: Hours) -> None:
    client = patient(hours, 1e-9)
    assert [reason(client, f"{server.url}/none") for _ in range(5)] == ["HTTP 404"] * 5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), (" 0 ", 0.0), ("", 0.0), ("soon", 0.0), ("-5", 0.0), ("1e9", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
     ("Wed, 21 Oct 2015 07:28:00 +99999999999999", 0.0), ("9" * 400, float("inf"))],
)  # fmt: skip
def test_how_long_to_wait(value: str, seconds: float) -> None:
    assert retry_after(value) == seconds


def test_until_when_to_wait() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3500 < retry_after(moment) <= 3600


def test_turns_of_a_host() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    for _ in range(3):
        limiter.wait("one", 0.1)
    limiter.wait("other", 0.1)
    assert [round(wait, -1) for wait in clock.waits] == [0, 10, 20, 0]


def test_a_pause_holds_for_those_who_wait_already() -> None:
    limiter = Limiter(Clock())

    class Interrupting(Clock):
        def wait(self, seconds: float) -> bool:
            if not self.waits:
                limiter.hold("host", 50)
            return super().wait(seconds)

    clock = Interrupting()
    limiter.stop = clock
    limiter.wait("host", 100)
    assert [round(wait) for wait in clock.waits] == [0, 50]


def test_the_number_of_hosts_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_HOSTS", 10)
    limiter = Limiter(Clock())
    limiter.close("closed", 100)
    for number in range(50):
        limiter.wait(f"host {number}", 1e9)
    assert len(limiter._hosts) <= 12
    with pytest.raises(Refused):
        limiter.wait("closed", 1)


def test_redirects_are_followed(server: LyingServer, client: Client) -> None:
    server.routes |= {"/a": moved("/b", 301), "/b": moved(f"{server.url}/c", 307), "/c": Answer(PHOTO)}
    assert client.get_image(f"{server.url}/a") == PHOTO
    assert server.paths() == ["/a", "/b", "/c"]


def test_redirects_in_a_circle(server: LyingServer, client: Client) -> None:
    server.routes |= {"/a": moved("/b"), "/b": moved("/a")}
    assert reason(client, f"{server.url}/a") == "too many redirects"
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fd00::1", "fec0::1", "ff02::1",
        "192.0.0.192", "::ffff:192.0.0.192", "64:ff9b::c000:c0", "192.0.0.9", "168.63.129.16", "::ffff:168.63.129.16",
        "64:ff9b::a83f:8110", "2002:a83f:8110::", "192.88.99.1", "64:ff9b::c058:6301", "fd00:ec2::254", "fd20:ce::254",
        "100.100.100.200", "::ffff:0:7f00:1", "3fff::1", "2001:db8::1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
        "2002:7f00:1::", "2001:0:1::1",
    ],
)  # fmt: skip
def test_addresses_inside(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "168.63.129.17",
        "192.0.1.1",
        "192.88.98.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::",
    ],
)
def test_addresses_outside(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "user:pw@127.0.0.1",
    ],
)
def test_private_hosts_are_not_asked(server: LyingServer, host: str) -> None:
    server.routes["/a"] = Answer(PHOTO)
    assert reason(make_client(private=False), f"http://{host}:{server.port}/a") == "private address"
    assert not server.asked


def test_a_redirect_to_a_private_address(server: LyingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = LyingServer("127.0.0.2")
    try:
        inside.routes["/secret"] = Answer(PHOTO)
        server.routes["/a"] = moved(f"{inside.url}/secret")
        only_private(monkeypatch, "127.0.0.2")
        assert reason(make_client(private=False), f"{server.url}/a") == "private address"
        assert len(server.asked) == 1 and not inside.asked
    finally:
        inside.close()


def test_one_private_address_among_several(server: LyingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    only_private(monkeypatch, "10.0.0.1")
    resolving(monkeypatch, ["127.0.0.1", "10.0.0.1"])
    assert reason(make_client(private=False), f"http://pictures.example:{server.port}/a") == "private address"
    assert not server.asked


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that gives a public address first and a private one a moment later."""
    server.routes["/a"] = Answer(PHOTO)
    only_private(monkeypatch, "127.0.0.2")
    asked = resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    client = make_client(private=False, tries=1)
    assert client.get_image(f"http://pictures.example:{server.port}/a") == PHOTO
    assert asked == ["pictures.example"]
    assert server.asked[0].headers["host"] == f"pictures.example:{server.port}"
    assert reason(client, f"http://pictures.example:{server.port}/a") == "private address"


def test_the_next_address_where_one_does_not_answer(server: LyingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.routes["/a"] = Answer(PHOTO)
    resolving(monkeypatch, ["127.0.0.3", "127.0.0.1"])
    assert make_client(tries=1).get_image(f"http://pictures.example:{server.port}/a") == PHOTO


def test_a_name_server_that_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: Any, **options: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(download.socket, "getaddrinfo", getaddrinfo)
    assert reason(make_client(tries=2), "http://pictures.example/") == "no connection: pictures.example: try again"


def test_through_a_proxy(server: LyingServer) -> None:
    """The proxy resolves names; what names the local network itself does not reach it."""
    server.routes["http://pictures.example/a"] = Answer(PHOTO)
    for private in (False, True):
        limits = make_client(tries=1).limits
        client = Client("me", limits, rate=2000, allow_private=private, proxy=server.url)
        assert client.get_image("http://pictures.example/a") == PHOTO
        server.asked.clear()
        for host in ("127.0.0.1", "localhost", "x.localhost.", "[::1]", "127.1"):
            assert reason(client, f"http://{host}/a") == ("HTTP 404" if private else "private address")
        assert len(server.asked) == (5 if private else 0)


@pytest.mark.parametrize("address", ["", "nowhere", "ftp://host/", "http://", "http://[::1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UserError, match="--proxy"):
        check_address("--proxy", address)


@pytest.mark.parametrize(
    ("options", "said"), [({"rate": 0}, "--rate"), ({"api_rate": float("nan")}, "--api_rate"), ({"patience": 0}, "--patience"),
                          ({"proxy": "x"}, "--proxy"),
                          ({"contact": "mé"}, "--contact"), ({"contact": "a\nHost: b"}, "--contact")],
)  # fmt: skip
def test_options_that_cannot_work(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Client(**options)


def test_answers_of_searches(server: LyingServer, client: Client) -> None:
    server.routes["/s"] = as_json({"found": 3})
    assert client.get_json(f"{server.url}/s?key=1&q=old", {"q": "two words & more"}) == {"found": 3}
    assert server.asked[0].query == {"key": "1", "q": "two words & more"}


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff\xfe", b"[1]", b"3", b"[" * 100_000])
def test_answers_that_are_no_object(server: LyingServer, client: Client, body: bytes) -> None:
    server.routes["/s"] = Answer(body, kind="application/json")
    with pytest.raises(Refused, match="answer is no JSON"):
        client.get_json(f"{server.url}/s", {})


def test_an_answer_without_end(server: LyingServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "JSON_BYTES", 50_000)
    server.routes["/s"] = Answer(b" " * 10_000, length=False, endless=True)
    with pytest.raises(Refused, match="too many bytes"):
        client.get_json(f"{server.url}/s", {})


def test_stopping_ends_what_is_under_way(server: LyingServer) -> None:
    """In the middle of a body, before its beginning, and while waiting for a turn; nothing of it counts as an answer."""
    client = make_client(read=60, deadline=60)
    client.rate = 0.001
    server.routes["/body"] = Answer(bytes(1000), pieces=10, pause=60, length=False)
    ended: list[str] = []

    def get(url: str) -> None:
        try:
            client.get_image(url)
        except (ClientStopped, Refused) as error:
            ended.append(type(error).__name__)

    urls = [f"{server.url}/body", f"http://localhost:{server.port}/body", f"{server.url}/body"]
    threads = [threading.Thread(target=get, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    while len(server.asked) < 2:
        time.sleep(0.01)
    client.stop()
    for thread in threads:
        thread.join(30)
    assert ended == ["ClientStopped"] * 3
    with pytest.raises(ClientStopped):
        client.get_image(f"{server.url}/body")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for pictures.example that it has signed itself, and its key."""
    if which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=pictures.example", "-addext",
         "subjectAltName=DNS:pictures.example", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_certificates_are_checked_for_the_name_not_the_number(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    named: list[str | None] = []
    context.sni_callback = lambda link, name, own: named.append(name)
    wrap: Callable[[socket.socket], socket.socket] = lambda plain: context.wrap_socket(plain, server_side=True)  # noqa: E731
    server = LyingServer(wrap=wrap)
    try:
        server.routes["/a"] = Answer(PHOTO)
        resolving(monkeypatch, ["127.0.0.1"])
        assert reason(make_client(), f"https://pictures.example:{server.port}/a") == "bad certificate"
        trusting = ssl.create_default_context(cafile=str(certificate[0]))
        monkeypatch.setattr(download.httpx, "create_ssl_context", lambda **options: trusting)
        monkeypatch.setattr("httpx._transports.default.create_ssl_context", lambda **options: trusting)
        client = make_client()
        assert client.get_image(f"https://pictures.example:{server.port}/a") == PHOTO
        assert reason(client, f"https://other.example:{server.port}/a") == "bad certificate"
        assert named == ["pictures.example", "pictures.example", "other.example"]
    finally:
        server.close()
