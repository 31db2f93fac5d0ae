"""
The kernel's settings for the network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from nfproxy.model.addresses import Family
from nfproxy.text import shorten
from nfproxy.tools.preflight.facts import Conntrack, Link, Sysctls
from nfproxy.tools.preflight.findings import Verdict, fail, ok, warn

_FORWARDING = {Family.IPV4: "ipv4.ip_forward", Family.IPV6: "ipv6.conf.all.forwarding"}
_RANGE = re.compile(r"(\d{1,5})(?:-|\s+)(\d{1,5})", re.ASCII)
_FULL_PERCENT = 80
_ENTRIES_PER_BUCKET = 8

PortRange = tuple[int, int]


def forwarding(
    sysctls: Sysctls, enabled: Sequence[Family], node: Collection[Family]
) -> list[Verdict]:
    """
    Packets to endpoints on other nodes, and from pods, are forwarded.

    `node` are the families the Node has addresses of, nothing where it is not known: then IPv4 is
    taken to be needed.
    """
    needed = node or (Family.IPV4,)
    verdicts = []
    for family in enabled:
        name = _FORWARDING[family]
        value = sysctls.get(name, "")
        remedy = f"sysctl -w net.{name}=1 (and a file below /etc/sysctl.d)"
        if value == "1":
            verdicts.append(ok(f"net.{name} is 1"))
        elif family in needed:
            verdicts.append(fail(f"net.{name} is {_shown(value)}: nothing is forwarded", remedy))
        elif node:
            verdicts.append(ok(f"net.{name} is {_shown(value)}; the Node has no {family.label}"))
        else:
            verdicts.append(
                warn(f"net.{name} is {_shown(value)}", f"with {family.label}: {remedy}")
            )
    return verdicts


def reverse_path(sysctls: Sysctls, default_routes: Collection[str]) -> Verdict:
    """
    A strict filter drops what comes in by another way than the answer would take.

    That concerns nodes with several uplinks: an answer follows the translated connection, not the
    route to the client.
    """
    everywhere = sysctls.get("ipv4.conf.all.rp_filter", "0")
    strict = sorted(
        interface
        for interface in default_routes
        if max(everywhere, sysctls.get(f"ipv4.conf.{interface}.rp_filter", "0")) == "1"
    )
    if strict and len(default_routes) > 1:
        return warn(
            f"rp_filter is strict (1) on {', '.join(strict)}, and there are default routes over "
            f"{', '.join(sorted(default_routes))}: what comes in by one and goes out by another "
            "is dropped",
            "sysctl -w net.ipv4.conf.all.rp_filter=2",
        )
    return ok("reverse path filtering is in nobody's way")


def bridges(links: Iterable[Link], sysctls: Sysctls, enabled: Sequence[Family]) -> list[Verdict]:
    """
    Where pods share a bridge, their packets to each other have to pass through netfilter.

    Otherwise a pod that is sent to an endpoint on its own bridge gets an answer from an address
    that it never asked.
    """
    used = [link.name for link in links if link.kind == "bridge" and link.ports]
    if not used:
        return [ok("no bridge with ports")]
    verdicts = []
    for family in enabled:
        name = f"bridge.bridge-nf-call-{family.table}tables"
        value = sysctls.get(name, "")
        if value != "1":
            load = "" if value else "modprobe br_netfilter; "
            verdicts.append(
                warn(
                    f"{', '.join(used)}: a bridge with ports, and net.{name} "
                    f"{'is ' + _shown(value) if value else 'does not exist'}: if it is pods' that "
                    "are connected, Services fail between two of them",
                    f"{load}sysctl -w net.{name}=1 (persistently: /etc/modules-load.d and "
                    "/etc/sysctl.d)",
                )
            )
    return verdicts or [ok(f"{', '.join(used)}: bridged packets pass through netfilter")]


def conntrack(found: Conntrack, wanted: int | None) -> list[Verdict]:
    """
    Every connection takes an entry; when the table is full, new ones fail.

    `wanted` is the limit that the configuration has nfproxy set, None for none.
    """
    if found.most is None:
        return [
            warn(
                "connection tracking is not loaded, or its sysctls cannot be read",
                "modprobe nf_conntrack; the kernel also loads it with nfproxy's first rule",
            )
        ]
    verdicts = []
    if found.entries is not None:
        percent = 100 * found.entries // max(found.most, 1)
        text = f"{found.entries} of {found.most} connections are in the table ({percent} %)"
        if percent >= _FULL_PERCENT:
            verdicts.append(
                warn(text, f"sysctl -w net.netfilter.nf_conntrack_max={2 * found.most}")
            )
        else:
            verdicts.append(ok(text))
    verdicts += _limit(found, found.most, wanted)
    crowded = found.buckets and found.most > _ENTRIES_PER_BUCKET * found.buckets
    if crowded and wanted is None:  # else they are set along with the limit
        verdicts.append(
            warn(
                f"{found.buckets} buckets for {found.most} connections: looking one up is slow",
                f"sysctl -w net.netfilter.nf_conntrack_buckets={found.most // 4}",
            )
        )
    return verdicts


def _limit(found: Conntrack, most: int, wanted: int | None) -> list[Verdict]:
    """Compare the limit with what the configuration has nfproxy set, as kube-proxy does."""
    if wanted is None or wanted == most:
        return []
    if wanted < most:
        return [
            warn(
                f"nf_conntrack_max is {most}, and nfproxy would lower it to {wanted}, as "
                "kube-proxy does (conntrack.maxPerCore, conntrack.min)",
                "set conntrack.maxPerCore to 0 to leave it alone",
            )
        ]
    text = f"nf_conntrack_max is {most}; nfproxy will set it to {wanted}"
    return [ok(text if found.writable else f"{text}, in its init container `prepare`")]


def ephemeral_ports(sysctls: Sysctls, node_ports: PortRange) -> Verdict:
    """
    Ports that the kernel gives outgoing connections must not be node ports.

    An answer to such a connection is not affected, as it is tracked; but a program that listens
    on a port of that range loses what comes from outside to a Service, and the other way round.
    """
    ephemeral = port_range(sysctls.get("ipv4.ip_local_port_range", ""))
    if ephemeral is None:
        return warn("net.ipv4.ip_local_port_range cannot be read", "look at it on the node")
    low, high = max(ephemeral[0], node_ports[0]), min(ephemeral[1], node_ports[1])
    names = f"node ports {_range(node_ports)}, ephemeral ports {_range(ephemeral)}"
    if low > high:
        return ok(names)
    reserved = sysctls.get("ipv4.ip_local_reserved_ports", "")
    if _covered((low, high), reserved):
        return ok(f"{names}; {_range((low, high))} is reserved (ip_local_reserved_ports)")
    more = ",".join(part for part in (reserved.strip(), _range(node_ports)) if part)
    return warn(
        f"{names}: {_range((low, high))} is both, so that local programs can be given the port of "
        "a Service",
        f"sysctl -w net.ipv4.ip_local_reserved_ports={more}",
    )


def port_range(text: str) -> PortRange | None:
    """Return the range that "30000-32767" or "32768 60999" says, None for neither."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    low, high = int(match[1]), int(match[2])
    return (low, high) if 0 < low <= high <= 65535 else None


def _covered(wanted: PortRange, reserved: str) -> bool:
    """Tell whether every port of a range is in a list such as "1-5,30000-32767"."""
    parts = [part if "-" in part else f"{part}-{part}" for part in reserved.split(",")]
    ranges = sorted(found for part in parts if (found := port_range(part)) is not None)
    next_port = wanted[0]
    for low, high in ranges:
        if low <= next_port <= high:
            next_port = high + 1
    return next_port > wanted[1]


def _range(ports: PortRange) -> str:
    return f"{ports[0]}-{ports[1]}"


def _shown(value: str) -> str:
    return shorten(value, 20) if value else "not there"
