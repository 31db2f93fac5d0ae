"""Connections of Service ports in rows of ``nfproxy services``: new, open and unanswered ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from nfproxy.insight.nodefacts import ConnectionMap
from nfproxy.insight.overview import ServiceRow
from nfproxy.model.addresses import FAMILIES, family_of, parse_address
from nfproxy.model.service import Protocol
from nfproxy.plan.frontends import FrontendKey


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
    new: Mapping[FrontendKey, int],
    connections: ConnectionMap | None,
) -> tuple[ServiceRow, ...]:
    """Return rows with counts; those of connections only where they were looked at."""
    return tuple(_counted(row, new, connections) for row in rows)


def _counted(
    row: ServiceRow, new: Mapping[FrontendKey, int], connections: ConnectionMap | None
) -> ServiceRow:
    keys = frontends_of(row)
    total = sum(new.get(key, 0) for key in keys)
    if connections is None:
        return msgspec.structs.replace(row, new_connections=total)
    found = [counts for key in keys for counts in connections.get(key, {}).values()]
    return msgspec.structs.replace(
        row,
        new_connections=total,
        open=sum(counts.open for counts in found),
        unanswered=sum(counts.unanswered for counts in found),
    )
