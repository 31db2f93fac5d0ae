"""The addresses of this network namespace, and its IP families."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from nfproxy.config.addresses import is_loopback
from nfproxy.model.addresses import FAMILIES, Family, Prefix
from nfproxy.netlink.rtnetlink import (
    EVERY_ADDRESS,
    GET_ADDRESSES,
    NETLINK_ROUTE,
    Assigned,
    listed_address,
)
from nfproxy.netlink.sockets import NetlinkSocket

#: Packed addresses by family; both families are always there.
Addresses = Mapping[Family, frozenset[bytes]]


def families_of_host(proc: Path = Path("/proc")) -> tuple[Family, ...]:
    """Return the families that the kernel has: IPv4, and IPv6 whether it is switched on or off."""
    return FAMILIES if (proc / "net/if_inet6").exists() else (Family.IPV4,)


def enabled_families(proc: Path = Path("/proc")) -> tuple[Family, ...]:
    """Return the families in use now: IPv6 is not while it is switched off on all interfaces."""
    addresses, switch = proc / "net/if_inet6", proc / "sys/net/ipv6/conf/all/disable_ipv6"
    if not addresses.exists():
        return (Family.IPV4,)
    is_off = switch.exists() and switch.read_text("ascii").strip() == "1"
    # An interface may have a switch of its own.
    return (Family.IPV4,) if is_off and not addresses.read_text("ascii").strip() else FAMILIES


def within(addresses: Addresses, prefixes: Mapping[Family, tuple[Prefix, ...] | None]) -> Addresses:
    """
    Return the addresses that lie in the prefixes of their family; all if it has None.

    With `NodeConfig.node_port_prefixes` this is what ``nodePortAddresses`` selects, but for the
    loopback addresses that it names: see :func:`loopback_of`.
    """
    return {family: _within(addresses[family], prefixes.get(family)) for family in FAMILIES}


def loopback_of(addresses: Addresses, families: Collection[Family]) -> Addresses:
    """Return the loopback addresses of these families, and none of others."""
    return {
        family: frozenset(filter(is_loopback, addresses[family] if family in families else ()))
        for family in FAMILIES
    }


def _within(found: frozenset[bytes], prefixes: tuple[Prefix, ...] | None) -> frozenset[bytes]:
    if prefixes is None:
        return found
    return frozenset(a for a in found if any(a in prefix for prefix in prefixes))


def local_addresses() -> Addresses:
    """Return the addresses on all interfaces now. Raises DataplaneError."""
    with closing(NetlinkSocket(NETLINK_ROUTE)) as netlink:
        return by_family(list_addresses(netlink))


def list_addresses(netlink: NetlinkSocket) -> set[Assigned]:
    """Return every address that can be used now, of both families. Raises DataplaneError."""
    listed = netlink.dump(GET_ADDRESSES, EVERY_ADDRESS, "this node's addresses")
    return {found for data in listed if (found := listed_address(data)) is not None}


def by_family(assigned: Iterable[Assigned]) -> Addresses:
    """Return the addresses of each family."""
    every = tuple(assigned)
    return {
        family: frozenset(one.address for one in every if one.family is family)
        for family in FAMILIES
    }


def own_addresses() -> frozenset[bytes]:
    """Return the addresses that :func:`every` selects of those now. Raises DataplaneError."""
    return every(local_addresses())


def every(addresses: Addresses) -> frozenset[bytes]:
    """Return the addresses of both families that another machine may know: no link-local ones."""
    found = (address for of_family in addresses.values() for address in of_family)
    return frozenset(a for a in found if not (a[0] == 0xFE and a[1] & 0xC0 == 0x80))
