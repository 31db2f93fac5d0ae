"""
Which UDP flows the kernel must forget, as they go to endpoints that are gone.

The kernel translates the first packet of a flow and sends the rest the same way. With TCP and SCTP
that is right: a host without the connection resets it. UDP has no reset, so a client that keeps
its source port goes on sending to an endpoint that is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.endpoints import Destination, candidates
from nfproxy.plan.frontends import FrontendKey

#: For each UDP frontend the endpoints that its flows may go to.
Flows = Mapping[FrontendKey, frozenset[Destination]]


def udp_flows(
    service: Service, slices: Iterable[EndpointSlice], config: NodeConfig
) -> dict[FrontendKey, frozenset[Destination]]:
    """
    Return where flows to a Service's UDP frontends may go: to any endpoint that serves.

    Traffic policies, topology hints, readiness and termination decide about new flows only; a flow
    that exists goes on. A ready endpoint counts as serving, because new flows go there:
    ``publishNotReadyAddresses`` makes endpoints that are ready and do not serve (kube-proxy would
    cut their flows at each change). A frontend without endpoints has the empty set, and all its
    flows are stale (kubernetes/kubernetes#139628).
    """
    pieces = tuple(slices)
    flows: dict[FrontendKey, frozenset[Destination]] = {}
    for family in FAMILIES:
        if family not in service.cluster_ips:
            continue
        for port in service.ports:
            if port.protocol is not Protocol.UDP:
                continue
            found = candidates(pieces, port.name, port.protocol, family)
            serving = frozenset(d for d, e in found.items() if e.serving or e.ready)
            for key in _frontends(service, port, family, config):
                flows.setdefault(key, serving)
    return flows


def _frontends(
    service: Service, port: ServicePort, family: Family, config: NodeConfig
) -> Iterable[FrontendKey]:
    external = service.external_ips if config.external_ips else ()
    for address in (service.cluster_ips[family], *service.load_balancer_ips, *external):
        if len(address) == family.size:
            yield FrontendKey(family, address, port.protocol, port.port)
    if port.node_port:
        yield FrontendKey(family, b"", port.protocol, port.node_port)


class Query(NamedTuple):
    """An original destination to list flows by; b"" is any address, 0 any port."""

    address: bytes = b""
    port: int = 0


class Judge:
    """Decides which flows of one family are stale, from conntrack's two directions of a flow."""

    def __init__(self, flows: Flows, family: Family, local: Collection[bytes]) -> None:
        """
        Prepare; `local` are the node's own addresses.

        A flow to a node port's number is nfproxy's only if it goes to one of these. The node
        forwards others elsewhere (kube-proxy cuts those, too).
        """
        self._size = family.size
        self._local = frozenset(local)
        mine = [(key, ends) for key, ends in flows.items() if key.family is family]
        self._frontends = {k.address + port_bytes(k.port): ends for k, ends in mine if k.address}
        self._node_ports = {port_bytes(k.port): ends for k, ends in mine if not k.address}
        self.queries = tuple(Query(key.address, key.port) for key, _ in mine)

    def is_stale(self, destination: Destination, source: Destination) -> bool:
        """
        Return whether a UDP flow goes where its frontend has no endpoint.

        `destination` is that of the original direction. `source` is that of the reply direction: an
        endpoint, or the frontend itself if the flow is older than nfproxy's rules.
        """
        serving = self._frontends.get(destination)
        if serving is None:
            serving = self._node_ports.get(destination[self._size :])
            if serving is None or destination[: self._size] not in self._local:
                return False
        return source not in serving
