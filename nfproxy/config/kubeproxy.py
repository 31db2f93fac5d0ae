"""
``KubeProxyConfiguration`` of ``kubeproxy.config.k8s.io/v1alpha1``, every field.

Attribute names are Python's, encoded names are the API's. Defaults are kube-proxy's
of Kubernetes 1.36. Which field does what in nfproxy stands in
:mod:`nfproxy.config.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
import yaml

from nfproxy.config.durations import Duration

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"

_MINUTE = 60
_HOUR = 3600


class _Block(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A mapping of the configuration file."""


class ClientConnection(_Block, frozen=True):
    """``clientConnection``: how to reach the API server."""

    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = "application/vnd.kubernetes.protobuf"
    qps: float = 5.0
    burst: int = 10


class VModuleItem(_Block, frozen=True):
    """One item of ``logging.vmodule``."""

    file_pattern: str
    verbosity: int


class OutputRouting(_Block, frozen=True):
    """``logging.options.text`` and ``.json``; the size is a Kubernetes quantity."""

    split_stream: bool = False
    info_buffer_size: str = "0"


class LoggingOptions(_Block, frozen=True):
    """``logging.options``."""

    text: OutputRouting = OutputRouting()
    json: OutputRouting = OutputRouting()


class Logging(_Block, frozen=True):
    """``logging``: component-base's LoggingConfiguration v1."""

    format: str = "text"
    flush_frequency: Duration = Duration.of(5)
    verbosity: int = 0
    vmodule: tuple[VModuleItem, ...] = ()
    options: LoggingOptions = LoggingOptions()


class IPTables(_Block, frozen=True):
    """``iptables``: belongs to iptables mode; without effect here."""

    masquerade_bit: int = 14
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    sync_period: Duration = Duration.of(30)
    min_sync_period: Duration = Duration.of(1)


class IPVS(_Block, frozen=True):
    """``ipvs``: belongs to ipvs mode; without effect here."""

    sync_period: Duration = Duration.of(30)
    min_sync_period: Duration = Duration(0)
    scheduler: str = ""
    exclude_cidrs: tuple[str, ...] = msgspec.field(default=(), name="excludeCIDRs")
    strict_arp: bool = msgspec.field(default=False, name="strictARP")
    tcp_timeout: Duration = Duration(0)
    tcp_fin_timeout: Duration = Duration(0)
    udp_timeout: Duration = Duration(0)


class NFTables(_Block, frozen=True):
    """
    ``nftables``: the block in force.

    `sync_period` is the longest delay before a failed sync is tried again, `min_sync_period` the
    least time between two syncs: 1 s in kube-proxy, whose syncs cost that much.
    """

    masquerade_bit: int = 14
    masquerade_all: bool = False
    sync_period: Duration = Duration.of(30)
    min_sync_period: Duration = Duration.of(0.05)


class Winkernel(_Block, frozen=True):
    """``winkernel``: Windows only."""

    network_name: str = ""
    source_vip: str = ""
    enable_dsr: bool = msgspec.field(default=False, name="enableDSR")
    root_hns_endpoint_name: str = ""
    forward_health_check_vip: bool = False


class DetectLocal(_Block, frozen=True):
    """``detectLocal``: parameters of the two interface modes."""

    bridge_interface: str = ""
    interface_name_prefix: str = ""


class Conntrack(_Block, frozen=True):
    """``conntrack``: sysctls written at start; zero means leave alone."""

    max_per_core: int = 32768
    min: int = 131072
    tcp_established_timeout: Duration = Duration.of(24 * _HOUR)
    tcp_close_wait_timeout: Duration = Duration.of(_HOUR)
    tcp_be_liberal: bool = False
    udp_timeout: Duration = Duration(0)
    udp_stream_timeout: Duration = Duration(0)


class KubeProxyConfiguration(_Block, frozen=True):
    """The whole configuration; without arguments the defaults, kube-proxy's but for one."""

    api_version: str = API_VERSION
    kind: str = KIND
    feature_gates: dict[str, bool] = {}
    client_connection: ClientConnection = ClientConnection()
    logging: Logging = Logging()
    hostname_override: str = ""
    bind_address: str = "0.0.0.0"  # noqa: S104 - kube-proxy's default; nothing binds to it
    healthz_bind_address: str = "0.0.0.0:10256"
    metrics_bind_address: str = "127.0.0.1:10249"
    bind_address_hard_fail: bool = False
    enable_profiling: bool = False
    show_hidden_metrics_for_version: str = ""
    mode: str = ""
    iptables: IPTables = IPTables()
    ipvs: IPVS = IPVS()
    nftables: NFTables = NFTables()
    winkernel: Winkernel = Winkernel()
    detect_local_mode: str = ""
    detect_local: DetectLocal = DetectLocal()
    cluster_cidr: str = msgspec.field(default="", name="clusterCIDR")
    node_port_addresses: tuple[str, ...] = ()
    oom_score_adj: int = -999
    conntrack: Conntrack = Conntrack()
    config_sync_period: Duration = Duration.of(15 * _MINUTE)
    port_range: str = ""
    windows_run_as_service: bool = False


@cache
def field_paths() -> Mapping[str, tuple[str, ...]]:
    """
    Return every field that holds a value: its path in the file → its attribute names.

    ``{"conntrack.maxPerCore": ("conntrack", "max_per_core"), …}``; apiVersion and
    kind are left out.
    """
    paths = dict(_walk(KubeProxyConfiguration(), "", ()))
    return {path: names for path, names in paths.items() if path not in ("apiVersion", "kind")}


def _walk(
    block: msgspec.Struct, path: str, names: tuple[str, ...]
) -> list[tuple[str, tuple[str, ...]]]:
    found: list[tuple[str, tuple[str, ...]]] = []
    for field in msgspec.structs.fields(block):
        value = getattr(block, field.name)
        here = f"{path}{field.encode_name}"
        if isinstance(value, msgspec.Struct):
            found += _walk(value, f"{here}.", (*names, field.name))
        else:
            found.append((here, (*names, field.name)))
    return found


def value_of(config: KubeProxyConfiguration, path: str) -> Any:
    """Return the value of a field by its path in the file."""
    value: Any = config
    for name in field_paths()[path]:
        value = getattr(value, name)
    return value


def with_values(
    config: KubeProxyConfiguration, values: Mapping[str, Any]
) -> KubeProxyConfiguration:
    """Return the configuration with the fields at some paths replaced."""
    changed = config
    for path, value in values.items():
        changed = _replaced(changed, field_paths()[path], value)
    return changed


def _replaced(block: Any, names: tuple[str, ...], value: Any) -> Any:
    first, *rest = names
    inner = _replaced(getattr(block, first), tuple(rest), value) if rest else value
    return msgspec.structs.replace(block, **{first: inner})


def write_config(config: KubeProxyConfiguration) -> str:
    """
    Return the configuration as a v1alpha1 YAML document, keys sorted as kube-proxy does.

    Read back it gives the same configuration.
    """
    data = msgspec.to_builtins(config, enc_hook=str)
    text: str = yaml.safe_dump(data, sort_keys=True, allow_unicode=True)
    return text
