"""
The Service ``web`` of a scene as the API writes it, for rows about fields of the API.

::

    scene.program(*decoded(web(type="ExternalName"), *slices(scene.remote)))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from support.packets.scenes import (
    CLUSTER_IP,
    EXTERNAL_IP,
    LOAD_BALANCER_IP,
    NODE_PORT,
    PORT,
    TARGET_PORT,
    node_of,
)
from support.processes.commands import endpoint_slice, service

from nfproxy.kube.decode import decode
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol, Service
from nfproxy.tools.lab import Addresses, Host

KINDS = {kind.word: kind for kind in Kind}


def web(
    name: str = "web",
    cluster_ip: Addresses = CLUSTER_IP,
    *,
    ingress: list[dict[str, Any]] | None = None,
    labels: Mapping[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    **spec: Any,
) -> dict[str, Any]:
    """
    Return the Service of `Scene.web`; `spec` adds fields or replaces them.

    `ingress` takes the place of what its load balancer says, both addresses in mode VIP.
    """
    if ingress is None:
        ingress = [{"ip": ip, "ipMode": "VIP"} for ip in LOAD_BALANCER_IP]
    fields: dict[str, Any] = {
        "type": "LoadBalancer",
        "clusterIPs": [*cluster_ip],
        "ipFamilies": [family.label for family in FAMILIES],
        "externalIPs": [*EXTERNAL_IP],
        "ports": [
            {"name": p.word, "protocol": p.name, "port": PORT, "nodePort": NODE_PORT}
            for p in Protocol
        ],
    }
    return service(
        name,
        cluster_ip.ipv4,
        created=created,
        metadata={"labels": {**(labels or {})}},
        status={"loadBalancer": {"ingress": ingress}},
        **(fields | spec),
    )


def slices(
    *hosts: Host, name: str = "web", labels: Mapping[str, str] | None = None, suffix: str = ""
) -> list[dict[str, Any]]:
    """Return a slice a family of the Service `name` that lists hosts, with more labels."""
    ports = [{"name": p.word, "protocol": p.name, "port": TARGET_PORT} for p in Protocol]
    made = []
    for family in FAMILIES:
        piece = endpoint_slice(
            name,
            *(host.address(family) for host in hosts),
            name=f"{name}{suffix}-{family.label.lower()}",
            ports=ports,
        )
        piece["metadata"]["labels"] |= labels or {}
        for item, host in zip(piece["endpoints"], hosts, strict=True):
            item["nodeName"] = node_of(host)
        made.append(piece)
    return made


def decoded(*objects: dict[str, Any]) -> list[Service | EndpointSlice]:
    """Return what nfproxy makes of objects from an API server; of ignored ones nothing."""
    results = [decode(KINDS[one["kind"]], msgspec.json.encode(one)) for one in objects]
    assert [result.problems for result in results] == [()] * len(results)
    return [one.value for one in results if isinstance(one.value, Service | EndpointSlice)]
