"""Services and EndpointSlices as an API server sends them: JSON, in pages."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import msgspec

NAMESPACE = "bench"
PORT, ENDPOINT_PORT = 80, 8080
POD_CIDR = "10.128.0.0/9"  # all endpoints are in here
SERVICE_CIDR = "10.96.0.0/12"
LOCAL_PODS = "10.64.1.0/24"  # pods of the node itself; none is an endpoint
NODES = 100

#: Objects per page of a LIST; client-go and kubectl ask for 500 at a time.
PAGE = 500

_FIRST_CLUSTER_IP = int(ipaddress.IPv4Address("10.96.0.10"))
_FIRST_ENDPOINT = int(ipaddress.IPv4Address("10.128.0.10"))
_FIRST_SPARE = int(ipaddress.IPv4Address("10.192.0.10"))


class Size(NamedTuple):
    """How many Services, and how many endpoints each."""

    services: int
    endpoints: int

    def __str__(self) -> str:
        """Return ``10,000 x 10``."""
        return f"{self.services:,} x {self.endpoints}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``10000x10``. Raises ValueError."""
        services, _, endpoints = text.replace(",", "").partition("x")
        size = cls(int(services), int(endpoints))
        if not (0 < size.services <= 500_000 and 0 < size.endpoints <= 1000):
            raise ValueError(f"{text}: 1 to 500000 Services, 1 to 1000 endpoints each")
        if size.services * size.endpoints > _FIRST_SPARE - _FIRST_ENDPOINT:
            raise ValueError(f"{text}: more endpoints than there are addresses in {POD_CIDR}")
        return size


def cluster_ip(number: int) -> str:
    """Return the cluster IP of a Service."""
    return str(ipaddress.IPv4Address(_FIRST_CLUSTER_IP + number))


def endpoints_of(number: int, count: int) -> list[str]:
    """Return the addresses of a Service's endpoints; no two Services share one."""
    first = _FIRST_ENDPOINT + number * count
    return [str(ipaddress.IPv4Address(first + index)) for index in range(count)]


def spare_endpoint(number: int) -> str:
    """Return an address that is no Service's endpoint at first."""
    return str(ipaddress.IPv4Address(_FIRST_SPARE + number))


def service_name(number: int) -> str:
    """Return a Service's name."""
    return f"service-{number:05d}"


def service_json(number: int) -> bytes:
    """Return a ClusterIP Service as the API server writes it."""
    address = cluster_ip(number)
    return msgspec.json.encode(
        {
            "metadata": _metadata(service_name(number), number, {"app": service_name(number)}),
            "spec": {
                "ports": [
                    {"name": "http", "protocol": "TCP", "port": PORT, "targetPort": ENDPOINT_PORT}
                ],
                "selector": {"app": service_name(number)},
                "clusterIP": address,
                "clusterIPs": [address],
                "type": "ClusterIP",
                "sessionAffinity": "None",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "internalTrafficPolicy": "Cluster",
            },
            "status": {"loadBalancer": {}},
        }
    )


def slice_json(number: int, addresses: Sequence[str]) -> bytes:
    """Return the EndpointSlice of a Service with these endpoints, all ready."""
    labels = {
        "app": service_name(number),
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": service_name(number),
    }
    return msgspec.json.encode(
        {
            "metadata": _metadata(f"{service_name(number)}-abcde", number, labels),
            "addressType": "IPv4",
            "endpoints": [_endpoint(number, index, text) for index, text in enumerate(addresses)],
            "ports": [{"name": "http", "protocol": "TCP", "port": ENDPOINT_PORT}],
        }
    )


def list_pages(items: Iterator[bytes], kind: str) -> Iterator[bytes]:
    """Yield a LIST's pages; its items leave their kind out, as the API server's do."""
    page: list[msgspec.Raw] = []
    for item in items:
        page.append(msgspec.Raw(item))
        if len(page) == PAGE:
            yield _page(page, kind)
            page = []
    if page:
        yield _page(page, kind)


def _page(items: list[msgspec.Raw], kind: str) -> bytes:
    return msgspec.json.encode({"kind": kind, "metadata": {"resourceVersion": "1"}, "items": items})


def _metadata(name: str, number: int, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"7d0c6a3e-58a1-4b9c-8c55-{number:012d}",
        "resourceVersion": str(100_000 + number),
        "creationTimestamp": "2025-06-01T12:00:00Z",
        "labels": labels,
        "managedFields": [
            {
                "manager": "kube-controller-manager",
                "operation": "Update",
                "apiVersion": "v1",
                "time": "2025-06-01T12:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:ports": {}, "f:selector": {}, "f:type": {}}},
            }
        ],
    }


def _endpoint(number: int, index: int, address: str) -> dict[str, Any]:
    pod = f"{service_name(number)}-6d4cf56db6-{index:05d}"
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": f"node-{(number + index) % NODES}",
        "targetRef": {
            "kind": "Pod",
            "namespace": NAMESPACE,
            "name": pod,
            "uid": f"0f1e2d3c-4b5a-6978-8796-{number:06d}{index:06d}",
        },
        "zone": "zone-a",
    }
