"""
What people want to know of Services, EndpointSlices and Nodes, and the rules do not need.

The model leaves it out, as the daemon holds very many objects: names of pods, the Service's type, a
targetPort, ports without a number, Services of other proxies. Commands read it beside the model,
from the same bytes. Texts are as written: hostile, until :mod:`nfproxy.text` has cleaned them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, field

from nfproxy.errors import InputError
from nfproxy.kube.decode import Data
from nfproxy.kube.identity import DEFAULT_NAMESPACE, Kind, label, subdomain
from nfproxy.kube.node import decode_node
from nfproxy.kube.wire import Hints, NodeForm, ServicePortForm, ServiceSpec
from nfproxy.mismatch import UNREADABLE
from nfproxy.model.addresses import parse_address
from nfproxy.model.node import Node
from nfproxy.model.service import ObjectName


class ServiceDetails(msgspec.Struct, frozen=True):
    """
    A Service, proxied or not.

    `other_proxy` is the value of the label that gives it to another proxy, None without the label.
    `target_ports` are by the port's name: a name, a number as text, "" where it is not written.
    `selector` is in kubectl's form, "" for none. `awaits_balancer` is true for type LoadBalancer
    without an address from a load balancer. `proxied_ips` are load-balancer IPs of mode Proxy.
    """

    name: ObjectName
    type: str = "ClusterIP"
    is_headless: bool = False
    external_name: str = ""
    other_proxy: str | None = None
    selector: str = ""
    target_ports: Mapping[str, str] = {}
    awaits_balancer: bool = False
    proxied_ips: tuple[bytes, ...] = ()


class SlicePortDetails(msgspec.Struct, frozen=True):
    """A port of a slice; `port` is None without a number."""

    name: str
    protocol: str
    port: int | None


class EndpointDetails(msgspec.Struct, frozen=True):
    """An endpoint: its pod as ``namespace/name``, and its zone; each "" where it is not written."""

    pod: str = ""
    zone: str = ""


class SliceDetails(msgspec.Struct, frozen=True):
    """
    An EndpointSlice, used or not.

    `service` is what its label names, "" without the label. `ports` are all ports, also those
    without a number. `endpoints` are by packed address. `unused` says in words why no proxy uses
    it, "" where nothing in it says so.
    """

    name: ObjectName
    service: str = ""
    ports: tuple[SlicePortDetails, ...] = ()
    endpoints: Mapping[bytes, EndpointDetails] = {}
    unused: str = ""


class PodDetails(msgspec.Struct, frozen=True):
    """A pod: its addresses, packed, and its node, "" before it has one."""

    addresses: tuple[bytes, ...] = ()
    node: str = ""


class ObjectDetails:
    """
    The details of all objects that a command has read. Of two with one name the first counts.

    Of pods only one is read, where a question names it.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.services: dict[ObjectName, ServiceDetails] = {}
        self.slices: dict[ObjectName, SliceDetails] = {}
        self.nodes: dict[str, Node] = {}
        self.pods: dict[ObjectName, PodDetails] = {}

    def add(self, kind: Kind, data: Data) -> None:
        """Take one object; one that cannot be read is left out."""
        form = _FORMS.get(kind)
        if form is None:
            return
        try:
            if isinstance(data, (bytes, msgspec.Raw)):
                read = msgspec.json.decode(data, type=form)
            else:
                read = msgspec.convert(data, form)
            name = _name(read.metadata, namespaced=kind.namespaced)
        except (*UNREADABLE, InputError):
            return
        if isinstance(read, _SeenService):
            self.services.setdefault(name, _service(name, read))
        elif isinstance(read, _SeenSlice):
            self.slices.setdefault(name, _slice(name, read))
        elif isinstance(read, NodeForm):
            node = decode_node(read).value
            if node is not None:
                self.nodes.setdefault(node.name, node)

    def add_pod(self, name: ObjectName, data: bytes) -> None:
        """Take a pod; one that cannot be read is left out."""
        try:
            read = msgspec.json.decode(data, type=_SeenPod)
        except UNREADABLE:
            return
        texts = [one.ip or "" for one in read.status.addresses or ()] or [read.status.address or ""]
        self.pods[name] = PodDetails(tuple(_addresses(texts)), read.spec.node_name or "")

    def endpoint(self, slice_name: ObjectName, address: bytes) -> EndpointDetails:
        """Return what is known of an endpoint of a slice."""
        found = self.slices.get(slice_name)
        return (found and found.endpoints.get(address)) or _NO_ENDPOINT


_NO_ENDPOINT = EndpointDetails()


class _SeenLabels(msgspec.Struct):
    service: str | UnsetType | None = field(name="kubernetes.io/service-name", default=UNSET)
    proxy: str | UnsetType | None = field(
        name="service.kubernetes.io/service-proxy-name", default=UNSET
    )
    headless: str | UnsetType | None = field(name="service.kubernetes.io/headless", default=UNSET)


class _SeenMetadata(msgspec.Struct):
    name: str
    namespace: str | None = None
    labels: _SeenLabels | None = None


class _SeenPort(ServicePortForm, frozen=True, rename="camel"):
    target_port: Any = None


class _SeenSpec(ServiceSpec, frozen=True, rename="camel"):
    ports: list[_SeenPort] | None = None  # type: ignore[assignment]
    external_name: str | None = None
    selector: Any = None


class _SeenIngress(msgspec.Struct, rename="camel"):
    ip: str | None = None
    hostname: str | None = None
    ip_mode: str | None = None


class _SeenBalancer(msgspec.Struct):
    ingress: list[_SeenIngress] | None = None


class _SeenStatus(msgspec.Struct, rename="camel"):
    load_balancer: _SeenBalancer | None = None


class _SeenService(msgspec.Struct):
    metadata: _SeenMetadata
    spec: _SeenSpec
    status: _SeenStatus | None = None


class _SeenTargetRef(msgspec.Struct):
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None


class _SeenEndpoint(msgspec.Struct, rename="camel"):
    addresses: list[str] | None = None
    target_ref: _SeenTargetRef | None = None
    zone: str | None = None
    hints: Hints | None = None


class _SeenSlicePort(msgspec.Struct):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class _SeenSlice(msgspec.Struct, rename="camel"):
    metadata: _SeenMetadata
    address_type: str = ""
    endpoints: list[_SeenEndpoint] | None = None
    ports: list[_SeenSlicePort] | None = None


class _SeenPodSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str | None = None


class _SeenPodStatus(msgspec.Struct, frozen=True):
    address: str | None = field(name="podIP", default=None)
    addresses: list[_SeenIngress] | None = field(name="podIPs", default=None)


class _SeenPod(msgspec.Struct):
    spec: _SeenPodSpec = _SeenPodSpec()
    status: _SeenPodStatus = _SeenPodStatus()


_FORMS: dict[Kind, Any] = {
    Kind.SERVICE: _SeenService,
    Kind.ENDPOINT_SLICE: _SeenSlice,
    Kind.NODE: NodeForm,
}


def _name(metadata: Any, *, namespaced: bool) -> ObjectName:
    """Return an object's checked name. Raises InputError."""
    if not namespaced:
        return ObjectName("", subdomain(metadata.name))
    return ObjectName(label(metadata.namespace or DEFAULT_NAMESPACE), subdomain(metadata.name))


def _service(name: ObjectName, read: _SeenService) -> ServiceDetails:
    spec, labels = read.spec, read.metadata.labels or _SeenLabels()
    first = spec.cluster_ip or (spec.cluster_ips or [""])[0]
    balancer = read.status.load_balancer if read.status else None
    ingress = (balancer.ingress if balancer else None) or ()
    selector = spec.selector if isinstance(spec.selector, dict) else {}
    return ServiceDetails(
        name=name,
        type=spec.type or "ClusterIP",
        is_headless=first == "None",
        external_name=(spec.external_name or "") if spec.type == "ExternalName" else "",
        other_proxy=None if labels.proxy is UNSET else labels.proxy or "",
        selector=",".join(f"{key}={value}" for key, value in sorted(selector.items())),
        target_ports={
            port.name or "": "" if port.target_port is None else str(port.target_port)
            for port in spec.ports or ()
        },
        awaits_balancer=spec.type == "LoadBalancer"
        and not any(one.ip or one.hostname for one in ingress),
        proxied_ips=tuple(_addresses(one.ip or "" for one in ingress if one.ip_mode == "Proxy")),
    )


def _addresses(texts: Iterable[str]) -> Iterator[bytes]:
    for text in texts:
        try:
            yield parse_address(text)
        except InputError:
            continue


def _slice(name: ObjectName, read: _SeenSlice) -> SliceDetails:
    labels = read.metadata.labels or _SeenLabels()
    endpoints: dict[bytes, EndpointDetails] = {}
    for item in read.endpoints or ():
        try:
            address = parse_address((item.addresses or [""])[0])
        except InputError:
            continue
        endpoints.setdefault(address, EndpointDetails(_pod(name, item.target_ref), item.zone or ""))
    return SliceDetails(
        name=name,
        service=labels.service or "" if labels.service is not UNSET else "",
        ports=tuple(
            SlicePortDetails(port.name or "", port.protocol or "TCP", port.port)
            for port in read.ports or ()
        ),
        endpoints=endpoints,
        unused=_why_unused(read, labels),
    )


def _why_unused(read: _SeenSlice, labels: _SeenLabels) -> str:
    if labels.headless is not UNSET:
        return "it has the label service.kubernetes.io/headless"
    return "its addressType is FQDN" if read.address_type == "FQDN" else ""


def _pod(slice_name: ObjectName, target: _SeenTargetRef | None) -> str:
    if target is None or target.kind != "Pod" or not target.name:
        return ""
    return f"{target.namespace or slice_name.namespace}/{target.name}"
