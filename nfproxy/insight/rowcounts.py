"""Connections of Service ports in rows of ``nfproxy services``: new, open and unanswered ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from nfproxy.insight.nodefacts import ConnectionMap, Received
from nfproxy.insight.overview import ServiceRow
from nfproxy.model.addresses import FAMILIES, Family, family_of, parse_address
from nfproxy.model.service import Protocol
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey
from nfproxy.views.elementwords import format_destination


def frontends_of(row: ServiceRow) -> list[FrontendKey]:
    """Return the frontends of a row; of a node port those of both families."""
    if row.protocol not in Protocol.__members__:
        return []
    protocol = Protocol[row.protocol]
    addresses = map(parse_address, row.addresses)
    keys = [FrontendKey(family_of(a), a, protocol, row.number) for a in addresses]
    if row.node_port:
        keys += [FrontendKey(family, b"", protocol, row.node_port) for family in FAMILIES]
    return keys


def with_counts(
    rows: Iterable[ServiceRow],
    new: Mapping[FrontendKey, Received],
    connections: ConnectionMap | None,
) -> tuple[ServiceRow, ...]:
    """Return rows with counts; those of connections only where they were looked at."""
    return tuple(_counted(row, new, connections) for row in rows)


def _counted(
    row: ServiceRow, new: Mapping[FrontendKey, Received], connections: ConnectionMap | None
) -> ServiceRow:
    keys = frontends_of(row)
    received = [new[key] for key in keys if key in new]
    row = msgspec.structs.replace(
        row,
        new_connections=sum(one.connections for one in received),
        refused=sum(one.connections for one in received if one.is_refused),
    )
    if connections is None:
        return row
    found = [counts for key in keys for counts in connections.get(key, {}).values()]
    return msgspec.structs.replace(
        row,
        open=sum(counts.open for counts in found),
        unanswered=sum(counts.unanswered for counts in found),
        busiest=_busiest(keys, connections),
    )


def _busiest(keys: Iterable[FrontendKey], connections: ConnectionMap) -> str:
    """Return ``10.244.1.11:8080 31``: the endpoint with most open connections; "" without any."""
    totals: dict[tuple[Family, Destination], int] = {}
    for key in keys:
        for destination, counts in connections.get(key, {}).items():
            end = key.family, destination
            totals[end] = totals.get(end, 0) + counts.open
    if not any(totals.values()):
        return ""
    (family, destination), count = max(totals.items(), key=lambda item: (item[1], item[0]))
    return f"{format_destination(family, destination)} {count:,}"
