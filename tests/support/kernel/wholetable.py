"""Two whole tables: services that put something into every set and map, and what is then there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from support.kernel import rules
from support.objects.model import endpoint_slice
from support.packets.sending import Probe, probe_many
from support.packets.steps import (
    CLUSTER_IP,
    ENDPOINT_PORT,
    NODE_PORT,
    SHORT_S,
    Frontend,
    Proxy,
    answers,
    at,
    endpoints_of,
    everywhere,
    node_config,
    reached,
    target,
)

from nfproxy.model.addresses import FAMILIES, Family, parse_prefix
from nfproxy.model.endpoints import EndpointSlice, SlicePort
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.nft.chains import is_clients_map
from nfproxy.tools.lab import Cluster

#: Outside any service; in the ServiceCIDR of the module, so that it has to be silent.
UNALLOCATED = ("10.96.200.1", "fd00:10:96::c801")
CIDRS = [ServiceCIDR("all", (parse_prefix("10.96.0.0/16"), parse_prefix("fd00:10:96::/112")))]
OTHER = ("10.96.0.2", "fd00:10:96::2")
OTHER_NODE_PORT = 30081
FEW = 12
CLIENTS = ("192.168.77.0/24", "fd77::/64")
PORTS = tuple(ServicePort(p.word, p, 80, NODE_PORT) for p in Protocol)
SLICE_PORTS = tuple(SlicePort(p.word, p, ENDPOINT_PORT) for p in Protocol)


def objects(cluster: Cluster, *, web_pods: int = 4) -> list[Service | EndpointSlice]:
    """Return two services that have something in every set and map."""
    web = everywhere(ports=PORTS)
    other = everywhere(
        "other",
        cluster_ips=OTHER,
        node_port=OTHER_NODE_PORT,
        load_balancer_ips=("203.0.113.9", "2001:db8:113::9"),
        external_ips=(),
        affinity_timeout_s=3600,
        external_local=True,
        source_ranges=CLIENTS,
    )
    empty = everywhere(
        "empty",
        cluster_ips=("10.96.0.3", "fd00:10:96::3"),
        node_port=0,
        load_balancer_ips=(),
        external_ips=(),
    )
    pieces = [
        endpoint_slice(
            "web",
            *(at(pod, family) for pod in cluster.pods[:web_pods]),
            name=f"web-{family.label.lower()}",
            family=family,
            ports=SLICE_PORTS,
        )
        for family in FAMILIES
    ]
    return [web, other, empty, *pieces, *endpoints_of("other", cluster.pods)]


def started(cluster: Cluster, made: Sequence[Service | EndpointSlice]) -> Proxy:
    """Start a process on the first node."""
    return Proxy(cluster.nodes[0], node_config(), made, CIDRS)


def left_by_another(cluster: Cluster) -> dict[str, Any]:
    """Let a process program the node and go; return what it left."""
    proxy = started(cluster, objects(cluster))
    proxy.close(keep_tables=True)
    return snapshot(cluster)


def snapshot(cluster: Cluster) -> dict[str, Any]:
    """
    Return what both tables hold, as nft lists it.

    Chains with their hooks and rules, sets with their declarations and elements; without
    what counts or expires, without order where it means nothing, and without chains that
    nothing leads to.
    """
    found: dict[str, Any] = {}
    for family in FAMILIES:
        what = ("table", family.table, "nfproxy")
        for item in rules.listing_json(cluster.nodes[0], *what):
            kind, body = next(iter(item.items()))
            if kind == "metainfo":
                continue
            elements = body.pop("elem", [])
            if kind == "map" and is_clients_map(body["name"]):
                elements = []
            text = [json.dumps(_bare(element), sort_keys=True) for element in elements]
            name = f"{family.table} {kind} {body.get('chain') or body['name']}"
            if kind == "rule":
                found.setdefault(name, []).append(_bare(body))
            else:
                found[name] = (_bare(body), sorted(text))
    return {name: value for name, value in found.items() if not name.endswith("stranger")}


def _bare(item: Any) -> Any:
    if isinstance(item, dict):
        if "elem" in item:
            return _bare(item["elem"])
        dull = ("handle", "counter", "expires", "packets", "bytes")
        return {key: _bare(value) for key, value in item.items() if key not in dull}
    if isinstance(item, list):
        return [_bare(part) for part in item]
    return item


def check_packets(cluster: Cluster, family: Family) -> None:
    """
    Assert that every kind of frontend does what it should, in one family.

    A few connections each: `snapshot` shows that every slot is right.
    """
    names = {pod.name for pod in cluster.pods}
    local = {pod.name for pod in cluster.nodes[0].pods.values()}
    pod = cluster.pod(1, 1)
    for protocol in Protocol:
        where = target(cluster, Frontend.NODE_PORT, family)
        assert reached(cluster.client, *where, protocol, times=FEW) <= names
    for source in (cluster.client, pod, cluster.nodes[0]):
        assert reached(source, CLUSTER_IP.of(family), 80, times=FEW) <= names
    assert (
        reached(pod, CLUSTER_IP.of(family), 80, Protocol.UDP, times=FEW) <= names
    )  # itself included
    index = FAMILIES.index(family)
    balanced = ("203.0.113.9", "2001:db8:113::9")[index]
    sticky = reached(cluster.client, balanced, 80, times=8)
    assert sticky <= local
    assert len(sticky) == 1
    outcomes = probe_many(
        [
            Probe(pod, balanced, 80),
            Probe(cluster.client, ("10.96.0.3", "fd00:10:96::3")[index], 80),
            Probe(cluster.client, CLUSTER_IP.of(family), 81),
            Probe(cluster.client, UNALLOCATED[index], 80),
        ],
        timeout_s=SHORT_S,
    )
    assert answers(outcomes) == ["dropped", "refused", "refused", "dropped"]
