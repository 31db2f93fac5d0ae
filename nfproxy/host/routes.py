"""The node's way to endpoints: route, interface, and the bridge port of a pod."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Mapping

import msgspec

from nfproxy.insight.nodefacts import REVERSE_PATH, FailedWay, NodeLink, Route
from nfproxy.model.addresses import Family, family_of, parse_address
from nfproxy.netlink import routing
from nfproxy.netlink.rtnetlink import NETLINK_ROUTE
from nfproxy.netlink.sockets import NetlinkSocket

_MOST_NEIGHBOURS = 16
_LINK_LOCAL = b"\xfe\x80"

#: Addresses for documentation: only the default route leads there.
_ANYWHERE = {
    Family.IPV4: parse_address("192.0.2.1"),
    Family.IPV6: parse_address("2001:db8::1"),
}


def read_routes(addresses: Iterable[bytes]) -> dict[bytes, Route]:
    """
    Return the way to each of some packed addresses, as a process of this node takes it.

    Raises DataplaneError.
    """
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        return _RouteReader(netlink).read(sorted(set(addresses)))


def failed_ways(asked: Iterable[FailedWay], links: Mapping[str, int]) -> tuple[FailedWay, ...]:
    """
    Return which packets this node would not forward, with the reason.

    `links` are the interfaces' indexes. Raises DataplaneError.
    """
    ways = list(asked)
    questions = [
        routing.route_question(way.destination, way.source, links.get(way.came_by, 0), way.mark)
        for way in ways
    ]
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        answers = netlink.ask_each(routing.GET_ROUTE, questions, "routes")
        failed = [(way, a) for way, a in zip(ways, answers, strict=True) if isinstance(a, int)]
        # The kernel has one errno for a blackhole and for a source that it expects elsewhere.
        back = netlink.ask_each(
            routing.GET_ROUTE, [routing.route_question(way.source) for way, _ in failed], "routes"
        )
    return tuple(
        msgspec.structs.replace(way, error=_error_of(way, error, answer, links))
        for (way, error), answer in zip(failed, back, strict=True)
    )


def _error_of(way: FailedWay, error: int, back: bytes | int, links: Mapping[str, int]) -> str:
    is_back = isinstance(back, bytes) and (
        routing.read_route(back).interface == links.get(way.came_by)
    )
    if error in (errno.EINVAL, errno.EXDEV) and not is_back:
        return REVERSE_PATH
    return _in_words(error)


def _in_words(error: int) -> str:
    return routing.NO_ROUTE_WORDS.get(error) or os.strerror(error)


def read_pod_mtu() -> int:
    """
    Return the largest packets of pods here, by the node's ends of their interfaces; 0 without any.

    Interfaces of Docker's own bridges are left out. Raises DataplaneError.
    """
    return max((link.mtu for link in pod_links(read_links())), default=0)


def read_links() -> tuple[NodeLink, ...]:
    """Return all interfaces of this network namespace. Raises DataplaneError."""
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        rows = netlink.dump(routing.GET_LINK, routing.link_question(), "interfaces")
        return tuple(NodeLink(*routing.read_link(row)) for row in rows)


def pod_links(links: Collection[NodeLink]) -> tuple[NodeLink, ...]:
    """Return the node's ends of pods' interfaces: veths, but those at Docker's own bridges."""
    bridges = {one.index for one in links if not one.name.startswith(("docker", "br-"))}
    return tuple(one for one in links if one.kind == "veth" and one.master in {0, *bridges})


def pod_neighbours(links: Collection[NodeLink]) -> tuple[tuple[bytes, NodeLink], ...]:
    """
    Return addresses of pods here that have sent something of late, with the interface to each.

    At most `_MOST_NEIGHBOURS`. Raises DataplaneError.
    """
    ends = pod_links(links)
    masters = {end.master for end in ends} - {0}
    known = {end.index: end for end in ends if not end.master}
    known |= {link.index: link for link in links if link.index in masters}
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        rows = netlink.dump(routing.GET_NEIGHBOUR, routing.neighbours_question(), "neighbours")
    found = (routing.read_neighbour(row) for row in rows)
    pods = [(address, known[index]) for address, index in found if index in known]
    return tuple(each for each in pods if not each[0].startswith(_LINK_LOCAL))[:_MOST_NEIGHBOURS]


class _RouteReader:
    """Reads once."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink
        self._links: dict[int, NodeLink] = {}

    def read(self, addresses: list[bytes]) -> dict[bytes, Route]:
        asked = [*addresses, *_ANYWHERE.values()]
        questions = [routing.route_question(address) for address in asked]
        answers = self._netlink.ask_each(routing.GET_ROUTE, questions, "routes")
        rows: dict[bytes, routing.RouteRow] = {}
        routes: dict[bytes, Route] = {}
        for address, answer in zip(asked, answers, strict=True):
            if isinstance(answer, bytes):
                rows[address] = routing.read_route(answer)
            else:
                routes[address] = Route(error=_in_words(answer))
        defaults = {family: rows.pop(place, None) for family, place in _ANYWHERE.items()}
        for place in _ANYWHERE.values():
            routes.pop(place, None)
        self._read_links({row.interface for row in rows.values()})
        ports = self._ports(rows)
        silent = self._silent(rows)
        for address, row in rows.items():
            link = self._links.get(row.interface)
            mtus = [mtu for mtu in (row.mtu, link.mtu if link else 0) if mtu]
            siblings: tuple[NodeLink, ...] = ()
            if link is not None and link.kind == "bridge":
                siblings = tuple(one for one in self._links.values() if one.master == link.index)
            default = defaults[family_of(address)]
            routes[address] = Route(
                interface=link,
                via=row.via,
                mtu=min(mtus, default=0),
                is_local=row.is_local,
                port=ports.get(address),
                ports=siblings,
                is_default=default is not None and row[:2] == default[:2],
                is_answered=address not in silent,
            )
        return routes

    def _silent(self, rows: Mapping[bytes, routing.RouteRow]) -> set[bytes]:
        """Return the addresses to which no machine on the link answers."""
        asked = [address for address, row in rows.items() if row.interface and not row.is_local]
        questions = [
            routing.neighbour_question(rows[address].via or address, rows[address].interface)
            for address in asked
        ]
        answers = self._netlink.ask_each(routing.GET_NEIGHBOUR, questions, "neighbours")
        return {
            address
            for address, answer in zip(asked, answers, strict=True)
            if isinstance(answer, bytes) and routing.has_failed(answer)
        }

    def _read_links(self, indexes: set[int]) -> None:
        questions = [routing.link_question(index) for index in sorted(indexes - {0})]
        answers = self._netlink.ask_each(routing.GET_LINK, questions, "interfaces")
        self._take(answer for answer in answers if isinstance(answer, bytes))
        if any(link.kind == "bridge" for link in self._links.values()):
            question = routing.link_question()
            self._take(self._netlink.dump(routing.GET_LINK, question, "interfaces"))

    def _take(self, answers: Iterable[bytes]) -> None:
        for answer in answers:
            row = routing.read_link(answer)
            self._links[row.number] = NodeLink(*row)

    def _ports(self, rows: Mapping[bytes, routing.RouteRow]) -> dict[bytes, NodeLink]:
        """Return the bridge ports behind which addresses are, as far as the kernel knows."""
        bridges = {i for i, link in self._links.items() if link.kind == "bridge"}
        on_bridges = [a for a, row in rows.items() if row.interface in bridges and not row.via]
        questions = [routing.neighbour_question(a, rows[a].interface) for a in on_bridges]
        answers = self._netlink.ask_each(routing.GET_NEIGHBOUR, questions, "neighbours")
        found = {
            address: hardware
            for address, answer in zip(on_bridges, answers, strict=True)
            if isinstance(answer, bytes) and (hardware := routing.read_hardware_address(answer))
        }
        questions = [
            routing.bridge_port_question(hardware, rows[address].interface)
            for address, hardware in found.items()
        ]
        answers = self._netlink.ask_each(routing.GET_NEIGHBOUR, questions, "bridge ports")
        return {
            address: self._links[index]
            for address, answer in zip(found, answers, strict=True)
            if isinstance(answer, bytes)
            and (index := routing.read_bridge_port(answer)) in self._links
        }
