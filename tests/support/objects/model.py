"""
Model objects for tests, with as few words as possible.

>>> web = service("web", cluster_ips=("10.96.0.1",), node_port=30080)
>>> endpoints = endpoint_slice("web", "10.244.1.11", endpoint("10.244.2.11", node="node-2"))
"""

from __future__ import annotations

from collections.abc import Iterable

from nfproxy.model.addresses import Family, family_of, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import Endpoint, EndpointSlice, SlicePort
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort

NAMESPACE = "default"


def service(
    name: str = "web",
    *,
    cluster_ips: Iterable[str] = ("10.96.0.1",),
    port: int = 80,
    protocol: Protocol = Protocol.TCP,
    node_port: int = 0,
    ports: Iterable[ServicePort] = (),
    external_ips: Iterable[str] = (),
    load_balancer_ips: Iterable[str] = (),
    source_ranges: Iterable[str] = (),
    affinity_timeout_s: int | None = None,
    internal_local: bool = False,
    external_local: bool = False,
    created: str = "",
    namespace: str = NAMESPACE,
) -> Service:
    """Return a Service; `ports` replaces the single unnamed port that the others describe."""
    addresses = [parse_address(text) for text in cluster_ips]
    return Service(
        name=ObjectName(namespace, name),
        created=created,
        cluster_ips=tuple(addresses),
        ports=tuple(ports) or (ServicePort("", protocol, port, node_port),),
        external_ips=tuple(map(parse_address, external_ips)),
        load_balancer_ips=tuple(map(parse_address, load_balancer_ips)),
        source_ranges=tuple(map(parse_prefix, source_ranges)),
        affinity_timeout_s=affinity_timeout_s,
        internal_local=internal_local,
        external_local=external_local,
    )


def endpoint(
    address: str,
    node: str | None = None,
    *,
    ready: bool = True,
    serving: bool = True,
    terminating: bool = False,
    zones: Iterable[str] = (),
    nodes: Iterable[str] = (),
) -> Endpoint:
    """Return an endpoint; `zones` and `nodes` are its hints."""
    return Endpoint(
        parse_address(address), ready, serving, terminating, node, tuple(zones), tuple(nodes)
    )


def endpoint_slice(
    service_name: str,
    *endpoints: str | Endpoint,
    name: str = "",
    port: int = 8080,
    port_name: str = "",
    protocol: Protocol = Protocol.TCP,
    ports: Iterable[SlicePort] = (),
    family: Family | None = None,
    namespace: str = NAMESPACE,
) -> EndpointSlice:
    """Return a slice; its family is that of its first endpoint (IPv4 without any)."""
    made = tuple(endpoint(e) if isinstance(e, str) else e for e in endpoints)
    if family is None:
        family = family_of(made[0].address) if made else Family.IPV4
    return EndpointSlice.of(
        name=ObjectName(namespace, name or f"{service_name}-{family.label.lower()}"),
        service=ObjectName(namespace, service_name),
        family=family,
        ports=tuple(ports) or (SlicePort(port_name, protocol, port),),
        endpoints=made,
    )


def changes(*objects: Service | EndpointSlice) -> Changes:
    """Return objects as a batch of changes."""
    return Changes(
        services={o.name: o for o in objects if isinstance(o, Service)},
        slices={o.name: o for o in objects if isinstance(o, EndpointSlice)},
    )


def gone(*objects: Service | EndpointSlice) -> Changes:
    """Return the deletion of objects as a batch of changes."""
    return Changes(
        services={o.name: None for o in objects if isinstance(o, Service)},
        slices={o.name: None for o in objects if isinstance(o, EndpointSlice)},
    )
