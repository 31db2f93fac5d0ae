"""Open and unanswered connections of all Service ports, and those to endpoints that left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nfproxy.insight.nodefacts import ConnectionMap
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import Frontend, FrontendKey
from nfproxy.plan.planner import Planner


class PortTotal(NamedTuple):
    """The open and the unanswered connections of a service port."""

    open: int
    unanswered: int


class TrackedTotals(NamedTuple):
    """
    The connections of all Service ports, by Service, port and protocol.

    `overdue` TCP connections are unanswered for a second or longer. `stale` TCP connections are
    open, and their endpoints are in no EndpointSlice any more.
    """

    ports: dict[tuple[ObjectName, str, Protocol], PortTotal]
    overdue: int = 0
    stale: int = 0


def tracked_totals(connections: ConnectionMap, planner: Planner) -> TrackedTotals:
    """Return the totals; the cost is that of the frontends that have connections."""
    ports: dict[tuple[ObjectName, str, Protocol], PortTotal] = {}
    overdue = stale = 0
    for key, ends in connections.items():
        frontend = planner.desired.frontends.get(key)
        if frontend is None:
            continue
        service, port = frontend.claim.service, frontend.claim.port_name
        so_far = ports.get((service, port, key.protocol), PortTotal(0, 0))
        ports[service, port, key.protocol] = PortTotal(
            so_far.open + sum(counts.open for counts in ends.values()),
            so_far.unanswered + sum(counts.unanswered for counts in ends.values()),
        )
        overdue += sum(counts.overdue for counts in ends.values())
        if key.protocol is Protocol.TCP:  # flows of other protocols are cut
            open_ends = {end: counts.open for end, counts in ends.items() if counts.open}
            stale += sum(open_ends[end] for end in _left(open_ends.keys(), key, frontend, planner))
    return TrackedTotals(ports, overdue, stale)


def _left(
    ends: Iterable[Destination], key: FrontendKey, frontend: Frontend, planner: Planner
) -> list[Destination]:
    """Return those endpoints that the Service no longer has, not even as terminating ones."""
    used = [frozenset(slots) for slots in frontend.slot_ranges]
    rest = [end for end in ends if not any(end in some for some in used)]
    if not rest:
        return []
    size = key.family.size
    addresses = {
        piece.addresses[at : at + size]
        for piece in planner.slices_of(frontend.claim.service)
        if piece.family is key.family
        for at in range(0, len(piece.addresses), size)
    }
    return [end for end in rest if end[:size] not in addresses]
