"""
Session affinity of one service port: its lists, its chains, its elements.

Source: ``spec.sessionAffinity: ClientIP``. The kernel's part is in ``rulesets/affinity.nft.j2``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.nft import schema
from nfproxy.nft.chains import AffinityList, FindChain, Policy, RecordChain
from nfproxy.nft.endpointnumbers import endpoint_number
from nfproxy.nft.schema import Verdict
from nfproxy.plan.endpoints import Destination, Selection
from nfproxy.plan.frontends import AffinityListKey, Element, FrontendKey


def port_name(service: Service, port: ServicePort) -> str:
    """Return the name of a service port, from which the numbers of its lists and chains follow."""
    return f"{service.name}/{port.protocol.word}/{port.name}"


class PortAffinity(msgspec.Struct, frozen=True):
    """
    The session affinity of a service port in one family; false where it has none.

    `lists` has the endpoints on each affinity list. Which lists there are follows from the
    Service's policies, so that chains stay as they are when endpoints come and go.
    """

    service_port: str
    family: Family
    protocol: Protocol
    timeout_s: int
    lists: dict[AffinityList, Sequence[Destination]] = {}

    @classmethod
    def of(
        cls,
        service: Service,
        port: ServicePort,
        family: Family,
        chosen: Selection,
        *,
        external: bool,
    ) -> PortAffinity:
        """Return a service port's affinity. `external`: it has frontends beside the cluster IP."""
        timeout = service.affinity_timeout_s
        if timeout is None or not chosen.exists:
            return _NONE
        name = port_name(service, port)
        lists: dict[AffinityList, Sequence[Destination]] = {}
        # The shorter list comes first, see RecordChain.
        if service.internal_local or (service.external_local and external):
            lists[AffinityList(name, "local")] = chosen.local
        if external or not service.internal_local:
            lists[AffinityList(name, "cluster")] = chosen.cluster
        return cls(name, family, port.protocol, timeout, lists)

    def __bool__(self) -> bool:
        """Return whether clients are remembered."""
        return bool(self.lists)

    def list_elements(self) -> Iterator[tuple[AffinityListKey, frozenset[Element]]]:
        """Yield each affinity list with its elements."""
        for index, (item, destinations) in enumerate(self.lists.items()):
            number = item.number
            name = schema.map_of(schema.AFFINITY_ENDPOINTS[self.protocol], number)
            # Of two endpoints with one number, which is one case in 10^9, the first has all
            # clients that come again.
            numbered = {
                number + schema.number_bytes(endpoint_number(one)): one
                for one in sorted(destinations, reverse=True)
            }
            elements = {Element(name, key, one) for key, one in numbered.items()}
            if index + 1 < len(self.lists):
                elements |= {Element(schema.AFFINITY_LOCAL, key) for key in numbered}
            yield AffinityListKey(self.family, number), frozenset(elements)

    def chains(self, policy: Policy, *, internal_local: bool) -> tuple[FindChain, RecordChain]:
        """Return the chains of one of the port's frontends, by the policy of its shape."""
        return (
            FindChain(self.service_port, self.protocol, policy, internal_local),
            RecordChain(self.service_port, self.protocol, tuple(self.lists), self.timeout_s),
        )

    @staticmethod
    def elements(key: FrontendKey, record: RecordChain, verdict: Verdict) -> tuple[Element, ...]:
        """Return the elements of a frontend: `verdict` is that on clients without an endpoint."""
        if key.address:
            behind, records = schema.STICKY_FRONTENDS, schema.RECORD_FRONTENDS
        else:
            behind, records = schema.STICKY_NODE_PORTS, schema.RECORD_NODE_PORTS
        return (
            Element(behind, key.element_key, verdict),
            Element(records[key.protocol], key.element_key, schema.jump(record.name)),
        )


_NONE = PortAffinity("", Family.IPV4, Protocol.TCP, 0)
