"""
Connections by service port, from the counters of frontends' elements.

The kernel counts the connections to a frontend in its element of map ``frontends`` or
``node-ports``: the first packet of each, as nat chains see no other. An element that is replaced
begins at 0 again, so what is kept here are sums of differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from nfproxy.model.addresses import Family
from nfproxy.model.service import Claim, ObjectName, Protocol
from nfproxy.nft import schema
from nfproxy.plan.frontends import FrontendKey

#: The maps whose elements count.
COUNTED = (schema.FRONTENDS, schema.NODE_PORTS)


class Counter(NamedTuple):
    """An element of one of `COUNTED`, by its key."""

    family: Family
    map: str
    key: bytes


class PortName(NamedTuple):
    """A service port: its Service, its name ("" where the only one has none), its protocol."""

    service: ObjectName
    port_name: str
    protocol: Protocol


class ConnectionTotals:
    """
    How many connections each service port was asked for, since the first reading.

    What an element counted between the last reading and its replacement is lost, so the totals
    are a little low for Services whose number of endpoints changes. A Service that goes takes its
    totals along.
    """

    def __init__(self) -> None:
        """Start without a reading."""
        self.totals: dict[PortName, int] = {}
        self._last: dict[Counter, int] | None = None

    def read(
        self,
        counters: Iterable[tuple[Counter, int]],
        owner: Callable[[FrontendKey], Claim | None],
        exists: Callable[[ObjectName], bool],
    ) -> None:
        """
        Take over what all elements count now; those that count 0 may be left out.

        `owner` tells who has a frontend, `exists` whether there is a Service. The first reading
        adds nothing: what it finds was counted before anybody asked.
        """
        before = self._last
        now: dict[Counter, int] = {}
        for counter, count in counters:
            now[counter] = count
            if before is None:
                continue
            last = before.get(counter, 0)
            if count != last:
                self._add(counter, count - last if count > last else count, owner)
        self._last = now
        for gone in [name for name in self.totals if not exists(name.service)]:
            del self.totals[gone]

    def _add(
        self, counter: Counter, count: int, owner: Callable[[FrontendKey], Claim | None]
    ) -> None:
        key = frontend_key(counter)
        claim = owner(key) if key is not None else None
        if key is None or claim is None:
            return
        name = PortName(claim.service, claim.port_name, key.protocol)
        self.totals[name] = self.totals.get(name, 0) + count


def frontend_key(counter: Counter) -> FrontendKey | None:
    """Return the frontend an element is of; None where its key is none that we would make."""
    size = counter.family.size if counter.map == schema.FRONTENDS else 0
    if len(counter.key) != size + 8:
        return None
    try:
        protocol = Protocol(counter.key[size])
    except ValueError:
        return None
    port = schema.port_of(counter.key, size + 4)
    return FrontendKey(counter.family, counter.key[:size], protocol, port)
