"""
The nf_tables of this network namespace, as the reconciler sees it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nfproxy.dataplane import libnftables, wire
from nfproxy.dataplane.deletions import Deletions
from nfproxy.dataplane.netlink import Netlink, NetlinkError
from nfproxy.dataplane.notifications import Notifications
from nfproxy.model.addresses import Family
from nfproxy.netlink.messages import GENERIC_SIZE, attributes, string
from nfproxy.nft import schema
from nfproxy.nft.schema import SCHEMAS, TABLE, Value
from nfproxy.reconcile.transition import Operation

_CHAIN_NAME, _CHAIN_HOOK = 3, 4  # NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK
_TABLE_NAME = 1  # NFTA_TABLE_NAME, and NFTA_CHAIN_TABLE likewise 1


class ChainInfo(NamedTuple):
    """A chain in the kernel; a base chain is attached to a hook."""

    name: str
    base: bool


class Counters(NamedTuple):
    """
    (key, packets) of a map's elements that have counted any.

    `generation` is that of the ruleset, as `wire.generation` has it; None without the map.
    """

    generation: int | None
    counted: Sequence[tuple[bytes, int]]


class Kernel:
    """Commits transactions and reads tables, by netlink and libnftables."""

    def __init__(self, netlink: Netlink | None = None) -> None:
        """Use a netlink socket, which counts as ours; by default one of this network namespace."""
        self._netlink = netlink or Netlink()
        self._notifications: Notifications | None = None

    def close(self) -> None:
        """Close the sockets; what is programmed stays."""
        self._netlink.close()
        if self._notifications is not None:
            self._notifications.close()

    def notifications(self) -> Notifications:
        """Return what tells of others' changes from now on. Raises DataplaneError."""
        if self._notifications is None:
            self._notifications = Notifications(self._netlink.port)
        return self._notifications

    def load(self, text: str) -> None:
        """Run an nft script; see :func:`nfproxy.dataplane.libnftables.load_text`."""
        libnftables.load_text(text, started=self._expect)

    def _expect(self, port: int) -> None:
        if self._notifications is not None:
            self._notifications.expect(port)

    def commit(self, operations: Sequence[Operation]) -> None:
        """Commit element operations as one transaction. Raises TransactionError."""
        if not operations:
            return
        # Chunking decides how many messages there are, so number them afterwards.
        first = self._netlink.reserve(2 * len(operations))
        self._netlink.commit(wire.element_messages(operations, first), first)

    def has_table(self, family: Family, table: str = TABLE) -> bool:
        """Tell whether the family's nfproxy table exists, or another of a name."""
        wanted = table.encode() + b"\0"
        return any(
            data[start:stop] == wanted
            for data in self._netlink.dump(wire.GETTABLE, family)
            for kind, start, stop in attributes(data, 0, len(data))
            if kind == _TABLE_NAME
        )

    def delete_table(self, family: Family, table: str = TABLE) -> bool:
        """Delete the family's nfproxy table, or another of a name; tell whether there was one."""
        if not self.has_table(family, table):
            return False
        self._netlink.request(wire.DELTABLE, family, string(_TABLE_NAME, table))
        return True

    def chains(self, family: Family) -> list[ChainInfo]:
        """Return the chains of the family's table; none without a table."""
        found = []
        for data in self._netlink.dump(wire.GETCHAIN, family):
            values = {k: data[a:b] for k, a, b in attributes(data, 0, len(data))}
            if values.get(_TABLE_NAME, b"").rstrip(b"\0") != TABLE.encode():
                continue
            name = values[_CHAIN_NAME].rstrip(b"\0").decode("ascii", "replace")
            found.append(ChainInfo(name, _CHAIN_HOOK in values))
        return found

    def elements(self, family: Family, name: str) -> Iterator[tuple[bytes, Value]]:
        """
        Yield the elements of a set or map; none if there is no such set.

        The keys of interval sets are ranges, as in Operation.
        """
        try:
            messages = self._netlink.dump(wire.GETSETELEM, family, TABLE, name)
        except NetlinkError as error:
            if error.number == errno.ENOENT:
                return iter(())
            raise
        raw = (e for data in messages for e in wire.raw_elements(data, 0, len(data)))
        return wire.join_ranges(raw, SCHEMAS[name])

    def counters(self, family: Family, name: str) -> Counters:
        """Return what a map's elements have counted; nothing without the map."""
        try:
            messages = self._netlink.dump_whole(wire.GETSETELEM, family, TABLE, name)
        except NetlinkError as error:
            if error.number != errno.ENOENT:
                raise
            messages = []
        generation = wire.generation(messages[0], 0) if messages else None
        return Counters(
            generation,
            [
                pair
                for data in messages
                for pair in wire.counted_elements(data, GENERIC_SIZE, len(data))
            ],
        )

    def deletions(self) -> Deletions:
        """Return what tells what our own deletions had counted, from now on; to be closed."""
        return Deletions(self._netlink.port)

    def affinity_entries(
        self, family: Family, parts: Iterable[bytes]
    ) -> Iterator[tuple[bytes, bytes]]:
        """
        Yield (key, endpoint address) of affinity entries whose message holds one of the parts.

        A pre-selection by plain search, as there may be a million entries: callers check.
        """
        wanted = list(parts)
        try:
            messages = self._netlink.dump(wire.GETSETELEM, family, TABLE, schema.AFFINITY)
        except NetlinkError as error:
            if error.number == errno.ENOENT:
                return
            raise
        for data in messages:
            if any(part in data for part in wanted):
                for key, value, _, _ in wire.raw_elements(data, 0, len(data)):
                    if isinstance(value, bytes):
                        yield key, value
