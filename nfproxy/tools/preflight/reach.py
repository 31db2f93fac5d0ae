"""
Addresses and routes: does this host have those that accept node ports, and a way to Services?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from nfproxy.config.nodeconfig import node_config
from nfproxy.config.nodeports import node_port_gap
from nfproxy.errors import ConfigError, InputError
from nfproxy.model.addresses import FAMILIES, Family, family_of, format_address, parse_address
from nfproxy.tools.preflight.access import ACCESS, ApiAccess
from nfproxy.tools.preflight.apiserver import API_SERVERS, ApiServers
from nfproxy.tools.preflight.examine import SUBJECT, Check, FactSource, Subject
from nfproxy.tools.preflight.findings import Finding, ok, warn
from nfproxy.tools.preflight.network import LINKS, Link

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
    from pyroute2 import IPRoute  # 9 MB that only this command needs

    targets = _targets(found)
    with IPRoute() as netlink:
        return tuple(
            ServiceRoute(address, service_range, _is_routed(netlink, address))
            for address, service_range in targets
        )


def _targets(found: ApiServers) -> Iterable[tuple[str, str]]:
    """Yield an address of each family, with its range."""
    for family in FAMILIES:
        ranges = [cidr for cidr in found.service_cidrs if cidr.family is family]
        known = [address for address in found.kubernetes if family_of(address) is family]
        address = next(iter([*known, *(cidr.last for cidr in ranges)]), None)
        if address is not None:
            held = next((cidr for cidr in ranges if address in cidr), None)
            yield format_address(address), str(held or "")


def _is_routed(netlink: object, address: str) -> bool:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        return bool(netlink.route("get", dst=address))  # type: ignore[attr-defined]
    except NetlinkError:  # unreachable, prohibited, or a black hole
        return False


SERVICE_ROUTES = FactSource(
    "routes to Services", lambda _, found: read_service_routes(found), (API_SERVERS,), _LIMIT_S
)


def judge_service_routes(routes: Sequence[ServiceRoute]) -> list[Finding]:
    """
    Processes of the node itself reach Services.

    The kernel looks for a route before it translates the address, so without one even a connection
    to an endpoint on this node fails. Packets of pods need no such route. No finding
    where no cluster IP is known: `api-server` says why.
    """
    return [_judge_route(route) for route in routes]


def _judge_route(route: ServiceRoute) -> Finding:
    if route.is_routed:
        return ok(f"this host has a route to {route.address}, a cluster IP")
    where = route.service_range or route.address
    family = "-6 " if ":" in route.address else ""
    return warn(
        f"this host has no route to {route.address}, a cluster IP: its own processes and pods in "
        "its network get `Network is unreachable` from every Service",
        f"add a default route, or one for Services over an interface with the node's address: "
        f"ip {family}route add {where} dev INTERFACE src NODE-IP",
    )


def judge_node_port_addresses(
    subject: Subject, access: ApiAccess, links: Sequence[Link]
) -> list[Finding]:
    """A local address of each family accepts node ports."""
    try:
        config, _ = node_config(subject.config, subject.node_name, access.node)
    except ConfigError:
        return []  # `node` says what is wrong
    local = _local_addresses(links)
    gaps = [
        gap
        for family in FAMILIES
        if (gap := node_port_gap(family, config.node_port_prefixes.get(family), local[family]))
    ]
    return [warn(gap.what, gap.remedy) for gap in gaps] or [ok("local addresses accept node ports")]


def _local_addresses(links: Iterable[Link]) -> Mapping[Family, frozenset[bytes]]:
    found: dict[Family, set[bytes]] = {family: set() for family in FAMILIES}
    for link in links:
        for text in link.addresses:
            try:
                address = parse_address(text)
            except InputError:
                continue
            found[family_of(address)].add(address)
    return {family: frozenset(addresses) for family, addresses in found.items()}


CHECKS = (
    Check("node-port-addresses", judge_node_port_addresses, (SUBJECT, ACCESS, LINKS)),
    Check("service-routes", judge_service_routes, (SERVICE_ROUTES,)),
)
