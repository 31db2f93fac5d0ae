"""
Objects whose program has every statement that nfproxy's templates can give.
"""

from __future__ import annotations

from collections.abc import Iterator

from nfproxy.model.addresses import FAMILIES, Family, Prefix, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import Endpoint, EndpointSlice, SlicePort
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort
from nfproxy.plan.planner import Planner

_NODE = "preflight"
# of the ranges for documentation (RFC 5737, RFC 3849)
_SERVICES = {Family.IPV4: "192.0.2.{}", Family.IPV6: "2001:db8::{}"}
_PODS = {Family.IPV4: "198.51.100.{}", Family.IPV6: "2001:db8:1::{}"}
_OUTSIDE = {Family.IPV4: "203.0.113.{}", Family.IPV6: "2001:db8:2::{}"}
_LENGTH = {Family.IPV4: 24, Family.IPV6: 64}


def sample() -> Planner:
    """Return a node's desired state for one Service of each sort."""
    config = NodeConfig(
        node_name=_NODE,
        node_ips={family: _address(_OUTSIDE, family, 1) for family in FAMILIES},
        local_pods=LocalPods({family: _prefix(_PODS, family) for family in FAMILIES}),
        node_port_prefixes={family: (_prefix(_OUTSIDE, family),) for family in FAMILIES},
    )
    services: dict[ObjectName, Service | None] = {one.name: one for one in _services()}
    slices: dict[ObjectName, EndpointSlice | None] = {
        one.name: one for name in services for one in _slices(name)
    }
    planner = Planner(config)
    cidrs = tuple(_prefix(_SERVICES, family) for family in FAMILIES)
    planner.apply(Changes(services, slices, {"all": ServiceCIDR("all", cidrs)}))
    return planner


def _services() -> Iterator[Service]:
    ports = tuple(
        ServicePort(protocol.word, protocol, 80, 30000 + protocol) for protocol in Protocol
    )
    yield Service(name=_name("cluster"), cluster_ips=_cluster_ips(1), ports=ports)
    yield Service(
        name=_name("sticky"),
        cluster_ips=_cluster_ips(2),
        ports=(ServicePort("tcp", Protocol.TCP, 81, 30081),),
        affinity_timeout_s=10800,
    )
    yield Service(
        name=_name("local"),
        cluster_ips=_cluster_ips(3),
        ports=(ServicePort("tcp", Protocol.TCP, 82, 30082),),
        load_balancer_ips=tuple(_address(_OUTSIDE, family, 8) for family in FAMILIES),
        source_ranges=tuple(_prefix(_OUTSIDE, family) for family in FAMILIES),
        external_local=True,
    )
    yield Service(
        name=_name("without-endpoints"),
        cluster_ips=_cluster_ips(4),
        ports=(ServicePort("none", Protocol.TCP, 83),),
    )


def _slices(service: ObjectName) -> Iterator[EndpointSlice]:
    ports = tuple(SlicePort(protocol.word, protocol, 8080) for protocol in Protocol)
    for family in FAMILIES:
        yield EndpointSlice(
            name=ObjectName(service.namespace, f"{service.name}-{family.table}"),
            service=service,
            family=family,
            ports=ports,
            endpoints=(
                Endpoint(_address(_PODS, family, 5), node=_NODE),
                Endpoint(_address(_PODS, family, 6), node="another"),
            ),
        )


def _name(name: str) -> ObjectName:
    return ObjectName("preflight", name)


def _cluster_ips(number: int) -> dict[Family, bytes]:
    return {family: _address(_SERVICES, family, number) for family in FAMILIES}


def _address(pattern: dict[Family, str], family: Family, number: int) -> bytes:
    return parse_address(pattern[family].format(number))


def _prefix(pattern: dict[Family, str], family: Family) -> Prefix:
    return parse_prefix(f"{pattern[family].format(0)}/{_LENGTH[family]}")
