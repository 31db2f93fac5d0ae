"""
Reads and changes IPVS in this network namespace, and the device kube-ipvs0.

Loads no kernel module: where IPVS is not loaded, nothing can use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

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


class HostAddresses(NamedTuple):
    """The addresses bound to kube-proxy's device, None without the device; and all others."""

    bound: tuple[bytes, ...] | None
    others: frozenset[bytes]


class KernelIpvs:
    """IPVS and kube-proxy's device. All methods raise DataplaneError; any thread may call them."""

    def servers(self) -> list[VirtualServer]:
        """Return all virtual servers, those of other software included."""
        return read_servers(self._read("ip_vs"))

    def connections(self) -> list[IpvsConnection]:
        """Return all connections through virtual servers."""
        return read_connections(self._read("ip_vs_conn"))

    def sources(self) -> set[bytes]:
        """Return the source addresses of this host's open connections."""
        return read_sources(*(self._read(name) for name in _SOCKETS))

    def addresses(self) -> HostAddresses:
        """Return the addresses of this host."""
        from pyroute2 import IPRoute

        with IPRoute() as ip:
            found = ip.link_lookup(ifname=IPVS_DEVICE)
            index = found[0] if found else -1
            bound: list[bytes] = []
            local: set[bytes] = set()
            for message in ip.get_addr():
                text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                packed = parse_address(text)
                if message["index"] == index:
                    bound.append(packed)
                else:
                    local.add(packed)
        return HostAddresses(tuple(bound) if found else None, frozenset(local))

    def delete_servers(self, servers: Iterable[VirtualServer]) -> None:
        """
        Delete virtual servers; those that are gone are skipped.

        With net.ipv4.vs.expire_nodest_conn, which kube-proxy sets, the kernel also forgets their
        connections, in conntrack, too: it translates the next packet of an idle UDP flow again.
        """
        from pyroute2 import IPVS, IPVSService
        from pyroute2.netlink.exceptions import NetlinkError

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
                try:
                    ipvs.service("del", service)
                except NetlinkError as error:
                    if error.code not in (2, 3):  # ENOENT, ESRCH: gone
                        raise DataplaneError(f"IPVS keeps {server}: {reason_of(error)}") from error

    def prefer_own_source(self, bound: Iterable[bytes]) -> None:
        """
        Let this host's new connections to bound addresses come from the node's own address.

        While an address is local, the kernel also sends from it, so a connection would break with
        it. Give its local route another source. Where the kernel refuses that, the drain waits
        until such connections end.
        """
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        with IPRoute() as ip:
            device = next(iter(ip.link_lookup(ifname=IPVS_DEVICE)), 0)
            sources = {family: _node_address(ip, family) for family in FAMILIES}
            for address in bound if device else ():
                if sources[family_of(address)]:
                    with suppress(NetlinkError):
                        _name_source(ip, address, device, sources[family_of(address)])

    def unbind(self, addresses: Iterable[bytes]) -> None:
        """Remove addresses from kube-proxy's device; those that are gone are skipped."""
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        with IPRoute() as ip:
            index = ip.link_lookup(ifname=IPVS_DEVICE)
            for address in addresses if index else ():
                family = family_of(address)
                text = format_address(address)
                try:
                    ip.addr(
                        "del",
                        index=index[0],
                        family=int(family),
                        address=text,
                        prefixlen=_HOST_BITS[family],
                    )
                except NetlinkError as error:
                    if error.code not in (2, 19, 99):  # ENOENT, ENODEV, EADDRNOTAVAIL: gone
                        raise DataplaneError(f"cannot remove {text}: {reason_of(error)}") from error
                with suppress(NetlinkError):  # the kernel removed its own route with the address
                    ip.route("del", **_local_route(address, _interface(family, index[0])))

    def delete_device(self) -> None:
        """Delete kube-proxy's device with all its addresses; do nothing where it is gone."""
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        with IPRoute() as ip:
            for index in ip.link_lookup(ifname=IPVS_DEVICE):
                try:
                    ip.link("del", index=index)
                except NetlinkError as error:
                    raise DataplaneError(
                        f"cannot delete {IPVS_DEVICE}: {reason_of(error)}"
                    ) from error

    def _read(self, name: str) -> str:
        """Return a file of this network namespace, "" where there is none."""
        path = Path("/proc/net") / name
        try:
            return path.read_text("ascii", "replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise DataplaneError(f"cannot read {path}: {reason_of(error)}") from error


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
    from pyroute2.netlink.exceptions import NetlinkError

    far = "192.0.2.1" if family is Family.IPV4 else "2001:db8::1"
    try:
        for route in ip.route("get", family=int(family), dst=far):
            return str(route.get_attr("RTA_PREFSRC") or "")
    except NetlinkError:
        pass
    return ""
