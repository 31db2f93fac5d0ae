"""Counts of connections for ``nfproxy services``, read from this node's kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import msgspec

from nfproxy.dataplane.connectionreader import read_connections
from nfproxy.dataplane.heldreader import read_counters
from nfproxy.errors import DataplaneError
from nfproxy.host.processes import may_administer_network
from nfproxy.insight.overview import Overview, ServiceRow
from nfproxy.insight.rowcounts import frontends_of, with_counts
from nfproxy.netlink.sockets import NftSocket

#: With more connections than this, they are counted only where the command asks for them.
_FEW_CONNECTIONS = 50_000
_COUNT = "sys/net/netfilter/nf_conntrack_count"


def counted(found: Overview, *, connections: bool, proc: Path = Path("/proc")) -> Overview:
    """
    Return an overview with the counts of its rows, as it is where this process may not read them.

    Connections are counted where there are few, or on request: 200,000 take a second and a half.
    """
    if not may_administer_network():
        return found
    try:
        with NftSocket() as netlink:
            new = read_counters(netlink)
        if not new:
            return found
        keys = [key for row in found.services for key in frontends_of(row) if key in new]
        is_asked = connections or _connection_count(proc) <= _FEW_CONNECTIONS
        looked = read_connections(keys, with_clients=False) if is_asked else None
    except DataplaneError as error:
        missing = (*found.seen.missing, f"connections: {error}")
        return msgspec.structs.replace(
            found, seen=msgspec.structs.replace(found.seen, missing=missing)
        )
    seen = msgspec.structs.replace(found.seen, kernel=True, connections=looked is not None)
    return msgspec.structs.replace(
        found, seen=seen, services=with_counts(found.services, new, looked)
    )


def watched(found: Overview, interval_s: float) -> Iterator[Overview]:
    """
    Yield an overview again and again, until the caller stops.

    What is new, and refused, is what came since the time before; it is per second.
    """
    before: dict[str, ServiceRow] = {}
    while True:
        now = counted(found, connections=True)
        rows = tuple(_since(row, before.get(_key(row), row), interval_s) for row in now.services)
        yield msgspec.structs.replace(now, services=rows)
        before = {_key(row): row for row in now.services}
        Event().wait(interval_s)


def _since(row: ServiceRow, before: ServiceRow, interval_s: float) -> ServiceRow:
    """Return a row whose sums are what came since an earlier one, a second."""

    def rate(now: int | None, then: int | None) -> int:
        return round(max(0, (now or 0) - (then or 0)) / interval_s)

    return msgspec.structs.replace(
        row,
        new_connections=rate(row.new_connections, before.new_connections),
        refused=rate(row.refused, before.refused),
    )


def _key(row: ServiceRow) -> str:
    return f"{row.label}/{row.protocol}"


def _connection_count(proc: Path) -> int:
    try:
        return int((proc / _COUNT).read_text("ascii"))
    except (OSError, ValueError):
        return 0
