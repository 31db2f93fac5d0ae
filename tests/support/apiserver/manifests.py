"""Objects of the model, as :mod:`support.objects.model` builds them, the way the API has them."""

from __future__ import annotations

from typing import Any

from nfproxy.model.addresses import Prefix, format_address
from nfproxy.model.endpoints import Endpoint, EndpointSlice
from nfproxy.model.service import Service


def manifest(item: Service | EndpointSlice | dict[str, Any]) -> dict[str, Any]:
    """Return an object as the API has it; a dict is one already."""
    if isinstance(item, Service):
        return _service(item)
    return _slice(item) if isinstance(item, EndpointSlice) else item


def _service(service: Service) -> dict[str, Any]:
    addresses = [format_address(address) for address in service.cluster_ips]
    ports = [
        {
            "name": port.name,
            "protocol": port.protocol.name,
            "port": port.port,
            **({"nodePort": port.node_port} if port.node_port else {}),
        }
        for port in service.ports
    ]
    spec: dict[str, Any] = {
        "type": _type(service),
        "clusterIP": addresses[0] if addresses else "",
        "clusterIPs": addresses,
        "ipFamilies": [family.label for family in service.families],
        "ports": ports,
        "internalTrafficPolicy": "Local" if service.internal_local else "Cluster",
    }
    if service.external_local:
        spec["externalTrafficPolicy"] = "Local"
    if service.health_check_node_port:
        spec["healthCheckNodePort"] = service.health_check_node_port
    if service.external_ips:
        spec["externalIPs"] = [format_address(address) for address in service.external_ips]
    if service.source_ranges:
        spec["loadBalancerSourceRanges"] = [_prefix(prefix) for prefix in service.source_ranges]
    if service.affinity_timeout_s is not None:
        spec["sessionAffinity"] = "ClientIP"
        timeout = {"timeoutSeconds": service.affinity_timeout_s}
        spec["sessionAffinityConfig"] = {"clientIP": timeout}
    metadata = {"namespace": service.name.namespace, "name": service.name.name}
    if service.created:
        metadata["creationTimestamp"] = service.created
    ingress = [{"ip": format_address(address)} for address in service.load_balancer_ips]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": spec,
        "status": {"loadBalancer": {"ingress": ingress} if ingress else {}},
    }


def _type(service: Service) -> str:
    if service.load_balancer_ips or service.health_check_node_port:
        return "LoadBalancer"
    return "NodePort" if any(port.node_port for port in service.ports) else "ClusterIP"


def _slice(item: EndpointSlice) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": item.name.namespace,
            "name": item.name.name,
            "labels": {"kubernetes.io/service-name": item.service.name},
        },
        "addressType": item.family.label,
        "ports": [
            {"name": port.name, "protocol": port.protocol.name, "port": port.port}
            for port in item.ports
        ],
        "endpoints": [_endpoint(endpoint) for endpoint in item.endpoints],
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    made: dict[str, Any] = {
        "addresses": [format_address(endpoint.address)],
        "conditions": {
            "ready": endpoint.ready,
            "serving": endpoint.serving,
            "terminating": endpoint.terminating,
        },
    }
    if endpoint.node is not None:
        made["nodeName"] = endpoint.node
    hints: dict[str, Any] = {}
    if endpoint.zone_hints:
        hints["forZones"] = [{"name": name} for name in endpoint.zone_hints]
    if endpoint.node_hints:
        hints["forNodes"] = [{"name": name} for name in endpoint.node_hints]
    return {**made, "hints": hints} if hints else made


def _prefix(prefix: Prefix) -> str:
    return f"{format_address(prefix.network)}/{prefix.length}"
