"""A host of the lab: a namespace with interfaces, addresses and routes, both families."""

import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from pyroute2 import IPRoute

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.tools.lab.namespaces import Namespace

T = TypeVar("T")

IFA_F_NODAD = 0x02
SCOPE_LINK = 253
# struct tcp_info: eight octets, then 32-bit words; the 24th is tcpi_total_retrans
_TOTAL_RETRANS = 8 + 23 * 4

_EACH_HOST = {
    # An address is usable at once: no other host on these links can have it.
    "ipv6/conf/{}/disable_ipv6": "0",
    "ipv6/conf/{}/accept_dad": "0",
    "ipv6/conf/{}/accept_ra": "0",
    "ipv6/conf/{}/router_solicitations": "0",
    # A node sends redirects where it forwards a packet out of the link that it came from.
    "ipv6/conf/{}/accept_redirects": "0",
    "ipv4/conf/{}/accept_redirects": "0",
    "ipv4/conf/{}/send_redirects": "0",
    "ipv4/conf/{}/rp_filter": "0",
}

_SYSCTLS = {
    **{name.format(dev): value for dev in ("all", "default") for name, value in _EACH_HOST.items()},
    # Tests count rejected packets, so no rate limit may swallow a rejection.
    "ipv4/icmp_ratemask": "0",
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
    "?ipv6/icmp/ratemask": "0",
}

_FORWARDING = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}


LOCAL_TRIES, LOCAL_WAIT_S = 1000, 0.01
RTN_LOCAL = 2  # <linux/rtnetlink.h>


class Addresses(NamedTuple):
    """One address of each family, as text."""

    ipv4: str
    ipv6: str

    def of(self, family: Family) -> str:
        """Return the address of `family`."""
        return self.ipv4 if family is Family.IPV4 else self.ipv6


class Host:
    """
    A host and its links. Changes are in force when a method returns; any thread may call it.

    `addresses[0]` is the host's own address pair; the others were added.
    """

    def __init__(self, namespace: Namespace, *, forwarding: bool = False) -> None:
        self.namespace = namespace
        self.addresses: list[Addresses] = []
        namespace.set_sysctls(_SYSCTLS | (_FORWARDING if forwarding else {}))
        self.netlink(lambda ip: ip.link("set", index=1, state="up"))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def name(self) -> str:
        """The name of the host, which is that of its namespace."""
        return self.namespace.name

    @property
    def ipv4(self) -> str:
        """The host's own IPv4 address."""
        return self.addresses[0].ipv4

    @property
    def ipv6(self) -> str:
        """The host's own IPv6 address."""
        return self.addresses[0].ipv6

    def address(self, family: Family) -> str:
        """Return the host's own address of `family`."""
        return self.addresses[0].of(family)

    def netlink(self, function: Callable[[IPRoute], T]) -> T:
        """Call `function` with an rtnetlink socket inside the namespace."""

        def inside() -> T:
            with IPRoute() as ip:
                return function(ip)

        return self.namespace.call(inside)

    def add_bridge(self, name: str, hardware_address: str) -> None:
        """
        Add a bridge that forwards at once and floods multicast.

        Its hardware address is fixed. Otherwise the kernel would take that of a port, and change it
        as ports come and go, which leaves neighbours with a stale one.
        """
        self.netlink(
            lambda ip: (
                ip.link(
                    "add",
                    ifname=name,
                    kind="bridge",
                    address=hardware_address,
                    br_stp_state=0,
                    br_mcast_snooping=0,
                ),
                ip.link("set", index=_index(ip, name), state="up"),
            )
        )

    def connect(
        self,
        interface: str,
        other: "Host",
        other_interface: str,
        *,
        bridge: str = "",
        hairpin: bool = False,
        hardware_address: str = "",
    ) -> None:
        """
        Connect two hosts by a veth pair: `interface` here, `other_interface` there, both up.

        With `bridge`, the end here becomes a port of that bridge; with `hairpin`, the bridge may
        send a frame back out of this port. `hardware_address` is that of the other end.
        """

        def here(ip: IPRoute) -> None:
            peer = {"ifname": other_interface, "net_ns_fd": other.namespace.fd}
            if hardware_address:
                peer["address"] = hardware_address
            ip.link("add", ifname=interface, kind="veth", peer=peer)
            index = _index(ip, interface)
            if bridge:
                ip.link("set", index=index, master=_index(ip, bridge))
                ip.brport("set", index=index, mode=int(hairpin))
            ip.link("set", index=index, state="up")

        self.netlink(here)
        other.netlink(lambda ip: ip.link("set", index=_index(ip, other_interface), state="up"))

    def remove_interface(self, interface: str) -> None:
        """Remove an interface; the other end of a veth pair goes with it."""
        self.netlink(lambda ip: ip.link("del", index=_index(ip, interface)))

    def add_address(self, address: str, interface: str = "eth0", *, as_source: bool = True) -> None:
        """
        Add an address, written with its prefix length ("192.168.77.50/24").

        With `as_source` false, the host does not send from it unless it has to.
        """
        self.netlink(lambda ip: _change_address(ip, "add", address, interface, as_source))
        self._wait_until_local(address.partition("/")[0])

    def _wait_until_local(self, address: str) -> None:
        """
        Return when the host receives packets to an address.

        The kernel adds the local route of a new IPv6 address in a work queue (addrconf_dad_work),
        after it has acknowledged the address, and much later while namespaces come and go.
        """
        family = int(family_of(address))
        for _ in range(LOCAL_TRIES):
            found = self.netlink(lambda ip: ip.route("get", family=family, dst=address))
            if found[0]["type"] == RTN_LOCAL:
                return
            time.sleep(LOCAL_WAIT_S)
        raise TimeoutError(f"{address} was added to {self.name}, but never became local")

    def remove_address(self, address: str, interface: str = "eth0") -> None:
        """Remove an address added by `add_address`, written the same way."""
        self.netlink(lambda ip: _change_address(ip, "del", address, interface, True))

    def add_route(
        self, destination: str, *, via: str = "", interface: str = "eth0", source: str = ""
    ) -> None:
        """
        Add a route to a prefix or to "default"/"default6", by a gateway or on the link.

        The gateway need not be within a prefix of the interface. `source` is the address from which
        the host itself sends.
        """
        self.add_routes([(destination, via, interface, source)])

    def add_routes(self, routes: Iterable[tuple[str, str, str, str]]) -> None:
        """Add many routes: (destination, via, interface, source), as for `add_route`."""

        def change(ip: IPRoute) -> None:
            for destination, via, interface, source in routes:
                ip.route("add", **_route(ip, destination, via, interface, source))

        self.netlink(change)

    def add_blackhole(self) -> None:
        """Drop packets without a route silently, in both families."""
        self.netlink(
            lambda ip: [
                ip.route("add", family=int(family), dst="default", type="blackhole")
                for family in FAMILIES
            ]
        )


def family_of(text: str) -> Family:
    """Return the family of an address or prefix written as text."""
    return Family.IPV6 if ":" in text else Family.IPV4


def packets_sent_again(sock: socket.socket) -> int:
    """
    Return how many packets of a TCP connection the kernel has sent again so far.

    A lost SYN shows here and not as a failure: the connection is only a second late.
    """
    data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANS + 4)
    return int(struct.unpack_from("=I", data, _TOTAL_RETRANS)[0])


def _index(ip: IPRoute, interface: str) -> int:
    found = ip.link_lookup(ifname=interface)
    if not found:
        raise LookupError(f"no interface {interface}")
    return int(found[0])


def _change_address(ip: IPRoute, command: str, text: str, interface: str, as_source: bool) -> None:
    address, _, length = text.partition("/")
    family = family_of(address)
    options: dict[str, Any] = {}
    if command == "add" and family is Family.IPV6:
        options["flags"] = IFA_F_NODAD
        if not as_source:
            options["preferred"] = 0  # deprecated
    elif command == "add" and not as_source and not length:
        options["scope"] = SCOPE_LINK  # with a prefix, the address is a secondary one anyway
    ip.addr(
        command,
        index=_index(ip, interface),
        family=int(family),
        address=address,
        prefixlen=int(length or family.size * 8),
        **options,
    )


def _route(ip: IPRoute, destination: str, via: str, interface: str, source: str) -> dict[str, Any]:
    family = Family.IPV6 if destination == "default6" else family_of(destination)
    route: dict[str, Any] = {"family": int(family), "oif": _index(ip, interface)}
    route["dst"] = "default" if destination.startswith("default") else destination
    if via:
        route |= {"gateway": via, "flags": ["onlink"]}
    elif family is Family.IPV4:
        route["scope"] = SCOPE_LINK
    if source:
        route["prefsrc"] = source
    return route
