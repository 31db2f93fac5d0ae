"""
Which of several API servers is asked.

One is used until it cannot be reached; then it is the next one's turn, for everything. Nobody goes
back as long as that one answers, so nodes do not swing to and fro with a server that comes and
goes. Everything here computes; the time is an argument, in seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

#: So long after a failure a server is used only if there is no better one.
_LATELY_S = 5.0

#: One that has had nothing but 5xx for so long (its etcd is away, say) counts as out of reach. If
#: the next ones are no better, it is for longer each time: what works with one is cut by leaving.
_BROKEN_AFTER_S, _BROKEN_AFTER_MOST_S = 15.0, 960.0


class Server(msgspec.Struct, frozen=True):
    """Where an API server is, and through which proxy it is asked, None for none."""

    url: str
    proxy: str | None = None

    @property
    def host(self) -> str:
        """Its ``host:port``, as messages and metrics call it."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


class Servers:
    """API servers of one cluster, of which one is in use. There is at least one."""

    def __init__(self, servers: Sequence[Server], spread: str = "") -> None:
        """
        Take the servers; in which order they are used depends on `spread`, the node's name.

        So the nodes of a cluster begin at different ones, those of one that fails go on to
        different others, and each node begins at the same one again (rendezvous hashing).
        """
        self._given = tuple(servers)
        self._servers = tuple(sorted(servers, key=lambda one: _place(one, spread)))
        self._current = 0
        self._failures: dict[Server, tuple[float, str]] = {}
        self._broken: dict[Server, float] = {}  # since when there has been nothing but 5xx
        self._broken_after_s = _BROKEN_AFTER_S
        self._erred_s = float("-inf")  # when there was a 5xx last, of any
        self._known = self.current  # the last that answered

    @property
    def current(self) -> Server:
        """The one in use."""
        return self._servers[self._current]

    @property
    def all(self) -> tuple[Server, ...]:
        """Every one of them, as given."""
        return self._given

    def has_other(self, now_s: float) -> bool:
        """Tell whether there is another that may be better, so that patience is out of place."""
        return any(not self._lately(one, now_s) for one in self._others())

    def failed(self, server: Server, text: str, now_s: float) -> None:
        """Take it that one cannot be reached, and why; go on to the next if it was in use."""
        self._failures[server] = (now_s, text)
        self._broken.pop(server, None)
        if server == self.current:
            self._current = self._next(now_s)

    def answered(self, server: Server, code: int, now_s: float) -> str:
        """
        Take an answer with an HTTP status; return what to log, "" for nothing.

        Each answer but 5xx is one of a server that works, whatever it says of the request.
        """
        if code >= 500:
            since_s, self._erred_s = self._broken.setdefault(server, now_s), now_s
            if len(self._servers) > 1 and now_s - since_s >= self._broken_after_s:
                self._broken_after_s = min(2 * self._broken_after_s, _BROKEN_AFTER_MOST_S)
                self.failed(server, f"{server.host} has only had {code} to say", now_s)
            return ""
        if now_s - self._erred_s >= self._broken_after_s:
            self._broken_after_s = _BROKEN_AFTER_S
        self._broken.pop(server, None)
        self._failures.pop(server, None)
        if server in (self._known, *self._others()):
            return ""
        before, self._known = self._known, server
        why = self._failures.get(before, (0.0, "it could not be reached"))[1]
        return f"the API server {server.host} is used now, in place of {before.host}: {why}"

    def why(self) -> str:
        """Return what keeps every one of them from being reached."""
        texts = [self._failures[one][1] for one in self._given if one in self._failures]
        if len(self._servers) == 1:
            return "".join(texts)
        return f"none of {len(self._servers)} API servers can be reached: {'. '.join(texts)}"

    def _others(self) -> list[Server]:
        return [one for one in self._servers if one != self.current]

    def _lately(self, server: Server, now_s: float) -> bool:
        failure = self._failures.get(server)
        return failure is not None and now_s - failure[0] < _LATELY_S

    def _next(self, now_s: float) -> int:
        """Return the next that has not failed lately, else the one that failed longest ago."""
        count = len(self._servers)
        ring = [(self._current + step) % count for step in range(1, count + 1)]
        for number in ring:
            if not self._lately(self._servers[number], now_s):
                return number
        return min(ring, key=lambda number: self._failures[self._servers[number]][0])


def _place(server: Server, spread: str) -> bytes:
    """Return what puts a server in its place in a node's order."""
    return hashlib.sha256(f"{spread} {server.url}".encode()).digest()
