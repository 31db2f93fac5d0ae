"""
Session affinity of one service port: its lists, its chains, its elements.

Source: ``spec.sessionAffinity: ClientIP``. The kernel's part is in ``rulesets/affinity.nft.j2``.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.service import Service, ServicePort
from nfproxy.nft import schema
from nfproxy.nft.chains import (
    AffinityList,
    Chain,
    FindChain,
    Policy,
    RecordChain,
    Search,
    affinity_list,
)
from nfproxy.plan.endpoints import Destination, Selection
from nfproxy.plan.frontends import AffinityListKey, Element, FrontendKey


class FrontendAffinity(msgspec.Struct, frozen=True):
    """What one frontend needs for session affinity."""

    elements: tuple[Element, ...]
    chains: tuple[Chain, ...]


class PortAffinity(msgspec.Struct, frozen=True):
    """
    The session affinity of a service port in one family; false where it has none.

    `cluster` and `local` map affinity lists to the endpoints on them. The kernel's entries hold
    addresses without ports, so there is a list for each port number of the endpoints.
    """

    service_port: str
    family: Family
    timeout_s: int
    cluster: dict[AffinityList, tuple[Destination, ...]] = {}
    local: dict[AffinityList, tuple[Destination, ...]] = {}

    @classmethod
    def of(
        cls, service: Service, port: ServicePort, family: Family, chosen: Selection
    ) -> PortAffinity:
        """Return a service port's affinity, given the endpoints chosen for it."""
        timeout = service.affinity_timeout_s
        if timeout is None or not chosen.exists:
            return _NONE
        name = f"{service.name}/{port.protocol.word}/{port.name}"
        return cls(
            name,
            family,
            timeout,
            _by_list(name, "cluster", chosen.cluster, family),
            _by_list(name, "local", chosen.local, family),
        )

    def __bool__(self) -> bool:
        """Return whether there are endpoints to remember."""
        return bool(self.cluster or self.local)

    def lists(self) -> Iterator[tuple[AffinityListKey, frozenset[bytes]]]:
        """Yield each affinity list and the endpoint addresses that its entries may have."""
        size = self.family.size
        for lists in (self.cluster, self.local):
            for item, destinations in lists.items():
                addresses = frozenset(d[:size] for d in destinations)
                yield AffinityListKey(self.family, item.number), addresses

    def elements(
        self, key: FrontendKey, policy: Policy, *, internal_local: bool
    ) -> FrontendAffinity:
        """Return the elements and chains of one of the port's frontends."""
        find = self._find(key, policy, internal_local=internal_local)
        if key.address:
            find_map, record_maps = schema.AFFINITY_FRONTENDS, schema.RECORD_FRONTENDS
        else:
            find_map, record_maps = schema.AFFINITY_NODE_PORTS, schema.RECORD_NODE_PORTS
        elements = [Element(find_map, key.element_key, schema.jump(find.name))]
        frontend = key.address + schema.port_bytes(key.port)
        chains: dict[Chain, None] = {find: None}
        for destination, record in self._records():
            chains[record] = None
            record_map, jump = record_maps[key.protocol], schema.jump(record.name)
            elements.append(Element(record_map, destination + frontend, jump))
        return FrontendAffinity(tuple(elements), tuple(chains))

    def _find(self, key: FrontendKey, policy: Policy, *, internal_local: bool) -> FindChain:
        if policy is Policy.LOCAL:
            search = Search.EXTERNAL
        else:
            search = Search.LOCAL if internal_local else Search.CLUSTER
        return FindChain(
            self.service_port,
            search,
            key.protocol,
            () if search is Search.LOCAL else tuple(self.cluster),
            () if search is Search.CLUSTER else tuple(self.local),
        )

    def _records(self) -> Iterator[tuple[Destination, RecordChain]]:
        """Yield each endpoint and the chain that records its clients, on every list it is on."""
        on: dict[Destination, list[AffinityList]] = {}
        for lists in (self.cluster, self.local):
            for item, destinations in lists.items():
                for destination in destinations:
                    on.setdefault(destination, []).append(item)
        for destination, items in on.items():
            yield destination, RecordChain(tuple(items), self.timeout_s)


_NONE = PortAffinity("", Family.IPV4, 0)


def _by_list(
    name: str, which: str, destinations: tuple[Destination, ...], family: Family
) -> dict[AffinityList, tuple[Destination, ...]]:
    by_port: dict[int, list[Destination]] = {}
    for destination in destinations:
        by_port.setdefault(schema.port_of(destination, family.size), []).append(destination)
    return {
        affinity_list(name, which, port): tuple(listed) for port, listed in sorted(by_port.items())
    }
