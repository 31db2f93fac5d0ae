"""What the kernel counts of Services' clients, read for each request of a page of metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from nfproxy.clock import monotonic_s
from nfproxy.dataplane.connectionreader import read_all_connections
from nfproxy.dataplane.deletions import CountedDeletions, DeletedElement
from nfproxy.dataplane.kernel import Kernel
from nfproxy.insight.trackedtotals import tracked_totals
from nfproxy.metrics.own import connections_text, open_connections_text
from nfproxy.model.addresses import Family
from nfproxy.model.service import Claim
from nfproxy.nft import schema
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner
from nfproxy.views.connections import ConnectionTotals, Counted, Deletion, Map, Reading

#: Deletions are ordered by generation, a number of 16 bits: at 50 commits a second it comes again
#: after 20 minutes.
_OLDEST_S = 600.0

#: How long what was read of all connections serves.
_TRACKED_S = 30.0


class _Written(NamedTuple):
    text: bytes
    at_s: float


class ServiceConnections:
    """
    Adds up the connections of each service port.

    A commit does nothing for it. Each call of `text` reads the counters of all elements; what
    deleted elements had counted waits in a socket, from the first call on.

    Both methods for texts run in threads of their own. They look up single frontends and
    Services in the planner while the worker thread may be planning. Each look-up gives the value
    before or after a change.
    """

    def __init__(
        self,
        families: Sequence[Family],
        planner: Callable[[], Planner | None],
        listen: Callable[[], CountedDeletions],
    ) -> None:
        """
        Read nothing before the first call of `text`.

        `planner` returns the planner, which knows the Service of a frontend; None before the first
        commit. `listen` opens the socket for deletions.
        """
        self._maps = [Map(f, name) for f in families for name in schema.COUNTED]
        self._planner = planner
        self._listen = listen
        self._deletions: CountedDeletions | None = None
        self._read_at = 0.0
        self._connections = ConnectionTotals()
        self._lock = threading.Lock()
        self._tracked = _Written(b"", -_TRACKED_S)

    def close(self) -> None:
        """Close the socket; `text` must not be called afterwards."""
        if self._deletions is not None:
            self._deletions.close()

    def text(self) -> bytes:
        """
        Return the page; blocks for tens of milliseconds with 10,000 Services.

        Raises DataplaneError.
        """
        planner = self._planner()
        with self._lock:
            if planner is not None:
                self._read(planner)
            totals = self._connections.totals
            return connections_text((*name, count) for name, count in totals.items())

    def tracked_text(self) -> bytes:
        """
        Return the open and unanswered connections; with 200,000 it blocks for more than a second.

        So what was read serves for half a minute, however often it is asked for. Raises
        DataplaneError.
        """
        planner = self._planner()
        if planner is None:
            return b""
        with self._lock:
            if monotonic_s() - self._tracked.at_s >= _TRACKED_S:
                found = tracked_totals(read_all_connections(planner.desired.frontends), planner)
                self._tracked = _Written(open_connections_text(found.ports), monotonic_s())
            return self._tracked.text

    def _read(self, planner: Planner) -> None:
        # Listen before reading: an element that is deleted in between is in both, and its
        # generation says that it counts once.
        if self._deletions is None:
            self._deletions = self._listen()
        kernel = Kernel()
        try:
            counters = {where: kernel.counters(*where) for where in self._maps}
        finally:
            kernel.close()
        readings = {
            where: Reading(each.generation, (Counted(*pair) for pair in each.counted))
            for where, each in counters.items()
        }
        deleted: Iterable[DeletedElement] = list(self._deletions.read())
        now_s = monotonic_s()
        if now_s - self._read_at > _OLDEST_S:
            deleted = ()
        self._read_at = now_s
        frontends = planner.desired.frontends

        def owner(key: FrontendKey) -> Claim | None:
            frontend = frontends.get(key)
            return frontend.claim if frontend is not None else None

        self._connections.read(
            readings, map(_deletion, deleted), owner, planner.services.__contains__
        )


def _deletion(each: DeletedElement) -> Deletion:
    return Deletion(each.generation, Map(each.family, each.map), Counted(each.key, each.packets))
