"""
The addresses of this network namespace, followed as they come and go.

The kernel announces each change over rtnetlink; where announcements were lost, the table is read
again. A socket and some forty lines of decoding rather than pyroute2's AsyncIPRoute, which
needs 9 to 13 MB more memory: importing any part of pyroute2 imports all of it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Self

from nfproxy.errors import DataplaneError
from nfproxy.host import rtnetlink
from nfproxy.host.rtnetlink import Assigned
from nfproxy.model.addresses import FAMILIES, Family, Prefix

log = logging.getLogger(__name__)

#: Packed addresses by family; both families are always there.
Addresses = Mapping[Family, frozenset[bytes]]


def within(addresses: Addresses, prefixes: Mapping[Family, tuple[Prefix, ...] | None]) -> Addresses:
    """
    Return the addresses that lie in the prefixes of their family, all where it has none.

    With `NodeConfig.node_port_prefixes` this is what ``nodePortAddresses`` selects. Loopback
    addresses stay: node ports are never accepted there, health checks of Services are.
    """
    return {family: _within(addresses[family], prefixes.get(family)) for family in FAMILIES}


def _within(found: frozenset[bytes], prefixes: tuple[Prefix, ...] | None) -> frozenset[bytes]:
    if prefixes is None:
        return found
    return frozenset(a for a in found if any(a in prefix for prefix in prefixes))


class LocalAddresses:
    """
    The addresses on all interfaces of the network namespace it is made in, loopback included.

    ::

        async with LocalAddresses() as addresses:
            async for current in addresses.changes():
                ...

    An IPv6 address is left out while it is tentative or found to be a duplicate: nothing can be
    bound to it. A deprecated one is still reached, and stays. Whether an interface is up makes no
    difference, as in kube-proxy.
    """

    def __init__(self) -> None:
        """Listen to changes, then read what there is. Raises DataplaneError."""
        self._listening = rtnetlink.open_socket(listening=True)
        self._asking = rtnetlink.open_socket(listening=False)
        self._readers: set[asyncio.Event] = set()
        self._lost = False
        try:
            self._assigned = rtnetlink.read_all(self._asking)
        except BaseException:
            self.close()
            raise
        self._current = _by_family(self._assigned)

    @property
    def current(self) -> Addresses:
        """The addresses by now; never changed in place."""
        return self._current

    async def __aenter__(self) -> Self:
        """Follow changes from now on, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._listening.fileno(), self._on_readable)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop following and close."""
        asyncio.get_running_loop().remove_reader(self._listening.fileno())
        self.close()

    def close(self) -> None:
        """Close; for who never followed. Idempotent."""
        self._listening.close()
        self._asking.close()

    async def changes(self) -> AsyncIterator[Addresses]:
        """Yield the addresses at once, then after each change; the latest only, if several came."""
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
        self._take_in()
        if self._lost:
            self._read_again()
        found = _by_family(self._assigned)
        if found != self._current:
            self._current = found
            for reader in self._readers:
                reader.set()

    def _take_in(self) -> None:
        """Take in the announcements that wait; in the end each address's last one counts."""
        while True:
            try:
                data = self._listening.recv(rtnetlink.RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost = True
                continue
            for assigned, usable in rtnetlink.read_changes(data):
                (self._assigned.add if usable else self._assigned.discard)(assigned)

    def _read_again(self) -> None:
        try:
            self._assigned = rtnetlink.read_all(self._asking)
        except DataplaneError as error:
            log.warning("%s; trying again when they change next", error)
        else:
            self._lost = False


def _by_family(assigned: Iterable[Assigned]) -> Addresses:
    every = tuple(assigned)
    return {
        family: frozenset(one.address for one in every if one.family is family)
        for family in FAMILIES
    }
