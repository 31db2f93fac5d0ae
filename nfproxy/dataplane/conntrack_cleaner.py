"""
Deletes stale entries from conntrack, so that the flow's next packet finds an endpoint.

Calls block, mostly in the kernel. While a listing is read, other threads run: Python gives up the
interpreter lock for each buffer, that is after some 150 entries.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import closing, suppress

import msgspec

from nfproxy.clock import monotonic_s
from nfproxy.dataplane.conntrack_listing import (
    TRANSIENT,
    TRIES,
    ConntrackListing,
    conntrack_error,
    useful_queries,
)
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink import conntrack
from nfproxy.netlink.messages import error_number, messages
from nfproxy.netlink.sockets import open_socket
from nfproxy.plan.flows import CleaningScope, Flows, Judge, Query

_RECEIVE = 1 << 16

#: Deletions in one system call. The kernel answers each that fails, and the answers to this many
#: fit the socket's receive buffer.
_BATCH = 256

#: The most kinds of stale flows that a report counts apart.
_MOST_KINDS = 64


class CleaningReport(msgspec.Struct, frozen=True):
    """
    What one cleaning did.

    `examined` counts the entries that the kernel listed. `flows` counts the first few kinds of
    stale flows: of one frontend, to one endpoint.
    """

    deleted: dict[Family, int]
    examined: int
    seconds: dict[Family, float]
    flows: dict[tuple[Family, conntrack.Flow], int] = {}


class ConntrackCleaner:
    """
    Deletes stale UDP and SCTP entries in the network namespace it is made in.

    One thread at a time. Keeps nothing between calls: after a DataplaneError, call again with the
    same frontends.
    """

    def __init__(self) -> None:
        """Open the sockets. Raises DataplaneError if the kernel has no nfnetlink."""
        self._listing = ConntrackListing()
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
        kinds: dict[tuple[Family, conntrack.Flow], int] = {}
        for family in FAMILIES:
            started = monotonic_s()
            judge = Judge(flows, family, scope)
            for query in useful_queries(family, judge.queries):
                listed, gone = self._clean(family, query, judge, kinds)
                examined += listed
                deleted[family] += gone
            seconds[family] = monotonic_s() - started
        return CleaningReport(deleted, examined, seconds, kinds)

    def _clean(
        self,
        family: Family,
        query: Query,
        judge: Judge,
        kinds: dict[tuple[Family, conntrack.Flow], int],
    ) -> tuple[int, int]:
        """Delete the stale entries that a query lists; return how many it listed and deleted."""
        listed = gone = 0
        stale: list[bytes] = []
        # Delete while the listing goes on: the keys of a million entries would take much memory.
        # That is why there are two sockets, one of which is in the middle of a listing.
        with closing(self._listing.entries(family, query)) as entries:
            for data, start, end in entries:
                listed += 1
                flow = conntrack.read_flow(data, start, end, family)
                if flow is None or not judge.is_stale(*flow):
                    continue
                # In a zone of its own another program (a virtual switch) may track the same packets
                # before our rules translate them.
                if flow.destination != flow.source or not conntrack.has_zone(data, start, end):
                    stale.append(conntrack.entry_key(data, start, end))
                    if (kind := (family, flow)) in kinds or len(kinds) < _MOST_KINDS:
                        kinds[kind] = kinds.get(kind, 0) + 1
                    if len(stale) == _BATCH:
                        gone += self._delete(family, stale)
                        stale = []
        return listed, gone + self._delete(family, stale)

    def _delete(self, family: Family, keys: Sequence[bytes]) -> int:
        """Delete entries by their keys; return how many of them existed."""
        if not keys:
            return 0
        code = 0
        for _ in range(TRIES):
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
            if code not in TRANSIENT:
                break
        raise conntrack_error("delete", code)

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
