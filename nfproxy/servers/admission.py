"""
Who may connect when many want to: connections by source, and their bounds.

A connection has its first second for itself. Later, where there are more connections than usual,
one of the source with most connections gives way to each new one, and a source gets only so many
new ones a second. So a client that opens many connections, or holds them, costs itself, and a probe
is short enough to get its answer.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

from nfproxy.clock import monotonic_s
from nfproxy.model.addresses import parse_address
from nfproxy.servers.listening import share_of_files

#: Nothing gives way before.
_GRACE_S = 1.0

#: So many times the usual number of connections may be there while all are new.
_AT_ONCE = 4

#: So many times the usual number of connections may come from one source in a second, where there
#: are more than usual. To serve one costs a hundred times what it costs to refuse it.
_IN_A_SECOND = 2

#: Places beyond that for this machine, and for sources that got an answer before.
_RESERVED = 16

#: How many sources are remembered for an answer.
_KNOWN = 256

#: The usual connections of one server are at most this share of the files that may be open.
_SHARE_OF_FILES = 16

#: Bytes of long answers that clients have not taken yet. Each is in memory twice meanwhile.
_UNTAKEN_BYTES = 16 << 20

#: A shorter answer does not count: those of all connections together take less.
_LONG = 1 << 16

#: What all connections together may take of the time, in reading what clients send.
_SHARE_OF_TIME = 0.25

#: A shorter rest is none: it would cost more than it saves. A longer one would harm a probe that
#: met a pause of Python's garbage collector.
_SHORTEST_REST_S, _LONGEST_REST_S = 0.001, 0.5

_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address as a socket for both families has it


class Peer(NamedTuple):
    """An address that connections come from, of IPv6 its /64; `is_local` if it is this machine."""

    address: bytes
    is_local: bool

    @classmethod
    def of(cls, client: socket.socket) -> Peer:
        """Return where an accepted connection comes from. Raises OSError if it has ended."""
        theirs, ours = _packed(client.getpeername()), _packed(client.getsockname())
        return cls(theirs if len(theirs) == 4 else theirs[:8], theirs == ours)


def _packed(place: tuple[str, int]) -> bytes:
    packed = parse_address(place[0].partition("%")[0])
    return packed.removeprefix(_MAPPED)


class Guest(Protocol):
    """A connection, as far as its admission is concerned."""

    def abort(self) -> None:
        """Close at once."""


class Connections:
    """The open connections of one server or of several. Belongs to the event loop."""

    def __init__(self, usual: int, clock: Callable[[], float] = monotonic_s) -> None:
        """Start without any; from `usual` connections on, others give way to new ones."""
        self._usual = max(1, min(usual, share_of_files(_SHARE_OF_FILES)))
        self._clock = clock
        self._open: dict[bytes, dict[Guest, float]] = {}  # by address: since when, oldest first
        self._count = 0
        self._untaken: dict[Guest, tuple[bytes, int]] = {}  # address and bytes, the oldest first
        self._known: dict[bytes, None] = {}  # addresses; the one that was answered last is the last
        self._second_began_s = 0.0
        self._came: Counter[bytes] = Counter()  # in this second, by address

    def admits(self, peer: Peer) -> bool:
        """Return whether there is room for a new connection; perhaps another gives way to it."""
        now_s = self._clock()
        if now_s - self._second_began_s >= 1.0:
            self._second_began_s = now_s
            self._came.clear()
        self._came[peer.address] += 1
        if self._count < self._usual:
            return True
        if self._came[peer.address] > self._usual * _IN_A_SECOND + _RESERVED * peer.is_local:
            return False
        if self.make_room():
            return True
        is_welcome = peer.is_local or peer.address in self._known
        return self._count < self._usual * _AT_ONCE + (_RESERVED if is_welcome else 0)

    def add(self, guest: Guest, peer: Peer) -> None:
        """Count a new connection that was admitted."""
        self._open.setdefault(peer.address, {})[guest] = self._clock()
        self._count += 1

    def discard(self, guest: Guest, peer: Peer) -> None:
        """Forget a connection that ended."""
        guests = self._open.get(peer.address, {})
        if guests.pop(guest, None) is not None:
            self._count -= 1
            if not guests:
                del self._open[peer.address]

    def rest_s(self, took_s: float) -> float:
        """Return how long to rest after so much processor time for one connection; 0 is usual."""
        rest_s = took_s * self._count / _SHARE_OF_TIME
        return min(rest_s, _LONGEST_REST_S) if rest_s >= _SHORTEST_REST_S else 0.0

    def answering(self, guest: Guest, peer: Peer, size: int) -> None:
        """
        Count an answer of `size` bytes until it is `taken`.

        Clients that take theirs slowly give way: first the oldest of the source with most bytes.
        """
        if size < _LONG:
            return
        others = self._untaken
        while others and size + sum(untaken for _, untaken in others.values()) > _UNTAKEN_BYTES:
            of_source: Counter[bytes] = Counter()
            for address, untaken in others.values():
                of_source[address] += untaken
            ((most, _),) = of_source.most_common(1)
            first = next(one for one, (address, _) in others.items() if address == most)
            self.taken(first)
            first.abort()
        self._untaken[guest] = peer.address, size

    def taken(self, guest: Guest) -> None:
        """Forget an answer: the client has it, or the connection ended."""
        self._untaken.pop(guest, None)

    def answered(self, peer: Peer) -> None:
        """Remember a source that got an answer."""
        self._known.pop(peer.address, None)
        self._known[peer.address] = None
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

    def make_room(self) -> bool:
        """
        Close a connection that had its time; return whether there was one.

        It is the oldest one of the source with most connections.
        """
        started_before_s = self._clock() - _GRACE_S
        old = [
            (len(guests), address not in self._known, address)
            for address, guests in self._open.items()
            if next(iter(guests.values())) <= started_before_s
        ]
        if not old:
            return False
        *_, address = max(old)
        guest = next(iter(self._open[address]))
        self.discard(guest, Peer(address, is_local=False))
        guest.abort()
        return True
