"""
What is wrong with a configuration, and what in it has no effect.

Everything wrong is found, not only the first. Source: kube-proxy's validation of
KubeProxyConfiguration. nfproxy also checks that interface names are ones the kernel accepts,
because they become part of the ruleset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nfproxy.config.addresses import (
    NODE_PORT_KEYWORDS,
    cidr_list,
    is_address,
    is_address_port,
    is_cidr,
    split_address_port,
)
from nfproxy.config.kubeproxy import KNOWN_GATES, KubeProxyConfiguration
from nfproxy.config.lookup import BY_FIELD, BY_KEY, value_of
from nfproxy.errors import ConfigError
from nfproxy.model.addresses import parse_prefix
from nfproxy.model.nodeconfig import INTERFACE_NAMES, is_interface_name
from nfproxy.text import quoted, shorten

Place = Callable[[str], str]
"""Names the place of a setting by its key: ``--flag`` or ``file: field``."""


class InvalidValue(NamedTuple):
    """
    One value that cannot be used.

    `field` is the path in the file (``conntrack.min``), or ``--flag`` for a setting without field.
    `value` is printable and short. `accepted` completes "accepted: …". `others` are the further
    fields that the judgement depends on. `where` is the flag or file and field, "" for `field`.
    """

    field: str
    value: str
    accepted: str
    others: tuple[str, ...] = ()
    where: str = ""

    @property
    def what(self) -> str:
        """The place, and the value that cannot be used."""
        return f"{self.where or self.field}: {self.value} cannot be used"

    @property
    def remedy(self) -> str:
        """What would be accepted."""
        return f"accepted: {self.accepted}"

    def __str__(self) -> str:
        """Return both in one line."""
        return f"{self.what}; {self.remedy}"


class InvalidConfigError(ConfigError):
    """A configuration with at least one value that cannot be used; `values` has them all."""

    def __init__(self, values: Sequence[InvalidValue]) -> None:
        """Keep the values; the text has one per line."""
        self.values = tuple(values)
        if len(values) == 1:
            super().__init__(values[0].what, values[0].remedy)
        else:
            listing = "".join(f"\n  {value}" for value in values)
            super().__init__(f"{len(values)} settings cannot be used:{listing}")


def describe(value: object) -> str:
    """
    Return a short printable form of any decoded value.

    A list or a mapping is described by its size only: its contents may be huge.
    """
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "a mapping"
        case str() if type(value) is str:
            return quoted(value)
        case int() if abs(value) >> 64:
            return "a huge number"
    return shorten(str(value))


def validate(config: KubeProxyConfiguration) -> tuple[InvalidValue, ...]:
    """Return the values that make an effective configuration unusable."""
    return tuple(invalid for check in _CHECKS for invalid in check(config))


def _values(config: KubeProxyConfiguration) -> Iterable[InvalidValue]:
    for path, setting in BY_FIELD.items():
        value = value_of(config, path)
        if not setting.type.fits(value):
            yield InvalidValue(path, describe(value), setting.type.accepts)


def _host_name(config: KubeProxyConfiguration) -> Iterable[InvalidValue]:
    name = config.hostname_override
    if name and not name.strip():
        accepted = "the name of this node's Node object"
        yield InvalidValue("hostnameOverride", describe(name), accepted)


def _bind_address(config: KubeProxyConfiguration) -> Iterable[InvalidValue]:
    if not is_address(config.bind_address):
        yield InvalidValue("bindAddress", describe(config.bind_address), "an IP address")


def _servers(config: KubeProxyConfiguration) -> Iterable[InvalidValue]:
    accepted = "IP:port with a port from 1 to 65535, IPv6 in brackets; or empty for the default"
    healthz, metrics = config.healthz_bind_address, config.metrics_bind_address
    if healthz and not is_address_port(healthz):
        yield InvalidValue("healthzBindAddress", describe(healthz), accepted)
    if not is_address_port(metrics):
        yield InvalidValue("metricsBindAddress", describe(metrics), accepted)


def _node_ports(config: KubeProxyConfiguration) -> Iterable[InvalidValue]:
    words = ", ".join(f'"{word}"' for word in NODE_PORT_KEYWORDS)
    accepted = f'CIDRs such as "192.0.2.0/24", and the words {words}'
    for text in config.node_port_addresses:
        if text.strip() not in NODE_PORT_KEYWORDS and not is_cidr(text):
            yield InvalidValue("nodePortAddresses", describe(text), accepted)


def _sync_periods(config: KubeProxyConfiguration) -> Iterable[InvalidValue]:
    period, least = config.nftables.sync_period, config.nftables.min_sync_period
    if least > period > 0:
        yield InvalidValue(
            "nftables.minSyncPeriod",
            describe(least),
            f"at most nftables.syncPeriod, which is {period}",
            others=("nftables.syncPeriod",),
        )


def _local_pods(config: KubeProxyConfiguration) -> Iterable[InvalidValue]:
    match config.detect_local_mode:
        case "ClusterCIDR":
            yield from _cluster_cidr(config.cluster_cidr)
        case "BridgeInterface":
            name = config.detect_local.bridge_interface
            yield from _interface("detectLocal.bridgeInterface", name)
        case "InterfaceNamePrefix":
            name = config.detect_local.interface_name_prefix
            yield from _interface("detectLocal.interfaceNamePrefix", name)


def _cluster_cidr(text: str) -> Iterable[InvalidValue]:
    accepted = "one CIDR, or an IPv4 and an IPv6 CIDR with a comma between"
    cidrs = cidr_list(text)
    families = [parse_prefix(cidr).family for cidr in cidrs if is_cidr(cidr)]
    if len(cidrs) > 2 or len(families) < len(cidrs) or len(set(families)) < len(families):
        yield InvalidValue("clusterCIDR", describe(text), accepted, others=("detectLocalMode",))


def _interface(field: str, name: str) -> Iterable[InvalidValue]:
    if not is_interface_name(name):
        accepted = f"{INTERFACE_NAMES}; detectLocalMode needs it"
        yield InvalidValue(field, describe(name), accepted, others=("detectLocalMode",))


def _logging(config: KubeProxyConfiguration) -> Iterable[InvalidValue]:
    if config.logging.vmodule and config.logging.format == "json":
        yield InvalidValue(
            "logging.vmodule",
            describe(config.logging.vmodule),
            "nothing when the log format is json",
            others=("logging.format",),
        )


_CHECKS: tuple[Callable[[KubeProxyConfiguration], Iterable[InvalidValue]], ...] = (
    _values,
    _host_name,
    _bind_address,
    _servers,
    _node_ports,
    _sync_periods,
    _local_pods,
    _logging,
)


def warnings_about(
    config: KubeProxyConfiguration, given: Mapping[str, Any], place: Place, *, has_file: bool
) -> Iterable[str]:
    """
    Yield warnings about values that can be used but do not do what they seem to ask for.

    `given` holds the values that flags and file gave, by key; `config` is the configuration they
    make, before every mode becomes nftables.
    """
    yield from _ineffective(config, given, place)
    yield from _feature_gates(config, place)
    yield from _mode(config, given, place, has_file)
    if not has_file:
        yield from _ports(given)


def _ineffective(
    config: KubeProxyConfiguration, given: Mapping[str, Any], place: Place
) -> Iterable[str]:
    for key, value in given.items():
        setting = BY_KEY[key]
        replacement = setting.replacement
        if not setting.is_ineffective(value):
            continue
        if replacement and value_of(config, replacement) == value:
            continue  # the file says the same where nfproxy reads it
        text = f"{place(key)}: {describe(value)} has {setting.treatment.value}"
        yield f"{text}; the field to set is {replacement}" if replacement else text


def _feature_gates(config: KubeProxyConfiguration, place: Place) -> Iterable[str]:
    others = [describe(gate) for gate in config.feature_gates if gate not in KNOWN_GATES]
    if others:
        shown = ", ".join(sorted(others)[:10])
        yield f"{place('featureGates')}: no effect for {shown}, which nfproxy does not know"


def _mode(
    config: KubeProxyConfiguration, given: Mapping[str, Any], place: Place, has_file: bool
) -> Iterable[str]:
    """Warn about another mode; without a file and without the flag, no mode was asked for."""
    if config.mode not in ("", "iptables", "ipvs") or not (has_file or "mode" in given):
        return
    text = f"{place('mode')}: {describe(config.mode)} is taken for 'nftables'"
    if not config.node_port_addresses:
        text += (
            "; node ports are then accepted on the node's own IPs only: set nodePortAddresses "
            "to accept them elsewhere"
        )
    yield text


def _ports(given: Mapping[str, Any]) -> Iterable[str]:
    """Warn about the port flags; the default addresses have ports, so they seldom count."""
    for server in ("healthz", "metrics"):
        port = given.get(f"--{server}-port")
        default = BY_KEY[f"{server}BindAddress"].default
        address = given.get(f"{server}BindAddress", default)
        if port and split_address_port(address) is not None:
            yield f"--{server}-port: {port} has no effect; {address} has a port already"
