"""
The addresses of this network namespace, followed as they come and go.

The kernel reports each change over rtnetlink; when reports were lost, all addresses are listed
again. pyroute2's AsyncIPRoute would need 9 to 13 MB more memory, as importing any part of pyroute2
imports all of it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator
from typing import Self

from nfproxy.errors import DataplaneError
from nfproxy.host.addresses import Addresses, by_family, list_addresses
from nfproxy.netlink.rtnetlink import (
    ADDRESS_GROUPS,
    NETLINK_ROUTE,
    Assigned,
    address_changes,
)
from nfproxy.netlink.sockets import NetlinkSocket, open_socket

log = logging.getLogger(__name__)

_RECEIVE = 1 << 16  # more than the kernel puts into one buffer


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
        self._current = by_family(self._assigned)

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
        found = by_family(self._assigned)
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
        return list_addresses(self._netlink)
