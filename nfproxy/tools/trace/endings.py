"""How a traced connection ended, as far as this node knows."""

from __future__ import annotations

import enum

import msgspec

from nfproxy.nft.schema import OUR_TABLES
from nfproxy.tools.trace.table import Waypoint
from nfproxy.tools.trace.traced import PacketWay, TracedConnection


class TraceEnding(enum.StrEnum):
    """What became of a connection; the first three are no failure of this node."""

    ANSWERED = "answered"
    REFUSED_BY_ENDPOINT = "refused by endpoint"
    NOT_A_SERVICE = "not a service"  # nothing translated it, and a process of the node has it
    UNANSWERED = "unanswered"  # it left this node, or reached a process of it
    REFUSED = "refused"  # by a Service without endpoints here
    DROPPED = "dropped"  # by nfproxy
    DROPPED_BY_OTHERS = "dropped by others"
    ANSWER_DROPPED = "answer dropped"
    ANSWER_LOST = "answer lost"
    LOST = "lost"  # between two places, and no rule says why

    @property
    def is_failure(self) -> bool:
        """Whether the client got no answer, or a refusal."""
        return self is not TraceEnding.ANSWERED


class LostBetween(msgspec.Struct, frozen=True, rename="camel"):
    """The last place that a lost packet passed, and the next one that it should have passed."""

    after: str
    before: str


def ending_of(connection: TracedConnection) -> TraceEnding:
    """Return how a connection ended, or stands now."""
    dropped = connection.way.dropped_by
    if dropped is not None:
        if dropped.table not in OUR_TABLES:
            return TraceEnding.DROPPED_BY_OTHERS
        return TraceEnding.REFUSED if dropped.chain.startswith("reject-") else TraceEnding.DROPPED
    answer = connection.answer
    if answer is not None:
        if answer.dropped_by is not None:
            return TraceEnding.ANSWER_DROPPED
        if answer.place not in (Waypoint.SENT, Waypoint.DELIVERED):
            return TraceEnding.ANSWER_LOST
        return (
            TraceEnding.REFUSED_BY_ENDPOINT if answer.headers.is_refusal else TraceEnding.ANSWERED
        )
    if connection.way.place in (Waypoint.SENT, Waypoint.DELIVERED):
        if connection.way.place is Waypoint.DELIVERED and not connection.is_translated:
            return TraceEnding.NOT_A_SERVICE
        return TraceEnding.UNANSWERED
    return TraceEnding.LOST


def lost_between(way: PacketWay) -> LostBetween:
    """Return where the packet of a connection with ending LOST or ANSWER_LOST was lost."""
    before = {
        Waypoint.PREROUTING: "destination NAT",
        Waypoint.OUTPUT: "destination NAT",
        Waypoint.TRANSLATED: "routing",
        Waypoint.OUTPUT_TRANSLATED: "postrouting",
        Waypoint.INPUT: "the end of input",
        Waypoint.FORWARD: "postrouting",
        Waypoint.POSTROUTING: "the end of postrouting",
    }
    return LostBetween(way.place.value, before.get(way.place, "the network"))
