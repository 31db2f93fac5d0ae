"""
Removes IPVS as its connections end.

nfproxy translates new connections before IPVS sees them. The old ones need their virtual server,
and its address on this host, until they end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from nfproxy.errors import NfproxyError
from nfproxy.model.addresses import format_address
from nfproxy.model.service import Protocol
from nfproxy.tools.takeover import ipvs
from nfproxy.tools.takeover.leftovers import Leftovers
from nfproxy.tools.takeover.virtualservers import IpvsConnection, VirtualServer

_INTERVAL_S = 2.0  # between two snapshots: a UDP flow that sends less often counts as idle
_NAMES_LIMIT = 5  # of virtual servers or addresses in a message

#: States of a connection that sends nothing more; NONE is a template for session affinity.
_ENDED = frozenset(("NONE", "TIME_WAIT", "CLOSE", "CLOSED", "LISTEN"))


class Snapshot(NamedTuple):
    """The connections through IPVS at a time, and the sources of this host's own connections."""

    at_s: float
    connections: tuple[IpvsConnection, ...]
    sources: frozenset[bytes]


def used_servers(now: Snapshot, before: Snapshot | None) -> set[VirtualServer]:
    """
    Return the virtual servers with open connections.

    A UDP flow never ends: it counts as open if a packet has renewed its expiry since the snapshot
    `before`, and always where there is no such snapshot.
    """
    used = set()
    then = {_identity(c): c.expires_s for c in before.connections} if before else {}
    # The expiry of an idle flow has fallen by the whole interval. The kernel shows whole seconds,
    # so half of the interval separates idle flows from others.
    half = (now.at_s - before.at_s) / 2 if before else 0.0
    for connection in now.connections:
        if connection.server.protocol is not Protocol.UDP:
            is_open = connection.state not in _ENDED
        else:
            earlier = then.get(_identity(connection))
            is_open = earlier is None or connection.expires_s > earlier - half
        if is_open:
            used.add(connection.server)
    return used


def _identity(connection: IpvsConnection) -> IpvsConnection:
    return connection._replace(expires_s=0, state="")


def unused(
    servers: Iterable[VirtualServer],
    bound: Collection[bytes],
    now: Snapshot,
    before: Snapshot | None,
) -> tuple[list[VirtualServer], set[bytes]]:
    """Return which servers and which `bound` addresses can go without breaking a connection."""
    used = used_servers(now, before)
    every = list(servers)
    needed = now.sources.union(server.address for server in every if server in used)
    return [server for server in every if server not in used], set(bound) - needed


def drain(
    found: Leftovers, drain_s: float, *, force: bool, say: Callable[[str], object]
) -> list[str]:
    """
    Remove virtual servers, addresses and the device as connections end; return what failed.

    What is still in use after `drain_s` stays or, with `force`, is removed. `say` receives the
    progress.
    """
    servers, bound = list(found.servers), set(found.bound or ())
    try:
        ipvs.prefer_own_source(bound)
        deadline = time.monotonic() + drain_s
        before: Snapshot | None = None
        while True:
            now = _snapshot()
            is_over = now.at_s >= deadline
            gone, free = servers, bound
            if not (is_over and force):
                gone, free = unused(servers, bound, now, before)
            ipvs.delete_servers(gone)
            ipvs.unbind(free)
            servers = [server for server in servers if server not in set(gone)]
            bound = bound - free
            if not servers and not bound:
                ipvs.delete_device()
                return []
            if is_over:
                return [_in_use(servers, bound, drain_s)]
            say(_progress(servers, bound, deadline - now.at_s))
            before = now
            time.sleep(max(0.0, min(_INTERVAL_S, deadline - time.monotonic())))
    except NfproxyError as error:
        return [str(error)]


def _snapshot() -> Snapshot:
    return Snapshot(time.monotonic(), tuple(ipvs.connections()), frozenset(ipvs.own_sources()))


def _in_use(servers: Sequence[VirtualServer], bound: Collection[bytes], drain_s: float) -> str:
    if servers:
        kind, named = "virtual servers", [str(server) for server in servers]
    else:
        kind, named = "addresses", [format_address(address) for address in sorted(bound)]
    rest = f" and {len(named) - _NAMES_LIMIT} more" if len(named) > _NAMES_LIMIT else ""
    return (
        f"open connections still need {kind} of IPVS after {drain_s:g} s: "
        f"{', '.join(named[:_NAMES_LIMIT])}{rest}. Run this again when they have ended, wait "
        "longer (--drain), or break them (--force)"
    )


def _progress(servers: Sequence[VirtualServer], bound: Collection[bytes], rest_s: float) -> str:
    return (
        f"waiting for connections through IPVS to end: {len(servers)} virtual servers and "
        f"{len(bound)} addresses are in use; at most {rest_s:.0f} s more"
    )
