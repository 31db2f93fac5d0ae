"""
What the API server and its controllers would have made of the objects: addresses, slices, nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kind.cluster import FAMILIES, SERVER_PORT, Json, Service

from nfproxy.model.addresses import FAMILIES as MODEL_FAMILIES
from nfproxy.tools.lab.cluster import SERVICE_CIDRS

NAMESPACE = "default"


class Endpoint(NamedTuple):
    """A pod that answers, as its endpoints say it."""

    name: str
    node: str
    addresses: Mapping[str, str]
    terminating: bool


SERVICE_CIDR: Json = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "ServiceCIDR",
    "metadata": {"name": "kubernetes"},
    "spec": {"cidrs": list(SERVICE_CIDRS)},
}


def node_object(host: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": host.name, "labels": {"kubernetes.io/os": "linux"}},
        "spec": {"podCIDRs": [host.pod_cidrs.of(family) for family in MODEL_FAMILIES]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": a} for a in host.addresses[0]],
        },
    }


def service_object(name: str, number: int, spec: Json) -> Json:
    """Return a Service with what the API server would have allocated and defaulted."""
    ports = [
        {"name": word.lower(), "protocol": word, "port": 80, "targetPort": SERVER_PORT}
        for word in ("TCP", "UDP")
    ]
    made: Json = {"type": "ClusterIP", "ports": ports, **spec}
    if made["type"] in ("NodePort", "LoadBalancer"):
        for at, port in enumerate(made["ports"]):
            port["nodePort"] = 30000 + 2 * number + at
        made.setdefault("externalTrafficPolicy", "Cluster")
    if made["type"] == "LoadBalancer" and made["externalTrafficPolicy"] == "Local":
        made["healthCheckNodePort"] = 32000 + number
    addresses = [f"10.96.{number // 250}.{number % 250 + 2}", f"fd00:10:96::{number + 1:x}"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilies": list(FAMILIES),
            "ipFamilyPolicy": "RequireDualStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            **made,
        },
    }


def slice_name(service: Service, family: str) -> str:
    return f"{service.name}-{family.lower()}"


def slices(service: Service, servers: Sequence[Endpoint]) -> list[Json]:
    """Return a Service's EndpointSlices, as the endpoints controller writes them."""
    ports = [
        {"name": port["name"], "protocol": port["protocol"], "port": SERVER_PORT}
        for port in service.item["spec"]["ports"]
    ]
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": slice_name(service, family),
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": service.name},
            },
            "addressType": family,
            "ports": ports,
            "endpoints": [
                {
                    "addresses": [server.addresses[family]],
                    "nodeName": server.node,
                    "conditions": {
                        "ready": not server.terminating,
                        "serving": True,
                        "terminating": server.terminating,
                    },
                    "targetRef": {
                        "kind": "Pod",
                        "name": server.name,
                        "namespace": NAMESPACE,
                    },
                }
                for server in servers
            ],
        }
        for family in FAMILIES
    ]
