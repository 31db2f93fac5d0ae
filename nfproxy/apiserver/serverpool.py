"""
Which of several API servers is asked, and through which proxy.

The client uses one server until it cannot be reached, then the next, for everything. It does not go
back while that one answers: nodes must not swing to and fro with a server that comes and goes.
Everything here computes; times are arguments, in seconds.

Proxies follow the rules of Go programs (``golang.org/x/net/http/httpproxy``). Python's own reading
of the environment knows no CIDRs in ``NO_PROXY``, which users of kubeadm write there, and aiohttp's
also looks for passwords in ``~/.netrc``.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from nfproxy.backoff import Backoff
from nfproxy.kube.apistatus import RequestError

#: A server that failed less than this ago is used only if every other did, too.
_RECENT_S = 5.0

#: A server whose answers were all 5xx for so long (because it lost its etcd, say) counts as out of
#: reach. If the next servers are no better, the time doubles: leaving a server cuts its watches.
_BROKEN_AFTER_S, _BROKEN_AFTER_MAX_S = 15.0, 960.0


class Server(msgspec.Struct, frozen=True):
    """Where an API server is, and the proxy to ask it through, None for none."""

    url: str
    proxy: str | None = None

    @property
    def host(self) -> str:
        """Its ``host:port``, as in messages and metrics."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


class ServerPool:
    """The API servers of one cluster, at least one, of which one is in use. For one thread."""

    def __init__(self, servers: Sequence[Server], spread: str = "") -> None:
        """
        Order the servers by `spread`, the node's name (rendezvous hashing).

        So the nodes of a cluster start at different servers, the nodes of a server that fails move
        to different others, and a node that restarts starts at the same server again.
        """
        self._given = tuple(servers)
        self._servers = tuple(sorted(servers, key=lambda server: _rank(server, spread)))
        self._current = 0
        self._failures: dict[Server, tuple[float, RequestError]] = {}
        self._broken_since: dict[Server, float] = {}  # when its first 5xx in a row came
        self._patience = Backoff(_BROKEN_AFTER_S, _BROKEN_AFTER_MAX_S)
        self._broken_after_s = self._patience.next_s()
        self._last_5xx_at = float("-inf")
        self._last_answering = self.current

    @property
    def current(self) -> Server:
        """The server in use."""
        return self._servers[self._current]

    @property
    def all(self) -> tuple[Server, ...]:
        """Every server, in the order given."""
        return self._given

    def has_other(self, now_s: float) -> bool:
        """Return whether another server may be better, so that waiting long makes no sense."""
        return any(not self._failed_recently(server, now_s) for server in self._others())

    def failed(self, server: Server, error: RequestError, now_s: float) -> None:
        """Take it that a server cannot be reached, and why; if it is in use, use the next."""
        self._failures[server] = (now_s, error)
        self._broken_since.pop(server, None)
        if server == self.current:
            self._current = self._next(now_s)

    def answered(self, server: Server, code: int, now_s: float) -> str:
        """
        Take an answer with an HTTP status; return a line for the log, "" for none.

        A server that answers anything but 5xx works, whatever it says about the request. One that
        redirects is no API server, or does not want to be.
        """
        if code >= 500 or 300 <= code < 400:
            self._last_5xx_at = now_s
            since_s = self._broken_since.setdefault(server, now_s)
            if len(self._servers) > 1 and now_s - since_s >= self._broken_after_s:
                self._broken_after_s = self._patience.next_s()
                what = f"{server.host} has answered nothing but errors such as {code}"
                self.failed(server, RequestError(what), now_s)
            return ""
        if now_s - self._last_5xx_at >= self._broken_after_s:
            self._patience.reset()
            self._broken_after_s = self._patience.next_s()
        self._broken_since.pop(server, None)
        self._failures.pop(server, None)
        if server in (self._last_answering, *self._others()):
            return ""
        before, self._last_answering = self._last_answering, server
        _, error = self._failures.get(before, (0.0, "it could not be reached"))
        return f"API server {server.host}: in use now, instead of {before.host}: {error}"

    def why(self) -> RequestError:
        """Return the error that keeps every server from being reached."""
        errors = [self._failures[server][1] for server in self._given if server in self._failures]
        if len(self._servers) == 1:
            return RequestError(errors[0].what, errors[0].remedy) if errors else RequestError("")
        # In the order given: the order of the attempts varies, and a text that changes would be
        # reported again each time.
        reasons = ". ".join(error.what for error in errors)
        remedies = "; ".join(dict.fromkeys(error.remedy for error in errors if error.remedy))
        count = len(self._servers)
        return RequestError(f"none of {count} API servers can be reached: {reasons}", remedies)

    def _others(self) -> list[Server]:
        return [server for server in self._servers if server != self.current]

    def _failed_recently(self, server: Server, now_s: float) -> bool:
        failure = self._failures.get(server)
        return failure is not None and now_s - failure[0] < _RECENT_S

    def _next(self, now_s: float) -> int:
        """Return the next that has not failed recently, else the one that failed longest ago."""
        count = len(self._servers)
        ring = [(self._current + step) % count for step in range(1, count + 1)]
        for number in ring:
            if not self._failed_recently(self._servers[number], now_s):
                return number
        return min(ring, key=lambda number: self._failures[self._servers[number]][0])


def _rank(server: Server, spread: str) -> bytes:
    """Return the sort key that puts a server in its place in a node's order."""
    return hashlib.sha256(f"{spread} {server.url}".encode()).digest()


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """
    Return the proxy for `url` that ``HTTPS_PROXY`` or ``HTTP_PROXY`` names, None for none.

    ``NO_PROXY`` holds, between commas, host names (also for names below them), names with a leading
    dot (only for names below), addresses, CIDRs, each with or without a port, or ``*``. A loopback
    address never goes through a proxy.
    """
    parts = urlsplit(url)
    proxy = _variable(environ, f"{parts.scheme.upper()}_PROXY")
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not proxy or _is_loopback(host):
        return None
    exceptions = _variable(environ, "NO_PROXY").lower().split(",")
    if any(_is_excepted(item.strip(), host, port) for item in exceptions):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower()) or ""


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_excepted(item: str, host: str, port: int) -> bool:
    """Return whether one item of NO_PROXY covers a host."""
    if not item:
        return False
    if item == "*":
        return True
    address = _address(host)
    if "/" in item:
        try:
            return address is not None and address in ipaddress.ip_network(item, strict=False)
        except ValueError:
            return False
    name, wanted_port = _split_port(item)
    if wanted_port and wanted_port != str(port):
        return False
    if address is not None:
        return _address(name) == address
    suffix = name.removeprefix("*") if name.startswith("*.") else name
    if suffix.startswith("."):
        return host.endswith(suffix)
    return host == suffix or host.endswith(f".{suffix}")


def _split_port(item: str) -> tuple[str, str]:
    """Return name and port ("" for none) of ``name``, ``name:port``, ``[v6]:port`` or ``v6``."""
    if item.startswith("["):
        name, _, rest = item[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = item.rpartition(":")
    if colon and ":" not in name:
        return name, port
    return item, ""
