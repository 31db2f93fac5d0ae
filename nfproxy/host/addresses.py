"""
The addresses of this network namespace, followed as they come and go, and its IP families.

The kernel reports each change over rtnetlink; when reports were lost, all addresses are listed
again. pyroute2's AsyncIPRoute would need 9 to 13 MB more memory, as importing any part of pyroute2
imports all of it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Self

from nfproxy.config.addresses import is_loopback
from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import FAMILIES, Family, Prefix
from nfproxy.netlink.rtnetlink import (
    ADDRESS_GROUPS,
    EVERY_ADDRESS,
    GET_ADDRESSES,
    NETLINK_ROUTE,
    Assigned,
    address_changes,
    listed_address,
)
from nfproxy.netlink.sockets import NetlinkSocket, open_socket

log = logging.getLogger(__name__)

#: Packed addresses by family; both families are always there.
Addresses = Mapping[Family, frozenset[bytes]]

_RECEIVE = 1 << 16  # more than the kernel puts into one buffer


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
    with closing(LocalAddresses()) as addresses:
        return addresses.current


def own_addresses() -> frozenset[bytes]:
    """Return the addresses that :func:`every` selects of those now. Raises DataplaneError."""
    return every(local_addresses())


def every(addresses: Addresses) -> frozenset[bytes]:
    """Return the addresses of both families that another machine may know: no link-local ones."""
    found = (address for of_family in addresses.values() for address in of_family)
    return frozenset(a for a in found if not (a[0] == 0xFE and a[1] & 0xC0 == 0x80))


class LocalAddresses:
    """
    The addresses on all interfaces of the network namespace it is made in, loopback included.

    ::

        async with LocalAddresses() as addresses:
            async for current in addresses.changes():
                ...

    An IPv6 address is left out while it is tentative or found to be a duplicate, as no socket can
    be bound to it. A deprecated address stays: packets still reach it. As in kube-proxy, it makes
    no difference whether an interface is up. Belongs to one event loop; `current` may be read by
    any thread.
    """

    def __init__(self) -> None:
        """Listen for changes, then list the addresses. Raises DataplaneError."""
        # In this order: a change between the two is reported twice, not lost.
        self._listening = open_socket(NETLINK_ROUTE, groups=ADDRESS_GROUPS, blocking=False)
        self._readers: set[asyncio.Event] = set()
        self._lost = False
        try:
            self._netlink = NetlinkSocket(NETLINK_ROUTE)
        except BaseException:
            self._listening.close()
            raise
        try:
            self._assigned = self._list()
        except BaseException:
            self.close()
            raise
        self._current = _by_family(self._assigned)

    @property
    def current(self) -> Addresses:
        """The present addresses; never changed in place."""
        return self._current

    async def __aenter__(self) -> Self:
        """Follow changes from now on, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._listening.fileno(), self._on_readable)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop following and close."""
        asyncio.get_running_loop().remove_reader(self._listening.fileno())
        self.close()

    def close(self) -> None:
        """Close, if it was never entered as a context manager. Idempotent."""
        self._listening.close()
        self._netlink.close()

    async def changes(self) -> AsyncIterator[Addresses]:
        """Yield the addresses at once, then after each change; of several changes the latest."""
        changed = asyncio.Event()
        changed.set()
        self._readers.add(changed)
        seen: Addresses = {}
        try:
            while True:
                await changed.wait()
                changed.clear()
                if self._current != seen:
                    seen = self._current
                    yield seen
        finally:
            self._readers.discard(changed)

    def _on_readable(self) -> None:
        self._read_changes()
        if self._lost:
            self._list_again()
        found = _by_family(self._assigned)
        if found != self._current:
            self._current = found
            for reader in self._readers:
                reader.set()

    def _read_changes(self) -> None:
        """Apply the changes that have been reported, in order."""
        while True:
            try:
                data = self._listening.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost = True
                continue
            try:
                for assigned, is_usable in address_changes(data):
                    (self._assigned.add if is_usable else self._assigned.discard)(assigned)
            except DataplaneError:
                self._lost = True  # as if the kernel had dropped what cannot be read

    def _list_again(self) -> None:
        try:
            self._assigned = self._list()
        except DataplaneError as error:
            log.warning("%s; nfproxy lists them again at their next change", error)
        else:
            self._lost = False

    def _list(self) -> set[Assigned]:
        """Return every address that can be used now, of both families. Raises DataplaneError."""
        listed = self._netlink.dump(GET_ADDRESSES, EVERY_ADDRESS, "this node's addresses")
        return {found for data in listed if (found := listed_address(data)) is not None}


def _by_family(assigned: Iterable[Assigned]) -> Addresses:
    every = tuple(assigned)
    return {
        family: frozenset(one.address for one in every if one.family is family)
        for family in FAMILIES
    }
