"""
Connections by Service, read from the kernel when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from nfproxy.dataplane.kernel import Kernel
from nfproxy.metrics.connections import connections_text
from nfproxy.model.addresses import Family
from nfproxy.model.service import Claim
from nfproxy.plan.frontends import FrontendKey
from nfproxy.reconcile.connections import COUNTED, ConnectionTotals, Counter
from nfproxy.reconcile.planner import Planner


class ServiceConnections:
    """
    What ``/metrics/services`` tells.

    Programming costs nothing for it: all elements' counters are read at each call of `text`, by a
    netlink socket of its own. That thread looks up single frontends and Services in what another
    one is planning: each look-up gives what was there before or after a change.
    """

    def __init__(self, families: Sequence[Family], planner: Callable[[], Planner | None]) -> None:
        """Begin to count with the first call of `text`; `planner` knows whose a frontend is."""
        self._families = tuple(families)
        self._planner = planner
        self._connections = ConnectionTotals()

    def text(self) -> bytes:
        """
        Return the page; blocks, for tens of milliseconds with 10,000 Services.

        Not to be called by two threads at once. Raises DataplaneError.
        """
        planner = self._planner()
        if planner is not None:
            frontends = planner.desired.frontends

            def owner(key: FrontendKey) -> Claim | None:
                frontend = frontends.get(key)
                return frontend.claim if frontend is not None else None

            self._connections.read(self._counters(), owner, planner.services.__contains__)
        totals = self._connections.totals
        return connections_text((*name, count) for name, count in totals.items())

    def _counters(self) -> Iterator[tuple[Counter, int]]:
        with closing(Kernel()) as kernel:
            for family in self._families:
                for name in COUNTED:
                    for key, packets in kernel.counters(family, name):
                        yield Counter(family, name, key), packets
