"""
What this node's configuration means for the dataplane.

:mod:`nfproxy.config.nodeconfig` computes it from the configuration and the Node object.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from nfproxy.model.addresses import FAMILIES, Family, Prefix
from nfproxy.model.service import Protocol

#: The kernel's IFNAMSIZ without the byte that ends a name.
LONGEST_INTERFACE_NAME = 15

#: What `is_interface_name` accepts, for a message.
INTERFACE_NAMES = (
    "1 to 15 letters, digits, or any of _ . - @ + = , ~ # % ! ^, a letter, digit or _ first"
)

# The kernel allows more. But names become part of the ruleset: so no quotes, blanks or wildcards,
# and no @ at the beginning, which nft reads as the name of a set.
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=,~#%!^-]{0,14}", re.ASCII)


def is_interface_name(text: str) -> bool:
    """Return whether nfproxy accepts an interface's name, or the first part of one."""
    return bool(_INTERFACE_NAME.fullmatch(text))


class LocalPods(msgspec.Struct, frozen=True):
    """
    How the rules recognise a packet from a pod of this node (``detectLocalMode``).

    One of: a source prefix for each family (modes ClusterCIDR and NodeCIDR), the input
    interface's name, or what its name begins with. A family without any has no detection.

    In mode ClusterCIDR the prefixes hold the pods of all nodes, and `own` has the ranges of this
    node's pods, as far as the Node names them. In the other modes it is None.
    """

    prefixes: dict[Family, Prefix] = {}
    bridge: str = ""
    interface_prefix: str = ""
    own: dict[Family, tuple[Prefix, ...]] | None = None

    def exists(self, family: Family) -> bool:
        """Return whether the rules of a family can recognise local pods."""
        return bool(self.bridge or self.interface_prefix or family in self.prefixes)


class ProgramConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the text of the program depends on: the fixed chains and the rules of balancing chains.

    :mod:`nfproxy.nft.ruleset` renders from this alone, so a new setting of a template is a field
    here. A change of it loads the program again; other changes of NodeConfig change elements only.
    `node_ports_everywhere` are the families that accept node ports on every local address.
    `rejects_loopback` adds the rule for set ``loopback-rejects``.
    """

    local_pods: LocalPods = LocalPods()
    masquerade_all: bool = False
    masquerade_mark: int = 0x4000
    node_ports_everywhere: frozenset[Family] = frozenset(FAMILIES)
    rejects_loopback: bool = False


class Listener(NamedTuple):
    """A TCP port that nfproxy itself listens on; `address` is b"" where it is every local one."""

    address: bytes
    port: int
    what: str


class KeptAddresses(msgspec.Struct, frozen=True, kw_only=True):
    """
    Addresses and ports that Services must not take, or whose traffic they should not take.

    `node_addresses` are those of the Node object, packed; `own_addresses` also has those of the
    node's interfaces, which may be a load balancer's. `listeners` are nfproxy's own ports.
    `api_servers` are the packed address and the port of every API server that nfproxy may use.
    `pod_prefixes` are the ranges of pods' addresses, as far as this node knows them.
    """

    node_addresses: frozenset[bytes] = frozenset()
    own_addresses: frozenset[bytes] = frozenset()
    listeners: tuple[Listener, ...] = ()
    api_servers: frozenset[tuple[bytes, int]] = frozenset()
    pod_prefixes: tuple[Prefix, ...] = ()


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """
    The most that one Service may have on this node.

    `frontends` counts both families, `endpoints` those of a service port in one family,
    `source_ranges` those of one family. `elements` bounds what frontends and endpoints cost in both
    families together, session affinity included.
    """

    frontends: int = 32_768
    endpoints: int = 10_000
    source_ranges: int = 10_000
    elements: int = 250_000


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    This node's identity and policy.

    `node_name` equals the ``nodeName`` of local endpoints. `zone` is "" where unknown. `node_ips`
    has the node IP of each family with one.
    `local_pods_mismatch` says where the ranges in `local_pods` do not fit this Node.
    `node_port_prefixes` are the disjoint prefixes whose local addresses accept node ports. A family
    that is absent or None accepts them on every local address. Loopback addresses never do.
    `loopback_node_ports` are the families whose loopback addresses the configuration names.
    `loopback_udp` serves UDP there, too (gate NfproxyUDPLocalhostNodePorts).
    `rejects_loopback` says that loopback addresses refuse node ports that nfproxy does not serve
    there (gate KubeProxyNFTablesLocalhostNodePorts); false leaves them to the host.
    `router_ips` serves load-balancer IPs of mode Router (gate LoadBalancerIPModeRouter).
    `external_ips` false leaves ``spec.externalIPs`` out (gate AllowServiceExternalIPs).
    `masquerade_mark` is the bit of the packet mark that asks for source NAT. `kept` is what claims
    of Services are compared with. `limits` bound what one Service may have.
    """

    node_name: str
    zone: str = ""
    node_ips: dict[Family, bytes] = {}
    local_pods: LocalPods = LocalPods()
    local_pods_mismatch: tuple[str, ...] = ()
    masquerade_all: bool = False
    masquerade_mark: int = 0x4000
    external_ips: bool = True
    router_ips: bool = False
    node_port_prefixes: dict[Family, tuple[Prefix, ...] | None] = {}
    loopback_node_ports: frozenset[Family] = frozenset()
    loopback_udp: bool = False
    kept: KeptAddresses = KeptAddresses()
    rejects_loopback: bool = False
    limits: ServiceLimits = ServiceLimits()

    def proxies_on_loopback(self, family: Family, protocol: Protocol) -> bool:
        """Return whether the proxy in user space serves such node ports on loopback addresses."""
        served = (Protocol.TCP, Protocol.UDP) if self.loopback_udp else (Protocol.TCP,)
        return self.rejects_loopback and protocol in served and family in self.loopback_node_ports

    def rejects_on_loopback(self, family: Family, protocol: Protocol) -> bool:
        """Return whether loopback addresses reject node ports of a family and protocol."""
        return self.rejects_loopback and not self.proxies_on_loopback(family, protocol)

    @property
    def program(self) -> ProgramConfig:
        """The part that the program's text depends on."""
        everywhere = [f for f in FAMILIES if self.node_port_prefixes.get(f) is None]
        return ProgramConfig(
            local_pods=self.local_pods,
            masquerade_all=self.masquerade_all,
            masquerade_mark=self.masquerade_mark,
            node_ports_everywhere=frozenset(everywhere),
            rejects_loopback=self.rejects_loopback,
        )
