"""
From the effective configuration and the Node object to the configuration of the dataplane.

The daemon computes it again after every change of the Node object. kube-proxy reads the Node once
and needs a restart for most changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from nfproxy.config.addresses import (
    PRIMARY,
    cidr_list,
    first_per_family,
    is_loopback,
    specific_address,
)
from nfproxy.config.kept import kept_addresses
from nfproxy.config.kubeproxy import (
    LOCALHOST_NODE_PORTS_GATE,
    UDP_GATE,
    KubeProxyConfiguration,
)
from nfproxy.config.nodeports import node_port_addresses
from nfproxy.config.podranges import cluster_range_problems, node_range_problems
from nfproxy.errors import ConfigError
from nfproxy.model.addresses import (
    FAMILIES,
    Family,
    Prefix,
    family_of,
    format_address,
    parse_prefix,
)
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import LocalPods, NodeConfig, ServiceLimits
from nfproxy.text import quoted


def node_name(config: KubeProxyConfiguration, os_hostname: str) -> str:
    """
    Return the name of this node's Node object: ``hostnameOverride``, else the host name.

    Trimmed and in lower case, as the kubelet registers it. Raises ConfigError.
    """
    name = (config.hostname_override or os_hostname).strip().lower()
    if not name:
        raise ConfigError("the host name is empty", "name this node with --hostname-override")
    if not name.isprintable():
        raise ConfigError(f"--hostname-override: {quoted(name)} is no name of a Node")
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
    warnings: list[str] = []
    ips, primary = _node_ips(config, node, warnings)
    local_pods = _local_pods(config, name, node, primary, warnings)
    pod_problems = _pod_range_problems(config, local_pods, node)
    if PRIMARY in config.node_port_addresses and not ips:
        warnings.append(_no_primary(name, node, awaits_addresses))
    node_ports = node_port_addresses(
        config.node_port_addresses,
        ips,
        warnings,
        serves_loopback=config.serves_localhost_node_ports,
    )
    if config.serves_localhost_udp and not (
        node_ports.loopback and config.serves_localhost_node_ports
    ):
        warnings.append(
            f"featureGates: {UDP_GATE} has no effect without 'localhost' or a loopback CIDR in "
            f"nodePortAddresses, and gate {LOCALHOST_NODE_PORTS_GATE}"
        )
    result = NodeConfig(
        node_name=name,
        zone=node.zone if node else "",
        node_ips=ips,
        local_pods=local_pods,
        local_pods_mismatch=tuple(pod_problems),
        masquerade_all=config.nftables.masquerade_all,
        masquerade_mark=1 << config.nftables.masquerade_bit,
        external_ips=config.allows_external_ips,
        router_ips=config.routes_ingress,
        node_port_prefixes=node_ports.prefixes,
        loopback_node_ports=node_ports.loopback,
        loopback_udp=config.serves_localhost_udp,
        kept=kept_addresses(config, node),
        rejects_loopback=config.serves_localhost_node_ports,
        limits=ServiceLimits(
            frontends=config.service_limits.frontends,
            endpoints=config.service_limits.endpoints,
            source_ranges=config.service_limits.source_ranges,
            elements=config.service_limits.elements,
        ),
    )
    return result, (*warnings, *pod_problems)


class Configurator:
    """
    Gives the dataplane's configuration for each version of the Node object.

    It reports a warning when it begins to apply, and again if it does after it did not. A Node
    without addresses keeps those it had before: it may have been registered again, and its
    addresses follow later. Call it from one thread at a time.
    """

    def __init__(
        self, config: KubeProxyConfiguration, os_hostname: str, report: Callable[[str], None]
    ) -> None:
        """Keep the configuration and the name of the host. Raises ConfigError without a name."""
        self.node_name = node_name(config, os_hostname)
        self._config = config
        self._os_hostname = os_hostname
        self._report = report
        self._current: tuple[str, ...] = ()
        self._addresses: tuple[bytes, ...] = ()

    def __call__(self, node: Node | None, awaits_addresses: bool = False) -> NodeConfig:
        """Return the configuration; see :func:`node_config`."""
        if node is not None:
            self._addresses = node.addresses or self._addresses
            node = msgspec.structs.replace(node, addresses=self._addresses)
        result, warnings = node_config(self._config, self._os_hostname, node, awaits_addresses)
        known, self._current = self._current, warnings
        for text in warnings:
            if text not in known:
                self._report(text)
        return result


def _node_ips(
    config: KubeProxyConfiguration, node: Node | None, warnings: list[str]
) -> tuple[dict[Family, bytes], Family]:
    """
    Return the node IP of each family, and the primary family.

    The Node's first address defines the primary family; a specific ``bindAddress`` takes
    precedence. A loopback address does not count: kube-proxy uses it when it knows no address.
    """
    known = list(node.addresses) if node else []
    bind = specific_address(config.bind_address)
    if bind is not None:
        known = [bind, *(address for address in known if family_of(address) is not family_of(bind))]
    first: dict[Family, bytes] = {}
    for address in known:
        first.setdefault(family_of(address), address)
    ips: dict[Family, bytes] = {}
    for family in FAMILIES:
        address = first.get(family, b"")
        if address and is_loopback(address):
            source = "bindAddress" if address == bind else "Node address"
            warnings.append(
                f"{source} {format_address(address)}: a loopback address cannot be the node IP; "
                f"this node has no {family.label} node IP"
            )
        elif address:
            ips[family] = address
    return ips, family_of(known[0]) if known else Family.IPV4


def _local_pods(
    config: KubeProxyConfiguration,
    name: str,
    node: Node | None,
    primary: Family,
    warnings: list[str],
) -> LocalPods:
    """Return how to recognise packets of local pods, by ``detectLocalMode``."""
    match config.detect_local_mode:
        case "BridgeInterface":
            return LocalPods(bridge=config.detect_local.bridge_interface)
        case "InterfaceNamePrefix":
            return LocalPods(interface_prefix=config.detect_local.interface_name_prefix)
        case "NodeCIDR":
            prefixes, source = _pod_cidrs(name, node), "podCIDRs of the Node"
        case _:
            prefixes = [parse_prefix(text) for text in cidr_list(config.cluster_cidr)]
            source = "clusterCIDR"
    own = None
    if config.detect_local_mode != "NodeCIDR":
        ranges = node.pod_cidrs if node else ()
        own = {f: tuple(p for p in ranges if p.family is f) for f in FAMILIES}
    pods = LocalPods(prefixes=first_per_family(prefixes), own=own)
    if not pods.exists(primary):
        what = f"no {primary.label} CIDR" if pods.prefixes else "empty"
        consequence = (
            f"no client over {primary.label} is masqueraded on the way to a cluster IP, so that "
            "clients outside the cluster get no answer from endpoints on other nodes"
        )
        if config.nftables.masquerade_all:
            consequence = f"pods of this node count as outside clients over {primary.label}"
        warnings.append(f"{source}: {what}; {consequence}")
    return pods


def _pod_range_problems(
    config: KubeProxyConfiguration, pods: LocalPods, node: Node | None
) -> list[str]:
    """Return what is wrong with the ranges of pods, as far as the Node shows it."""
    if node is None:
        return []
    if config.detect_local_mode == "NodeCIDR":
        return node_range_problems(pods.prefixes, node)
    return cluster_range_problems(pods.prefixes, node) if pods.prefixes else []


def _no_primary(name: str, node: Node | None, awaits_addresses: bool) -> str:
    """Return a warning that ``nodePortAddresses`` asks for node IPs, and none is known."""
    why = f"nodePortAddresses: Node {name!r} {'has no address' if node else 'is unknown'}"
    if awaits_addresses:
        return f"{why} yet; node ports wait for it"
    return (
        f"{why}, so 'primary' means no address and accepts no node ports; name the right Node with "
        "--hostname-override, or list CIDRs or 'all'"
    )


def _pod_cidrs(name: str, node: Node | None) -> Sequence[Prefix]:
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
