"""
From the effective configuration and the Node object to the configuration of the dataplane.

The daemon computes it again after every change of the Node object. kube-proxy reads the Node once
and needs a restart for most changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from nfproxy.config.addresses import (
    PRIMARY,
    cidr_list,
    first_per_family,
    is_loopback,
    specific_address,
)
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.errors import ConfigError
from nfproxy.model.addresses import (
    FAMILIES,
    Family,
    Prefix,
    collapse,
    family_of,
    format_address,
    parse_prefix,
)
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import LocalPods, NodeConfig

NodePortPrefixes = dict[Family, tuple[Prefix, ...] | None]


def node_name(config: KubeProxyConfiguration, os_hostname: str) -> str:
    """
    Return the name of this node's Node object: ``hostnameOverride``, else the host name.

    Trimmed and in lower case, as the kubelet registers it. Raises ConfigError.
    """
    name = (config.hostname_override or os_hostname).strip().lower()
    if not name:
        raise ConfigError("the host name is empty", "name this node with --hostname-override")
    return name


def node_config(
    config: KubeProxyConfiguration,
    os_hostname: str,
    node: Node | None,
    awaits_addresses: bool = False,
) -> tuple[NodeConfig, tuple[str, ...]]:
    """
    Return the dataplane's configuration, and warnings about it.

    `config` is effective and valid, as :func:`nfproxy.config.load.load` returns it. `node` is the
    Node object named :func:`node_name`, None while there is none. With `awaits_addresses` the Node
    may still get addresses, and node ports on them wait until then. Raises ConfigError if the
    detection of local pods needs the Node's podCIDRs and it has none.
    """
    name = node_name(config, os_hostname)
    addresses = _node_addresses(config, node)
    local = _local_pods(config, name, node, addresses.primary)
    ports = _node_ports(config, name, node, addresses.ips, awaits_addresses)
    return NodeConfig(
        node_name=name,
        zone=node.zone if node else "",
        node_ips=addresses.ips,
        local_pods=local.pods,
        masquerade_all=config.nftables.masquerade_all,
        masquerade_mark=1 << config.nftables.masquerade_bit,
        external_ips=config.allows_external_ips,
        node_port_prefixes=ports.prefixes,
    ), (*addresses.warnings, *local.warnings, *ports.warnings)


class Configurator:
    """
    Gives the dataplane's configuration for each version of the Node object.

    It reports each warning once. A Node without addresses keeps those it had before: it may have
    been registered again, and its addresses follow later. Without addresses, node ports would be
    accepted on every local address. Call it from one thread at a time.
    """

    def __init__(
        self, config: KubeProxyConfiguration, os_hostname: str, report: Callable[[str], None]
    ) -> None:
        """Keep the configuration and the name of the host. Raises ConfigError without a name."""
        self.node_name = node_name(config, os_hostname)
        self._config = config
        self._os_hostname = os_hostname
        self._report = report
        self._reported: set[str] = set()
        self._addresses: tuple[bytes, ...] = ()

    def __call__(self, node: Node | None, awaits_addresses: bool = False) -> NodeConfig:
        """Return the configuration; see :func:`node_config`."""
        if node is not None:
            self._addresses = node.addresses or self._addresses
            node = msgspec.structs.replace(node, addresses=self._addresses)
        result, warnings = node_config(self._config, self._os_hostname, node, awaits_addresses)
        for text in warnings:
            if text not in self._reported:
                self._reported.add(text)
                self._report(text)
        return result


class _Addresses(NamedTuple):
    ips: dict[Family, bytes]
    primary: Family
    warnings: tuple[str, ...]


class _Local(NamedTuple):
    pods: LocalPods
    warnings: tuple[str, ...]


class _NodePorts(NamedTuple):
    prefixes: NodePortPrefixes
    warnings: tuple[str, ...]


def _node_addresses(config: KubeProxyConfiguration, node: Node | None) -> _Addresses:
    """
    Return the node IP of each family, and the primary family.

    The Node's first address defines the primary family; a specific ``bindAddress`` takes
    precedence. A loopback address does not count: kube-proxy uses it when it knows no address.
    """
    known = list(node.addresses) if node else []
    bind = specific_address(config.bind_address)
    if bind is not None:
        known = [bind, *(address for address in known if family_of(address) is not family_of(bind))]
    primary = family_of(known[0]) if known else Family.IPV4
    ips: dict[Family, bytes] = {}
    for address in known:
        ips.setdefault(family_of(address), address)
    warnings = tuple(
        f"{'bindAddress' if address == bind else 'Node address'} {format_address(address)}: a "
        f"loopback address cannot be the node IP; this node has no {family.label} node IP"
        for family, address in ips.items()
        if is_loopback(address)
    )
    real = {family: ips[family] for family in FAMILIES if family in ips}
    real = {family: address for family, address in real.items() if not is_loopback(address)}
    return _Addresses(real, primary, warnings)


def _local_pods(
    config: KubeProxyConfiguration, name: str, node: Node | None, primary: Family
) -> _Local:
    """Return how to recognise packets of local pods, by ``detectLocalMode``."""
    match config.detect_local_mode:
        case "BridgeInterface":
            return _Local(LocalPods(bridge=config.detect_local.bridge_interface), ())
        case "InterfaceNamePrefix":
            prefix = config.detect_local.interface_name_prefix
            return _Local(LocalPods(interface_prefix=prefix), ())
        case "NodeCIDR":
            return _by_prefix(_pod_cidrs(name, node), "podCIDRs of the Node", primary)
        case _:
            prefixes = [parse_prefix(text) for text in cidr_list(config.cluster_cidr)]
            return _by_prefix(prefixes, "clusterCIDR", primary)


def _pod_cidrs(name: str, node: Node | None) -> Iterable[Prefix]:
    if node is None:
        raise ConfigError(
            f"detectLocalMode NodeCIDR needs the Node object {name!r}, and there is none",
            "add it, name the right one with --hostname-override, or choose another mode",
        )
    if not node.pod_cidrs:
        raise ConfigError(
            f"detectLocalMode NodeCIDR needs spec.podCIDRs, and Node {name!r} has none",
            "let the cluster allocate them, or choose another mode, such as ClusterCIDR",
        )
    return node.pod_cidrs


def _by_prefix(prefixes: Iterable[Prefix], source: str, primary: Family) -> _Local:
    """Recognise pods by source address, in the first prefix of each family."""
    pods = LocalPods(prefixes=first_per_family(list(prefixes)))
    if pods.exists(primary):
        return _Local(pods, ())
    what = f"{source}: no {primary.label} CIDR" if pods.prefixes else f"{source}: empty"
    return _Local(
        pods,
        (f"{what}; traffic of local pods over {primary.label} is treated as any other traffic",),
    )


def _node_ports(
    config: KubeProxyConfiguration,
    name: str,
    node: Node | None,
    ips: dict[Family, bytes],
    awaits_addresses: bool,
) -> _NodePorts:
    """
    Return the local addresses that accept node ports, by ``nodePortAddresses``.

    A family without an address or CIDR accepts them on every local address, as in kube-proxy. The
    warnings say so, except for the second family of a node whose ``primary`` is known: that is
    normal on a single-stack node.
    """
    if config.node_port_addresses != (PRIMARY,):
        return _in_cidrs(config.node_port_addresses)
    prefixes: NodePortPrefixes = {
        family: (Prefix(ips[family], family.size * 8),) if family in ips else None
        for family in FAMILIES
    }
    if ips:
        return _NodePorts(prefixes, ())
    why = "has no address" if node else "is unknown"
    if awaits_addresses:
        text = f"nodePortAddresses: Node {name!r} {why} yet; node ports wait for it"
        return _NodePorts(dict.fromkeys(FAMILIES, ()), (text,))
    return _NodePorts(
        prefixes,
        (
            f"nodePortAddresses: Node {name!r} {why}, so 'primary' means no address; node ports "
            "are accepted on every local address",
        ),
    )


def _in_cidrs(texts: Iterable[str]) -> _NodePorts:
    given = [parse_prefix(text) for text in texts]
    warnings: list[str] = []
    prefixes: NodePortPrefixes = {}
    for family in FAMILIES:
        own = [prefix for prefix in given if prefix.family is family]
        usable = [prefix for prefix in own if not is_loopback(prefix.network)]
        warnings += (
            f"nodePortAddresses: {prefix} is skipped; loopback addresses accept no node ports"
            for prefix in own
            if prefix not in usable
        )
        if not own:
            warnings.append(
                f"nodePortAddresses: no {family.label} CIDR; {family.label} node ports are "
                "accepted on every local address"
            )
        disjoint = tuple(collapse(usable))
        everywhere = not own or any(prefix.length == 0 for prefix in disjoint)
        prefixes[family] = None if everywhere else disjoint
    return _NodePorts(prefixes, tuple(warnings))
