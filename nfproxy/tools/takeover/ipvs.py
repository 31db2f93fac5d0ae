"""
Reads and changes IPVS in this network namespace, and the device kube-ipvs0.

Loads no kernel module: where IPVS is not loaded, nothing can use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyroute2 import IPVS, IPRoute, IPVSService
from pyroute2.netlink.exceptions import NetlinkError

from nfproxy.errors import DataplaneError, reason_of
from nfproxy.model.addresses import FAMILIES, Family, family_of, format_address, parse_address
from nfproxy.tools.takeover.names import IPVS_DEVICE
from nfproxy.tools.takeover.virtualservers import (
    IpvsConnection,
    VirtualServer,
    read_connections,
    read_servers,
    read_sources,
)

_SOCKETS = ("tcp", "tcp6", "udp", "udp6")
_LOCAL_TABLE = 255  # RT_TABLE_LOCAL
_LOOPBACK = 1  # index of lo
_HOST_BITS = {family: family.size * 8 for family in FAMILIES}


#: The addresses of kube-proxy's device, None without the device; and all others of this host.
HostAddresses = tuple[tuple[bytes, ...] | None, frozenset[bytes]]
NO_ADDRESSES: HostAddresses = (None, frozenset())


def all_servers() -> list[VirtualServer]:
    """Return all virtual servers, those of other software included. Raises DataplaneError."""
    return read_servers(_read("ip_vs"))


def connections() -> list[IpvsConnection]:
    """Return all connections through virtual servers. Raises DataplaneError."""
    return read_connections(_read("ip_vs_conn"))


def own_sources() -> set[bytes]:
    """Return the source addresses of this host's open connections. Raises DataplaneError."""
    return read_sources(*(_read(name) for name in _SOCKETS))


def _read(name: str) -> str:
    """Return a file of this network namespace, "" where there is none."""
    path = Path("/proc/net") / name
    try:
        return path.read_text("ascii", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise DataplaneError(f"cannot read {path}: {reason_of(error)}") from error


@contextmanager
def _device() -> Iterator[tuple[IPRoute, int]]:
    """Give an rtnetlink socket and the index of kube-proxy's device, 0 without the device."""
    with IPRoute() as ip:
        yield ip, next(iter(ip.link_lookup(ifname=IPVS_DEVICE)), 0)


@contextmanager
def _unless_gone(what: str, *gone: int) -> Iterator[None]:
    """Ignore errors that say that the object is `gone`. Raises DataplaneError for others."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in gone:
            raise DataplaneError(f"{what}: {reason_of(error)}") from error


def host_addresses() -> HostAddresses:
    """Return the addresses of this host."""
    bound, others = list[bytes](), set[bytes]()
    with _device() as (ip, device):
        for message in ip.get_addr():
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            is_bound = message["index"] == device
            (bound.append if is_bound else others.add)(parse_address(text))
    return tuple(bound) if device else None, frozenset(others)


def delete_servers(servers: Iterable[VirtualServer]) -> None:
    """
    Delete virtual servers; those that are gone are skipped. Raises DataplaneError.

    With net.ipv4.vs.expire_nodest_conn, which kube-proxy sets, the kernel also forgets their
    connections, in conntrack, too: it translates the next packet of an idle UDP flow again.
    """
    every = list(servers)
    if not every:  # a kernel without IPVS refuses the socket
        return
    with IPVS() as ipvs:
        for server in every:
            service = IPVSService(
                af=int(server.family),
                addr=format_address(server.address),
                port=server.port,
                protocol=int(server.protocol),
            )
            with _unless_gone(f"IPVS keeps {server}", 2, 3):  # ENOENT, ESRCH
                ipvs.service("del", service)


def prefer_own_source(bound: Iterable[bytes]) -> None:
    """
    Let this host's new connections to bound addresses come from the node's own address.

    While an address is local, the kernel also sends from it, so a connection would break with it.
    Give its local route another source. Where the kernel refuses that, the drain waits until such
    connections end.
    """
    with _device() as (ip, device):
        sources = {family: _node_address(ip, family) for family in FAMILIES}
        for address in bound if device else ():
            if source := sources[family_of(address)]:
                with suppress(NetlinkError):
                    _name_source(ip, address, device, source)


def unbind(addresses: Iterable[bytes]) -> None:
    """
    Remove addresses from kube-proxy's device; those that are gone are skipped.

    Raises DataplaneError.
    """
    with _device() as (ip, device):
        for address in addresses if device else ():
            family, text = family_of(address), format_address(address)
            where = {"index": device, "family": int(family), "prefixlen": _HOST_BITS[family]}
            with _unless_gone(f"cannot remove {text}", 2, 19, 99):  # ENOENT, ENODEV, EADDRNOTAVAIL
                ip.addr("del", address=text, **where)
            with suppress(NetlinkError):  # the kernel removed its own route with the address
                ip.route("del", **_local_route(address, _interface(family, device)))


def delete_device() -> None:
    """
    Delete kube-proxy's device with all its addresses; do nothing where it is gone.

    Raises DataplaneError.
    """
    with _device() as (ip, device), _unless_gone(f"cannot delete {IPVS_DEVICE}"):
        if device:
            ip.link("del", index=device)


def _name_source(ip: Any, address: bytes, device: int, source: str) -> None:
    """
    Give the local route to an address another source.

    For IPv6 the kernel's own route takes precedence and cannot be changed. So delete it once there
    is another, on the loopback interface, because kube-proxy's device is not up.
    """
    family = family_of(address)
    ip.route("replace", **_local_route(address, _interface(family, device)), prefsrc=source)
    if family is Family.IPV6:
        ip.route("del", **_local_route(address, device))


def _local_route(address: bytes, interface: int) -> dict[str, Any]:
    family = family_of(address)
    route: dict[str, Any] = {
        "family": int(family),
        "dst": f"{format_address(address)}/{_HOST_BITS[family]}",
        "type": "local",
        "table": _LOCAL_TABLE,
        "oif": interface,
    }
    return {**route, "scope": "host"} if family is Family.IPV4 else route


def _interface(family: Family, device: int) -> int:
    return device if family is Family.IPV4 else _LOOPBACK


def _node_address(ip: Any, family: Family) -> str:
    """Return the source address of the default route, "" without one."""
    far = "192.0.2.1" if family is Family.IPV4 else "2001:db8::1"
    try:
        for route in ip.route("get", family=int(family), dst=far):
            return str(route.get_attr("RTA_PREFSRC") or "")
    except NetlinkError:
        pass
    return ""
