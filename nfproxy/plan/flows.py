"""
Which flows the kernel must forget, as they do not go where their frontend sends new ones.

The kernel translates the first packet of a flow and sends the rest the same way. With TCP that is
right: a host without the connection resets it. UDP has no reset, so a client that keeps its source
port goes on sending to an endpoint that is gone. An SCTP client that starts again from the same
port does, too: each unanswered INIT keeps the old entry alive. And a flow that began while the
rules were missing stays untranslated for as long as it goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from nfproxy.model.addresses import FAMILIES, Family, Prefix
from nfproxy.model.endpoints import Endpoint, EndpointSlice
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort
from nfproxy.nft import schema
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.desired import Desired
from nfproxy.plan.endpoints import Destination, candidates
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner
from nfproxy.plan.portslices import slices_by_port

#: The protocols whose flows are cleaned.
PROTOCOLS = (Protocol.UDP, Protocol.SCTP)

#: For each frontend the endpoints that its flows may go to.
Flows = Mapping[FrontendKey, frozenset[Destination]]

_LOOPBACK = (Prefix(b"\x7f\0\0\0", 8), Prefix(bytes(15) + b"\1", 128))


def service_flows(
    service: Service, slices: Iterable[EndpointSlice], config: NodeConfig
) -> dict[FrontendKey, frozenset[Destination]]:
    """
    Return where flows to a Service's UDP and SCTP frontends may go.

    Traffic policies, topology hints, readiness and termination decide about new flows only; a flow
    that exists goes on. A UDP flow may go to any endpoint that serves. A ready endpoint counts as
    serving, because new flows go there: ``publishNotReadyAddresses`` makes endpoints that are ready
    and do not serve (kube-proxy would cut their flows at each change). An SCTP association may stay
    with any endpoint that is listed, whatever its conditions: only a vanished pod cannot end it.

    A frontend without endpoints has the empty set, and all its flows are stale
    (kubernetes/kubernetes#139628).
    """
    slices_of = slices_by_port(tuple(slices), len(service.ports))
    flows: dict[FrontendKey, frozenset[Destination]] = {}
    for family in FAMILIES:
        if family not in service.families:
            continue
        for port in service.ports:
            if port.protocol not in PROTOCOLS:
                continue
            wanted = port.name, port.protocol
            found = candidates(slices_of(family, *wanted), *wanted, family)
            kept = frozenset(d for d, e in found.items() if _keeps(port.protocol, e))
            for key in _frontends(service, port, family, config):
                flows.setdefault(key, kept)
    return flows


def _keeps(protocol: Protocol, endpoint: Endpoint) -> bool:
    return protocol is Protocol.SCTP or endpoint.serving or endpoint.ready


def _frontends(
    service: Service, port: ServicePort, family: Family, config: NodeConfig
) -> Iterable[FrontendKey]:
    outer = [*service.load_balancer_ips]
    outer += service.external_ips if config.external_ips else ()
    outer += service.router_ips if config.router_ips else ()
    for address in (*service.cluster_ips, *outer):
        if len(address) == family.size:
            yield FrontendKey(family, address, port.protocol, port.port)
    if port.node_port:
        yield FrontendKey(family, b"", port.protocol, port.node_port)


def expected_flows(
    planner: Planner, keys: Iterable[FrontendKey], services: Iterable[ObjectName] = ()
) -> dict[FrontendKey, frozenset[Destination]]:
    """
    Return where flows may go: those of some frontends, and all of the Services that own them.

    `services` are further Services. Two Services may claim one frontend: the owner's endpoints
    keep its flows, whichever Service changed. All UDP flows of a frontend that is gone are stale;
    an SCTP association goes on then, like a TCP connection.
    """
    frontends = planner.desired.frontends
    flows: dict[FrontendKey, frozenset[Destination]] = {}
    owners = set(services)
    for key in keys:
        if key.protocol not in PROTOCOLS:
            continue
        owner = frontends.get(key)
        if owner is not None:
            owners.add(owner.claim.service)
        elif key.protocol is Protocol.UDP:
            flows[key] = frozenset()
    for name in owners:
        service = planner.services.get(name)
        if service is None or all(p.protocol not in PROTOCOLS for p in service.ports):
            continue
        planned = service_flows(service, planner.slices_of(name), planner.config)
        flows.update(
            (key, kept)
            for key, kept in planned.items()
            if key in frontends and frontends[key].claim.service == name
        )
    return flows


class ServiceAddresses:
    """Addresses that belong to Services alone: cluster IPs, and what ServiceCIDRs reserve."""

    def __init__(self, desired: Desired) -> None:
        """Take the addresses from the desired state."""
        self._single: set[bytes] = set()
        self._ranges: list[tuple[bytes, bytes]] = []
        for element in desired.shared_elements:
            if element.set == schema.CLUSTER_IPS:
                self._single.add(element.key)
            elif element.set == schema.SERVICE_CIDRS:
                half = len(element.key) // 2
                self._ranges.append((element.key[:half], element.key[half:]))

    def __contains__(self, address: bytes) -> bool:
        """Return whether a packed address is one of them."""
        return address in self._single or any(
            len(first) == len(address) and first <= address <= last for first, last in self._ranges
        )


class CleaningScope(NamedTuple):
    """
    What decides on a node about flows, beside the frontends.

    `local` are the node's own addresses, `node_port_prefixes` those of NodeConfig.
    `service_addresses` asks for more, after a resync: a translated UDP flow to one of these is
    stale where no frontend is. None leaves such flows alone.
    """

    local: Mapping[Family, Collection[bytes]] = {}
    node_port_prefixes: Mapping[Family, tuple[Prefix, ...] | None] = {}
    service_addresses: ServiceAddresses | None = None


class Query(NamedTuple):
    """An original destination to list flows by; b"" is any address, 0 any port."""

    address: bytes = b""
    port: int = 0
    protocol: Protocol = Protocol.UDP


class Judge:
    """Decides which flows of one family are stale, from conntrack's two directions of a flow."""

    def __init__(self, flows: Flows, family: Family, scope: CleaningScope) -> None:
        """
        Prepare.

        A flow to a node port's number is nfproxy's only if it goes to one of the node's addresses.
        The node forwards others elsewhere (kube-proxy cuts those, too).
        """
        self._size = family.size
        self._local = frozenset(scope.local.get(family, ()))
        prefixes = scope.node_port_prefixes.get(family)
        self._serving_node_ports = frozenset(
            address
            for address in self._local
            if (prefixes is None or any(address in prefix for prefix in prefixes))
            and not any(address in prefix for prefix in _LOOPBACK)
        )
        self._service_addresses = scope.service_addresses
        mine = [(key, ends) for key, ends in flows.items() if key.family is family]
        self._frontends = {
            (k.protocol, k.address + port_bytes(k.port)): e for k, e in mine if k.address
        }
        self._node_ports = {(k.protocol, port_bytes(k.port)): e for k, e in mine if not k.address}
        self.queries: tuple[Query, ...] = tuple(
            Query(key.address, key.port, key.protocol) for key, _ in mine
        )
        if scope.service_addresses is not None:
            protocols = dict.fromkeys((Protocol.UDP, *(key.protocol for key, _ in mine)))
            self.queries = tuple(Query(protocol=protocol) for protocol in protocols)

    def is_stale(self, protocol: Protocol, destination: Destination, source: Destination) -> bool:
        """
        Return whether a flow goes where its frontend has no endpoint.

        `destination` is that of the original direction. `source` is that of the reply direction: an
        endpoint, or the frontend itself if no rule translated the flow when it began.
        """
        kept = self._frontends.get((protocol, destination))
        if kept is not None:
            return source not in kept
        address = destination[: self._size]
        kept = self._node_ports.get((protocol, destination[self._size :]))
        if kept is not None and address in self._local:
            if address in self._serving_node_ports:
                return source not in kept
            # Node ports are not, or no longer, served at this address. A program of the node may
            # use the port there, so only what leads to the Service goes.
            return source in kept
        return (
            self._service_addresses is not None
            and protocol is Protocol.UDP
            and source != destination
            and address not in self._local
            and address in self._service_addresses
        )
