"""
kube-proxy's defaulting: what unset, zero and empty values become.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nfproxy.config.addresses import PRIMARY, is_address, with_port
from nfproxy.config.kubeproxy import KubeProxyConfiguration, with_values
from nfproxy.config.settings import BY_FIELD
from nfproxy.config.table.node import MODES
from nfproxy.model.addresses import Family, family_of, parse_address

HEALTHZ_PORT = 10256
METRICS_PORT = 10249

_ADDRESSES = ("bindAddress", "healthzBindAddress", "metricsBindAddress")


def from_file(values: Mapping[str, Any]) -> KubeProxyConfiguration:
    """
    Return the configuration a file's values make.

    Zero and "" are unset, save in fields that are pointers in the API. The servers'
    addresses follow the family of ``bindAddress``.
    """
    kept = {
        path: value
        for path, value in values.items()
        if BY_FIELD[path].keeps_zero or (value and value != "0")
    }
    config = with_values(KubeProxyConfiguration(), kept)
    bind = config.bind_address
    ipv6 = is_address(bind) and family_of(parse_address(bind)) is Family.IPV6
    healthz = kept.get("healthzBindAddress", "::" if ipv6 else "0.0.0.0")  # noqa: S104
    metrics = kept.get("metricsBindAddress", "::1" if ipv6 else "127.0.0.1")
    return _with_servers(config, with_port(healthz, HEALTHZ_PORT), with_port(metrics, METRICS_PORT))


def from_flags(
    values: Mapping[str, Any], healthz_port: int | None, metrics_port: int | None
) -> KubeProxyConfiguration:
    """
    Return the configuration flags make: an explicit zero or "" is a value here.

    Not so an empty address, which stands for the default. The deprecated port flags serve
    addresses that have no port; health port 0 turns the health server off.
    """
    kept = {path: value for path, value in values.items() if value or path not in _ADDRESSES}
    config = with_values(KubeProxyConfiguration(), kept)
    healthz = with_port(config.healthz_bind_address, healthz_port or HEALTHZ_PORT)
    metrics = with_port(config.metrics_bind_address, metrics_port or METRICS_PORT)
    return _with_servers(config, "" if healthz_port == 0 else healthz, metrics)


def _with_servers(
    config: KubeProxyConfiguration, healthz: str, metrics: str
) -> KubeProxyConfiguration:
    return with_values(config, {"healthzBindAddress": healthz, "metricsBindAddress": metrics})


def effective(config: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """
    Return the configuration with what kube-proxy decides by platform.

    Every mode kube-proxy has on Linux is taken for nftables; others stay, to be refused.
    """
    return with_values(
        config,
        {
            "mode": "nftables" if config.mode in ("", *MODES) else config.mode,
            "detectLocalMode": config.detect_local_mode or "ClusterCIDR",
            "nodePortAddresses": config.node_port_addresses or (PRIMARY,),
        },
    )
