"""
Ports: node ports against those of outgoing connections, and the addresses the daemon listens at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nfproxy.config.addresses import split_address_port
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.errors import ListenError
from nfproxy.host.kubeproxy import proxy_at
from nfproxy.servers.listening import listen_at
from nfproxy.tools.preflight.examine import RUNNING_HERE, Check, FactSource
from nfproxy.tools.preflight.findings import Finding, fail, ok, warn
from nfproxy.tools.preflight.network import SYSCTLS, Sysctls

PortRange = tuple[int, int]

_RANGE = re.compile(r"(\d{1,5})(?:-|\s+)(\d{1,5})", re.ASCII)


class Port(NamedTuple):
    """
    An address that the daemon listens at, and `what` for.

    `trouble` says why it cannot be used, "" where it is free; `holder` names the proxy that answers
    there, "" for any other program.
    """

    what: str
    address: str
    trouble: str = ""
    holder: str = ""


def read_ports(config: KubeProxyConfiguration) -> tuple[Port, ...]:
    """Try to listen at each address; where that fails, ask which proxy answers there."""
    wanted = (
        ("metrics", config.metrics_bind_address, "/proxyMode"),
        ("health", config.healthz_bind_address, "/healthz"),
    )
    return tuple(_port(what, address, path) for what, address, path in wanted if address)


def _port(what: str, address: str, path: str) -> Port:
    try:
        listen_at(address).close()
    except ListenError as error:
        return Port(what, address, error.what, _holder(address, path))
    return Port(what, address)


def _holder(address: str, path: str) -> str:
    host, port = split_address_port(address) or ("", "0")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    return proxy_at(host, int(port), path)


PORTS = FactSource("ports", lambda subject: read_ports(subject.config))
NODE_PORTS = FactSource("the range of node ports", lambda subject: subject.node_ports)
HARD_FAIL = FactSource("bindAddressHardFail", lambda subject: subject.config.bind_address_hard_fail)


def judge_ephemeral_ports(sysctls: Sysctls, node_ports: PortRange) -> Finding:
    """
    The kernel does not give node ports to outgoing connections.

    Conntrack keeps answers to such a connection apart. But a local program that listens at a port
    of that range loses outside traffic to the Service, or the Service loses it to the program.
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
    # Writing this sysctl replaces its whole value, so the remedy repeats what is reserved already.
    more = ",".join(part for part in (reserved.strip(), _range(node_ports)) if part)
    return warn(
        f"{names}: {_range((low, high))} is both, so the kernel may give a local program the port "
        "of a Service",
        f"sysctl -w net.ipv4.ip_local_reserved_ports={more}",
    )


def port_range(text: str) -> PortRange | None:
    """Return the range in "30000-32767" or "32768 60999", None for any other text."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    low, high = int(match[1]), int(match[2])
    return (low, high) if 0 < low <= high <= 65535 else None


def _covered(wanted: PortRange, reserved: str) -> bool:
    """Return whether every port of a range is in a list such as "1-5,30000-32767"."""
    parts = [part if "-" in part else f"{part}-{part}" for part in reserved.split(",")]
    ranges = sorted(found for part in parts if (found := port_range(part)) is not None)
    next_port = wanted[0]
    for low, high in ranges:
        if low <= next_port <= high:
            next_port = high + 1
    return next_port > wanted[1]


def _range(ports: PortRange) -> str:
    return f"{ports[0]}-{ports[1]}"


def judge_listening(ports: Iterable[Port], hard_fail: bool, running: str) -> Iterator[Finding]:
    """
    The addresses for health and metrics are free, or a proxy holds them that is about to go.

    `hard_fail` is bindAddressHardFail: the daemon exits where it cannot listen. What the `running`
    nfproxy holds is no finding: `own-tables` says that it runs.
    """
    for port in ports:
        where = f"{port.what}: {port.address} is"
        if not port.trouble:
            yield ok(f"{where} free")
        elif port.holder == "nfproxy":
            if not running:
                yield ok(f"{where} held by nfproxy")
        elif port.holder:
            yield ok(f"{where} held by {port.holder}; nfproxy takes it over when that has ended")
        else:
            yield (fail if hard_fail else warn)(
                f"{port.what}: {port.trouble}",
                "end what listens there, or set another address (healthzBindAddress, "
                "metricsBindAddress)",
            )


CHECKS = (
    Check("node-ports", judge_ephemeral_ports, (SYSCTLS, NODE_PORTS)),
    Check("listen", judge_listening, (PORTS, HARD_FAIL, RUNNING_HERE)),
)
