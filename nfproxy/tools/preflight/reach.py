"""Addresses and routes: those that accept node ports, a way to Services, ranges that overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from nfproxy.config.kept import kept_addresses
from nfproxy.config.nodeconfig import node_config
from nfproxy.config.nodeports import node_port_gap
from nfproxy.errors import ConfigError
from nfproxy.host.addresses import Addresses, local_addresses
from nfproxy.model.addresses import FAMILIES, family_of, format_address
from nfproxy.plan.serviceranges import REMEDY, service_range_problems
from nfproxy.tools.preflight.access import ACCESS, ApiAccess
from nfproxy.tools.preflight.apiserver import API_SERVERS, ApiServers
from nfproxy.tools.preflight.examine import SUBJECT, Check, FactSource, Subject
from nfproxy.tools.preflight.findings import Finding, ok, warn

_LIMIT_S = 14.0  # that of the API servers, which is waited for, and the kernel's answer


class ServiceRoute(NamedTuple):
    """
    Whether this host has a route to a cluster IP.

    `service_range` is the ServiceCIDR that holds the address, "" if unknown.
    """

    address: str
    service_range: str
    is_routed: bool


def read_service_routes(found: ApiServers) -> tuple[ServiceRoute, ...]:
    """Ask the kernel for its route to one cluster IP of each family; none that is unknown."""
    targets = _targets(found)
    with IPRoute() as netlink:
        return tuple(
            ServiceRoute(address, service_range, _is_routed(netlink, address))
            for address, service_range in targets
        )


def _targets(found: ApiServers) -> Iterator[tuple[str, str]]:
    """Yield an address of each family, with its range."""
    for family in FAMILIES:
        ranges = [cidr for cidr in found.service_cidrs if cidr.family is family]
        known = [address for address in found.kubernetes if family_of(address) is family]
        address = next(iter([*known, *(cidr.last for cidr in ranges)]), None)
        if address is not None:
            held = next((cidr for cidr in ranges if address in cidr), None)
            yield format_address(address), str(held or "")


def _is_routed(netlink: IPRoute, address: str) -> bool:
    try:
        return bool(netlink.route("get", dst=address))
    except NetlinkError:  # unreachable, prohibited, or a black hole
        return False


LOCAL = FactSource("this host's addresses", lambda _: local_addresses())
SERVICE_ROUTES = FactSource(
    "routes to Services", lambda _, found: read_service_routes(found), (API_SERVERS,), _LIMIT_S
)


def judge_service_routes(routes: Iterable[ServiceRoute]) -> Iterator[Finding]:
    """
    Processes of the node itself reach Services.

    The kernel looks for a route before it translates the address, so without one even a connection
    to an endpoint on this node fails. Packets of pods need no such route. No finding where no
    cluster IP is known: `api-server` says why.
    """
    for address, service_range, is_routed in routes:
        family = "-6 " if ":" in address else ""
        yield (
            ok(f"this host has a route to {address}, a cluster IP")
            if is_routed
            else warn(
                f"this host has no route to {address}, a cluster IP: its own processes and pods in "
                "its network get `Network is unreachable` from every Service",
                "add a default route, or one for Services over an interface with the node's "
                f"address: ip {family}route add {service_range or address} dev INTERFACE src "
                "NODE-IP",
            )
        )


def judge_node_port_addresses(
    subject: Subject, access: ApiAccess, local: Addresses
) -> list[Finding]:
    """A local address of each family accepts node ports."""
    try:
        config, _ = node_config(subject.config, subject.node_name, access.node)
    except ConfigError:
        return []  # `node` says what is wrong
    gaps = [
        gap
        for family in FAMILIES
        if (gap := node_port_gap(family, config.node_port_prefixes.get(family), local[family]))
    ]
    return [warn(gap.what, gap.remedy) for gap in gaps] or [ok("local addresses accept node ports")]


def judge_service_ranges(subject: Subject, servers: ApiServers, access: ApiAccess) -> list[Finding]:
    """No ServiceCIDR overlaps this node's addresses or the pods' ranges, as far as known."""
    cidrs = servers.service_cidrs
    if not cidrs:
        return [ok("no ServiceCIDR known: nothing to compare")]
    kept = kept_addresses(subject.config, access.node)
    problems = service_range_problems(cidrs, kept.node_addresses, kept.pod_prefixes)
    ranges = ", ".join(str(cidr) for cidr in cidrs)
    return [warn(text, REMEDY) for text in problems] or [
        ok(f"{ranges}: holds none of the Node's addresses and none of the pods' ranges")
    ]


CHECKS = (
    Check("service-ranges", judge_service_ranges, (SUBJECT, API_SERVERS, ACCESS)),
    Check("node-port-addresses", judge_node_port_addresses, (SUBJECT, ACCESS, LOCAL)),
    Check("service-routes", judge_service_routes, (SERVICE_ROUTES,)),
)
