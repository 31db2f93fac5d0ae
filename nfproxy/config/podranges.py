"""
Whether the ranges that recognise local pods fit this node.

A wrong range breaks nothing that is easy to see: clients lose their addresses, or answers take
another way than their requests. kube-proxy says nothing about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nfproxy.model.addresses import Family, Prefix, format_address
from nfproxy.model.node import Node


def cluster_range_problems(ranges: Mapping[Family, Prefix], node: Node) -> list[str]:
    """Return what is wrong with ``clusterCIDR`` on this node; `ranges` has a range per family."""
    problems = _too_wide("clusterCIDR", ranges, node)
    for pods in node.pod_cidrs:
        family = pods.family
        cluster = ranges.get(family)
        if cluster is None:
            problems += [_missing(pods)] if ranges else []
        elif not _holds(cluster, pods):
            problems.append(
                f"clusterCIDR: {cluster} does not hold this node's podCIDR {pods}, so its pods "
                "count as outside clients and lose their addresses on the way to Services; "
                "set clusterCIDR to the range of all pods"
            )
    return problems


def node_range_problems(ranges: Mapping[Family, Prefix], node: Node) -> list[str]:
    """Return what is wrong with the podCIDRs of a Node, which `ranges` are."""
    return _too_wide("podCIDRs of the Node", ranges, node)


def _too_wide(source: str, ranges: Mapping[Family, Prefix], node: Node) -> list[str]:
    return [text for one in ranges.values() for text in _excess(source, one, node.addresses)]


def _excess(source: str, pods: Prefix, addresses: Iterable[bytes]) -> Iterable[str]:
    """Yield what is wrong with a range that holds more than pods."""
    if not pods.length:
        yield (
            f"{source}: {pods} holds every address, so every client counts as a local pod and gets "
            "no source NAT, and answers to it may get lost; set it to the range of all pods"
        )
        return
    own = next((address for address in addresses if address in pods), None)
    if own is not None:
        yield (
            f"{source}: {pods} holds this node's own address {format_address(own)}, so nodes and "
            "their neighbours count as local pods and get no source NAT, and answers to them may "
            "get lost; set it to the range of the pods alone"
        )


def _missing(pods: Prefix) -> str:
    label = pods.family.label
    return (
        f"clusterCIDR: no {label} CIDR, and this node's pods have {pods}, so over {label} they "
        "count as outside clients; add the range of all pods"
    )


def _holds(outer: Prefix, inner: Prefix) -> bool:
    return inner.network in outer and inner.last in outer
