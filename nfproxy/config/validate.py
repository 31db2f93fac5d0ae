"""
Whether an effective configuration can be used; all that is wrong, not only the first.

Source: kube-proxy's validation of KubeProxyConfiguration. Added to it: interface names
must be ones the kernel could have, since they become part of the ruleset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nfproxy.config.addresses import (
    PRIMARY,
    cidr_list,
    is_address,
    is_address_port,
    is_cidr,
)
from nfproxy.config.kubeproxy import KubeProxyConfiguration, value_of
from nfproxy.config.problems import Problem, describe
from nfproxy.config.settings import BY_FIELD
from nfproxy.model.addresses import parse_prefix
from nfproxy.model.interfaces import ACCEPTED, is_interface_name


def validate(config: KubeProxyConfiguration) -> tuple[Problem, ...]:
    """Return everything that keeps an effective configuration from being used."""
    return tuple(problem for check in _CHECKS for problem in check(config))


def _values(config: KubeProxyConfiguration) -> Iterable[Problem]:
    for path, setting in BY_FIELD.items():
        value = value_of(config, path)
        if not setting.kind.fits(value):
            yield Problem(path, describe(value), setting.kind.accepts)


def _host_name(config: KubeProxyConfiguration) -> Iterable[Problem]:
    name = config.hostname_override
    if name and not name.strip():
        yield Problem("hostnameOverride", describe(name), "the name of this node's Node object")


def _bind_address(config: KubeProxyConfiguration) -> Iterable[Problem]:
    if not is_address(config.bind_address):
        yield Problem("bindAddress", describe(config.bind_address), "an IP address")


def _servers(config: KubeProxyConfiguration) -> Iterable[Problem]:
    accepted = "IP:port with a port from 1 to 65535, IPv6 in brackets; or empty for the default"
    healthz, metrics = config.healthz_bind_address, config.metrics_bind_address
    if healthz and not is_address_port(healthz):
        yield Problem("healthzBindAddress", describe(healthz), accepted)
    if not is_address_port(metrics):
        yield Problem("metricsBindAddress", describe(metrics), accepted)


def _node_ports(config: KubeProxyConfiguration) -> Iterable[Problem]:
    entries = config.node_port_addresses
    if entries == (PRIMARY,):
        return
    for text in entries:
        if text == PRIMARY:
            yield Problem("nodePortAddresses", describe(text), f'CIDRs, or "{PRIMARY}" alone')
        elif not is_cidr(text):
            yield Problem(
                "nodePortAddresses",
                describe(text),
                f'CIDRs such as "192.0.2.0/24", or "{PRIMARY}" alone',
            )


def _sync_periods(config: KubeProxyConfiguration) -> Iterable[Problem]:
    period, least = config.nftables.sync_period, config.nftables.min_sync_period
    if least > period > 0:
        yield Problem(
            "nftables.minSyncPeriod",
            describe(least),
            f"at most nftables.syncPeriod, which is {period}",
            others=("nftables.syncPeriod",),
        )


def _local_pods(config: KubeProxyConfiguration) -> Iterable[Problem]:
    match config.detect_local_mode:
        case "ClusterCIDR":
            yield from _cluster_cidr(config.cluster_cidr)
        case "BridgeInterface":
            name = config.detect_local.bridge_interface
            yield from _interface("detectLocal.bridgeInterface", name)
        case "InterfaceNamePrefix":
            name = config.detect_local.interface_name_prefix
            yield from _interface("detectLocal.interfaceNamePrefix", name)


def _cluster_cidr(text: str) -> Iterable[Problem]:
    accepted = "one CIDR, or an IPv4 and an IPv6 CIDR with a comma between"
    cidrs = cidr_list(text)
    families = [parse_prefix(cidr).family for cidr in cidrs if is_cidr(cidr)]
    if len(cidrs) > 2 or len(families) < len(cidrs) or len(set(families)) < len(families):
        yield Problem("clusterCIDR", describe(text), accepted, others=("detectLocalMode",))


def _interface(field: str, name: str) -> Iterable[Problem]:
    if not is_interface_name(name):
        accepted = f"{ACCEPTED}; detectLocalMode asks for it"
        yield Problem(field, describe(name), accepted, others=("detectLocalMode",))


def _logging(config: KubeProxyConfiguration) -> Iterable[Problem]:
    if config.logging.vmodule and config.logging.format == "json":
        yield Problem(
            "logging.vmodule",
            describe(config.logging.vmodule),
            "nothing when the log format is json",
            others=("logging.format",),
        )


_CHECKS: tuple[Callable[[KubeProxyConfiguration], Iterable[Problem]], ...] = (
    _values,
    _host_name,
    _bind_address,
    _servers,
    _node_ports,
    _sync_periods,
    _local_pods,
    _logging,
)
