"""
Pods of other nodes at this node's frontends with externalTrafficPolicy Local.

In mode ClusterCIDR they look like pods of this node and take the short cut to all endpoints. An
endpoint on their own node would answer them there, past the node that has to translate the answer
back, so they need source NAT.
"""

from __future__ import annotations

import pytest
from support.packets.sending import Probe, probe_many
from support.packets.steps import (
    EXTERNAL_IP,
    LOAD_BALANCER_IP,
    Frontend,
    endpoints_of,
    everywhere,
    families,
    node_config,
    protocols,
    proxied,
    target,
)

from nfproxy.model.addresses import FAMILIES, Family, parse_prefix
from nfproxy.model.nodeconfig import LocalPods
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster

PREFIXES = node_config().local_pods.prefixes
OWN = {Family.IPV4: "10.244.1.0/24", Family.IPV6: "fd00:10:244:1::/64"}
OWN_PREFIXES = {family: parse_prefix(text) for family, text in OWN.items()}
MODES = {
    "ClusterCIDR": LocalPods(PREFIXES, own={f: (p,) for f, p in OWN_PREFIXES.items()}),
    "ClusterCIDR, podCIDRs unknown": LocalPods(PREFIXES, own={}),
    "NodeCIDR": LocalPods(OWN_PREFIXES),
    "InterfaceNamePrefix": LocalPods(interface_prefix="veth"),
    "no detector": LocalPods(),
}


@pytest.fixture(scope="module")
def served(served: Cluster) -> Cluster:
    """Let pods of the other node reach the virtual addresses by way of node-1."""
    first, second = served.nodes
    for family in FAMILIES:
        for pair in (EXTERNAL_IP, LOAD_BALANCER_IP):
            second.add_route(pair.of(family), via=first.address(family))
    return served


@families
@protocols
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["both nodes", "this node", "the pod's node"])
@pytest.mark.parametrize("sticky", [None, 600], ids=["free", "sticky"])
def test_a_pod_of_another_node_is_served_or_dropped_at_once(
    served: Cluster, family: Family, protocol: Protocol, mode: str, where: str, sticky: int | None
) -> None:
    """No answer goes around this node, which would leave the pod without any."""
    here, there = ([*node.pods.values()] for node in served.nodes)
    endpoints = {"both nodes": here + there, "this node": here, "the pod's node": there}[where]
    short_cut = mode.startswith("ClusterCIDR")
    can = {host.name for host in (endpoints if short_cut else set(endpoints) & set(here))}
    web = everywhere(protocol=protocol, external_local=True, affinity_timeout_s=sticky)
    slices = endpoints_of("web", endpoints, protocol=protocol)
    with proxied(served, web, *slices, local_pods=MODES[mode]):
        for frontend in Frontend.OUTER:
            one = Probe(there[0], *target(served, frontend, family), protocol)
            outcomes = probe_many([one] * 12)
            if can:
                assert {outcome.by for outcome in outcomes} <= can, (frontend, outcomes)
            else:
                assert all(outcome.dropped for outcome in outcomes), frontend
