"""
Removes stale UDP flows from connection tracking, after the commits that made them stale.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nfproxy.backoff import Backoff
from nfproxy.dataplane.conntrack_cleaner import ConntrackCleaner
from nfproxy.errors import DataplaneError
from nfproxy.host.addresses import Addresses
from nfproxy.metrics import Metrics
from nfproxy.model.service import Protocol
from nfproxy.plan.desired import Touched
from nfproxy.plan.flows import Flows, udp_flows
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner
from nfproxy.text import plural

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LAST_WAIT_S = 1.0, 60.0


class StaleFlowCleaning:
    """
    Collects the UDP frontends that commits changed, and removes their stale flows.

    The worker thread calls `committed`; `run` belongs to the event loop and cleans in a thread of
    its own, so that no commit waits for it. What fails is kept, and retried together with what
    was committed since.
    """

    def __init__(
        self, cleaner: ConntrackCleaner, local: Callable[[], Addresses], metrics: Metrics
    ) -> None:
        """Use a cleaner; `local` returns the node's own addresses. Needs the event loop."""
        self._cleaner = cleaner
        self._local = local
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[FrontendKey, frozenset[bytes]] = {}
        self._wake = asyncio.Event()

    def committed(self, planner: Planner, touched: Touched) -> None:
        """Note the flows that a commit may have made stale."""
        found: dict[FrontendKey, frozenset[bytes]] = {}
        frontends = planner.desired.frontends
        # All UDP Services that were planned again, even where that changed no element: a flow may
        # be older than the rules.
        for name in touched.services:
            service = planner.services.get(name)
            if service is None or all(p.protocol is not Protocol.UDP for p in service.ports):
                continue
            flows = udp_flows(service, planner.slices_of(name), planner.config)
            # Two Services may claim one frontend: only the winner's endpoints keep its flows.
            found.update(
                (key, kept)
                for key, kept in flows.items()
                if key in frontends and frontends[key].claim.service == name
            )
        for key in touched.frontends:
            if key.protocol is Protocol.UDP and key not in frontends:
                found[key] = frozenset()
        if found:
            self._loop.call_soon_threadsafe(self._collect, found)

    def _collect(self, flows: Flows) -> None:
        self._waiting.update(flows)
        self._metrics.conntrack_queue(len(self._waiting))
        self._wake.set()

    async def run(self) -> None:
        """Clean whenever there is something to clean."""
        backoff = Backoff(_FIRST_WAIT_S, _LAST_WAIT_S)
        while True:
            await self._wake.wait()
            self._wake.clear()
            flows, self._waiting = self._waiting, {}
            if await asyncio.to_thread(self._clean, flows):
                backoff.reset()
                self._metrics.conntrack_queue(len(self._waiting))
                continue
            # What was committed meanwhile is newer, and wins.
            self._waiting = {**flows, **self._waiting}
            await asyncio.sleep(backoff.next_s())
            self._wake.set()

    def _clean(self, flows: Flows) -> bool:
        """Remove stale entries; return whether that succeeded. In a thread."""
        try:
            report = self._cleaner.clean(flows, self._local())
        except (DataplaneError, OSError) as error:
            log.warning("stale UDP flows stay until the next try: %s", error)
            return False
        for family in {key.family for key in flows}:
            deleted, seconds = report.deleted[family], report.seconds[family]
            self._metrics.conntrack_cleaned(family, seconds, deleted)
        if total := sum(report.deleted.values()):
            took_ms = sum(report.seconds.values()) * 1000
            log.info("removed %s in %.1f ms", plural(total, "stale UDP flow"), took_ms)
        return True
