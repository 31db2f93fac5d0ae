"""
Whether the ranges of cluster IPs hold anything else.

The rules drop connections to addresses in a ServiceCIDR that no Service has. Where the range also
holds nodes or pods, connections to those get lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from nfproxy.model.addresses import Prefix, format_address

REMEDY = "give Services a range of their own: no node and no pod may have an address in it"


def service_range_problems(
    service_cidrs: Iterable[Prefix],
    node_addresses: Iterable[bytes],
    pod_ranges: Iterable[Prefix],
) -> tuple[str, ...]:
    """
    Return what the ServiceCIDRs hold besides cluster IPs; () where nothing is known.

    Pods and nodes elsewhere may have addresses that this node does not know.
    """
    nodes, pods = sorted(node_addresses), tuple(pod_ranges)
    problems: list[str] = []
    for cidr in dict.fromkeys(service_cidrs):
        problems += (
            f"ServiceCIDR {cidr} holds this node's address {format_address(address)}, so new "
            "connections from here to other nodes in that range are dropped"
            for address in nodes
            if address in cidr
        )
        problems += (
            f"ServiceCIDR {cidr} overlaps the pods' range {pod}, so new connections to pods in "
            "both are dropped unless they go through a Service"
            for pod in pods
            if pod.network in cidr or cidr.network in pod
        )
    return tuple(problems)
