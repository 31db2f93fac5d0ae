"""
Who counts as a local pod, by ``detectLocalMode``, decides on source NAT and short cuts.

The complete matrix of sources and frontends, for each mode.
"""

from typing import Literal, NamedTuple

import pytest
from support.packets.scenes import (
    CLUSTER_CIDR,
    NO_DETECTOR,
    OWN_PODS,
    Scene,
    Table,
    both_families,
    table,
    with_pods,
)
from support.packets.steps import families, protocols

from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import LocalPods
from nfproxy.model.service import Protocol


class Expected(NamedTuple):
    """What the frontends do with both traffic policies Cluster, and with both Local."""

    cluster: Table
    local: Table


#: Local pods are recognised, and a pod of another node is as foreign as the client.
RECOGNISED = Expected(
    cluster=table(
        pod=("both", "both masqueraded"),
        node=("both masqueraded", "both masqueraded"),
        outside=("both masqueraded", "both masqueraded"),
        far_pod=("both masqueraded", "both masqueraded"),
    ),
    local=table(
        pod=("local", "both"),
        node=("local masqueraded", "both masqueraded"),
        outside=("local masqueraded", "local"),
        far_pod=("local masqueraded", "local"),
    ),
)
#: By the cluster's range, pods of other nodes count as local ones. An endpoint elsewhere would
#: answer them past this node, so their short cut needs source NAT.
ALL_PODS = Expected(
    cluster=RECOGNISED.cluster | table(far_pod=("both", "both masqueraded")),
    local=RECOGNISED.local | table(far_pod=("local", "both masqueraded")),
)
#: The same where the Node does not name the ranges of its pods: any pod may be of another node.
UNKNOWN_PODS = Expected(
    cluster=ALL_PODS.cluster,
    local=ALL_PODS.local | table(pod=("local", "both masqueraded")),
)
#: No client is recognised: no source NAT towards cluster IPs, no short cut for pods.
UNRECOGNISED = Expected(
    cluster=table(
        pod=("both", "both masqueraded"),
        node=("both", "both masqueraded"),
        outside=("both", "both masqueraded"),
        far_pod=("both", "both masqueraded"),
    ),
    local=table(
        pod=("local", "local"),
        node=("local", "both masqueraded"),
        outside=("local", "local"),
        far_pod=("local", "local"),
    ),
)

#: Local pods could be recognised, and there is none: all clients are foreign.
STRANGERS = Expected(
    cluster=RECOGNISED.cluster | table(pod=("both masqueraded", "both masqueraded")),
    local=RECOGNISED.local | table(pod=("local masqueraded", "local")),
)

NODE_CIDR = LocalPods(prefixes=both_families("10.244.1.0/24", "fd00:10:244:1::/64"))
IPV4_ONLY = LocalPods(prefixes=both_families("10.244.0.0/16"), own=OWN_PODS)
CLUSTER_ONLY = LocalPods(prefixes=CLUSTER_CIDR.prefixes, own={})
ONE_NODE = LocalPods(prefixes=NODE_CIDR.prefixes, own=OWN_PODS)


class Mode(NamedTuple):
    """A way to recognise local pods, and what follows from it in each family."""

    pods: LocalPods
    ipv4: Expected
    ipv6: Expected
    network: Literal["routed", "bridge"] = "routed"

    def expected(self, family: Family) -> Expected:
        """Return what follows in one family."""
        return self.ipv4 if family is Family.IPV4 else self.ipv6


MODES = {
    "ClusterCIDR": Mode(CLUSTER_CIDR, ALL_PODS, ALL_PODS),
    "ClusterCIDR, podCIDRs unknown": Mode(CLUSTER_ONLY, UNKNOWN_PODS, UNKNOWN_PODS),
    "ClusterCIDR of one node": Mode(ONE_NODE, RECOGNISED, RECOGNISED),
    "ClusterCIDR of IPv4 only": Mode(IPV4_ONLY, ALL_PODS, UNRECOGNISED),
    "NodeCIDR": Mode(NODE_CIDR, RECOGNISED, RECOGNISED),
    "InterfaceNamePrefix": Mode(LocalPods(interface_prefix="veth-1"), RECOGNISED, RECOGNISED),
    "InterfaceNamePrefix of none": Mode(LocalPods(interface_prefix="cali"), STRANGERS, STRANGERS),
    "no detector": Mode(NO_DETECTOR, UNRECOGNISED, UNRECOGNISED),
    "BridgeInterface": Mode(LocalPods(bridge="cni0"), RECOGNISED, RECOGNISED, "bridge"),
    "BridgeInterface of none": Mode(LocalPods(bridge="cni"), STRANGERS, STRANGERS, "bridge"),
}


modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@pytest.fixture
def scene(scenes: dict[str, Scene], mode: Mode) -> Scene:
    """The lab in which a mode makes sense."""
    return scenes[mode.network]


@modes
@families
@protocols
def test_policies_cluster(scene: Scene, mode: Mode, family: Family, protocol: Protocol) -> None:
    """With both traffic policies Cluster all endpoints serve all clients."""
    scene.program(scene.web(), *scene.slices(), config=with_pods(mode.pods))

    expected = mode.expected(family).cluster
    assert expected == scene.reached(expected, family, protocol)


@modes
@families
@protocols
def test_policies_local(scene: Scene, mode: Mode, family: Family, protocol: Protocol) -> None:
    """With both traffic policies Local pods and the node still get all from outside addresses."""
    web = scene.web(internal_local=True, external_local=True)
    scene.program(web, *scene.slices(), config=with_pods(mode.pods))

    expected = mode.expected(family).local
    assert expected == scene.reached(expected, family, protocol)
