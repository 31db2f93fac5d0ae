"""
What the kernel reports about commits to nf_tables by other processes.

The kernel sends each commit to a multicast group, message by message. Every message carries the
netlink port of the socket that committed. While a socket is open, no other socket of its network
namespace has its port. So another process's change (``nft flush ruleset`` by a firewall that
reloads, say) differs from our own without reading any table, whatever ids the processes have.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from nfproxy.dataplane.announcements import Alike, attach_filter, buffers, listen
from nfproxy.errors import DataplaneError
from nfproxy.host.processes import starter_of
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.elements import head_of, raw_elements, set_of
from nfproxy.netlink.messages import HEADER, family_of, messages
from nfproxy.netlink.nftables import (
    DELETE_CHAIN,
    DELETE_ELEMENTS,
    DELETE_FLOWTABLE,
    DELETE_OBJECT,
    DELETE_RULE,
    DELETE_SET,
    DELETE_TABLE,
    DESTROY_CHAIN,
    DESTROY_ELEMENTS,
    DESTROY_RULE,
    DESTROY_TABLE,
    NEW_CHAIN,
    NEW_ELEMENTS,
    NEW_FLOWTABLE,
    NEW_GENERATION,
    NEW_OBJECT,
    NEW_RULE,
    NEW_SET,
    NEW_TABLE,
    SUBSYSTEM,
    chain_of,
    changing_process,
    is_about_table,
    is_dormant,
    set_in,
)
from nfproxy.nft.chains import BASE_CHAINS, FIXED_CHAINS, is_our_set
from nfproxy.nft.schema import NAMED_COUNTERS, NEXT_TABLE, OUR_TABLES, SCHEMAS, TABLE
from nfproxy.reconcile.extent import Extent
from nfproxy.text import shown_name

_BUFFERS_AT_ONCE = 64  # then the event loop serves others
_FOREIGN_BUFFER = 8 << 20  # bytes: another proxy's first load fits

_TABLE_BYTES, _NEXT_BYTES = _OUR_BYTES = [name.encode() + b"\0" for name in OUR_TABLES]


class Damage(enum.IntEnum):
    """What a foreign change has done at least; the worst is the greatest."""

    UNKNOWN = 0  # perhaps nothing: the kernel dropped notifications
    ELEMENTS = 1  # elements of sets and maps
    STRUCTURE = 2  # rules, chains, sets or maps
    RULES = 3  # rules that packets to every Service pass are deleted
    BASE_CHAIN = 4  # a base chain is deleted
    TABLE = 5  # a table is deleted or switched off


class ForeignChange(NamedTuple):
    """
    What one or several commits of other processes did to nfproxy's tables.

    `families` are those whose table changed. `what` says what was done (``deleted table ip
    nfproxy``), and `process` by whom (``nft (pid 4711)``, and what started that,
    if it still runs), "" where that is unknown. `program` is
    the process's name alone, for metrics. `extent` is what the repair has to look at. `services`
    are the service ports that it concerned alone, and `frontends` theirs; both are () where it may
    have concerned any.
    """

    damage: Damage
    families: frozenset[Family]
    what: str
    process: str = ""
    program: str = "unknown"
    extent: Extent = Extent(everything=True)
    services: tuple[str, ...] = ()
    frontends: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Process and change, for the log: ``nft (pid 4711) deleted table ip nfproxy``."""
        return f"{self.process} {self.what}".lstrip()

    def followed_by(self, later: ForeignChange) -> ForeignChange:
        """Return both as one change, with the words of the worse; of equals, that of the later."""
        worse, extent = self if self.damage > later.damage else later, Extent()
        extent.include(self.extent)
        extent.include(later.extent)
        services: tuple[str, ...] = ()
        frontends: tuple[str, ...] = ()
        if self.services and later.services:
            services = tuple(dict.fromkeys((*self.services, *later.services)))
            frontends = tuple(dict.fromkeys((*self.frontends, *later.frontends)))
        if len(services) > _MOST_ELEMENTS or len(frontends) > _MOST_ELEMENTS:
            services = frontends = ()
        return worse._replace(
            families=self.families | later.families,
            extent=extent,
            services=services,
            frontends=frontends,
        )


class ChangedElement(NamedTuple):
    """An element that another process added or deleted."""

    family: Family
    set: str
    key: bytes


#: Some elements in words, "" where these are unknown, and what `ForeignChange` has of them.
ElementNames = tuple[str, tuple[str, ...], tuple[str, ...]]

NameElements = Callable[[Sequence[ChangedElement]], ElementNames]


def without_names(_: Sequence[ChangedElement]) -> ElementNames:
    """Return no names."""
    return "", (), ()


_MOST_ELEMENTS = 64  # of one commit that are named

#: What is reported when the kernel dropped notifications: the tables must be read to know more.
_LOST = ForeignChange(
    Damage.UNKNOWN,
    frozenset(FAMILIES),
    f"the kernel dropped announcements of changes, perhaps of table ip {TABLE} or ip6 {TABLE}",
)


class ForeignChanges:
    """
    Reports changes to nfproxy's tables that this process did not make.

    Watches the network namespace that it is made in. A socket filter keeps the notifications of our
    own commits from being copied at all. To make them takes the kernel less than 2 of 52 ms for
    22,000 elements: it would not pay to leave the group meanwhile. One thread at a time reads;
    `ours_from` may be called by another thread.
    """

    def __init__(
        self,
        own_port: int,
        buffer: int = _FOREIGN_BUFFER,
        name_elements: NameElements = without_names,
    ) -> None:
        """
        Listen. `own_port` is the netlink port that commits elements. Raises DataplaneError.

        `name_elements` is called by `read`.
        """
        self._own_port = own_port
        self._name_elements = name_elements
        self._commit = _ForeignCommit()  # whose notifications are being read
        self._socket = listen(own_port, ours=False, buffer=buffer)

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when there is something to `read`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    @contextmanager
    def ours_from(self, port: int) -> Iterator[None]:
        """
        Take changes from another netlink port for our own meanwhile; our socket there stays open.

        The kernel drops their notifications: a program that is loaded would fill the buffer, and
        then changes of other processes are lost. Raises OSError.
        """
        attach_filter(self._socket, (self._own_port, port), ours=False)
        try:
            yield
        finally:
            attach_filter(self._socket, (self._own_port,), ours=False)

    def read(self) -> ForeignChange | None:
        """
        Return what other processes did to our tables since the last call, None for nothing.

        If the kernel had to drop notifications, one of them may have been about our tables, so
        that counts. There may be more to read afterwards.
        """
        found: ForeignChange | None = None
        for data in islice(buffers(self._socket), _BUFFERS_AT_ONCE):
            for change in self._changes(data):
                found = change if found is None else found.followed_by(change)
        return found

    def _changes(self, data: bytes | None) -> list[ForeignChange]:
        """Return the changes in a buffer; what cannot be read counts as dropped."""
        try:
            return [_LOST] if data is None else list(self._read(data))
        except DataplaneError:
            self._commit = _ForeignCommit()
            return [_LOST]

    def _read(self, data: bytes) -> Iterator[ForeignChange]:
        # Another proxy's large tables must not keep us busy: decode a buffer only if it holds our
        # table's name, or may hold the end of a commit that changed our table.
        if not self._commit.families and not any(name in data for name in _OUR_BYTES):
            return
        if self._commit.take_alike(data):
            return
        for kind, _, _, start, end, _ in messages(data):
            if kind >> 8 != SUBSYSTEM:
                continue
            # The last message of each commit names the process that made it.
            if kind & 0xFF == NEW_GENERATION:
                if self._commit.families:
                    process = changing_process(data, start, end)
                    yield self._commit.change(*process, self._name_elements)
                    self._commit = _ForeignCommit()
            elif self._commit.knows(kind & 0xFF, data, start):
                continue
            elif family_of(data, start) in FAMILIES:
                if is_about_table(_TABLE_BYTES, data, start, end):
                    self._commit.add(kind & 0xFF, data, start, end)
                elif kind & 0xFF in _TABLE_GOES and is_about_table(_NEXT_BYTES, data, start, end):
                    self._commit.add_second(Family(data[start]))


_TABLE_GOES = (DELETE_TABLE, DESTROY_TABLE)
_ELEMENTS = (NEW_ELEMENTS, DELETE_ELEMENTS, DESTROY_ELEMENTS)


class _ForeignCommit:
    """What one commit of another process does to our tables, message by message."""

    def __init__(self) -> None:
        self.families: set[Family] = set()
        self._damage = Damage.ELEMENTS
        self._extent = Extent()
        self._what: dict[str, set[Family]] = {}  # by what was done: to which tables
        self._elements: dict[bool, list[ChangedElement]] = {True: [], False: []}  # by: were added
        self._known_head = b""  # of messages about a set all of whose elements count as touched
        self._alike: tuple[Family, str, Alike] | None = None  # what the last message was about

    def take_alike(self, data: bytes) -> bool:
        """Take a buffer if all of it is like the last message, but for the keys."""
        if self._alike is None:
            return False
        family, name, alike = self._alike
        if (keys := alike.keys(data)) is None:
            return False
        self._extent.add_elements(family, name, keys)
        return True

    def knows(self, kind: int, data: bytes, start: int) -> bool:
        """Return whether a message says nothing new: a set with 20,000 elements was flushed."""
        head = self._known_head
        return bool(head) and kind in _ELEMENTS and data.startswith(head, start)

    def add(self, kind: int, data: bytes, start: int, end: int) -> None:
        """Take a message about one of our tables."""
        family = Family(data[start])
        self.families.add(family)
        self._extend(kind, data, start, end)
        if kind in _ELEMENTS:
            self._add_elements(family, self._elements[kind == NEW_ELEMENTS], data[start:end])
            return
        damage, what = Damage.STRUCTURE, ""
        if kind in _TABLE_GOES:
            damage, what = Damage.TABLE, "deleted"
        elif kind == NEW_TABLE and is_dormant(data, start, end):
            damage, what = Damage.TABLE, "switched off (flag dormant)"
        elif kind in (DELETE_CHAIN, DESTROY_CHAIN):
            name = chain_of(kind, data, start, end)
            if name in BASE_CHAINS:
                damage, what = Damage.BASE_CHAIN, f"deleted base chain {name} of"
        elif kind in (DELETE_RULE, DESTROY_RULE):
            name = chain_of(kind, data, start, end)
            if name in FIXED_CHAINS:
                damage, what = Damage.RULES, f"deleted rules of chain {name} in"
        if damage > self._damage:
            self._damage, self._what = damage, {}
        if damage == self._damage:
            self._what.setdefault(what or "changed", set()).add(family)

    def add_second(self, family: Family) -> None:
        """Take the deletion of a second table: it may be the one that serves, see `nft.stages`."""
        self.families.add(family)
        self._extent.everything = True
        self._damage = max(self._damage, Damage.STRUCTURE)
        if self._damage is Damage.STRUCTURE:
            self._what = {f"deleted table {NEXT_TABLE} beside": {family}}

    def _add_elements(self, family: Family, known: list[ChangedElement], payload: bytes) -> None:
        if len(known) < _MOST_ELEMENTS:
            name = set_of(payload)
            keys = islice(raw_elements(payload), _MOST_ELEMENTS - len(known))
            known += [ChangedElement(family, name, key) for key, *_ in keys]

    def _extend(self, kind: int, data: bytes, start: int, end: int) -> None:
        """Take what a message touches; a kind that is not known may have touched everything."""
        extent = self._extent
        if kind in _ELEMENTS:
            payload, family = data[start:end], Family(data[start])
            name = set_of(payload)
            if name in SCHEMAS:
                extent.add_elements(family, name, (key for key, *_ in raw_elements(payload)))
                if extent.has_all_of(family, name):
                    self._known_head = head_of(payload)
                # Those that are named are decoded one by one.
                if len(self._elements[kind == NEW_ELEMENTS]) == _MOST_ELEMENTS and (
                    alike := Alike.of(data[start - HEADER.size : end])
                ):
                    self._alike = family, name, alike
        elif kind in (NEW_RULE, DELETE_RULE, DESTROY_RULE):
            extent.rules = True
        elif kind in (NEW_CHAIN, DELETE_CHAIN, DESTROY_CHAIN):
            extent.rules = extent.chains = True
        elif kind in _TABLE_GOES:
            extent.add_table(Family(data[start]))
        elif kind == NEW_TABLE:  # a new one is empty, and another one has other flags now
            extent.rules = True
        elif kind == DELETE_SET:
            extent.rules = True
            if (name := set_in(data, start, end)) in SCHEMAS:
                extent.add_set(Family(data[start]), name)
        elif kind == NEW_SET:
            extent.everything |= is_our_set(set_in(data, start, end))
        elif kind == DELETE_OBJECT:
            extent.rules |= set_in(data, start, end) in NAMED_COUNTERS
        elif kind not in (NEW_OBJECT, NEW_FLOWTABLE, DELETE_FLOWTABLE):
            extent.everything = True

    def change(self, name: str, pid: int, name_elements: NameElements) -> ForeignChange:
        """Return the change; the commit was made by the process `pid` of this name."""
        # Any process may choose its name. Our own changes never come here, so this is a second one.
        if name.startswith("nfproxy"):
            program, process = "nfproxy", "another nfproxy"
        else:
            program = shown_name(name) if name else "unknown"
            process = program if name else "another process"
        what, tables = next(iter(self._what.items()), ("changed", self.families))
        if self._damage <= Damage.STRUCTURE:
            tables = self.families
        what = f"{what} table {_tables(tables)}"
        services: tuple[str, ...] = ()
        frontends: tuple[str, ...] = ()
        if self._damage is Damage.ELEMENTS:
            words, services, frontends = self._element_changes(name_elements)
            what = words or what
        families = frozenset(self.families)
        starter = starter_of(pid, name)  # while it still runs
        by = f"{process} (pid {pid}{f', started by {starter}' if starter else ''})"
        return ForeignChange(
            self._damage, families, what, by, program, self._extent, services, frontends
        )

    def _element_changes(self, name_elements: NameElements) -> ElementNames:
        """Return what was done to elements in words, "" where these are unknown; and whose."""
        added, deleted = self._elements[True], self._elements[False]
        if deleted and {*added} & {*deleted}:
            verb, some = "changed", deleted  # a deletion and an addition of one key
        else:
            verb, some = ("deleted", deleted) if deleted else ("added", added)
        names, services, frontends = name_elements(some)
        if not names:
            return without_names(some)
        at_least = "at least " if len(some) == _MOST_ELEMENTS else ""
        text = f"{verb} {at_least}{names} in table {_tables(self.families)}"
        if at_least or (added and deleted and verb == "deleted"):
            services = frontends = ()  # there are more
        return text, services, frontends


def _tables(families: Collection[Family]) -> str:
    return " and ".join(f"{family.table} {TABLE}" for family in FAMILIES if family in families)
