"""
From the kernel's messages to connections: which packets are of one connection, how far they came.

A message has the packet's headers only where the packet enters a chain, and an id otherwise. Pure:
no clock, no socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nfproxy.netlink.tracing import TraceEvent, TraceVerdict
from nfproxy.tools.trace.headers import Headers, PacketPeer, read_headers
from nfproxy.tools.trace.table import TRACE_TABLE, Waypoint


@dataclass
class PacketWay:
    """How far one direction of a connection came: the last packet of it that was traced."""

    place: Waypoint
    headers: Headers
    dropped_by: TraceEvent | None = None
    interface_in: int = 0
    interface_out: int = 0

    def take(self, event: TraceEvent, headers: Headers | None) -> None:
        """Note a message about a packet of this direction."""
        if event.table == TRACE_TABLE and event.chain in _WAYPOINTS:
            self.place = Waypoint(event.chain)
            self.headers = headers or self.headers
        elif event.verdict == TraceVerdict.DROP:
            self.dropped_by = event
        self.interface_in = event.interface_in or self.interface_in
        self.interface_out = event.interface_out or self.interface_out


@dataclass
class TracedConnection:
    """
    A connection of which packets were traced; times are those of the messages, in seconds.

    `packets` counts first packets: a client sends its first packet again where no answer comes.
    `answered_s` is when the first answer came by, None without one.
    """

    client: PacketPeer
    asked: PacketPeer
    protocol: int
    began_s: float
    way: PacketWay
    packets: int = 1
    last_s: float = 0.0
    answered_s: float | None = None
    answer: PacketWay | None = None

    @property
    def destination(self) -> PacketPeer:
        """Where the first packet was led: an endpoint, or what was asked."""
        return self.way.headers.destination

    @property
    def is_translated(self) -> bool:
        """Whether its destination was translated."""
        return self.destination != self.asked

    @property
    def failed_way(self) -> PacketWay:
        """The direction that decides how it ended: the answer's, once there is one."""
        return self.way if self.way.dropped_by or self.answer is None else self.answer

    @property
    def is_over(self) -> bool:
        """Whether nothing more can change how it ended."""
        if self.way.dropped_by is not None:
            return True
        answer = self.answer
        return answer is not None and (
            answer.dropped_by is not None or answer.place in (Waypoint.SENT, Waypoint.DELIVERED)
        )


#: Source, destination and protocol.
_Key = tuple[PacketPeer, PacketPeer, int]


class TracedConnections:
    """
    All connections of a trace, in the order in which they began.

    The table's rates and the length of the trace bound how many there are.
    """

    def __init__(self) -> None:
        self._all: dict[_Key, TracedConnection] = {}
        self._by_id: dict[int, tuple[TracedConnection, PacketWay]] = {}
        self._alike: dict[object, TracedConnection] = {}
        self._answers: dict[_Key, TracedConnection] = {}  # by the headers that an answer has

    def __iter__(self) -> Iterator[TracedConnection]:
        """Yield them."""
        return iter(self._all.values())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._all)

    def take(self, event: TraceEvent, at_s: float) -> TracedConnection | None:
        """Take a message; return the connection that it is about, None if that is unknown."""
        headers = read_headers(event.network, event.transport) if event.network else None
        place = Waypoint(event.chain) if self._is_first(event) else None
        known = self._by_id.get(event.id)
        if headers is not None and (
            known is None or place is not None or self._is_reused(known, headers)
        ):
            known = self._find(headers, place, at_s)
            if known is not None:
                self._by_id[event.id] = known
        if known is None:
            return None
        connection, way = known
        way.take(event, headers)
        connection.last_s = at_s
        if way is connection.way:
            now = way.headers
            self._alike[now.likeness] = connection
            self._answers[now.destination, now.source, now.protocol] = connection
        return connection

    def _is_reused(self, known: tuple[TracedConnection, PacketWay], headers: Headers) -> bool:
        """
        Return whether the packet with a known id was another one: this is an answer.

        An id is made of the packet's place in memory and its flow hash (nft_trace_init), which all
        answers of SCTP to new associations share: they leave by one socket.
        """
        answered = self._answers.get((headers.source, headers.destination, headers.protocol))
        return answered is not None and known[1] is not answered.answer

    def _is_first(self, event: TraceEvent) -> bool:
        return event.table == TRACE_TABLE and event.chain in (Waypoint.PREROUTING, Waypoint.OUTPUT)

    def _find(
        self, headers: Headers, place: Waypoint | None, at_s: float
    ) -> tuple[TracedConnection, PacketWay] | None:
        """Return connection and direction of a packet that was not seen yet, or seen again."""
        answered = self._answers.get((headers.source, headers.destination, headers.protocol))
        if answered is not None:
            if answered.answer is None:
                answered.answer = PacketWay(Waypoint.PREROUTING, headers)
                answered.answered_s = at_s
            return answered, answered.answer
        # Another id, the same packet: a bridge has copied it, or it comes back by the loopback
        # interface.
        alike = self._alike.get(headers.likeness)
        if alike is not None:
            return alike, alike.way
        return self._begin(headers, place, at_s) if place is not None else None

    def _begin(
        self, headers: Headers, place: Waypoint, at_s: float
    ) -> tuple[TracedConnection, PacketWay]:
        key = (headers.source, headers.destination, headers.protocol)
        connection = self._all.get(key)
        if connection is None:
            connection = TracedConnection(
                *key, began_s=at_s, way=PacketWay(place, headers), last_s=at_s
            )
            self._all[key] = connection
        else:  # the client sends its first packet again
            connection.packets += 1
            connection.way = PacketWay(place, headers)
        return connection, connection.way


_WAYPOINTS = frozenset(Waypoint)
