"""
Deletes stale entries from conntrack, so that the flow's next packet finds an endpoint.

Calls block, mostly in the kernel. While a listing is read, other threads run: Python gives up the
interpreter lock for each buffer, that is after some 150 entries.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Generator, Sequence
from contextlib import closing, suppress

import msgspec

from nfproxy.clock import monotonic_s
from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink import conntrack
from nfproxy.netlink.messages import error_number, messages
from nfproxy.netlink.sockets import code_of, open_socket
from nfproxy.plan.flows import CleaningScope, Flows, Judge, Query

_RECEIVE = 1 << 16  # the kernel fills at most 32 KB at a time
_TRIES = 5

#: Up to this many frontends are listed one by one, and the kernel looks through all entries each
#: time (45 ms for 200,000). For more frontends, list all entries of a protocol once (0.9 s for
#: 200,000, reading included).
_FEW = 8

#: Deletions in one system call. The kernel answers each that fails, and the answers to this many
#: fit the socket's receive buffer.
_BATCH = 256

#: Errors after which the same request may succeed.
_TRANSIENT = (errno.EINTR, errno.EAGAIN, errno.ENOBUFS)

#: An entry in a listing: a buffer, and where the message's payload starts and ends in it.
Entry = tuple[bytes, int, int]


class CleaningReport(msgspec.Struct, frozen=True):
    """What one cleaning did. `examined` counts the entries that the kernel listed."""

    deleted: dict[Family, int]
    examined: int
    seconds: dict[Family, float]


class ConntrackCleaner:
    """
    Deletes stale UDP and SCTP entries in the network namespace it is made in.

    One thread at a time. Keeps nothing between calls: after a DataplaneError, call again with the
    same frontends.
    """

    def __init__(self) -> None:
        """Open the sockets. Raises DataplaneError if the kernel has no nfnetlink."""
        self._listing = open_socket()
        self._deleting = open_socket()
        self._sequence = 0

    def close(self) -> None:
        """Close. Idempotent."""
        self._listing.close()
        self._deleting.close()

    def clean(self, flows: Flows, scope: CleaningScope) -> CleaningReport:
        """
        Delete the entries of these frontends that lead to none of their endpoints.

        An entry that expires meanwhile, or that another one replaces, is left alone. Raises
        DataplaneError; some of the stale entries may be gone then.
        """
        deleted = dict.fromkeys(FAMILIES, 0)
        seconds = dict.fromkeys(FAMILIES, 0.0)
        examined = 0
        for family in FAMILIES:
            started = monotonic_s()
            judge = Judge(flows, family, scope)
            for query in _useful_queries(family, judge.queries):
                listed, gone = self._clean(family, query, judge)
                examined += listed
                deleted[family] += gone
            seconds[family] = monotonic_s() - started
        return CleaningReport(deleted, examined, seconds)

    def _clean(self, family: Family, query: Query, judge: Judge) -> tuple[int, int]:
        """Delete the stale entries that a query lists; return how many it listed and deleted."""
        listed = gone = 0
        stale: list[bytes] = []
        # Delete while the listing goes on: the keys of a million entries would take much memory.
        # That is why there are two sockets, one of which is in the middle of a listing.
        with closing(self._entries(family, query)) as entries:
            for data, start, end in entries:
                listed += 1
                flow = conntrack.read_flow(data, start, end, family)
                if flow is None or not judge.is_stale(*flow):
                    continue
                # In a zone of its own another program (a virtual switch) may track the same packets
                # before our rules translate them.
                if flow.destination != flow.source or not conntrack.has_zone(data, start, end):
                    stale.append(conntrack.entry_key(data, start, end))
                    if len(stale) == _BATCH:
                        gone += self._delete(family, stale)
                        stale = []
        return listed, gone + self._delete(family, stale)

    def _entries(self, family: Family, query: Query) -> Generator[Entry, None, None]:
        """Yield the entries that a query lists; twice if the kernel interrupts the listing."""
        for _ in range(_TRIES):
            request = conntrack.list_request(family, *query, self._next_sequence())
            code = yield from self._list(request)
            if code not in _TRANSIENT:
                break
        if code:
            raise _error("list", code)

    def _list(self, request: bytes) -> Generator[Entry, None, int]:
        """Yield the entries in the kernel's answer; return the errno that ends it, 0 for none."""
        data = b""
        code: int | None = None
        try:
            self._listing.send(request)
            while code is None:
                data = self._listing.recv(_RECEIVE)
                for kind, _, _, start, end, _ in messages(data):
                    if conntrack.is_entry(kind):
                        yield data, start, end
                    else:
                        code = error_number(data, start)
        except OSError as error:
            code = error.errno or errno.EIO
        finally:
            # The kernel refuses a listing on a socket while another one is under way. So if the
            # caller stops early (a DataplaneError), read the rest of the answer and drop it.
            while code is None and all(conntrack.is_entry(kind) for kind, *_ in messages(data)):
                data = self._listing.recv(_RECEIVE)
        return code

    def _delete(self, family: Family, keys: Sequence[bytes]) -> int:
        """Delete entries by their keys; return how many of them existed."""
        if not keys:
            return 0
        code = 0
        for _ in range(_TRIES):
            try:
                self._deleting.send(conntrack.delete_requests(keys, family, self._next_sequence()))
                failures = self._failures()
            except OSError as error:
                code = error.errno or errno.EIO
            else:
                # An entry that has expired since the listing is as good as deleted.
                code = next((c for c in failures if c != errno.ENOENT), 0)
                if not code:
                    return len(keys) - len(failures)
            # Sending all keys again is harmless: those that are gone answer with ENOENT.
            if code not in _TRANSIENT:
                break
        raise _error("delete", code)

    def _failures(self) -> list[int]:
        """Return the errnos of the deletions just sent; the kernel has answered them all."""
        codes: list[int] = []
        with suppress(BlockingIOError):
            while True:
                data = self._deleting.recv(_RECEIVE, socket.MSG_DONTWAIT)
                codes += [error_number(data, start) for _, _, _, start, _, _ in messages(data)]
        return [code for code in codes if code]

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0x7FFF_FFFF
        return self._sequence


def load_conntrack() -> None:
    """
    Let the kernel load its connection-tracking modules, if it has them as modules.

    Any request about connections does that, and takes no right to load modules. Returns after the
    attempt. Raises DataplaneError if the kernel has no nfnetlink.
    """
    with closing(open_socket()) as netlink:
        netlink.send(conntrack.stats_request(1))
        netlink.recv(_RECEIVE)


def _useful_queries(family: Family, queries: Collection[Query]) -> Collection[Query]:
    """
    Return the queries to send, whose answers include every entry that `queries` select.

    For IPv6 only by port: given an address, the kernel lists the entries of all other addresses. It
    takes the result of ipv6_addr_cmp for the opposite (Linux 5.8 to 6.18 at least).
    """
    if family is Family.IPV6:
        queries = {query._replace(address=b"") for query in queries}
    if len(queries) <= _FEW:
        return queries
    return {Query(protocol=query.protocol) for query in queries}


def _error(what: str, code: int) -> DataplaneError:
    remedy = ""
    if code == errno.EPERM:
        remedy = "nfproxy needs the capability NET_ADMIN"
    elif code in (errno.EINVAL, errno.EOPNOTSUPP):
        remedy = "is the kernel module nf_conntrack_netlink there? Try modprobe"
    text = f"cannot {what} the kernel's connections: {os.strerror(code)}"
    return DataplaneError(text, remedy, code_of(code))
