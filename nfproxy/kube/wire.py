"""
The API fields that nfproxy reads, in their wire form.

For Go's decoder an explicit ``null`` is an absent field, and API servers send it
(``ports: null``). So everything but names and specs may be None. The decoder skips other fields.

Decoded data has no cycles, so the garbage collector need not look at it (``gc=False``): at 100,000
endpoints that saves a third of the time.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, field

Text = str | None
Number = int | None


class Labels(msgspec.Struct, frozen=True, gc=False):
    """The labels that matter. UNSET means absent; tests in the API are for presence."""

    service_name: Text | UnsetType = field(name="kubernetes.io/service-name", default=UNSET)
    proxy_name: Text | UnsetType = field(
        name="service.kubernetes.io/service-proxy-name", default=UNSET
    )
    headless: Text | UnsetType = field(name="service.kubernetes.io/headless", default=UNSET)
    zone: Text | UnsetType = field(name="topology.kubernetes.io/zone", default=UNSET)


class Annotations(msgspec.Struct, frozen=True, gc=False):
    """
    The one annotation that matters, on EndpointSlices: when its latest change began.

    It only feeds a metric, so a bad value does not make the object unusable.
    """

    trigger_time: Any = field(name="endpoints.kubernetes.io/last-change-trigger-time", default=None)


class Metadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """
    ``metadata`` of any object.

    `uid` and `resource_version` only show another history (:mod:`nfproxy.kube.history`), so a bad
    value of theirs does not make the object unusable.
    """

    name: str
    namespace: Text = None
    uid: Any = None
    resource_version: Any = None
    creation_timestamp: Text = None
    deletion_timestamp: Text = None
    labels: Labels | None = None
    annotations: Annotations | None = None


class ServicePortForm(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``spec.ports[]`` of a Service."""

    port: int
    name: Text = None
    protocol: Text = None
    node_port: Number = None


class ClientIPConfig(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``spec.sessionAffinityConfig.clientIP``."""

    timeout_seconds: Number = None


class SessionAffinityConfig(msgspec.Struct, frozen=True, gc=False):
    """``spec.sessionAffinityConfig``."""

    client_ip: ClientIPConfig | None = field(name="clientIP", default=None)


class ServiceSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``spec`` of a Service."""

    type: Text = None
    cluster_ip: Text = field(name="clusterIP", default=None)
    cluster_ips: list[str] | None = field(name="clusterIPs", default=None)
    ip_families: list[str] | None = None
    ports: list[ServicePortForm] | None = None
    external_ips: list[str] | None = field(name="externalIPs", default=None)
    load_balancer_source_ranges: list[str] | None = None
    session_affinity: Text = None
    session_affinity_config: SessionAffinityConfig | None = None
    external_traffic_policy: Text = None
    internal_traffic_policy: Text = None
    health_check_node_port: Number = None


class Ingress(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``status.loadBalancer.ingress[]``."""

    ip: Text = None
    ip_mode: Text = None


class LoadBalancerStatus(msgspec.Struct, frozen=True, gc=False):
    """``status.loadBalancer``."""

    ingress: list[Ingress] | None = None


class ServiceStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``status`` of a Service."""

    load_balancer: LoadBalancerStatus | None = None


class ServiceForm(msgspec.Struct, frozen=True, gc=False):
    """A ``v1`` Service."""

    metadata: Metadata
    spec: ServiceSpec
    status: ServiceStatus | None = None


class Conditions(msgspec.Struct, frozen=True, gc=False):
    """``endpoints[].conditions``; None differs from False."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Hint(msgspec.Struct, frozen=True, gc=False):
    """An element of ``hints.forZones`` or ``hints.forNodes``."""

    name: str


class Hints(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``endpoints[].hints``."""

    for_zones: list[Hint] | None = None
    for_nodes: list[Hint] | None = None


class EndpointForm(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``endpoints[]`` of a slice."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    node_name: Text = None
    hints: Hints | None = None


class SlicePortForm(msgspec.Struct, frozen=True, gc=False):
    """``ports[]`` of a slice."""

    name: Text = None
    protocol: Text = None
    port: Number = None


class EndpointSliceForm(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A ``discovery.k8s.io/v1`` EndpointSlice."""

    metadata: Metadata
    address_type: str
    endpoints: list[EndpointForm] | None = None
    ports: list[SlicePortForm] | None = None


class NodeAddress(msgspec.Struct, frozen=True, gc=False):
    """``status.addresses[]`` of a Node."""

    type: str
    address: str


class NodeStatus(msgspec.Struct, frozen=True, gc=False):
    """``status`` of a Node."""

    addresses: list[NodeAddress] | None = None


class Taint(msgspec.Struct, frozen=True, gc=False):
    """``spec.taints[]`` of a Node."""

    key: Text = None


class NodeSpec(msgspec.Struct, frozen=True, gc=False):
    """``spec`` of a Node."""

    pod_cidrs: list[str] | None = field(name="podCIDRs", default=None)
    taints: list[Taint] | None = None


class NodeForm(msgspec.Struct, frozen=True, gc=False):
    """A ``v1`` Node. Its spec may be absent: a Node object can be as little as a name."""

    metadata: Metadata
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class ServiceCIDRSpec(msgspec.Struct, frozen=True, gc=False):
    """``spec`` of a ServiceCIDR."""

    cidrs: list[str] | None = None


class ServiceCIDRForm(msgspec.Struct, frozen=True, gc=False):
    """A ``networking.k8s.io/v1`` ServiceCIDR."""

    metadata: Metadata
    spec: ServiceCIDRSpec
