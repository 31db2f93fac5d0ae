"""The network's settings: forwarding, reverse paths, bridges."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import IPRoute

from nfproxy.errors import InputError
from nfproxy.host.paths import HostRoot
from nfproxy.model.addresses import Family
from nfproxy.text import shorten
from nfproxy.tools.preflight.access import NODE_FAMILIES
from nfproxy.tools.preflight.examine import Check, FactSource, IfKnown
from nfproxy.tools.preflight.findings import Finding, fail, ok, warn
from nfproxy.tools.preflight.trial import ENABLED_FAMILIES

#: Sysctls below net/, by names such as ``ipv4.ip_forward``; absent where the kernel has none.
Sysctls = Mapping[str, str]

_READ = (
    "ipv4.ip_forward",
    "ipv6.conf.all.forwarding",
    "ipv4.ip_local_port_range",
    "ipv4.ip_local_reserved_ports",
    "bridge.bridge-nf-call-iptables",
    "bridge.bridge-nf-call-ip6tables",
)
_FORWARDING = {Family.IPV4: "ipv4.ip_forward", Family.IPV6: "ipv6.conf.all.forwarding"}
_DEFAULT_ROUTE = "00000000"


class Link(NamedTuple):
    """
    A network interface.

    `kind` is the kernel's word, "" for hardware; `port_count` is that of a bridge.
    """

    name: str
    kind: str = ""
    addresses: tuple[str, ...] = ()
    port_count: int = 0


def read_sysctls(proc: Path) -> Sysctls:
    """Return the settings that are judged, those of each interface included."""
    root = HostRoot(proc / "sys/net")
    paths = {name: name.replace(".", "/") for name in _READ}
    for interface in root.names("ipv4/conf"):  # its name may have dots
        paths[f"ipv4.conf.{interface}.rp_filter"] = f"ipv4/conf/{interface}/rp_filter"
    found: dict[str, str] = {}
    for name, path in paths.items():
        try:
            text = root.read(path)
        except InputError:
            continue
        if text is not None:
            found[name] = text.strip()
    return found


def read_default_routes(proc: Path) -> frozenset[str]:
    """Return the interfaces of the default routes of IPv4."""
    text = HostRoot(proc).read("net/route") or ""
    rows = [line.split() for line in text.splitlines()[1:]]
    return frozenset(row[0] for row in rows if len(row) > 7 and row[1] == row[7] == _DEFAULT_ROUTE)


def read_links() -> tuple[Link, ...]:
    """Return the interfaces of this network namespace, with their addresses, by rtnetlink."""
    with IPRoute() as netlink:
        rows = list(netlink.get_links())
        addresses: dict[int, list[str]] = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            for row in netlink.get_addr(family=family):
                text = row.get_attr("IFA_LOCAL") or row.get_attr("IFA_ADDRESS") or ""
                addresses.setdefault(row["index"], []).append(str(text))
    port_counts = Counter(row.get_attr("IFLA_MASTER") for row in rows)
    return tuple(
        Link(
            name=str(row.get_attr("IFLA_IFNAME") or ""),
            kind=_kind(row),
            addresses=tuple(addresses.get(row["index"], ())),
            port_count=port_counts[row["index"]],
        )
        for row in rows
    )


def _kind(row: Any) -> str:
    info = row.get_attr("IFLA_LINKINFO")
    return str(info.get_attr("IFLA_INFO_KIND") or "") if info is not None else ""


SYSCTLS = FactSource("sysctls", lambda subject: read_sysctls(subject.proc))
ROUTES = FactSource("routes", lambda subject: read_default_routes(subject.proc))
LINKS = FactSource("interfaces", lambda _: read_links())


def judge_forwarding(
    sysctls: Sysctls, enabled: Sequence[Family], node: Collection[Family] | None
) -> Iterator[Finding]:
    """
    The kernel forwards packets from pods and to endpoints on other nodes.

    `node` are the families of the Node. Where they are unknown (None or empty), IPv4 counts as
    needed.
    """
    needed = node or (Family.IPV4,)
    for family in enabled:
        name = _FORWARDING[family]
        value = sysctls.get(name, "")
        shown = f"net.{name} is {_shown(value)}"
        remedy = f"sysctl -w net.{name}=1 (and a file below /etc/sysctl.d)"
        if value == "1":
            yield ok(shown)
        elif family in needed:
            yield fail(f"{shown}: the kernel forwards nothing", remedy)
        elif node:
            yield ok(f"{shown}; the Node has no {family.label}")
        else:
            yield warn(shown, f"with {family.label}: {remedy}")


def judge_reverse_path(sysctls: Sysctls, default_routes: Collection[str]) -> Finding:
    """
    No strict reverse path filter drops answers on a node with several uplinks.

    There an answer follows the translated connection and not the route to the client.
    """
    everywhere = sysctls.get("ipv4.conf.all.rp_filter", "0")
    # The kernel applies the greater of the two values; 2, the loose filter, is greater than 1.
    strict = sorted(
        interface
        for interface in default_routes
        if max(everywhere, sysctls.get(f"ipv4.conf.{interface}.rp_filter", "0")) == "1"
    )
    if strict and len(default_routes) > 1:
        return warn(
            f"rp_filter is strict (1) on {', '.join(strict)}, and there are default routes over "
            f"{', '.join(sorted(default_routes))}: the kernel drops what comes in by one and goes "
            "out by another",
            "sysctl -w net.ipv4.conf.all.rp_filter=2",
        )
    return ok("reverse path filtering drops no answers")


def judge_bridges(
    links: Iterable[Link], sysctls: Sysctls, enabled: Sequence[Family]
) -> list[Finding]:
    """
    Where pods share a bridge, netfilter sees their packets to each other.

    Otherwise a client pod whose endpoint is on its own bridge receives the answer from an address
    that it did not ask.
    """
    used = [link.name for link in links if link.kind == "bridge" and link.port_count]
    if not used:
        return [ok("no bridge with ports")]
    findings = []
    for family in enabled:
        name = f"bridge.bridge-nf-call-{family.table}tables"
        value = sysctls.get(name, "")
        if value == "1":
            continue
        what = f"is {_shown(value)}" if value else "does not exist"
        load = "" if value else "modprobe br_netfilter; "
        findings.append(
            warn(
                f"{', '.join(used)}: a bridge with ports, and net.{name} {what}: if it connects "
                "pods, Services fail between two of them",
                f"{load}sysctl -w net.{name}=1 (persistently: /etc/modules-load.d and "
                "/etc/sysctl.d)",
            )
        )
    return findings or [ok(f"{', '.join(used)}: bridged packets pass through netfilter")]


def _shown(value: str) -> str:
    return shorten(value, 20) if value else "not there"


CHECKS = (
    Check("forwarding", judge_forwarding, (SYSCTLS, ENABLED_FAMILIES, IfKnown(NODE_FAMILIES))),
    Check("reverse-path", judge_reverse_path, (SYSCTLS, ROUTES)),
    Check("bridges", judge_bridges, (LINKS, SYSCTLS, ENABLED_FAMILIES)),
)
