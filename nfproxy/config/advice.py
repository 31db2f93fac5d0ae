"""
Warnings about settings that can be used but do not do what they seem to ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nfproxy.config.addresses import split_address_port
from nfproxy.config.kubeproxy import KubeProxyConfiguration, value_of
from nfproxy.config.problems import describe
from nfproxy.config.settings import BY_KEY

EXTERNAL_IPS_GATE = "AllowServiceExternalIPs"

Place = Callable[[str], str]
"""Names where a setting comes from, by its key: ``--flag`` or ``file: field``."""


def allow_external_ips(config: KubeProxyConfiguration) -> bool:
    """Tell whether Services' external IPs are served (gate AllowServiceExternalIPs)."""
    return config.feature_gates.get(EXTERNAL_IPS_GATE, True)


def advise(
    config: KubeProxyConfiguration, given: Mapping[str, Any], place: Place, *, file: bool
) -> Iterable[str]:
    """
    Warn about the values that were given (by key), before modes are made one.

    `config` is the configuration they make, `file` tells whether a file was read.
    """
    yield from _in_vain(config, given, place)
    yield from _gates(config, place)
    yield from _mode(config, given, place, file)
    if not file:
        yield from _ports(given)


def _in_vain(
    config: KubeProxyConfiguration, given: Mapping[str, Any], place: Place
) -> Iterable[str]:
    for key, value in given.items():
        setting = BY_KEY[key]
        instead = setting.instead
        if not setting.asks_in_vain(value) or (instead and value_of(config, instead) == value):
            continue
        text = f"{place(key)}: {describe(value)} has {setting.treatment.value}"
        yield f"{text}; the field to set is {instead}" if instead else text


def _gates(config: KubeProxyConfiguration, place: Place) -> Iterable[str]:
    others = [describe(gate) for gate in config.feature_gates if gate != EXTERNAL_IPS_GATE]
    if others:
        shown = ", ".join(sorted(others)[:10])
        yield f"{place('featureGates')}: no effect for {shown}; only {EXTERNAL_IPS_GATE} has one"


def _mode(
    config: KubeProxyConfiguration, given: Mapping[str, Any], place: Place, file: bool
) -> Iterable[str]:
    """Without a file and without the flag nobody has asked for another mode."""
    if config.mode not in ("", "iptables", "ipvs") or not (file or "mode" in given):
        return
    text = f"{place('mode')}: {describe(config.mode)} is taken for 'nftables'"
    if not config.node_port_addresses:
        text += (
            "; node ports are then accepted on the node's own IPs only: set nodePortAddresses "
            "to accept them elsewhere"
        )
    yield text


def _ports(given: Mapping[str, Any]) -> Iterable[str]:
    """In kube-proxy, too, the default addresses have ports, so these flags seldom count."""
    for server in ("healthz", "metrics"):
        port = given.get(f"--{server}-port")
        default = BY_KEY[f"{server}BindAddress"].default
        address = given.get(f"{server}BindAddress", default)
        if port and split_address_port(address) is not None:
            yield f"--{server}-port: {port} has no effect; {address} has a port already"
