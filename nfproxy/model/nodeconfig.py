"""
What this node's configuration means for the dataplane.

Computed from the configuration and the Node object by
:mod:`nfproxy.config`; everything behind it works with these values alone.
"""

from __future__ import annotations

import msgspec

from nfproxy.model.addresses import Family, Prefix


class LocalPods(msgspec.Struct, frozen=True):
    """
    How a packet from a pod of this node is recognised (``detectLocalMode``).

    Exactly one of: a source prefix for a family (ClusterCIDR, NodeCIDR; a family
    without one has no detector), an input interface name, or a prefix of it. Nothing
    set at all means no detector in either family.
    """

    prefixes: dict[Family, Prefix] = {}
    bridge: str = ""
    interface_prefix: str = ""

    def exists(self, family: Family) -> bool:
        """Tell whether local pods can be recognised in a family."""
        return bool(self.bridge or self.interface_prefix or family in self.prefixes)


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    This node's identity and policy.

    `node_name` is compared with ``nodeName`` exactly. `zone` is "" where unknown.
    `node_ips` holds the node IP of each family that has one.
    `node_port_prefixes` are the disjoint prefixes whose local addresses accept node
    ports; a family absent or mapped to None accepts them on every local address ("match all").
    Loopback addresses never accept them.
    `external_ips` false leaves ``spec.externalIPs`` out (gate AllowServiceExternalIPs).
    `masquerade_mark` is the packet mark bit (one bit set) that asks for source NAT.
    """

    node_name: str
    zone: str = ""
    node_ips: dict[Family, bytes] = {}
    local_pods: LocalPods = LocalPods()
    masquerade_all: bool = False
    masquerade_mark: int = 0x4000
    external_ips: bool = True
    node_port_prefixes: dict[Family, tuple[Prefix, ...] | None] = {}
