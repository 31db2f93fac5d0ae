"""The nf_tables of this network namespace, as the reconciler sees them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

from nfproxy.clock import monotonic_s
from nfproxy.dataplane import libnftables
from nfproxy.dataplane.deletions import CountedDeletions
from nfproxy.dataplane.notifications import ForeignChanges, NameElements, without_names
from nfproxy.dataplane.strangers import Strangers
from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import Family
from nfproxy.netlink.elements import (
    counted_elements,
    element_requests,
    join_ranges,
    listed_elements,
    raw_elements,
)
from nfproxy.netlink.nftables import ChainRow, Request, SetRow, TableRow, generation
from nfproxy.netlink.sockets import (
    ABSENT,
    NftSocket,
    open_script_socket,
)
from nfproxy.nft.schema import COUNTED, SCHEMAS, TABLE, Value
from nfproxy.plan.frontendnames import FrontendNames
from nfproxy.reconcile.transition import Operation

log = logging.getLogger(__name__)

#: A wait of so many seconds is logged, at most once in this time.
_LONG_S, _LOG_EVERY_S = 1.0, 60.0

# How long a child for scripts waits for the next one. To start one takes 16 ms of processor time,
# and while it waits it has 10 MB of memory.
_LOADER_IDLE_S = 10.0

# What one thread may compute before one that comes back from the kernel goes on.
_TURN_S = 0.0002


class Counters(NamedTuple):
    """
    (key, packets) of the elements of a map that have counted packets.

    `generation` is that of the ruleset, see `nftables.generation`; None if the map is empty or
    missing.
    """

    generation: int | None
    counted: Sequence[tuple[bytes, int]]


class TurnWait:
    """
    Measures a wait for transactions of other processes: a context manager around an empty one.

    The kernel makes one transaction at a time. How long one of another process takes is not ours to
    decide, but it must not look as if nfproxy were stuck, or slow. `waited` receives the seconds of
    each wait, in the thread that waited.
    """

    def __init__(self) -> None:
        """Start outside a wait."""
        self._since_s: float | None = None
        self._logged_s = -_LOG_EVERY_S
        self.waited: Callable[[float], object] = lambda _: None

    @property
    def waiting_s(self) -> float:
        """How long a thread has been waiting now; 0 if none does. Any thread may ask."""
        since_s = self._since_s
        return 0.0 if since_s is None else monotonic_s() - since_s

    def __enter__(self) -> None:
        """A wait begins."""
        self._since_s = monotonic_s()

    def __exit__(self, *_: object) -> None:
        """A wait ends."""
        waited_s, self._since_s, now_s = self.waiting_s, None, monotonic_s()
        self.waited(waited_s)
        if waited_s >= _LONG_S and now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now_s
            log.warning(
                "waited %.1f s for another process's transaction on nf_tables: changes are late by "
                "that; `nft monitor` shows who changes what",
                waited_s,
            )


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let a thread that comes back from the kernel wait less for Python's lock."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class _Loader:
    """
    A child that waits for scripts, and a socket of ours for it.

    While the socket is open, no other socket has its port. The port of one of libnftables' own
    would be the child's process id, which a process in another pid namespace may have, or a user
    may take before.
    """

    def __init__(self, changes: ForeignChanges | None) -> None:
        """Open and start; what the scripts will change is none of the foreign `changes`."""
        with ExitStack() as opened:
            netlink = opened.enter_context(open_script_socket())
            if changes is not None:
                opened.enter_context(changes.ours_from(netlink.getsockname()[0]))
            self.child = opened.enter_context(closing(libnftables.Child(netlink=netlink)))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """End the child, then close the socket. Idempotent."""
        self._opened.close()


class Kernel:
    """
    Commits transactions and reads tables, by netlink and libnftables.

    Belongs to the network namespace that it is made in. One thread at a time. `table` is the name
    of the tables whose elements, sets and chains are read and written.
    """

    def __init__(self, netlink: NftSocket | None = None) -> None:
        """Use a netlink socket and own it; by default a new one of this network namespace."""
        self._netlink = netlink or NftSocket()
        self.table = TABLE
        self.turn_wait = TurnWait()
        self._strangers = Strangers(self._netlink)
        self._foreign_changes: ForeignChanges | None = None
        self._names: FrontendNames | None = None
        self._loader: _Loader | None = None
        self._loader_used_s = 0.0
        self._sent: Future[None] | None = None  # the transaction that the kernel works on

    def close(self) -> None:
        """Close the sockets; the tables stay."""
        self._end_loader()
        self._netlink.close()
        if self._foreign_changes is not None:
            self._foreign_changes.close()

    def foreign_changes(self, name_elements: NameElements = without_names) -> ForeignChanges:
        """
        Return what reports other processes' changes from now on. Raises DataplaneError.

        `name_elements` says in words what elements are.
        """
        if self._foreign_changes is None:
            self._end_loader()
            self._foreign_changes = ForeignChanges(self._netlink.port, name_elements=name_elements)
        return self._foreign_changes

    @property
    def transaction_limit(self) -> int | None:
        """The most bytes that one transaction may have, None for no limit."""
        return self._netlink.send_limit

    def use_names(self, names: FrontendNames) -> None:
        """Write frontends with these names, and compare those that are there."""
        self._names = names

    def expect_load(self) -> None:
        """Start what the next `load` needs, so that it is ready when the tables have been read."""
        self._loader_used_s = monotonic_s()
        if self._loader is not None and not self._loader.child.is_usable:
            self._end_loader()
        if self._loader is None:
            self._loader = _Loader(self._foreign_changes)

    def load(self, text: str) -> None:
        """Run an nft script; see :func:`nfproxy.dataplane.libnftables.load_text`."""
        self._wait_for_sent()
        self.expect_load()
        if (loader := self._loader) is not None:
            with self.turn_wait:
                self._netlink.commit(())
            try:
                loader.child.run(text)
            finally:
                self._loader_used_s = monotonic_s()
                if not loader.child.is_usable:
                    self._end_loader()

    @property
    def rest_at(self) -> float | None:
        """The time of the monotonic clock at which `rest` has something to do, None if never."""
        return self._loader_used_s + _LOADER_IDLE_S if self._loader is not None else None

    def rest(self) -> None:
        """End what no load has used for long."""
        if (rest_at := self.rest_at) is not None and rest_at <= monotonic_s():
            self._end_loader()

    def _end_loader(self) -> None:
        if self._loader is not None:
            self._loader.close()
            self._loader = None

    def commit(self, operations: Sequence[Operation]) -> None:
        """Commit element operations as one transaction. Raises TransactionError."""
        with self.turn_wait:
            self._netlink.commit(())
        comment_of = self._names.comment if self._names is not None else None
        self._netlink.commit(element_requests(operations, comment_of, self.table))

    def commit_all(self, transactions: Iterable[Sequence[Operation]]) -> None:
        """
        Commit several; each is made and encoded while the kernel works on the one before.

        What makes them may use `load` of this Kernel, and nothing else. Raises TransactionError;
        then the first ones are committed.
        """
        comment_of = self._names.comment if self._names is not None else None

        def send(requests: Sequence[Request]) -> None:
            with self.turn_wait:
                self._netlink.commit(())
            self._netlink.commit(requests)

        with ThreadPoolExecutor(1, "commit") as sender, _short_turns():
            try:
                for operations in transactions:
                    requests = element_requests(operations, comment_of, self.table)
                    self._wait_for_sent()
                    self._sent = sender.submit(send, requests)
                    del operations, requests  # they need no memory while the next are made
                self._wait_for_sent()
            finally:
                self._sent = None

    def _wait_for_sent(self) -> None:
        """Wait until the kernel has committed what `commit_all` sent last. Raises its error."""
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.result()

    def table_row(self, family: Family, table: str) -> TableRow | None:
        """Return a table of a family, None if there is none."""
        return next((row for row in self._netlink.tables(family) if row.name == table), None)

    def chains(self, family: Family, table: str = "") -> list[ChainRow]:
        """Return the chains of the family's table, or of another one; none without a table."""
        return self._netlink.chains(family, table or self.table)

    def elements(self, family: Family, name: str) -> Iterator[tuple[bytes, Value]]:
        """
        Yield the elements of a set or map; none if there is no such set.

        The keys of interval sets are ranges, as in Operation.
        """
        if self._names is not None and name in COUNTED:
            return self._named_elements(family, name, self._names)
        raw = (element for data in self._list(family, name) for element in raw_elements(data))
        return join_ranges(raw, SCHEMAS[name])

    def _named_elements(
        self, family: Family, name: str, names: FrontendNames
    ) -> Iterator[tuple[bytes, Value]]:
        """Yield the elements of a map of frontends; `names` gets those that are there."""
        for data in self._list(family, name):
            for listed in listed_elements(data):
                names.found(family, name, listed.key, listed.comment)
                yield listed.key, listed.value

    def find(
        self, family: Family, name: str, keys: Iterable[bytes]
    ) -> Iterator[tuple[bytes, Value]]:
        """Yield those elements of a set or map that have one of some keys; not for intervals."""
        found = self._netlink.find_elements(family, name, list(keys))
        return ((one.key, one.value) for one in found)

    def counters(self, family: Family, name: str) -> Counters:
        """Return what a map's elements have counted; nothing without the map."""
        found = self._list(family, name)
        counted = [pair for data in found for pair in counted_elements(data)]
        return Counters(generation(found[0]) if found else None, counted)

    def named_counters(self, family: Family) -> dict[str, int]:
        """Return how many packets each named counter of the family's table has counted."""
        rows = self._netlink.objects(family, TABLE)
        return {row.name: row.packets for row in rows if row.packets is not None}

    def remove_strangers(self, families: Iterable[Family]) -> None:
        """Delete what another process has put into the tables; see :mod:`.strangers`."""
        self._strangers.remove(families)

    def deletions(self) -> CountedDeletions:
        """Return what keeps the counters of elements that we delete from now on; to be closed."""
        return CountedDeletions(self._netlink.port)

    def set_names(self, family: Family) -> list[str]:
        """Return the names of the sets and maps of the family's table; none without a table."""
        return [row.name for row in self.sets(family)]

    def sets(self, family: Family) -> list[SetRow]:
        """Return the sets and maps of the family's table; none without a table."""
        try:
            return self._netlink.sets(family, self.table)
        except DataplaneError as error:
            if error.code != ABSENT:
                raise
            return []

    def _list(self, family: Family, name: str) -> list[bytes]:
        """Return the messages that list a set; none if there is no such set or table."""
        try:
            return self._netlink.elements(family, self.table, name)
        except DataplaneError as error:
            if error.code != ABSENT:
                raise
            return []
