"""
Reads the connections of frontends, by endpoint and state.

At 200,000 connections the look at one frontend takes some 60 ms of processor time, at all of them
1.4 s.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from contextlib import closing
from pathlib import Path

from nfproxy.dataplane.conntrack_listing import ConntrackListing, useful_queries
from nfproxy.insight.nodefacts import ConnectionCounts, ConnectionMap
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.netlink.tracked import Progress, Tracked, read_tracked
from nfproxy.nft import schema
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.flows import Query
from nfproxy.plan.frontends import FrontendKey

_TIMEOUT = "sys/net/netfilter/nf_conntrack_"

#: After how long the kernel forgets what it waits for: its name, and the usual time.
_WAITING = {
    (Protocol.TCP, Progress.UNANSWERED): ("tcp_timeout_syn_sent", 120),
    (Protocol.TCP, Progress.HALF_OPEN): ("tcp_timeout_syn_recv", 60),
    (Protocol.UDP, Progress.UNANSWERED): ("udp_timeout", 30),
    (Protocol.SCTP, Progress.UNANSWERED): ("sctp_timeout_cookie_wait", 3),
}

_Waiting = tuple[Protocol, Progress]

#: The kernel gives timeouts in whole seconds: so much less than the full one is a second at least.
_SURELY_OLDER_S = 2

#: The most different clients that are remembered for one frontend and endpoint.
_MOST_CLIENTS = 256


def read_connections(
    keys: Collection[FrontendKey], *, with_clients: bool = True, proc: Path = Path("/proc")
) -> ConnectionMap:
    """
    Return the connections of each of some frontends to each endpoint.

    Those that no rule translated are left out. Raises DataplaneError.
    """
    found: dict[FrontendKey, dict[Destination, ConnectionCounts]] = {key: {} for key in keys}
    timeouts_s = _timeouts_s(proc)
    with closing(ConntrackListing()) as listing:
        for family in FAMILIES:
            mine = [key for key in keys if key.family is family]
            by_address = {key.element_key: key for key in mine if key.address}
            by_node_port = {key.element_key: key for key in mine if not key.address}
            queries = {Query(key.address, key.port, key.protocol) for key in mine}
            for query in useful_queries(family, queries):
                for data, start, end in listing.entries(family, query):
                    one = read_tracked(data, start, end, family)
                    if one is None:
                        continue
                    key = by_address.get(one.frontend)
                    key = key or by_node_port.get(one.frontend[family.size :])
                    # A kernel before 5.8 lists every entry for each query.
                    if key is None or not _is_listed_by(query, key):
                        continue
                    counts = _counts_of(found[key], one)
                    _count(counts, one, key, timeouts_s, with_clients=with_clients)
    return found


def read_all_connections(
    frontends: Container[FrontendKey], proc: Path = Path("/proc")
) -> ConnectionMap:
    """
    Return the connections of those frontends that have some, without their clients.

    It takes memory for these alone, and 6 microseconds for each connection that there is. Raises
    DataplaneError.
    """
    found: dict[FrontendKey, dict[Destination, ConnectionCounts]] = {}
    timeouts_s = _timeouts_s(proc)
    with closing(ConntrackListing()) as listing:
        for family in FAMILIES:
            known: dict[bytes, FrontendKey | None] = {}
            for protocol in Protocol:
                for data, start, end in listing.entries(family, Query(protocol=protocol)):
                    one = read_tracked(data, start, end, family)
                    if one is None:
                        continue
                    if one.frontend not in known:
                        known[one.frontend] = _frontend_of(one, family, frontends)
                    key = known[one.frontend]
                    if key is None or key.protocol is not protocol:
                        continue
                    counts = _counts_of(found.setdefault(key, {}), one)
                    _count(counts, one, key, timeouts_s, with_clients=False)
    return found


def _frontend_of(
    one: Tracked, family: Family, frontends: Container[FrontendKey]
) -> FrontendKey | None:
    at_address = FrontendKey.of_element(family, schema.FRONTENDS, one.frontend)
    if at_address is not None and at_address in frontends:
        return at_address
    node_port = FrontendKey.of_element(family, schema.NODE_PORTS, one.frontend[family.size :])
    return node_port if node_port is not None and node_port in frontends else None


def _counts_of(ends: dict[Destination, ConnectionCounts], one: Tracked) -> ConnectionCounts:
    counts = ends.get(one.endpoint)
    if counts is None:
        counts = ends[one.endpoint] = ConnectionCounts()
    return counts


def _is_listed_by(query: Query, key: FrontendKey) -> bool:
    return (
        query.protocol is key.protocol
        and query.port in (0, key.port)
        and (not query.address or query.address == key.address)
    )


def _count(
    counts: ConnectionCounts,
    one: Tracked,
    key: FrontendKey,
    timeouts_s: Mapping[_Waiting, int],
    *,
    with_clients: bool,
) -> None:
    if one.progress is Progress.OPEN:
        counts.open += 1
        if with_clients:
            _add(counts.clients, one.source)
    elif one.progress is Progress.CLOSING:
        counts.closing += 1
        if with_clients:
            _add(counts.ended, one.source)
    else:
        counts.unanswered += 1
        limit_s = timeouts_s.get((key.protocol, one.progress), 0) - _SURELY_OLDER_S
        if one.timeout_s <= limit_s:
            counts.overdue += 1
            counts.half_open += one.progress is Progress.HALF_OPEN
            if with_clients:
                _add(counts.waiting, one.source)
    if one.seen_source != one.source:
        counts.source_changed += 1
        # A pod that reached itself has to be masqueraded.
        if with_clients and not one.endpoint.startswith(one.source):
            _add(counts.masqueraded, one.source)
            _add(counts.sources, one.seen_source)


def _add(clients: dict[bytes, int], client: bytes) -> None:
    if client in clients or len(clients) < _MOST_CLIENTS:
        clients[client] = clients.get(client, 0) + 1


def _timeouts_s(proc: Path) -> dict[_Waiting, int]:
    return {one: _timeout_s(proc, *usual) for one, usual in _WAITING.items()}


def _timeout_s(proc: Path, name: str, usual_s: int) -> int:
    try:
        return int((proc / f"{_TIMEOUT}{name}").read_text("ascii"))
    except (OSError, ValueError):
        return usual_s
