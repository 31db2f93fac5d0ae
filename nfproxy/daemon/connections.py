"""
Connections by Service, read from the kernel when somebody asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.notifications import CountedDeletions, DeletedElement
from nfproxy.metrics.own import connections_text
from nfproxy.model.addresses import Family
from nfproxy.model.service import Claim
from nfproxy.nft import schema
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner
from nfproxy.views.connections import ConnectionTotals, Counted, Deletion, Map, Reading

#: Generations are numbers of 16 bits, which come again after 20 minutes of 50 commits a second.
_OLDEST_S = 600.0


class ServiceConnections:
    """
    What ``/metrics/services`` tells.

    Programming does nothing for it: all elements' counters are read at each call of `text`, and
    what deleted ones had counted waits in a socket for that, from the first call on. That thread
    looks up single frontends and Services in what another one is planning: each look-up gives what
    was there before or after a change.
    """

    def __init__(
        self,
        families: Sequence[Family],
        planner: Callable[[], Planner | None],
        listen: Callable[[], CountedDeletions],
    ) -> None:
        """
        Begin to count with the first call of `text`.

        `planner` knows whose a frontend is, `listen` opens what tells of deletions.
        """
        self._maps = [Map(f, name) for f in families for name in schema.COUNTED]
        self._planner = planner
        self._listen = listen
        self._deletions: CountedDeletions | None = None
        self._read_at = 0.0
        self._connections = ConnectionTotals()

    def close(self) -> None:
        """Stop listening; `text` is not called any more."""
        if self._deletions is not None:
            self._deletions.close()

    def text(self) -> bytes:
        """
        Return the page; blocks, for tens of milliseconds with 10,000 Services.

        Not to be called by two threads at once. Raises DataplaneError.
        """
        planner = self._planner()
        if planner is not None:
            self._read(planner)
        totals = self._connections.totals
        return connections_text((*name, count) for name, count in totals.items())

    def _read(self, planner: Planner) -> None:
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
        now = time.monotonic()
        if now - self._read_at > _OLDEST_S:
            deleted = ()
        self._read_at = now
        frontends = planner.desired.frontends

        def owner(key: FrontendKey) -> Claim | None:
            frontend = frontends.get(key)
            return frontend.claim if frontend is not None else None

        self._connections.read(
            readings, map(_deletion, deleted), owner, planner.services.__contains__
        )


def _deletion(each: DeletedElement) -> Deletion:
    return Deletion(each.generation, Map(each.family, each.map), Counted(each.key, each.packets))
