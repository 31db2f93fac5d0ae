"""
What one Service asks for in the kernel.

The decisions are those of kube-proxy's nftables mode. internalTrafficPolicy decides for the cluster
IP, externalTrafficPolicy for all other frontends.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest

import msgspec

from nfproxy.model.addresses import FAMILIES, Family, Prefix, collapse, family_of
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Claim, Service, ServicePort
from nfproxy.nft import schema
from nfproxy.nft.chains import (
    NO_LOCAL,
    REJECT,
    Chain,
    Guard,
    Policy,
    Shape,
    goto_shape,
    list_number,
    list_size,
)
from nfproxy.nft.schema import Verdict, jump
from nfproxy.plan.affinity import PortAffinity, port_name
from nfproxy.plan.claims import refusal
from nfproxy.plan.endpoints import Candidates, Destination, Selection, candidates, pack, select
from nfproxy.plan.frontends import (
    NO_AFFINITY_LISTS,
    NO_LISTS,
    NO_SLOTS,
    AffinityListKey,
    Element,
    Frontend,
    FrontendKey,
    FrontendKind,
    Limited,
    ListKey,
    RefusedFrontend,
    ServicePlan,
    SharedElement,
    SlotRanges,
)
from nfproxy.plan.limits import choose, endpoint_limit, limits_exceeded, may_exceed
from nfproxy.plan.portslices import SlicesOfPort, slices_by_port

#: Frontends share a list where that saves at least so many slots: its chains cost as much.
WORTH_SLOTS = 64

#: A cluster IP and a node port, or two addresses, have slots of their own.
_SHARING_FRONTENDS = 3


def plan_service(
    service: Service, slices: Sequence[EndpointSlice], config: NodeConfig
) -> ServicePlan:
    """
    Return what a Service asks for, given all its EndpointSlices (in a stable order).

    Each family is planned by itself. One without a cluster IP of the Service gets nothing, also for
    its external addresses.
    """
    frontends: dict[FrontendKey, Frontend] = {}
    refused: dict[FrontendKey, RefusedFrontend] = {}
    shared: dict[SharedElement, None] = {}
    affinity_lists: dict[AffinityListKey, frozenset[Element]] = {}
    lists: dict[ListKey, SlotRanges] = {}
    limited: list[Limited] = []
    left = config.limits.frontends
    slices_of = slices_by_port(slices, len(service.ports))
    for family in FAMILIES:
        cluster_ip = service.cluster_ip(family)
        if cluster_ip is None:
            continue
        shared[SharedElement(family, schema.CLUSTER_IPS, cluster_ip)] = None
        guard, ranges, ranges_cut = _guard(service, family, config)
        shared.update(dict.fromkeys(ranges))
        plans = [
            _PortPlan(service, port, family, slices_of, config, guard)
            for port in service.ports[:left]
        ]
        is_cut = len(plans) < len(service.ports)
        # One of each port at a time: a limit cuts off the last addresses, of all ports alike.
        asked = [plan.frontends(cluster_ip) for plan in plans]
        in_turns = asked[0] if len(asked) == 1 else chain.from_iterable(zip_longest(*asked))
        for frontend in filter(None, in_turns):
            if not left:
                is_cut = True
                break
            left -= 1
            key, kind = frontend.key, frontend.kind
            if why := refusal(kind, key, service.name, config.kept):
                refused.setdefault(key, RefusedFrontend(key, kind, why))
            else:
                frontends.setdefault(key, frontend)
        full = [plan.port for plan in plans if plan.is_limited]
        if full or is_cut or ranges_cut:
            limited += limits_exceeded(service, cluster_ip, config.limits, full, is_cut, ranges_cut)
        for plan in plans:
            port = plan.port
            if port.node_port and config.rejects_on_loopback(family, port.protocol):
                node_port = FrontendKey(family, b"", port.protocol, port.node_port)
                if node_port in frontends:
                    rejected = node_port.element_key
                    shared[SharedElement(family, schema.LOOPBACK_REJECTS, rejected)] = None
            if service.router_ips:
                refused |= {one.key: one for one in plan.refused()}
            if plan.affinity:
                affinity_lists.update(plan.affinity.list_elements())
            if plan.list is not None:
                lists[plan.list] = plan.listed
    return ServicePlan(
        service.name,
        tuple(frontends.values()),
        tuple(shared),
        affinity_lists or NO_AFFINITY_LISTS,
        lists or NO_LISTS,
        tuple(refused.values()),
        tuple(limited),
    )


def select_for(
    service: Service,
    port: ServicePort,
    family: Family,
    slices: Iterable[EndpointSlice],
    config: NodeConfig,
) -> tuple[Candidates, Selection]:
    """Return a service port's endpoints in one family, and which of them are chosen."""
    external = is_external(service, port, family)
    found = candidates(slices, port.name, port.protocol, family)
    selection = select(
        found,
        config.node_name,
        config.zone,
        # External addresses with policy Local need it, too: pods and the node reach all endpoints.
        uses_cluster=not service.internal_local or external,
        uses_local=service.internal_local or (service.external_local and external),
    )
    count = max(len(selection.cluster), len(selection.local))
    if may_exceed(service, count, config.limits) and count > (
        most := endpoint_limit(service, config.limits)
    ):
        cluster, local = (
            pack(sorted(choose(listed, most, config.node_name)))
            for listed in (selection.cluster, selection.local)
        )
        selection = msgspec.structs.replace(
            selection, cluster=cluster, local=local, is_limited=True
        )
    return found, selection


def is_external(service: Service, port: ServicePort, family: Family) -> bool:
    """Return whether a service port has an external address of a family, or a node port."""
    if port.node_port:
        return True
    outside = service.load_balancer_ips, service.external_ips, service.router_ips
    return any(_of_family(addresses, family) for addresses in outside if addresses)


def _of_family(addresses: Sequence[bytes], family: Family) -> list[bytes]:
    return [a for a in addresses if len(a) == family.size] if addresses else []


@functools.lru_cache(maxsize=4096)
def _chains(shape: Shape) -> tuple[Chain, ...]:
    """Return a shape's chains. Frontends with equal shapes share the tuple; there are very many."""
    return (*shape.draws, shape)


class _PortPlan:
    """One service port in one family, and the frontends and elements it needs."""

    def __init__(
        self,
        service: Service,
        port: ServicePort,
        family: Family,
        slices_of: SlicesOfPort,
        config: NodeConfig,
        guard: Guard | None,
    ) -> None:
        self._service = service
        self.port = port
        self._family = family
        self._config = config
        self._guard = guard
        slices = slices_of(family, port.name, port.protocol)
        _, self._chosen = select_for(service, port, family, slices, config)
        self.is_limited = self._chosen.is_limited
        self.affinity = PortAffinity.of(
            service, port, family, self._chosen, external=is_external(service, port, family)
        )
        self._claim = Claim(service.created, service.name, port.name)
        allowed = service.external_ips if config.external_ips else ()
        routed = service.router_ips if config.router_ips else ()
        self._external_ips = _of_family(allowed, family)
        self._router_ips = _of_family(routed, family)
        self._number = 0
        self.list: ListKey | None = None
        self.listed = NO_SLOTS
        if self._shares():
            self._number = list_number(port_name(service, port))
            self.list = ListKey(family, port.protocol, schema.number64_bytes(self._number))
            local = self._chosen.local[: schema.CLUSTER_BASE] if service.external_local else ()
            self.listed = (local, self._chosen.cluster)

    def _shares(self) -> bool:
        """Return whether the port's frontends share a list: each would have all endpoints."""
        if not (self._service.load_balancer_ips or self._external_ips or self._router_ips):
            return False  # like most Services
        balancers = _of_family(self._service.load_balancer_ips, self._family)
        addresses = {*balancers, *self._external_ips, *self._router_ips}
        frontends = len(addresses) + bool(self.port.node_port) + (not self._service.internal_local)
        saved = (frontends - 1) * len(self._chosen.cluster)
        return frontends >= _SHARING_FRONTENDS and saved >= WORTH_SLOTS

    def frontends(self, cluster_ip: bytes) -> Iterator[Frontend]:
        """Yield the port's frontends. Where two have one key, the first one counts."""
        service, family = self._service, self._family
        yield self._internal(cluster_ip)
        if self.port.node_port:
            yield self._external(FrontendKind.NODE_PORT, b"", self.port.node_port)
        guard = self._guard
        for address in _of_family(service.load_balancer_ips, family):
            yield self._external(FrontendKind.LOAD_BALANCER_IP, address, self.port.port, guard)
        for address in self._external_ips:
            yield self._external(FrontendKind.EXTERNAL_IP, address, self.port.port)
        # Without endpoints a router's IP has no frontend: the node's routes decide (KEP-6272).
        if self._chosen.exists:
            for address in self._router_ips:
                yield self._external(
                    FrontendKind.LOAD_BALANCER_IP, address, self.port.port, guard, routed=True
                )

    def refused(self) -> Iterator[RefusedFrontend]:
        """Yield the frontends that the configuration leaves out, and the object cannot know."""
        if not self._config.router_ips:
            for address in _of_family(self._service.router_ips, self._family):
                key = FrontendKey(self._family, address, self.port.protocol, self.port.port)
                why = "has ipMode Router and is not served: gate LoadBalancerIPModeRouter is off"
                yield RefusedFrontend(key, FrontendKind.LOAD_BALANCER_IP, why)

    def _internal(self, address: bytes) -> Frontend:
        """Return the cluster IP's frontend, by internalTrafficPolicy."""
        key = FrontendKey(self._family, address, self.port.protocol, self.port.port)
        chosen = self._chosen
        if not chosen.exists:
            return self._frontend(key, FrontendKind.CLUSTER_IP, REJECT)
        endpoints = chosen.local if self._service.internal_local else chosen.cluster
        if not endpoints:
            # Policy Local, and endpoints elsewhere only (KEP-2086).
            return self._frontend(key, FrontendKind.CLUSTER_IP, NO_LOCAL)
        return self._balanced(key, FrontendKind.CLUSTER_IP, Policy.CLUSTER, endpoints)

    def _external(
        self,
        kind: FrontendKind,
        address: bytes,
        port: int,
        guard: Guard | None = None,
        *,
        routed: bool = False,
    ) -> Frontend:
        """
        Return the frontend of another address or a node port, by externalTrafficPolicy.

        A `routed` one leaves clients without an endpoint to the node's routes.
        """
        key = FrontendKey(self._family, address, self.port.protocol, port)
        chosen = self._chosen
        if not chosen.exists:
            return self._frontend(key, kind, REJECT, guard=guard)
        if self._service.external_local:
            local = chosen.local[: schema.CLUSTER_BASE]
            return self._balanced(
                key, kind, Policy.LOCAL, chosen.cluster, local, guard, routed=routed and not local
            )
        return self._balanced(key, kind, Policy.EXTERNAL, chosen.cluster, guard=guard)

    def _balanced(
        self,
        key: FrontendKey,
        kind: FrontendKind,
        policy: Policy,
        cluster: Sequence[Destination],
        local: Sequence[Destination] = (),
        guard: Guard | None = None,
        *,
        routed: bool = False,
    ) -> Frontend:
        # With internalTrafficPolicy Local the cluster IP has other endpoints than all the others.
        shares = self.list is not None and not (
            policy is Policy.CLUSTER and self._service.internal_local
        )
        shape = Shape(
            policy=policy,
            protocol=key.protocol,
            cluster=list_size(len(cluster)) if shares else len(cluster),
            local=list_size(len(local)) if shares and local else len(local),
            node_port=not key.address and not shares,
            routed=routed,
            list=self._number if shares else 0,
        )
        slot_ranges = (local, cluster) if policy is Policy.LOCAL else (cluster, ())
        return self._frontend(
            key,
            kind,
            goto_shape(shape),
            slot_ranges=slot_ranges,
            shape=shape,
            guard=guard,
            list_key=self.list if shares else None,
        )

    def _frontend(
        self,
        key: FrontendKey,
        kind: FrontendKind,
        verdict: Verdict,
        *,
        slot_ranges: SlotRanges = NO_SLOTS,
        shape: Shape | None = None,
        guard: Guard | None = None,
        list_key: ListKey | None = None,
    ) -> Frontend:
        own_elements: tuple[Element, ...] = ()
        chains: tuple[Chain, ...] = _chains(shape) if shape else ()
        if self.affinity and shape is not None:
            internal_local = kind is FrontendKind.CLUSTER_IP and self._service.internal_local
            find, record = self.affinity.chains(shape.policy, internal_local=internal_local)
            own_elements += self.affinity.elements(key, record, verdict)
            chains += (find, record)
            verdict = jump(find.name)
        if guard is not None:
            # Packets that the guard returns find the verdict in a second map.
            own_elements += (Element(schema.GUARDED_FRONTENDS, key.element_key, verdict),)
            chains += (guard,)
            verdict = jump(guard.name)
        return Frontend(
            key, kind, self._claim, verdict, slot_ranges, own_elements, chains, list_key
        )


def _guard(
    service: Service, family: Family, config: NodeConfig
) -> tuple[Guard | None, Iterable[SharedElement], bool]:
    """
    Return what guards a Service's load-balancer IPs, and its source ranges; None where all may.

    The last value says that there are more ranges than the limit: the largest ones count.

    If the ranges contain the node's IP, they also get the load-balancer IPs. Where one is bound
    to an interface of the node, it is the source address of what the node sends to it.
    """
    if not service.source_ranges:
        return None, (), False  # like most Services
    ranges = [p for p in service.source_ranges if p.family is family]
    guarded = _of_family((*service.load_balancer_ips, *service.router_ips), family)
    if not ranges or not guarded:
        return None, (), False
    node_ip = config.node_ips.get(family)
    if node_ip is not None and any(node_ip in prefix for prefix in ranges):
        ranges += [Prefix(address, family.size * 8) for address in guarded]
    ranges = sorted(collapse(ranges), key=lambda p: (p.length, p.network))
    most = config.limits.source_ranges
    is_cut, ranges = len(ranges) > most, ranges[:most]
    guard = Guard.of(str(service.name), (p.length for p in ranges))
    keys = (schema.source_range_key(p, guard.packed) for p in ranges)
    return guard, [SharedElement(family, schema.SOURCE_RANGES, key) for key in keys], is_cut


def plan_node(config: NodeConfig, service_cidrs: Iterable[Prefix]) -> tuple[SharedElement, ...]:
    """Return the elements that follow from the node's configuration and the ServiceCIDRs."""
    cidrs = list(service_cidrs)
    shared = []
    for family in FAMILIES:
        own = collapse([p for p in cidrs if family_of(p.network) is family])
        shared += [SharedElement(family, schema.SERVICE_CIDRS, schema.prefix_key(p)) for p in own]
        accepted = config.node_port_prefixes.get(family) or ()
        shared += [
            SharedElement(family, schema.NODE_PORT_ADDRESSES, schema.prefix_key(p))
            for p in accepted
        ]
        shared += [
            SharedElement(family, schema.EQUAL_HASHES, 2 * schema.number_bytes(number))
            for number in range(schema.HASHES)
        ]
    return tuple(shared)
