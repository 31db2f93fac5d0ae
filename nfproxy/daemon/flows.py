"""
Removing connection-tracking entries that lead nowhere, behind the back of programming.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nfproxy.dataplane.conntrack import ConntrackCleaner
from nfproxy.errors import DataplaneError
from nfproxy.host.addresses import Addresses
from nfproxy.metrics import Metrics
from nfproxy.model.service import Protocol
from nfproxy.plan.desired import Touched
from nfproxy.plan.flows import Flows, udp_flows
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner

log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 60.0


class FlowCleaning:
    """
    Gathers the UDP frontends that a commit was about, and cleans up after them.

    `changed` belongs to the thread that plans, `run` to the event loop. What could not be done is
    kept and tried again, together with what has come since.
    """

    def __init__(
        self, cleaner: ConntrackCleaner, local: Callable[[], Addresses], metrics: Metrics
    ) -> None:
        """Use a cleaner; `local` returns the node's own addresses."""
        self._cleaner = cleaner
        self._local = local
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[FrontendKey, frozenset[bytes]] = {}
        self._bell = asyncio.Event()

    def changed(self, planner: Planner, touched: Touched) -> None:
        """Note which flows may go stale with what has just been committed."""
        found: dict[FrontendKey, frozenset[bytes]] = {}
        frontends = planner.desired.frontends
        for name in touched.services:
            service = planner.services.get(name)
            if service is None or all(p.protocol is not Protocol.UDP for p in service.ports):
                continue
            flows = udp_flows(service, planner.slices_of(name), planner.config)
            # Of a frontend that another Service has, that one's endpoints count.
            found.update(
                (key, kept)
                for key, kept in flows.items()
                if key in frontends and frontends[key].claim.service == name
            )
        for key in touched.frontends:
            if key.protocol is Protocol.UDP and key not in frontends:
                found[key] = frozenset()
        if found:
            self._loop.call_soon_threadsafe(self._take, found)

    def _take(self, flows: Flows) -> None:
        self._waiting.update(flows)
        self._metrics.conntrack_queue(len(self._waiting))
        self._bell.set()

    async def run(self) -> None:
        """Clean up, in a thread, whenever there is something to do."""
        delay_s = 0.0
        while True:
            await self._bell.wait()
            self._bell.clear()
            flows, self._waiting = self._waiting, {}
            if await asyncio.to_thread(self._clean, flows):
                delay_s = 0.0
                self._metrics.conntrack_queue(len(self._waiting))
                continue
            self._waiting = {**flows, **self._waiting}
            delay_s = min(max(2 * delay_s, _FIRST_RETRY_S), _LAST_RETRY_S)
            await asyncio.sleep(delay_s)
            self._bell.set()

    def _clean(self, flows: Flows) -> bool:
        """Remove stale entries; tell whether all of them are gone."""
        try:
            report = self._cleaner.clean(flows, self._local())
        except (DataplaneError, OSError) as error:
            log.warning("stale UDP flows stay for now, to be tried again: %s", error)
            return False
        for family in {key.family for key in flows}:
            deleted, seconds = report.deleted[family], report.seconds[family]
            self._metrics.conntrack_cleaned(family, seconds, deleted)
        if total := sum(report.deleted.values()):
            took_ms = sum(report.seconds.values()) * 1000
            log.info("removed %d stale UDP flows in %.1f ms", total, took_ms)
        return True
