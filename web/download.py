"""A polite and careful HTTP client: few requests a second to a host, bounded answers, and no way into the local network."""

from __future__ import annotations

import ipaddress
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from utils.errors import UserError
from web.candidate import Limits, Refused, clean

MOST_REDIRECTS = 5
JSON_BYTES = 10_000_000
# Addresses of one host that are tried, one after the other.
MOST_ADDRESSES = 3
# Hosts whose next free moment is remembered before those long past are forgotten.
MOST_HOSTS = 10_000
# Of a host that is told not to be there another try says nothing else.
NO_HOST = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_FAIL") if hasattr(socket, name)}
IPV4_INSIDE_IPV6 = ipaddress.ip_network("64:ff9b::/96")
# Addresses of services inside networks that Python takes for public ones.
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's host, which answers questions about the machine.
            "192.0.0.0/24",  # IETF's protocols; 192.0.0.192 is Oracle's metadata service.
            "192.88.99.0/24",  # Relays of 6to4, withdrawn.
            "fd00:ec2::/32",  # Amazon's metadata service; private for Python, too.
            "3fff::/20",  # Documentation.
            "5f00::/16",  # Segment routing.
        ),
    )
)
TOO_MANY_REQUESTS = 429
# Seconds that a host may be waited for in vain before it is given up, and how many an answer of it wins back.
PATIENCE = 600.0
WON_BACK = 10.0
GIVEN_UP = "host was waited for too long"
# Stores of files give these types to images, too; what the file is, its own bytes say.
ANY_TYPE = ("application/octet-stream", "binary/octet-stream")


class ClientStopped(Exception):
    """The client was told to stop."""


class Passing(Refused):
    """A fault of ``host`` that may be gone at the next try; ``wait`` is how many seconds it asks for."""

    def __init__(self, reason: str, host: str, status: int | None = None, wait: float = 0.0) -> None:
        super().__init__(reason, status)
        self.host, self.wait = host, wait


class TooSlow(Refused):
    """An answer that was not whole at the deadline."""


class PrivateAddress(Exception):
    """A name or number that leads into the local network."""


def check_address(option: str, address: str) -> None:
    """Refuse what is no http or https address with a UserError that names the option."""
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError) as error:
        raise UserError(f"{option}: {address} is no address ({error})") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"{option}: {address} is no http or https address")


def is_public(address: str) -> bool:
    """Whether an IPv4 or IPv6 address lies in the public network, also where it wraps an IPv4 address."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        if ip in IPV4_INSIDE_IPV6:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(str(inside))
        if ip.teredo or ip.is_site_local:
            return False
    if any(ip in network for network in NOT_PUBLIC):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


class GuardedTransport(httpx.BaseTransport):
    """Resolves a host once, checks every address it has, and connects to what was checked, so that no second answer of the name
    server can lead elsewhere.

    Args:
        inner: what talks to the network.
        allow_private: leave the addresses unchecked.
        proxied: a proxy resolves the names; numbers alone are checked, and the request is passed on as it is.
    """

    def __init__(self, inner: httpx.BaseTransport, *, allow_private: bool = False, proxied: bool = False) -> None:
        self.inner, self.allow_private, self.proxied = inner, allow_private, proxied

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; PrivateAddress where it would lead into the local network."""
        addresses = self._addresses(request.url.raw_host.decode("ascii"), request.url.port)
        if self.proxied:
            return self.inner.handle_request(request)
        for address in addresses[:-1]:
            try:
                return self.inner.handle_request(_sent_to(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return self.inner.handle_request(_sent_to(request, addresses[-1]))

    def _addresses(self, host: str, port: int | None) -> list[str]:
        if self.proxied and not self.allow_private and f".{host.rstrip('.')}".endswith(".localhost"):
            raise PrivateAddress(host)
        flags = socket.AI_NUMERICHOST if self.proxied else 0
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        except socket.gaierror as error:
            if self.proxied:
                return []
            if error.errno in NO_HOST:
                raise Refused("no such host") from error
            raise httpx.ConnectError(f"{host}: {error.strerror}") from error
        except (UnicodeError, ValueError) as error:
            raise Refused("no such host") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        if not self.allow_private and not all(is_public(address) for address in addresses):
            raise PrivateAddress(host)
        return addresses[:MOST_ADDRESSES]

    def close(self) -> None:
        self.inner.close()


def _sent_to(request: httpx.Request, address: str) -> httpx.Request:
    """A copy of a request that connects to ``address``; the Host header and the certificate's name stay those of the host."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions | {"sni_hostname": request.url.raw_host.decode("ascii")},
    )


@dataclass
class Turns:
    """When a host may be asked, in seconds of ``time.monotonic``.

    Attributes:
        free: the next turn that nobody has.
        held: turns before this are void.
        closed: before this, nobody waits for a turn.
        waited: seconds that were waited for it in vain, whatever the number of threads; what answers won back is taken off.
        counted: up to here, time is in ``waited`` already.
    """

    free: float = 0.0
    held: float = 0.0
    closed: float = 0.0
    waited: float = 0.0
    counted: float = 0.0


class Limiter:
    """Gives each host its turns, and gives up those that are waited for in vain; waits end at once when ``stop`` is set.

    Args:
        stop: ends all waits.
        patience: seconds that a host may be waited for in vain: pauses that it asks for, and requests that nothing comes of.

    Attributes:
        given_up: hosts that were waited for too long -> how often they would have been asked since.
    """

    def __init__(self, stop: threading.Event, patience: float = PATIENCE) -> None:
        self.stop, self.patience = stop, patience
        self.given_up: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._hosts: dict[str, Turns] = {}

    def wait(self, host: str, rate: float) -> None:
        """Wait until ``host`` may be asked, ``rate`` times a second at most.

        Raises:
            Refused: the host is closed, or given up.
            ClientStopped: the client was told to stop.
        """
        while True:
            turn = self._next_turn(host, rate)
            if self.stop.wait(max(0.0, turn - time.monotonic())):
                raise ClientStopped
            with self._lock:
                self._refuse_given_up(host)
                # A pause that was asked for while this thread waited holds for it, too.
                if turn >= self._turns(host).held:
                    return

    def hold(self, host: str, seconds: float) -> None:
        """Nobody asks ``host`` for so many seconds, which count as waited for in vain; a host that has used up its patience is given up."""
        now = time.monotonic()
        self.count(host, now, now + seconds)
        with self._lock:
            if host not in self.given_up:
                turns = self._turns(host)
                turns.held = max(turns.held, now + seconds)
                turns.free = max(turns.free, turns.held)

    def count(self, host: str, start: float, end: float) -> None:
        """Count a time, of ``time.monotonic``, as waited for ``host`` in vain; where several threads wait, it counts once."""
        with self._lock:
            turns = self._turns(host)
            turns.waited += max(0.0, end - max(start, turns.counted))
            turns.counted = max(turns.counted, end)
            if turns.waited > self.patience:
                self.given_up.setdefault(host, 0)

    def answered(self, host: str) -> None:
        """Something came of a request: some patience comes back."""
        with self._lock:
            turns = self._turns(host)
            turns.waited = max(0.0, turns.waited - WON_BACK)

    def _refuse_given_up(self, host: str) -> None:
        if host in self.given_up:
            self.given_up[host] += 1
            raise Refused(GIVEN_UP)

    def close(self, host: str, seconds: float) -> None:
        """Whoever wants to ask ``host`` within so many seconds is refused at once."""
        with self._lock:
            self._turns(host).closed = time.monotonic() + seconds

    def _next_turn(self, host: str, rate: float) -> float:
        with self._lock:
            self._refuse_given_up(host)
            now, turns = time.monotonic(), self._turns(host)
            if now < turns.closed:
                raise Refused("host asked for a long pause")
            turn = max(now, turns.free)
            turns.free = turn + 1 / rate
            return turn

    def _turns(self, host: str) -> Turns:
        if len(self._hosts) > MOST_HOSTS:
            now = time.monotonic()
            self._hosts = {
                name: turns
                for name, turns in self._hosts.items()
                if max(turns.free, turns.closed) > now or turns.waited > self.patience / 2
            }
        return self._hosts.setdefault(host, Turns())


class Deadline:
    """Cuts the connection of one request when its time is over, in whatever it was waiting for."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self.cut)
        self._timer.daemon = True
        self._timer.start()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Told by httpx of each event of a request; connections are remembered."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            connection = info["return_value"].get_extra_info("socket")
            if connection is not None:
                self._sockets.append(connection)
                if self.over:
                    self.cut()

    def cut(self) -> None:
        """End the request now."""
        self.over = True
        for each in self._sockets:
            # The plain socket's own shutdown: the one of TLS changes state that another thread is reading.
            with suppress(OSError):  # It may be closed already.
                socket.socket.shutdown(each, socket.SHUT_RDWR)

    def end(self) -> None:
        """The request is answered."""
        self._timer.cancel()


class Client:
    """Fetches images and the answers of searches; used by many threads at once.

    Args:
        contact: whom a site's owner may write to, a mail address or a page; part of the user agent.
        limits: sizes and times.
        rate: requests a second to one host.
        api_rate: requests a second to the host of a search.
        allow_private: ask hosts of the local network, too.
        proxy: address of a proxy; it resolves the names, and has to keep out of its own local network itself.
        patience: seconds that one host is waited for in vain before it is given up, as ``Limiter`` counts them.

    Raises:
        UserError: the contact cannot stand in a header, a rate or the patience is not above 0, or the proxy is no address.
    """

    def __init__(
        self,
        contact: str = "",
        limits: Limits | None = None,
        *,
        rate: float = 4,
        api_rate: float = 1,
        allow_private: bool = False,
        proxy: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        if not contact.isascii() or (contact and not contact.isprintable()):
            raise UserError(f"--contact {contact!r}: only ASCII letters and signs can stand in the user agent")
        for option, value in (("--rate", rate), ("--api_rate", api_rate), ("--patience", patience)):
            if not value > 0:
                raise UserError(f"{option} {value}: a number above 0 is needed")
        self.contact, self.limits = contact, limits or Limits()
        self.rate, self.api_rate = rate, api_rate
        self._stop = threading.Event()
        self._limiter = Limiter(self._stop, patience)
        self._under_way: set[Deadline] = set()
        self._lock = threading.Lock()
        if proxy is not None:
            check_address("--proxy", proxy)
        # A connection is known by its address alone. Kept open, it would be used for another host at the same address, whose
        # certificate nobody has checked; so each request has its own.
        pool = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        inner = httpx.HTTPTransport(proxy=proxy, trust_env=False, limits=pool)
        self._http = httpx.Client(
            transport=GuardedTransport(inner, allow_private=allow_private, proxied=proxy is not None),
            trust_env=False,
            headers={"User-Agent": user_agent(contact), "Accept-Encoding": "identity"},
            # Cookies are not ours to keep.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx.Timeout(self.limits.read, connect=self.limits.connect),
        )

    def get_image(self, url: str) -> bytes:
        """The file at ``url``, at most ``limits.max_bytes``; whether it is an image is only what its header says.

        Raises:
            Refused: it cannot be had, or may not be taken.
            ClientStopped: the client was told to stop.
        """
        return self._get(url, self.rate, self.limits.max_bytes, check_image_headers)

    def get_json(self, url: str, params: Mapping[str, str]) -> dict[str, Any]:
        """The object that a search answers; Refused and ClientStopped as for images."""
        content = self._get(str(httpx.URL(url).copy_merge_params(dict(params))), self.api_rate, JSON_BYTES)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Refused("answer is no JSON") from error
        if not isinstance(answer, dict):
            raise Refused("answer is no JSON object")
        return answer

    def hold(self, url: str, seconds: float) -> None:
        """Ask the host of ``url`` nothing for so many seconds."""
        self._limiter.hold(httpx.URL(url).host, seconds)

    def given_up(self) -> list[str]:
        """A sentence for each host that was waited for too long."""
        return [
            f"{host}: given up after {self._limiter.patience:g} seconds of waiting in vain (--patience), {count} requests were not sent; "
            "their addresses are asked again once their lines are removed from rejected.csv"
            for host, count in sorted(self._limiter.given_up.items())
        ]

    def stop(self) -> None:
        """End all requests, also those under way; each raises ClientStopped."""
        self._stop.set()
        with self._lock:
            for deadline in self._under_way:
                deadline.cut()

    def close(self) -> None:
        self._http.close()

    def _get(self, url: str, rate: float, max_bytes: int, check_headers: Any = None) -> bytes:
        """An answer, asked for again while its fault may pass."""
        for attempt in range(1, self.limits.tries + 1):
            try:
                return self._once(url, rate, max_bytes, check_headers)
            except Passing as fault:
                if fault.wait > self.limits.longest_wait:
                    self._limiter.close(fault.host, fault.wait)
                    raise
                pause = max(fault.wait, self.limits.backoff * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))
                # One broken file is no reason to leave its host alone; being told to wait is.
                if fault.wait or fault.status == TOO_MANY_REQUESTS:
                    self._limiter.hold(fault.host, pause)
                if attempt == self.limits.tries or fault.host in self._limiter.given_up:
                    raise
                now = time.monotonic()
                self._limiter.count(fault.host, now, now + pause)
                if self._stop.wait(pause):
                    raise ClientStopped from fault
        raise AssertionError("tries is at least 1")

    def _once(self, address: str, rate: float, max_bytes: int, check_headers: Any) -> bytes:
        """One try: follows redirects, each of them in the host's turn and checked like the first."""
        try:
            request = self._http.build_request("GET", address)
            for _ in range(MOST_REDIRECTS + 1):
                url = request.url
                if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 1 << 16:
                    raise Refused("no web address")
                self._limiter.wait(url.host, rate)
                with self._waiting(url.host), self._answer(request) as response:
                    if response.next_request is None:
                        check_status(response)
                        if check_headers is not None:
                            check_headers(response)
                        content = read_at_most(response, max_bytes)
                        break
                    request = response.next_request
            else:
                raise Refused("too many redirects")
            self._limiter.answered(url.host)
            return content
        except PrivateAddress as error:
            raise Refused("private address") from error
        except (httpx.TransportError, OSError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Refused("bad certificate") from error
            if isinstance(error.__context__, httpx.InvalidURL):  # The target of a redirect.
                raise Refused("no web address") from error
            fault = clean(error) or type(error).__name__
            raise Passing(f"no connection: {fault}", request.url.host) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OverflowError) as error:
            raise Refused("no web address") from error

    @contextmanager
    def _waiting(self, host: str) -> Iterator[None]:
        """A request of which nothing may come: the time that is lost on it counts."""
        start = time.monotonic()
        try:
            yield
        except (Passing, TooSlow, httpx.TransportError, OSError):
            self._limiter.count(host, start, time.monotonic())
            raise

    @contextmanager
    def _answer(self, request: httpx.Request) -> Iterator[httpx.Response]:
        """The answer to one request, its body not yet read, within the deadline."""
        deadline = Deadline(self.limits.deadline)
        with self._lock:
            self._under_way.add(deadline)
        request.extensions = request.extensions | {"trace": deadline.trace}
        try:
            self._raise_if_cut(deadline)
            response = self._http.send(request, stream=True)
            try:
                yield response
            finally:
                response.close()
            self._raise_if_cut(deadline)
        except (httpx.TransportError, OSError):
            self._raise_if_cut(deadline)
            raise
        finally:
            deadline.end()
            with self._lock:
                self._under_way.discard(deadline)

    def _raise_if_cut(self, deadline: Deadline) -> None:
        if self._stop.is_set():
            raise ClientStopped
        if deadline.over:
            raise TooSlow("too slow")


def user_agent(contact: str) -> str:
    """``web-wilss/VERSION (CONTACT)``."""
    try:
        name = f"web-wilss/{version('web-wilss')}"
    except PackageNotFoundError:
        name = "web-wilss"
    return f"{name} ({contact})" if contact else name


def check_status(response: httpx.Response) -> None:
    """Raise Refused, or Passing, unless the status is 200."""
    status = response.status_code
    if status == TOO_MANY_REQUESTS or status >= 500:
        wait = retry_after(response.headers.get("Retry-After", ""))
        raise Passing(f"HTTP {status}", response.request.url.host, status, wait)
    if status != httpx.codes.OK:
        raise Refused(f"HTTP {status}", status)


def retry_after(value: str) -> float:
    """Seconds of a Retry-After header, which is a number or a date; 0 where it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def check_image_headers(response: httpx.Response) -> None:
    """Raise Refused where the header says that this is no image, or that its owner does not want it learned from."""
    directives = {
        word.strip().lower()
        for value in response.headers.get_list("X-Robots-Tag")
        for word in value.replace(":", ",").split(",")
    }
    if directives & {"noai", "noimageai"}:
        raise Refused("robots tag")
    kind = clean(response.headers.get("Content-Type", "").partition(";")[0].lower())
    if not kind.startswith("image/") and kind not in ANY_TYPE:
        raise Refused(f"no image type: {kind[:40] or 'none'}")


def read_at_most(response: httpx.Response, max_bytes: int) -> bytes:
    """The body; Refused as soon as it is known to be longer than ``max_bytes``."""
    declared = response.headers.get("Content-Length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise Refused("too many bytes")
    content = bytearray()
    for piece in response.iter_raw():
        content += piece
        if len(content) > max_bytes:
            raise Refused("too many bytes")
    return bytes(content)
